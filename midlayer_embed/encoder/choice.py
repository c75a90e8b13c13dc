"""The layer that an encoder pools, if a criterion chooses it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from midlayer_embed.errors import InputError
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.options import Recipe, Source

if TYPE_CHECKING:
    from midlayer_embed.selection.criteria import LayerSelection


def check_choice(layer: "int | float | str | LayerSelection", texts: Sequence[str] | None) -> None:
    """Reject unknown criteria, and criteria without texts, before any download.

    Raises:
        InputError: (a ValueError) the message names the argument.
    """
    from midlayer_embed.selection.criteria import check_layer, needs_texts

    if isinstance(layer, str):
        check_layer(layer)
        if needs_texts(layer) and texts is None:
            raise InputError(f"selection_texts: layer {layer!r} needs texts, got None")


def chosen(
    layer: "int | float | str | LayerSelection",
    checkpoint: Checkpoint,
    texts: Sequence[str] | None,
    seed: int,
    source: Source,
    recipe: Recipe,
) -> "LayerSelection | None":
    """The selection by a criterion, or the one given as `layer`; None if the layer is a number or depth.

    Raises:
        InputError: (a ValueError) chosen for another model; or as `select_layer`.
    """
    from midlayer_embed.forward.batching import check_texts
    from midlayer_embed.forward.layerwise import LayerwiseEncoder
    from midlayer_embed.selection.criteria import LayerSelection, fixed_layer, is_encoded, needs_texts
    from midlayer_embed.selection.select import select_layer

    if isinstance(layer, LayerSelection):
        if layer.n_layers != checkpoint.n_blocks + 1:
            raise InputError(
                f"layer: chosen for a model of {layer.n_layers} layers; this model has {checkpoint.n_blocks + 1}"
            )
        return layer
    if not isinstance(layer, str):
        return None
    if not needs_texts(layer):
        return fixed_layer(layer, checkpoint.n_blocks)
    found = check_texts(texts or [], "selection_texts")
    if not is_encoded(layer):
        recipe = replace(recipe, final_norm=False)
    every = LayerwiseEncoder.from_checkpoint(checkpoint, recipe, dtype=source.dtype, device=source.device)
    return select_layer(every, found, criterion=layer, seed=seed)
