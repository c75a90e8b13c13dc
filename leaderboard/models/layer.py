"""A layer of a model as mteb evaluates one, by name or folder. All layers of it at once are `sweep`'s business."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mteb.models import SentenceTransformerEncoderWrapper

from leaderboard.models.known import made_of
from leaderboard.models.meta import layer_meta
from midlayer_embed.encoder.sentence_transformer import MidLayerEncoder
from midlayer_embed.models.backbone import resolve_dtype

if TYPE_CHECKING:
    from midlayer_embed.selection.select import LayerSelection


def get_model(
    model: str | Path,
    layer: "int | float | str | LayerSelection" = -1,
    *,
    final_norm: bool = True,
    pooling_mode: str = "mean",
    max_seq_length: int | None = None,
    dtype: str = "float32",
    device: str | None = None,
    revision: str | None = None,
    bidirectional: bool = False,
    adapters: Sequence[str | Path] = (),
    seed: int = 0,
    selection_texts: Sequence[str] | None = None,
) -> SentenceTransformerEncoderWrapper:
    """A layer of a model for `mteb.evaluate`: a MidLayerEncoder, with the name that its results stand under.

    What `mteb.evaluate` makes of it stands where `run_sweep` puts the results of the same layer.

    Args:
        model: The name of a model in `configs/models` (what that says of adapters and attention holds), a hub id, a
            folder, or "starter".
        layer: As in MidLayerEncoder; the last one unless told otherwise.
        final_norm: As in MidLayerEncoder.
        pooling_mode: As in MidLayerEncoder.
        max_seq_length: As in MidLayerEncoder.
        dtype: As in MidLayerEncoder.
        device: As in MidLayerEncoder.
        revision: Branch, tag or commit on the hub; for a model in `configs/models` one that is listed there, "main", or
            a commit.
        bidirectional: As in MidLayerEncoder.
        adapters: As in MidLayerEncoder; after those of `configs/models`.
        seed: As in MidLayerEncoder.
        selection_texts: As in MidLayerEncoder: needed where a criterion such as "min-dime" chooses the layer.

    Returns:
        mteb's wrapper; its `model` is the MidLayerEncoder.

    Raises:
        InputError: (a ValueError) an argument is not what it should be; the message names it.

    Example:
        >>> import mteb                                                                  # doctest: +SKIP
        >>> mteb.evaluate(get_model("starter", layer=7), mteb.get_benchmark("starter"))  # doctest: +SKIP
    """
    model, bidirectional, adapters = made_of(model, revision, bidirectional, adapters)
    encoder = MidLayerEncoder(
        model,
        layer,
        final_norm=final_norm,
        pooling_mode=pooling_mode,
        max_seq_length=max_seq_length,
        dtype=dtype,
        device=device,
        revision=revision,
        bidirectional=bidirectional,
        adapters=adapters,
        seed=seed,
        selection_texts=selection_texts,
    )
    settings = {
        "final_norm": final_norm,
        "pooling_mode": pooling_mode,
        "max_seq_length": max_seq_length,
        "dtype": str(resolve_dtype(dtype)).removeprefix("torch."),
    }
    found = SentenceTransformerEncoderWrapper(encoder)
    found.mteb_model_meta = layer_meta(encoder.checkpoint, encoder.layer, settings)
    return found
