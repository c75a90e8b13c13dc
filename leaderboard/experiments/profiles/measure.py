"""The metrics of every layer of several models: the checkpoints of one, or one beside others.

Models are loaded one after the other, and all are found before the first is loaded.
"""

import gc
import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import torch

from leaderboard.experiments.encoders import find_model
from leaderboard.experiments.profiles.kept import KeptProfiles
from leaderboard.experiments.profiles.revisions import find_revisions
from leaderboard.experiments.profiles.table import MEASURED, SCHEMA, with_scores
from leaderboard.models.known import known_models
from midlayer_embed import __version__
from midlayer_embed.errors import InputError
from midlayer_embed.forward.layerwise import LayerwiseEncoder
from midlayer_embed.ground.checks import check_int, check_optional_int
from midlayer_embed.ground.interrupts import tell_interrupt
from midlayer_embed.ground.paths import user_path
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.models.discovery import model_without_weights
from midlayer_embed.models.starter import LOCAL
from midlayer_embed.models.weights import dtype_name, resolve_device
from midlayer_embed.options import AnyModelOptions, Recipe, Source, fold, takes_options
from midlayer_embed.selection.profile import MAX_TEXTS, profile_layers
from midlayer_embed.terms import PAPER_METRICS, check_metrics
from midlayer_embed.texts.tokens import check_texts

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)

_PACKAGES = ("torch", "transformers")
_Model = str | Path | Checkpoint | LayerwiseEncoder


@dataclass(frozen=True)
class _Measured:
    """A model to measure.

    Attributes:
        label: What it is called in the table.
        revision: Its revision in the table; None: that of its checkpoint.
        step: Its number of training steps, if it is one of several checkpoints.
        model: What is measured. A checkpoint is loaded for as long as it is measured.
    """

    label: str
    revision: str | None
    step: int | None
    model: Checkpoint | LayerwiseEncoder

    @property
    def checkpoint(self) -> Checkpoint:
        """Where its files are."""
        return self.model.checkpoint if isinstance(self.model, LayerwiseEncoder) else self.model


@dataclass(frozen=True)
class _How:
    """How each model is measured: the arguments of `profile_layers`, and what a checkpoint is loaded with."""

    metrics: list[str]
    max_texts: int | None
    min_tokens: int
    seed: int
    rates: str
    batch_tokens: int | None
    source: Source
    recipe: Recipe


@takes_options(without=("revision",))
def checkpoints(
    model: str | Path,
    texts: Sequence[str],
    revisions: Sequence[str | Path] | None = None,
    *,
    metrics: Sequence[str] = PAPER_METRICS,
    max_texts: int | None = MAX_TEXTS,
    min_tokens: int = 1,
    seed: int = 0,
    rates: str = "paper",
    batch_tokens: int | None = None,
    folder: str | Path | None = None,
    show_progress: bool = False,
    **options: "Unpack[AnyModelOptions]",
) -> pl.DataFrame:
    """Measure every layer of a model at several points of its training (the paper's Figures 4 and 11).

    The checkpoints are loaded one after the other; a wrong one is told before the first is loaded.

    Args:
        model: A Hub id, or a folder whose folders are checkpoints.
        texts: The corpus, without labels. The same texts are measured at every checkpoint.
        revisions: Revisions on the Hub, such as "step512" and "main", or folders. The number in a name is the step;
            those without one come last, "main" at the very end. None: all checkpoints in the folder `model`.
        metrics: Some of `midlayer_embed.terms.METRICS`; those of the paper by default.
        max_texts: Maximum number of texts to measure, sampled with the seed; None for all.
        min_tokens: Texts with fewer tokens, special ones included, are left out.
        seed: Seed of the sample of texts, of the views and of DiME's permutations.
        rates: Rates of augmentation: "paper" or "library".
        batch_tokens: Number of tokens in a forward pass, padding included. None: a default for the device.
        folder: Folder that keeps finished profiles: the same call continues where an earlier one stopped. None: nothing
            is kept.
        show_progress: Show bars with an ETA on stderr.
        **options: More fields of `Recipe` and `Source`, as for LayerwiseEncoder. Raw states are measured unless
            `final_norm=True`.

    Returns:
        One row for each number, in the order of the steps, with the columns of `profiles.table.SCHEMA`: model,
        revision, source ("measured"), step (null for a checkpoint whose name has no number), n_blocks, n_parameters,
        layer (0..L), depth (0..1), metric, normalization, value, n_texts, final_norm, max_seq_length, seed.

    Raises:
        InputError: (a ValueError) a revision or folder does not exist or is named twice, an unknown metric, no texts.

    Example:
        >>> table = checkpoints("EleutherAI/pythia-410m", texts, ["step1", "step512", "main"])    # doctest: +SKIP
        >>> table.filter(metric="prompt_entropy", normalization="raw", step=512)["value"]         # doctest: +SKIP
    """
    how = _how(metrics, max_texts, min_tokens, seed, rates, batch_tokens, options)
    found = check_texts(texts)
    revised = find_revisions(model, revisions, options)
    label = _label_of_run(model, how.source, revised[0].checkpoint)
    models = [_Measured(label, one.name, one.step, one.checkpoint) for one in revised]
    return _measure(models, found, how, KeptProfiles(folder), show_progress)


