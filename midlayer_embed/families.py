"""Where each architecture keeps its blocks and its final norm. A table and the look-up; no model is loaded here.

To add an architecture, add a row and a tiny model of it to the tests.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from midlayer_embed.errors import InputError


@dataclass(frozen=True)
class Family:
    """Dotted paths from the base model (what `AutoModel` loads).

    Attributes:
        blocks: The list of blocks. What enters the first one is layer 0.
        final_norm: The norm after the last block, or None where the model has none.
    """

    blocks: str
    final_norm: str | None


_FAMILIES: dict[str, Family] = {
    "bert": Family(blocks="encoder.layer", final_norm=None),
    "gpt_neox": Family(blocks="layers", final_norm="final_layer_norm"),
    "llama": Family(blocks="layers", final_norm="norm"),
    "mamba": Family(blocks="layers", final_norm="norm_f"),
}


def family_of(model_type: str) -> Family:
    """The family of a `config.model_type`.

    Raises:
        InputError: (a ValueError) the architecture is not in the table.

    Example:
        >>> family_of("llama").blocks
        'layers'
    """
    try:
        return _FAMILIES[model_type]
    except KeyError:
        known = ", ".join(sorted(_FAMILIES))
        raise InputError(f"model: architecture {model_type!r} is not known here; known are {known}") from None


def blocks_of(model: nn.Module, family: Family) -> Sequence[nn.Module]:
    """The blocks of a base model, in order."""
    blocks = model.get_submodule(family.blocks)
    assert isinstance(blocks, nn.ModuleList)
    return list(blocks)


def final_norm_of(model: nn.Module, family: Family) -> nn.Module | None:
    """The final norm of a base model, or None where it has none."""
    return None if family.final_norm is None else model.get_submodule(family.final_norm)
