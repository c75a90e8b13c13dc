"""The name and the revision by which mteb knows an encoder.

mteb takes both from the card of a SentenceTransformer, and stores the results of a model under them. Two encoders that
give different vectors must differ in one of them, or the second would be given the first one's results.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.model_card import SentenceTransformerModelCardData

from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.models.weights import dtype_name
from midlayer_embed.options import Recipe

# Longer names are shortened by a hash: a folder's name has at most 255 characters.
_LONGEST = 160
# Integers of as many bytes as the values of a parameter.
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# Number of values of each parameter that a stamp holds.
_VALUES = 64


class EncoderCardData(SentenceTransformerModelCardData):
    """Card data with the name and revision of an encoder as it is now, unless they were set by hand.

    Its model has the properties `result_name` and `result_revision`.

    Attributes:
        how_chosen: How the layer was chosen, in words, where the encoder does not know it.
    """

    how_chosen: str | None = None

    @property
    def model_name(self) -> str | None:  # type: ignore[override]
        """The model's name, with its layer and settings."""
        return vars(self).get("_model_name") or getattr(self.model, "result_name", None)

    @model_name.setter
    def model_name(self, name: str | None) -> None:
        vars(self)["_model_name"] = name

    @property
    def base_model_revision(self) -> str | None:  # type: ignore[override]
        """The revision of the weights."""
        return vars(self).get("_base_model_revision") or getattr(self.model, "result_revision", None)

    @base_model_revision.setter
    def base_model_revision(self, revision: str | None) -> None:
        vars(self)["_base_model_revision"] = revision


def result_name(name: str, settings: Mapping[str, Any]) -> str:
    """A model's name with the settings that its vectors depend on.

    Example:
        >>> result_name("org/model", {"layer": 3, "dtype": "float16"})
        'org/model (dtype=float16, layer=3)'
    """
    shown = ", ".join(f"{key}={value}" for key, value in sorted(settings.items()))
    if len(shown) > _LONGEST:
        shown = f"layer={settings['layer']}, settings={_hash(shown)}"
    return f"{name} ({shown})"


def settings_of(model: SentenceTransformer) -> dict[str, Any]:
    """The settings of an encoder, as they are now, that its vectors and similarities depend on besides its weights."""
    transformer, pooling, *after = model
    modes: Any = pooling.pooling_mode
    return {
        "dtype": dtype_name(next(model.parameters()).dtype),
        "pooling_mode": modes if isinstance(modes, str) else "+".join(modes),
        "include_prompt": pooling.include_prompt,
        "after_pooling": "+".join(type(module).__name__ for module in after),
        "prompts": _hash_of_prompts(model.prompts),
        "default_prompt_name": model.default_prompt_name,
        "similarity_fn_name": str(model.similarity_fn_name),
        "truncate_dim": model.truncate_dim,
        "max_seq_length": transformer.max_seq_length,
        "truncation_side": model.tokenizer.truncation_side,
        "padding_side": model.tokenizer.padding_side,
    }


def said_by(checkpoint: Checkpoint, truncate_dim: int | None) -> dict[str, Any]:
    """The settings that a model itself asks for, as `settings_of` gives them.

    Args:
        checkpoint: The model.
        truncate_dim: Number of dimensions that it asks for at this layer.
    """
    own = checkpoint.own
    return {
        "pooling_mode": checkpoint.resolved(Recipe()).pooling_mode,
        "include_prompt": own.include_prompt,
        "prompts": _hash_of_prompts(own.prompts),
        "default_prompt_name": own.default_prompt_name,
        "similarity_fn_name": own.similarity_fn_name or "cosine",
        "truncate_dim": truncate_dim,
    }


def changed(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are not the default.

    Example:
        >>> changed({"dtype": "float32", "truncate_dim": 8}, {"dtype": "float32", "truncate_dim": None})
        {'truncate_dim': 8}
    """
    return {key: value for key, value in settings.items() if value != defaults[key]}


def result_revision(checkpoint: Checkpoint, model: SentenceTransformer, stamp: str) -> str:
    """The revision of a checkpoint, and a hash of the weights if they are not those that were loaded.

    Args:
        checkpoint: What was loaded.
        model: The encoder.
        stamp: Its `weights_stamp` when it was loaded.
    """
    if weights_stamp(model) == stamp:
        return checkpoint.revision
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return f"{checkpoint.revision}-changed-{digest.hexdigest()[:12]}"


def weights_stamp(model: SentenceTransformer) -> str:
    """A hash that is other once a value has changed or an adapter is added or merged; faster than one of all weights.

    It has each parameter's name, the sum of all its bits taken as integers, some of its values, and torch's count of
    the changes that were made to it in place. That count misses changes through `.data`.
    """
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        changes = 0 if parameter.is_inference() else parameter._version
        values = parameter.detach().flatten()
        total = int(values.view(_INTEGERS[values.itemsize]).sum(dtype=torch.int64))
        digest.update(f"{name} {changes} {total} ".encode())
        digest.update(values[:: max(1, values.numel() // _VALUES)].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def _hash_of_prompts(prompts: Mapping[str, str | None]) -> str | None:
    used = sorted((name, prompt) for name, prompt in prompts.items() if prompt)
    return _hash(repr(used)) if used else None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