@takes_options()
def compare_models(
    models: "Sequence[_Model] | Mapping[str, _Model]",
    texts: Sequence[str],
    *,
    metrics: Sequence[str] = PAPER_METRICS,
    scores: "str | Path | pl.DataFrame | None" = None,
    max_texts: int | None = MAX_TEXTS,
    min_tokens: int = 1,
    seed: int = 0,
    rates: str = "paper",
    batch_tokens: int | None = None,
    folder: str | Path | None = None,
    show_progress: bool = False,
    **options: "Unpack[AnyModelOptions]",
) -> pl.DataFrame:
    """Measure every layer of several models, such as the sizes of a family (the paper's Figures 2, 10, 12 and 13).

    Models are loaded one after the other; a wrong one is told before the first is loaded.

    Args:
        models: Hub ids, names of `configs/models`, folders, "starter", or LayerwiseEncoders. With labels of your own:
            a dictionary from label to model.
        texts: The corpus, without labels. The same texts are given to every model.
        metrics: As in `checkpoints`.
        scores: Scores of these models: a results folder, a file, or a table with the columns of `Leaderboard.scores`.
            The mean over the tasks that all of them have is one more metric, "score", in points.
        max_texts: As in `checkpoints`.
        min_tokens: As in `checkpoints`.
        seed: As in `checkpoints`.
        rates: As in `checkpoints`.
        batch_tokens: As in `checkpoints`.
        folder: As in `checkpoints`.
        show_progress: As in `checkpoints`.
        **options: Of models that are not loaded yet: more fields of `Recipe` and `Source`, as for LayerwiseEncoder. Raw
            states are measured unless `final_norm=True`, of a LayerwiseEncoder as well.

    Returns:
        One row for each number, with the columns of `checkpoints`.

    Raises:
        InputError: (a ValueError) a model does not exist or is given twice, no model of the scores is among them, an
            unknown metric, no texts.

    Example:
        >>> table = compare_models(["EleutherAI/pythia-70m", "EleutherAI/pythia-410m"], texts)    # doctest: +SKIP
        >>> adapted = LayerwiseEncoder(base, bidirectional=True, adapters=["mine"])               # doctest: +SKIP
        >>> table = compare_models({"base": base, "finetuned": adapted}, texts)                   # doctest: +SKIP
    """
    how = _how(metrics, max_texts, min_tokens, seed, rates, batch_tokens, options)
    found = check_texts(texts)
    table = _measure(_find_models(models, options), found, how, KeptProfiles(folder), show_progress)
    return table if scores is None else with_scores(table, scores)


def _how(
    metrics: Sequence[str],
    max_texts: int | None,
    min_tokens: int,
    seed: int,
    rates: str,
    batch_tokens: int | None,
    options: Mapping[str, Any],
) -> _How:
    source, recipe = fold(options)
    resolve_device(source.device)
    return _How(
        check_metrics(metrics),
        check_optional_int("max_texts", max_texts, 1),
        check_int("min_tokens", min_tokens, 1),
        check_int("seed", seed, 0),
        rates,
        batch_tokens,
        source,
        recipe,
    )


def _label_of_run(model: str | Path, source: Source, checkpoint: Checkpoint) -> str:
    run = user_path(model, "model")
    if source.model_name is not None:
        return checkpoint.name
    if run.is_dir():
        return f"{LOCAL}{run.resolve().name}"
    return str(model) if str(model) in known_models() or checkpoint.hub_id is None else checkpoint.name


def _find_models(models: "Sequence[_Model] | Mapping[str, _Model]", options: Mapping[str, Any]) -> list[_Measured]:
    """The models, none loaded; each with a label of its own."""
    if isinstance(models, (str, Path, Checkpoint, LayerwiseEncoder)):
        models = [models]
    if not models:
        raise InputError("models: expected at least one, got none")
    if isinstance(models, Mapping):
        return [_Measured(label, None, None, _find(model, options)) for label, model in models.items()]
    found = [(str(model), _find(model, options)) for model in models]
    labels = [
        name if name in known_models() else _Measured(name, None, None, model).checkpoint.name for name, model in found
    ]
    measured = [_Measured(label, None, None, model) for label, (_, model) in zip(labels, found, strict=True)]
    several = {label for label, n in Counter(labels).items() if n > 1}
    labelled = [
        replace(one, label=f"{one.label} ({one.checkpoint.revision})") if one.label in several else one
        for one in measured
    ]
    for label, n in Counter(one.label for one in labelled).items():
        if n > 1:
            raise InputError(
                f"models: {label} is named twice; different settings of one model need labels of their own"
            )
    return labelled


