"""A model's backbone: its blocks, final norm and tokenizer, loaded and ready for the forward pass."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import normalizers
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from midlayer_embed.errors import InputError, first_line
from midlayer_embed.ground.quiet import quiet_transformers
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.models.families import blocks_of, final_norm_of
from midlayer_embed.models.weights import load_base_model, resolve_device, resolve_dtype

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DEFAULT_MAX_SEQ_LENGTH = 512
# Tokenizers without a limit have 1e30.
_NO_LIMIT = 10**9


@dataclass(frozen=True)
class Backbone:
    """A loaded base model, ready for the forward pass.

    Attributes:
        model: The base model, in eval mode, on its device.
        tokenizer: Its tokenizer.
        blocks: Blocks 1..L in the order they are called; a block that is called several times appears as often.
        final_norm: The norm after the last block, or None.
        max_seq_length: Number of tokens to which a text is truncated.
        pad_id: Token that pads short texts; the mask hides it.
    """

    model: "PreTrainedModel"
    tokenizer: PreTrainedTokenizerBase
    blocks: Sequence[nn.Module]
    final_norm: nn.Module | None
    max_seq_length: int
    pad_id: int

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.model.device

    @property
    def dim(self) -> int:
        """Width of a state."""
        return int(self.model.config.get_text_config().hidden_size)


def load_backbone(
    checkpoint: Checkpoint,
    *,
    max_seq_length: int | None = None,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device | None = None,
) -> Backbone:
    """Load all blocks of a checkpoint.

    Args:
        checkpoint: From `find_checkpoint`.
        max_seq_length: Number of tokens to which a text is truncated; None: see `default_max_seq_length`.
        dtype: "float32" (half precision is far slower on most CPUs), "bfloat16", "float16", ...
        device: Device of the model; None: CUDA, MPS or CPU, the fastest that is available.

    Raises:
        InputError: (a ValueError) weights that are missing, in an unsafe format, or do not fit the architecture.
    """
    torch_dtype, torch_device = resolve_dtype(dtype), resolve_device(device)
    tokenizer = load_tokenizer(checkpoint)
    model = load_base_model(checkpoint, deepcopy(checkpoint.config), torch_dtype, torch_device)
    return Backbone(
        model=model,
        tokenizer=tokenizer,
        blocks=blocks_of(model, checkpoint.family),
        final_norm=final_norm_of(model, checkpoint.family),
        max_seq_length=default_max_seq_length(checkpoint, tokenizer) if max_seq_length is None else max_seq_length,
        pad_id=next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0),
    )


def load_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint.

    Raises:
        InputError: (a ValueError) it is missing or cannot be read. If its files are missing, transformers returns a
            tokenizer without a vocabulary, which turns every text into nothing or into the same token.
    """
    no_files = "no file contains a vocabulary"
    try:
        with quiet_transformers():
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                checkpoint.location, **checkpoint.loading_kwargs()
            )
    except Exception as error:  # the tokenizers library raises nothing more specific
        why = no_files if "instantiate the backend tokenizer" in str(error) else first_line(error)
    else:
        if checkpoint.own.do_lower_case:
            _lower_case(tokenizer)
        special = {str(token) for token in tokenizer.added_tokens_decoder.values()}
        if len(set(tokenizer.get_vocab()) - special) > 1:
            return tokenizer
        why = no_files
    raise InputError(
        f"model: {checkpoint.location} has no tokenizer that can be used (tokenizer.json, tokenizer.model, ...): {why}"
    )


def default_max_seq_length(checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerBase) -> int:
    """The number of tokens to which a text is truncated if the user gives none.

    The limit of the model's own sentence-transformers config if it has one, else the smaller of the model's limit and
    512. A sentence-transformers model that names no limit takes as many tokens as it can.
    """
    own = checkpoint.own
    if own.max_seq_length is not None:
        return own.max_seq_length
    positions = getattr(checkpoint.config.get_text_config(), "max_position_embeddings", None) or _NO_LIMIT
    longest = min(int(min(tokenizer.model_max_length, _NO_LIMIT)), positions - checkpoint.family.position_offset)
    return longest if own.is_sentence_transformer else min(DEFAULT_MAX_SEQ_LENGTH, longest)


def _lower_case(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let a tokenizer lower-case texts first, as sentence-transformers does for `do_lower_case`."""
    backend = tokenizer.backend_tokenizer
    first = backend.normalizer
    is_sequence = isinstance(first, normalizers.Sequence)
    steps: list[Any] = [*first] if is_sequence else [] if first is None else [first]  # type: ignore[misc]
    if not any(isinstance(step, normalizers.Lowercase) for step in steps):
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *steps])
