"""The layer that an encoder pools, if a criterion chooses it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from midlayer_embed.errors import InputError
from midlayer_embed.layers import check_is_layer
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.options import Recipe, Source, of_every_layer

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
    from midlayer_embed.selection.criteria import LayerSelection, is_raw
    from midlayer_embed.selection.select import select_layer
    from midlayer_embed.texts.tokens import check_texts

    if isinstance(layer, (str, LayerSelection)):
        check_is_layer(recipe.site, "chosen")
    if isinstance(layer, LayerSelection):
        if layer.n_layers != checkpoint.n_blocks + 1:
            raise InputError(
                f"layer: chosen for a model of {layer.n_layers} layers; this model has {checkpoint.n_blocks + 1}"
            )
        return layer
    if not isinstance(layer, str):
        return None
    options = of_every_layer(recipe)
    if is_raw(layer):
        options["final_norm"] = None
    found = None if texts is None else check_texts(texts, "selection_texts")
    return select_layer(checkpoint, found, layer, seed, dtype=source.dtype, device=source.device, **options)
