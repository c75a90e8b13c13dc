"""A model's backbone: its blocks, final norm and tokenizer, loaded and ready for the forward pass."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import normalizers
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from midlayer_embed.errors import InputError, first_line
from midlayer_embed.ground.quiet import quiet_transformers
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.models.families import blocks_of, family_of, final_norm_of
from midlayer_embed.models.sites import BlockSites
from midlayer_embed.models.weights import load_base_model, resolve_device, resolve_dtype
from midlayer_embed.options import Recipe
from midlayer_embed.recipes.template import check_room, length_of_one_copy, put_template

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DEFAULT_MAX_SEQ_LENGTH = 512
# A character of no language: some tokenizers fail on what they do not know, if their files name no token for it.
_UNKNOWN = "\ue000"
# Tokenizers without a limit have 1e30.
_NO_LIMIT = 10**9


@dataclass(frozen=True)
class BaseModel:
    """A loaded base model, ready for the forward pass.

    Attributes:
        model: The base model, in eval mode, on its device.
        blocks: Blocks 1..L in the order they are called; a block that is called several times appears as often.
        final_norm: The norm after the last block, or None.
        sites: Where the sites within a block are; None if unknown.
        norms_vectors: Whether the final norm acts on what has been pooled, not on the states.
    """

    model: "PreTrainedModel"
    blocks: Sequence[nn.Module]
    final_norm: nn.Module | None
    sites: BlockSites | None
    norms_vectors: bool = field(default=False, kw_only=True)

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.model.device

    @property
    def dim(self) -> int:
        """Width of a state."""
        return int(self.model.config.get_text_config().hidden_size)


@dataclass(frozen=True)
class Backbone(BaseModel):
    """A loaded language model with its tokenizer.

    Attributes:
        tokenizer: Its tokenizer.
        max_seq_length: Number of tokens to which a text is truncated, its template and both copies included.
        truncate_to: The same as the tokenizer counts: one copy of the text.
        pad_id: Token that pads short texts; the mask hides it.
    """

    tokenizer: PreTrainedTokenizerBase
    max_seq_length: int
    truncate_to: int
    pad_id: int


def load_backbone(
    checkpoint: Checkpoint,
    recipe: Recipe,
    *,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device | None = None,
) -> Backbone:
    """Load all blocks of a checkpoint.

    Args:
        checkpoint: From `find_checkpoint`.
        recipe: The template and the limit; the rest is not used.
        dtype: "float32" (half precision is far slower on most CPUs), "bfloat16", "float16", ...
        device: Device of the model; None: CUDA, MPS or CPU, the fastest that is available.

    Raises:
        InputError: (a ValueError) weights that are missing, in an unsafe format, or do not fit the architecture; a
            tokenizer or a limit that the model cannot take, see `load_tokenizer` and `limit_in_force`.
    """
    _ = resolve_dtype(dtype), resolve_device(device)  # wrong ones are reported before files are read
    tokenizer, limit, one_copy = _tokenizer_and_limits(checkpoint, recipe)
    base = load_base(checkpoint, dtype=dtype, device=device)
    return Backbone(
        model=base.model,
        blocks=base.blocks,
        final_norm=base.final_norm,
        sites=base.sites,
        tokenizer=tokenizer,
        max_seq_length=limit,
        truncate_to=one_copy,
        pad_id=_pad_id(tokenizer),
    )


def load_base(
    checkpoint: Checkpoint,
    *,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device | None = None,
    norms_vectors: bool = False,
) -> BaseModel:
    """Load all blocks of a checkpoint, and nothing that prepares its items.

    Args:
        checkpoint: From `find_checkpoint`.
        dtype: dtype of the weights.
        device: Device of the model; None: CUDA, MPS or CPU, the fastest that is available.
        norms_vectors: Whether the final norm acts on what has been pooled.

    Raises:
        InputError: (a ValueError) weights that are missing, in an unsafe format, or do not fit the architecture.
    """
    model = load_base_model(checkpoint, deepcopy(checkpoint.config), resolve_dtype(dtype), resolve_device(device))
    family = checkpoint.family
    return BaseModel(
        model, blocks_of(model, family), final_norm_of(model, family), family.sites, norms_vectors=norms_vectors
    )


def with_recipe(backbone: Backbone, checkpoint: Checkpoint, recipe: Recipe) -> Backbone:
    """The same weights under another template or limit.

    Args:
        backbone: The loaded model.
        checkpoint: Its checkpoint.
        recipe: The template and the limit; the rest is not used.

    Raises:
        InputError: (a ValueError) as `load_backbone`.
    """
    tokenizer, limit, one_copy = _tokenizer_and_limits(checkpoint, recipe)
    return replace(backbone, tokenizer=tokenizer, max_seq_length=limit, truncate_to=one_copy)


def _tokenizer_and_limits(checkpoint: Checkpoint, recipe: Recipe) -> tuple[PreTrainedTokenizerBase, int, int]:
    tokenizer = load_tokenizer(checkpoint, recipe.template)
    limit = limit_in_force(checkpoint, tokenizer, recipe.max_seq_length, recipe.template)
    return tokenizer, limit, length_of_one_copy(tokenizer, recipe.template, limit)


def check_embeds_texts(checkpoint: Checkpoint) -> None:
    """Reject an image encoder.

    Raises:
        InputError: (a ValueError) the message says which class takes it.
    """
    if checkpoint.modality != "text":
        raise InputError(
            f"model: {checkpoint.location} is an image encoder ({checkpoint.config.model_type}); use "
            "ImageLayerwiseEncoder"
        )


def load_tokenizer(checkpoint: Checkpoint, template: str | None = None) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint.

    Args:
        checkpoint: From `find_checkpoint`.
        template: A template to put around every text.

    Raises:
        InputError: (a ValueError) it is missing or cannot be read. If its files are missing, transformers returns a
            tokenizer without a vocabulary, which turns every text into nothing or into the same token. Or it is not the
            model's: it has tokens that the model has no embeddings for.
    """
    check_embeds_texts(checkpoint)
    no_files = "no file contains a vocabulary"
    try:
        with quiet_transformers():
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                checkpoint.location, **checkpoint.loading_kwargs()
            )
            tokenizer(_UNKNOWN)
    except Exception as error:  # the tokenizers library raises nothing more specific
        why = no_files if "instantiate the backend tokenizer" in str(error) else first_line(error)
    else:
        if checkpoint.own.do_lower_case:
            _lower_case(tokenizer)
        special = {str(token) for token in tokenizer.added_tokens_decoder.values()}
        vocabulary = tokenizer.get_vocab()
        if len(set(vocabulary) - special) > 1:
            _check_vocabulary(checkpoint, tokenizer, vocabulary)
            if any(tokenizer("a").get("token_type_ids", [])):
                raise InputError(
                    f"model: the tokenizer of {checkpoint.location} gives single texts other token types than 0, which "
                    "is not supported"
                )
            if template is not None:
                put_template(tokenizer, template)
            return tokenizer
        why = no_files
    raise InputError(
        f"model: {checkpoint.location} has no tokenizer that can be used (tokenizer.json, tokenizer.model, ...): {why}"
    )


