"""The representation metrics of every layer of a model over a corpus, as a table.

The forward passes are in `representations`, the formulas in `metrics`; `select` chooses a layer.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from midlayer_embed.errors import InputError
from midlayer_embed.forward.layerwise import LayerwiseEncoder
from midlayer_embed.forward.one_pass import OnePassEncoder
from midlayer_embed.forward.opening import open_encoder
from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.ground.checks import check_installed
from midlayer_embed.layers import RESIDUAL_SITES
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.options import Recipe
from midlayer_embed.selection.layer_states import Representations
from midlayer_embed.selection.measures import MetricSettings
from midlayer_embed.selection.representations import MetricRequest, PassOptions, build_representations
from midlayer_embed.terms import METRIC_TABLE, NORMALIZATIONS, PAPER_METRICS, RAW, check_metrics, check_normalizations
from midlayer_embed.texts.tokens import TokenIds

if TYPE_CHECKING:
    import polars as pl

MAX_TEXTS = 1000


@dataclass(frozen=True)
class Profile:
    """Metrics of every layer.

    Attributes:
        model: The model's name.
        revision: Revision of its weights, see `Checkpoint.revision`.
        n_texts: Number of texts that were measured.
        n_different_texts: Number of different texts among them.
        recipe: The final norm, the limit in force, the site and the rest of how states were pooled. Sites inside of
            blocks have no values (NaN) at layer 0.
        settings: Settings of the metrics.
        values: For each metric float64 (L + 1,), unnormalised.
        normalized: For each (metric, normalization) float64 (L + 1,), InfoNCE's `mi_lower_bound` included.
        encoded_norm: Whether normed states were measured by the metrics that are measured as the encoder pools.
        kind: What was measured, "text" or "image"; `n_texts` counts images as well.
    """

    model: str
    revision: str
    n_texts: int
    n_different_texts: int
    recipe: Recipe
    settings: MetricSettings
    values: dict[str, np.ndarray]
    normalized: dict[tuple[str, str], np.ndarray] = field(repr=False)
    encoded_norm: bool = True
    kind: str = "text"

    @property
    def final_norm(self) -> bool:
        """Whether normed states were measured."""
        return bool(self.recipe.final_norm)

    @property
    def max_seq_length(self) -> int:
        """Number of tokens to which texts were truncated."""
        return int(self.recipe.max_seq_length or 0)

    @property
    def site(self) -> str:
        """The place in a block that was measured."""
        return self.recipe.site

    def states_of(self, metric: str) -> str:
        """The states that a metric was measured on: "normed" or "raw", which is all that parts of blocks add."""
        if self.site not in RESIDUAL_SITES:
            return "raw"
        return "normed" if (self.encoded_norm if METRIC_TABLE[metric].encoded else self.final_norm) else "raw"

    @property
    def n_layers(self) -> int:
        """L + 1."""
        return len(next(iter(self.values.values())))

    def to_frame(self) -> "pl.DataFrame":
        """A polars frame of columns layer, depth, metric, normalization, value.

        Raises:
            InputError: (a ValueError) polars is not installed.
        """
        check_installed("polars", "to_frame")
        import polars as pl

        curves = {**{(metric, RAW): curve for metric, curve in self.values.items()}, **self.normalized}
        last = self.n_layers - 1
        rows = [
            (layer, layer / last, metric, normalization, float(value))
            for (metric, normalization), curve in curves.items()
            for layer, value in enumerate(curve)
        ]
        schema = {
            "layer": pl.Int64,
            "depth": pl.Float64,
            "metric": pl.String,
            "normalization": pl.String,
            "value": pl.Float64,
        }
        return pl.DataFrame(rows, schema=schema, orient="row")

    def to_parquet(self, path: str | Path) -> None:
        """Write the frame with the model and the settings in further columns. The file is written atomically."""
        check_installed("polars", "to_parquet")
        import polars as pl

        frame = self.to_frame().with_columns(
            pl.lit(self.model).alias("model"),
            pl.lit(self.revision).alias("revision"),
            pl.lit(self.n_texts).alias("n_texts"),
            pl.col("metric")
            .map_elements(lambda name: self.states_of(name) == "normed", return_dtype=pl.Boolean)
            .alias("final_norm"),
            pl.lit(self.max_seq_length).alias("max_seq_length"),
            pl.lit(self.site).alias("site"),
            pl.lit(self.settings.alpha).alias("alpha"),
            pl.lit(self.settings.temperature).alias("temperature"),
            pl.lit(self.settings.seed).alias("seed"),
            pl.lit(self.settings.first_token).alias("first_token"),
        )
        with atomic_file(path) as partial:
            frame.write_parquet(partial)


def profile_layers(
    model: str | Path | Checkpoint | OnePassEncoder,
    texts: Sequence[Any],
    metrics: Sequence[str] = PAPER_METRICS,
    max_texts: int | None = MAX_TEXTS,
    final_norm: bool | None = None,
    seed: int = 0,
    *,
    min_tokens: int = 1,
    normalizations: Sequence[str] = NORMALIZATIONS,
    alpha: float = 1.0,
    temperature: float = 0.1,
    rates: str = "paper",
    first_token: bool = True,
    workers: int | None = None,
    batch_tokens: int | None = None,
    show_progress: bool = False,
    **model_options: Any,
) -> Profile:
    """Measure every layer of a model over a corpus, in one forward pass over the texts and one over each view.

    The numbers depend only on the model, the set of texts and the settings. The order of the texts and `workers` change
    nothing; `batch_tokens` changes float32 rounding only. Blank texts are left out.

    Args:
        model: A folder, a Hub id, "starter", a checkpoint that has been found already, a LayerwiseEncoder or an
            ImageLayerwiseEncoder.
        texts: The corpus, without labels: texts, or images for an image encoder (see `ImageLayerwiseEncoder.encode`).
            Prompt entropy and curvature of an image are over its patches; its views are crops, flips and colours.
        metrics: Some of `midlayer_embed.terms.METRICS`; those of the paper by default.
        max_texts: Maximum number of texts to measure, sampled with the seed; None for all. The paper takes 1,000.
        final_norm: Whether to measure normed states. None: the setting of a given encoder; of other models
            raw states, as in the paper, except for the retrieval of views, which is measured as the encoder pools.
        seed: Seed of the sample of texts, of the views and of DiME's permutations.
        min_tokens: Texts with fewer tokens, special ones included, are left out.
        normalizations: What entropies are divided by (see `metrics.matrix_entropy`); raw values are always included.
        alpha: Order of the matrix entropy behind prompt entropy, dataset entropy and DiME.
        temperature: Temperature of InfoNCE.
        rates: Rates of augmentation: "paper" or "library" (see `midlayer_embed.texts.views.augmented_views`).
        first_token: Whether the first token of each text counts. False leaves it out of what is pooled, of prompt
            entropy and of curvature, and texts of one token are left out: decoders park attention on the first token,
            whose state then hides the others'. Models that add no BOS token do so with the text's own first word.
            `sink` measures it in any case.
        workers: Number of processes that augment texts. None: as many as save time.
        batch_tokens: Number of tokens in a forward pass, padding included. None: a default for the device.
        show_progress: Show bars with an ETA on stderr.
        **model_options: Keywords of the encoder, unless `model` is one: max_seq_length, pooling_mode, ...

    Returns:
        The profile. If no text is long enough for a metric, its values are NaN.

    Raises:
        InputError: (a ValueError) an unknown metric, no texts, states that are not finite; the message names it.

    Example:
        >>> p = profile_layers("starter", ["a text", "another"], metrics=["dataset_entropy"])    # doctest: +SKIP
        >>> p.values["dataset_entropy"].shape                                                    # doctest: +SKIP
        (31,)
    """
    with open_profile(
        model,
        texts,
        metrics,
        max_texts=max_texts,
        final_norm=final_norm,
        seed=seed,
        min_tokens=min_tokens,
        normalizations=normalizations,
        alpha=alpha,
        temperature=temperature,
        rates=rates,
        first_token=first_token,
        workers=workers,
        batch_tokens=batch_tokens,
        show_progress=show_progress,
        **model_options,
    ) as (profile, _):
        return profile


@contextmanager
def open_profile(
    model: str | Path | Checkpoint | OnePassEncoder,
    texts: Sequence[Any],
    metrics: Sequence[str],
    *,
    max_texts: int | None,
    final_norm: bool | None,
    seed: int,
    min_tokens: int = 1,
    normalizations: Sequence[str] = NORMALIZATIONS,
    alpha: float = 1.0,
    temperature: float = 0.1,
    rates: str = "paper",
    first_token: bool = True,
    workers: int | None = None,
    batch_tokens: int | None = None,
    show_progress: bool = False,
    **model_options: Any,
) -> Iterator[tuple[Profile, Representations]]:
    """Like `profile_layers`, but also give access to the states, so that parts of the corpus can be measured."""
    wanted = check_metrics(metrics)
    divisors = check_normalizations(normalizations)
    settings = MetricSettings(alpha=alpha, temperature=temperature, seed=seed, first_token=first_token)
    if isinstance(model, OnePassEncoder):
        if model_options:
            raise InputError(
                f"{', '.join(model_options)}: pass settings of a {type(model).__name__} to its constructor"
            )
        encoder = model
    else:
        encoder = open_encoder(model, final_norm=final_norm, **model_options)
    _check_views(encoder, wanted)
    encoded_norm = encoder.final_norm if final_norm is None else final_norm
    normed = encoded_norm if encoder is model else bool(final_norm)
    sample = draw_texts(encoder, texts, max_texts, min_tokens=min_tokens, seed=seed, first_token=first_token)
    request = MetricRequest(wanted, encoder.layers, normed, settings, encoded_norm, rates)
    options = PassOptions(workers, batch_tokens, show_progress=show_progress)
    with build_representations(encoder, sample, request, options) as representations:
        curves = representations.curves(wanted, divisors, show_progress=show_progress)
        yield _profile(encoder, request, curves, len(sample), len(set(sample))), representations


def draw_texts(
    encoder: OnePassEncoder,
    texts: Sequence[Any],
    max_texts: int | None = MAX_TEXTS,
    *,
    min_tokens: int = 1,
    seed: int = 0,
    first_token: bool = True,
) -> list[Any]:
    """The texts or images that are measured: a sample that does not depend on their order, see `Inputs.sample`.

    Args:
        encoder: The model, whose tokens are counted without its template.
        texts: The corpus.
        max_texts: Maximum number of texts; None for all.
        min_tokens: Texts with fewer tokens, special ones included, are left out.
        seed: Seed of the sample.
        first_token: Whether the first token of each text counts; without it, texts of one token are left out.

    Raises:
        InputError: (a ValueError) as `Inputs.sample`.
    """
    return encoder.inputs.sample(texts, max_texts, seed=seed, min_tokens=min_tokens, first_token=first_token)


def profile_tokens(
    encoder: LayerwiseEncoder,
    token_ids: TokenIds,
    metrics: Sequence[str],
    *,
    final_norm: bool | None = None,
    normalizations: Sequence[str] = NORMALIZATIONS,
    alpha: float = 1.0,
    first_token: bool = True,
    batch_tokens: int | None = None,
    show_progress: bool = False,
    description: str = "Encoding",
) -> Profile:
    """Measure every layer over token ids as they are, in one forward pass.

    Args:
        encoder: The model.
        token_ids: The ids of each text, special ones included, as `LayerwiseEncoder.tokenized` gives them, or changed.
        metrics: Metrics that need no views of the texts.
        final_norm: Whether to measure normed states. None: the setting of the encoder.
        normalizations: What entropies are divided by.
        alpha: Order of the matrix entropy.
        first_token: Whether the first token of each text counts.
        batch_tokens: Number of tokens in a forward pass, padding included. None: a default for the device.
        show_progress: Show a bar with an ETA on stderr.
        description: Label of the bar.

    Returns:
        The profile; its texts are counted by their ids.

    Raises:
        InputError: (a ValueError) a metric that needs views, no token ids, states that are not finite.

    Example:
        >>> every = LayerwiseEncoder("starter")                                                    # doctest: +SKIP
        >>> p = profile_tokens(every, every.tokenized(["a text", "another"]), ["prompt_entropy"])  # doctest: +SKIP
    """
    wanted = check_metrics(metrics)
    divisors = check_normalizations(normalizations)
    settings = MetricSettings(alpha=alpha, first_token=first_token)
    for metric in wanted:
        if METRIC_TABLE[metric].n_views:
            raise InputError(f"metrics: {metric} needs views of the texts, and there are only token ids")
    if not len(token_ids.flat):
        raise InputError("token_ids: expected at least one token, got none")
    normed = encoder.final_norm if final_norm is None else final_norm
    request = MetricRequest(wanted, encoder.layers, normed, settings, normed)
    options = PassOptions(batch_tokens=batch_tokens, show_progress=show_progress, description=description)
    with build_representations(encoder, token_ids, request, options) as representations:
        curves = representations.curves(wanted, divisors, show_progress=show_progress)
    distinct = {token_ids[row].tobytes() for row in range(len(token_ids.lengths))}
    return _profile(encoder, request, curves, len(token_ids.lengths), len(distinct))


def _check_views(encoder: OnePassEncoder, metrics: Sequence[str]) -> None:
    for metric in metrics:
        kind = METRIC_TABLE[metric].views
        if METRIC_TABLE[metric].n_views and kind not in encoder.inputs.view_kinds:
            raise InputError(f"metrics: {metric} compares views that are made of words, and this model takes images")


def _profile(
    encoder: OnePassEncoder,
    request: MetricRequest,
    curves: dict[tuple[str, str], np.ndarray],
    n_texts: int,
    n_different_texts: int,
) -> Profile:
    curves = {key: _of_every_layer(curve, encoder) for key, curve in curves.items()}
    return Profile(
        model=encoder.checkpoint.name,
        revision=encoder.checkpoint.revision,
        n_texts=n_texts,
        n_different_texts=n_different_texts,
        recipe=replace(encoder.recipe, final_norm=request.final_norm, max_seq_length=encoder.max_seq_length),
        settings=request.settings,
        values={metric: curves[metric, RAW] for metric in request.metrics},
        normalized={key: curve for key, curve in curves.items() if key[1] != RAW},
        encoded_norm=bool(request.encoded_norm),
        kind=encoder.inputs.kind,
    )


def _of_every_layer(curve: np.ndarray, encoder: OnePassEncoder) -> np.ndarray:
    """The curve with NaN at layer 0, if the site is inside of blocks."""
    return np.concatenate([np.full(encoder.n_layers - len(curve), np.nan), curve])
