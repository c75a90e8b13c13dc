"""Opens a model for its items, whatever they are: texts or images."""

from pathlib import Path
from typing import Any

from midlayer_embed.forward.images import ImageLayerwiseEncoder
from midlayer_embed.forward.layerwise import LayerwiseEncoder
from midlayer_embed.forward.one_pass import OnePassEncoder
from midlayer_embed.models.checkpoint import Checkpoint, find_checkpoint
from midlayer_embed.options import fold, takes_options


def encoder_class(checkpoint: Checkpoint) -> type[OnePassEncoder]:
    """The class that a checkpoint is opened with."""
    return ImageLayerwiseEncoder if checkpoint.modality == "image" else LayerwiseEncoder


@takes_options()
def open_encoder(model: str | Path | Checkpoint, **options: Any) -> OnePassEncoder:
    """Open a model for every layer: a `LayerwiseEncoder`, or an `ImageLayerwiseEncoder` for an image encoder.

    Args:
        model: A folder, a Hub id, "starter", or a checkpoint that has been found already.
        **options: The fields of `Recipe` and `Source`.

    Raises:
        InputError: (a ValueError) an argument is invalid, or the model does not take it; the message names it.

    Example:
        >>> open_encoder("starter").inputs.kind               # doctest: +SKIP
        'text'
    """
    source, recipe = fold(options)
    checkpoint = find_checkpoint(model, source)
    return encoder_class(checkpoint).from_checkpoint(checkpoint, recipe, dtype=source.dtype, device=source.device)
