"""Loads one layer of a model for mteb. `leaderboard.sweep` evaluates all layers at once."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mteb.models import SentenceTransformerEncoderWrapper

from leaderboard.models.known import resolve_known_model
from leaderboard.models.meta import layer_meta, scoring_settings
from leaderboard.tasks.fitting_texts import FIT_TEXTS, fit_on
from leaderboard.tasks.names import TASK, TRAIN
from midlayer_embed.encoder.sentence_transformer import MidLayerEncoder
from midlayer_embed.errors import InputError
from midlayer_embed.options import FILE_OPTIONS, ModelOptions, fold, takes_options

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from midlayer_embed.selection.criteria import LayerSelection


@takes_options(without=FILE_OPTIONS)
def get_model(
    model: str | Path,
    layer: "int | float | str | LayerSelection" = -1,
    *,
    seed: int = 0,
    selection_texts: Sequence[str] | None = None,
    transform: str | None = None,
    transform_texts: str | Path | Sequence[str] | None = None,
    fit_texts: int = FIT_TEXTS,
    dim: int | None = None,
    **options: "Unpack[ModelOptions]",
) -> SentenceTransformerEncoderWrapper:
    """A layer of a model for `mteb.evaluate`: a MidLayerEncoder with the name that `run_sweep` gives to its results.

    Results of `mteb.evaluate` are written where `run_sweep` writes those of the same layer.

    Args:
        model: The name of a model in `configs/models` (whose adapters and attention apply), a Hub id, a folder, or
            "starter".
        layer: A layer, depth or criterion, as for MidLayerEncoder.
        seed: Seed of the choice of a layer by a criterion, and of the texts that a transform is fitted on.
        selection_texts: Texts for a criterion such as "min-dime", as for MidLayerEncoder.
        transform: A transform of the pooled vectors, as for MidLayerEncoder.
        transform_texts: The texts that it is fitted on, without labels: a file, or texts. "train" and "task" of
            `run_sweep` depend on the task, which a model does not know.
        fit_texts: Maximum number of these texts, drawn by the seed as `run_sweep` does.
        dim: Number of dimensions that whitening keeps.
        **options: The fields of `Recipe` and `Source`, as for MidLayerEncoder, without gguf_file and trust_remote_code.
            revision: for a model in `configs/models` one that is listed there, "main", or a commit. adapters: merged
            after those of `configs/models`.

    Returns:
        mteb's wrapper; its `model` is the MidLayerEncoder.

    Raises:
        InputError: (a ValueError) an argument is invalid; the message names it.

    Example:
        >>> import mteb                                                                  # doctest: +SKIP
        >>> mteb.evaluate(get_model("starter", layer=7), mteb.get_benchmark("starter"))  # doctest: +SKIP
    """
    asked, _ = fold(options)
    name, source = resolve_known_model(model, asked)
    options |= {"bidirectional": source.bidirectional, "adapters": source.adapters}
    fitted = None
    if transform_texts is not None:
        if isinstance(transform_texts, str) and transform_texts in (TRAIN, TASK):
            raise InputError(
                f"transform_texts: {transform_texts} depends on the task; expected a file of texts, or texts"
            )
        fitted = fit_on(transform_texts, fit_texts, seed)
    encoder = MidLayerEncoder(
        name,
        layer,
        seed=seed,
        selection_texts=selection_texts,
        transform=transform,
        transform_texts=None if fitted is None else fitted.texts,
        dim=dim,
        **options,
    )
    recipe = replace(encoder.recipe, max_seq_length=options.get("max_seq_length"))  # its name has what was asked for
    found = SentenceTransformerEncoderWrapper(encoder)
    settings = scoring_settings(recipe, source.dtype, None if fitted is None else fitted.name)
    found.mteb_model_meta = layer_meta(encoder.checkpoint, encoder.layer, settings)
    return found