def limit_in_force(
    checkpoint: Checkpoint,
    tokenizer: PreTrainedTokenizerBase,
    max_seq_length: int | None,
    template: str | None = None,
) -> int:
    """The number of tokens to which a text is truncated, its template and both copies included.

    Args:
        checkpoint: The model.
        tokenizer: Its tokenizer, with the template in it.
        max_seq_length: What the user asks for. None: the limit of the model's own sentence-transformers config if it
            has one, else the smaller of the model's limit and 512; a sentence-transformers model that names no limit
            takes as many tokens as it can.
        template: The template, or None.

    Raises:
        InputError: (a ValueError) the limit is above the number of positions that the model has, or below the number of
            tokens that the tokenizer adds to every text.
    """
    own = checkpoint.own.max_seq_length if max_seq_length is None else max_seq_length
    limit = own if own is not None else _default_limit(checkpoint, tokenizer)
    whose = f"the own limit of {checkpoint.location} is" if max_seq_length is None else "got"
    if not _has_positions(checkpoint, limit) and (most := checkpoint.n_positions) is not None and most < limit:
        if own is None:
            return most
        kind = checkpoint.config.model_type
        raise InputError(f"max_seq_length: this {kind} model has {most} positions, {whose} {limit}")
    check_room(tokenizer, template, limit, whose)  # without it the tokenizer would not truncate at all
    return limit


def _lower_case(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let a tokenizer lower-case texts first, as sentence-transformers does for `do_lower_case`."""
    backend = tokenizer.backend_tokenizer
    first = backend.normalizer
    is_sequence = isinstance(first, normalizers.Sequence)
    steps: list[Any] = [*first] if is_sequence else [] if first is None else [first]  # type: ignore[misc]
    if not any(isinstance(step, normalizers.Lowercase) for step in steps):
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *steps])


def _has_positions(checkpoint: Checkpoint, limit: int) -> bool:
    """Whether the config alone shows that the model has so many positions."""
    declared = getattr(checkpoint.config.get_text_config(), "max_position_embeddings", None)
    if family_of(checkpoint.config) is None or not isinstance(declared, int):
        return False
    return limit <= declared - checkpoint.family.position_offset


def _default_limit(checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerBase) -> int:
    positions = getattr(checkpoint.config.get_text_config(), "max_position_embeddings", None) or _NO_LIMIT
    longest = min(int(min(tokenizer.model_max_length, _NO_LIMIT)), positions - checkpoint.family.position_offset)
    return longest if checkpoint.own.is_sentence_transformer else min(DEFAULT_MAX_SEQ_LENGTH, longest)


def _check_vocabulary(checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerBase, vocabulary: dict[str, int]) -> None:
    """Reject a tokenizer with tokens that the model has no embeddings for.

    Special tokens that nobody added for texts are no fault: those of other modalities (the image token of Gemma 3's
    text models), and defaults of the tokenizer's class. A text that spells one out is rejected when it is encoded.
    """
    rows = checkpoint.n_tokens
    if rows is None or max(vocabulary.values()) < rows:
        return
    used = {*tokenizer("a")["input_ids"], _pad_id(tokenizer)}
    named = {str(token) for token in tokenizer.special_tokens_map.values()}
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    harmless = special - (set(tokenizer.all_special_tokens) - named)
    taken = {token: number for token, number in vocabulary.items() if token not in harmless or number in used}
    token, number = max(taken.items(), key=itemgetter(1))
    if number >= rows:
        raise InputError(
            f"model: the tokenizer of {checkpoint.location} has {number + 1} tokens, up to {token!r}, but the model "
            f"has embeddings for {rows}; expected the tokenizer that it was trained with"
        )


def _pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    return next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
