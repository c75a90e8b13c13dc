"""Bidirectional attention for causal decoders (as in LLM2Vec): the config entry, and a check that it takes effect.

The entry is part of stock transformers, so saved models keep it. Some architectures ignore it and encoders do not need
it, so the loaded model has to show that the entry makes a difference. No model is loaded here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from transformers import PretrainedConfig

from midlayer_embed.errors import InputError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Smallest change of the first token's state by the last token, relative to that state. Mixtures of experts also change
# it slightly without attention, because the rows of their matrix products depend on each other; by far less than this.
_LEAST_CHANGE = 1e-6
_RATIO = 10.0
_CLEAR_CHANGE = 1e-3
_LENGTHS = (5, 3)


def ask_for_bidirectional(config: PretrainedConfig) -> None:
    """Request bidirectional attention in a config.

    Example:
        >>> from transformers import LlamaConfig
        >>> config = LlamaConfig()
        >>> ask_for_bidirectional(config)
        >>> asks_for_bidirectional(config), asks_for_bidirectional(LlamaConfig())
        (True, False)
    """
    config.is_causal = False


def asks_for_bidirectional(config: PretrainedConfig) -> bool:
    """Whether a config requests bidirectional attention from a causal architecture."""
    return getattr(config, "is_causal", None) is False


def prove_bidirectional(model: "PreTrainedModel", original: PretrainedConfig) -> None:
    """Check that the first token attends to the last one, padded or not, because the config requests it.

    Runs four forward passes of a few tokens.

    Args:
        model: Base model of at least one block whose config requests bidirectional attention.
        original: The config without that request.

    Raises:
        InputError: (a ValueError) the model stays causal, or is bidirectional without the request.
    """
    name = original.model_type
    try:
        requested = _measure_changes(model)
        with _restore_causality(model.config, original):
            default = _measure_changes(model)
    except Exception as error:  # the code of a model may raise anything; the meaning here is always the same
        raise InputError(
            f"bidirectional: this {name} model fails with bidirectional attention: {first_line(error)}"
        ) from error
    if not bool(torch.isfinite(requested).all()):
        raise InputError(
            f"bidirectional: the states of this {name} model are not finite; half precision overflows with some "
            "models: try dtype float32"
        )
    if float(requested.min()) > max(_LEAST_CHANGE, _RATIO * float(default.max())):
        return
    if float(default.min()) > _CLEAR_CHANGE:
        raise InputError(
            f"bidirectional: this {name} model is bidirectional already: its first token attends to the last one; omit "
            "bidirectional"
        )
    raise InputError(
        f"bidirectional: this {name} model stays causal even with is_causal = False in its config (its first token "
        "does not attend to the last one), so it has no bidirectional stock form"
    )


def is_causal(model: "PreTrainedModel") -> bool:
    """Whether the states of a text's first tokens do not depend on those that follow, as measured.

    Runs two forward passes of a few tokens.

    Args:
        model: Base model of at least one block.
    """
    return bool((_measure_changes(model) <= _LEAST_CHANGE).all())


@contextmanager
def _restore_causality(config: PretrainedConfig, original: PretrainedConfig) -> Iterator[None]:
    if hasattr(original, "is_causal"):
        config.is_causal = original.is_causal
    else:
        del config.is_causal
    try:
        yield
    finally:
        ask_for_bidirectional(config)


@torch.inference_mode()
def _measure_changes(model: "PreTrainedModel") -> torch.Tensor:
    """Relative change of the first token's state by the last token, (3,): text alone, longer text, shorter text."""
    n_tokens = max(_LENGTHS)
    vocabulary = int(model.config.get_text_config().vocab_size)
    tokens = (
        torch.arange(n_tokens + 1) + vocabulary // 2
    ) % vocabulary  # special tokens are at both ends of the vocabulary
    ids = tokens[:n_tokens].repeat(len(_LENGTHS), 1)
    lengths = torch.tensor(_LENGTHS)
    mask = (torch.arange(n_tokens) < lengths[:, None]).long()
    changed = ids.scatter(1, lengths[:, None] - 1, tokens[n_tokens].expand(len(_LENGTHS), 1))
    # A text alone needs no mask, for which most models use another code path.
    alone = _measure_change(model, ids[:1], changed[:1], mask[:1])
    return torch.cat([alone, _measure_change(model, ids, changed, mask)])


def _measure_change(
    model: "PreTrainedModel", ids: torch.Tensor, changed: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    def first_state(given: torch.Tensor) -> torch.Tensor:
        output = model(input_ids=given.to(model.device), attention_mask=mask.to(model.device), use_cache=False)
        state: torch.Tensor = output.last_hidden_state[:, 0]
        return state.float().cpu()

    before = first_state(ids)
    change: torch.Tensor = (first_state(changed) - before).norm(dim=1) / before.norm(dim=1)
    return change
