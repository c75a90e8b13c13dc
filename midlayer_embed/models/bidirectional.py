"""Bidirectional attention of a causal decoder (as in LLM2Vec): the config entry that asks for it, and a proof of it.

The entry is stock transformers', so a saved model keeps it. Not every architecture heeds it, and an encoder needs none,
so the loaded model has to show that it makes the difference. Nothing is loaded here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from transformers import PretrainedConfig

from midlayer_embed.errors import InputError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# How much the last token has to change the first one's state, relative to that state. What models whose rows of a
# matrix product depend on each other (mixtures of experts) differ by without a reason is far less.
_LEAST_CHANGE = 1e-6
_RATIO = 10.0
_CLEAR_CHANGE = 1e-3
_LENGTHS = (5, 3)


def ask_for_bidirectional(config: PretrainedConfig) -> None:
    """Makes a config ask for bidirectional attention.

    Example:
        >>> from transformers import LlamaConfig
        >>> config = LlamaConfig()
        >>> ask_for_bidirectional(config)
        >>> asks_for_bidirectional(config), asks_for_bidirectional(LlamaConfig())
        (True, False)
    """
    config.is_causal = False


def asks_for_bidirectional(config: PretrainedConfig) -> bool:
    """Whether a config asks for bidirectional attention where the architecture has a causal one."""
    return getattr(config, "is_causal", None) is False


def prove_bidirectional(model: "PreTrainedModel", original: PretrainedConfig) -> None:
    """Makes sure that the first token sees the last one, padded or not, and that it does so because it was asked for.

    Four forward passes of a few tokens.

    Args:
        model: A base model of at least one block, whose config asks for bidirectional attention.
        original: The config before it was made to ask.

    Raises:
        InputError: (a ValueError) the model stays causal, or has been bidirectional all along.
    """
    name = original.model_type
    try:
        asked = _changes(model)
        with _as_it_was(model.config, original):
            unasked = _changes(model)
    except Exception as error:  # a model's code may fail with anything; each means the same here
        raise InputError(
            f"bidirectional: this {name} model fails when its attention is made bidirectional: {first_line(error)}"
        ) from error
    if not bool(torch.isfinite(asked).all()):
        raise InputError(
            f"bidirectional: the states of this {name} model are not finite; half precision overflows with some: "
            "try dtype float32"
        )
    if float(asked.min()) > max(_LEAST_CHANGE, _RATIO * float(unasked.max())):
        return
    if float(unasked.min()) > _CLEAR_CHANGE:
        raise InputError(
            f"bidirectional: this {name} model is bidirectional already: its first token sees the last one; leave "
            "bidirectional out"
        )
    raise InputError(
        f"bidirectional: this {name} model stays causal even with is_causal = False in its config (its first token "
        "does not see the last one), so it has no bidirectional stock form"
    )


@contextmanager
def _as_it_was(config: PretrainedConfig, original: PretrainedConfig) -> Iterator[None]:
    if hasattr(original, "is_causal"):
        config.is_causal = original.is_causal
    else:
        del config.is_causal
    try:
        yield
    finally:
        ask_for_bidirectional(config)


@torch.inference_mode()
def _changes(model: "PreTrainedModel") -> torch.Tensor:
    """By how much the last token changes the state of the first one, relative to it: (text alone, longer, shorter)."""
    n_tokens = max(_LENGTHS)
    vocabulary = int(model.config.get_text_config().vocab_size)
    tokens = (torch.arange(n_tokens + 1) + vocabulary // 2) % vocabulary  # special ones are at the ends
    ids = tokens[:n_tokens].repeat(len(_LENGTHS), 1)
    lengths = torch.tensor(_LENGTHS)
    mask = (torch.arange(n_tokens) < lengths[:, None]).long()
    changed = ids.scatter(1, lengths[:, None] - 1, tokens[n_tokens].expand(len(_LENGTHS), 1))
    # Alone, a text needs no mask, which takes another way through most models.
    found = [_change(model, ids[:1], changed[:1], mask[:1]), _change(model, ids, changed, mask)]
    return torch.cat(found)


def _change(model: "PreTrainedModel", ids: torch.Tensor, changed: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    def first_state(given: torch.Tensor) -> torch.Tensor:
        output = model(input_ids=given.to(model.device), attention_mask=mask.to(model.device), use_cache=False)
        state: torch.Tensor = output.last_hidden_state[:, 0]
        return state.float().cpu()

    before = first_state(ids)
    change: torch.Tensor = (first_state(changed) - before).norm(dim=1) / before.norm(dim=1)
    return change