def _find(model: _Model, options: Mapping[str, Any]) -> Checkpoint | LayerwiseEncoder:
    return model if isinstance(model, LayerwiseEncoder) else find_model(model, options)[0]


def _measure(
    models: Sequence[_Measured], texts: Sequence[str], how: _How, kept: KeptProfiles, show_progress: bool
) -> pl.DataFrame:
    parts = []
    with kept, tell_interrupt(kept.what_is_kept):
        # The numbers do not depend on the order of the texts.
        digest = hashlib.sha256(repr(sorted(texts)).encode()).hexdigest()
        has_loaded = False
        for number, one in enumerate(models, start=1):
            settings = _identity(one, how, digest) if kept.is_used else {}
            said = f"{one.label} {one.revision or ''}".strip()
            profile = kept.find(settings)
            if profile is None:
                if has_loaded:
                    _free_memory()
                logger.info("measuring %s (%d of %d)", said, number, len(models))
                has_loaded = isinstance(one.model, Checkpoint)
                profile = _profile(one, texts, how, show_progress)
                kept.keep(settings, profile)
            else:
                logger.info("%s was measured earlier (%d of %d)", said, number, len(models))
            parts.append(_labelled(one, profile, len(models)))
    return pl.concat(parts)


def _free_memory() -> None:
    """The weights of the last model go before those of the next one come; frames of its loading refer to it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _profile(one: _Measured, texts: Sequence[str], how: _How, show_progress: bool) -> pl.DataFrame:
    """The profile of a model, with the settings that hold for every row."""
    is_loaded = isinstance(one.model, LayerwiseEncoder)
    recipe = {key: value for key, value in asdict(how.recipe).items() if value is not None and key != "final_norm"}
    loading = {} if is_loaded else {**recipe, "dtype": how.source.dtype, "device": how.source.device}
    profile = profile_layers(
        one.model,
        texts,
        how.metrics,
        how.max_texts,
        bool(how.recipe.final_norm) if is_loaded else how.recipe.final_norm,
        how.seed,
        min_tokens=how.min_tokens,
        rates=how.rates,
        batch_tokens=how.batch_tokens,
        show_progress=show_progress,
        **loading,
    )
    normed = [name for name in profile.values if profile.states_of(name) == "normed"]
    return profile.to_frame().with_columns(
        n_texts=pl.lit(profile.n_texts, pl.Int64),
        final_norm=pl.col("metric").is_in(normed),
        max_seq_length=pl.lit(profile.max_seq_length, pl.Int64),
        seed=pl.lit(how.seed, pl.Int64),
    )


def _labelled(one: _Measured, profile: pl.DataFrame, n_models: int) -> pl.DataFrame:
    checkpoint = one.checkpoint
    return profile.with_columns(
        model=pl.lit(one.label),
        revision=pl.lit(one.revision or checkpoint.revision),
        source=pl.lit(MEASURED),
        step=pl.lit(one.step, pl.Int64),
        n_blocks=pl.lit(checkpoint.n_blocks, pl.Int64),
        n_parameters=pl.lit(_n_parameters(checkpoint), pl.Int64),
    ).select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())


def _n_parameters(checkpoint: Checkpoint) -> int:
    """Of the transformer, embeddings included and a head left out."""
    model = model_without_weights(checkpoint.config, checkpoint.trust_remote_code)
    return sum(parameter.numel() for parameter in model.parameters())


def _identity(one: _Measured, how: _How, texts: str) -> dict[str, Any]:
    """All that a profile depends on; the size of batches and the device change roundings only."""
    is_loaded = isinstance(one.model, LayerwiseEncoder)
    recipe = one.model.recipe if isinstance(one.model, LayerwiseEncoder) else how.recipe
    dtype = one.model.backbone.model.dtype if isinstance(one.model, LayerwiseEncoder) else how.source.dtype
    return {
        "weights": one.checkpoint.revision,
        "recipe": asdict(replace(recipe, final_norm=how.recipe.final_norm)),
        "is_loaded": is_loaded,
        "dtype": dtype_name(dtype),
        "own_code": one.checkpoint.trust_remote_code,
        "metrics": sorted(how.metrics),
        "max_texts": how.max_texts,
        "min_tokens": how.min_tokens,
        "seed": how.seed,
        "rates": how.rates,
        "texts": texts,
        "versions": {"midlayer-embed": __version__, **{name: version(name) for name in _PACKAGES}},
    }
