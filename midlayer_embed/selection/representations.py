"""The states of a corpus at every layer, from as few forward passes as the metrics need, and the metrics of them.

Token states are measured during the pass and never kept; the pooled vectors of augmented views are in a scratch file.
The functions behind the metrics are in `measures`, tables in `profile`, the choice of a layer in `select`.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from midlayer_embed.errors import InputError
from midlayer_embed.forward.batching import distinct
from midlayer_embed.forward.layerwise import LayerwiseEncoder, PooledBatch, TokenMeasure
from midlayer_embed.ground.progress import progress
from midlayer_embed.metrics.gram import divisor
from midlayer_embed.selection.measures import MEASURES, MetricSettings
from midlayer_embed.selection.scratch import scratch_array
from midlayer_embed.terms import METRIC_TABLE, MI_LOWER_BOUND, RAW, ViewKind, views_of
from midlayer_embed.texts.views import augmented_views
from midlayer_embed.texts.word_views import word_views

_BAR_AFTER = 1  # seconds; metrics that are measured sooner show no bar


@dataclass(frozen=True)
class MetricRequest:
    """The metrics to compute, and their settings.

    Attributes:
        metrics: Names of metrics.
        layers: Layers 0..L; all axes of layers are in this order.
        final_norm: Whether normed states are measured by the metrics that take raw ones by default, as in the paper.
        settings: Settings of the metrics.
        encoded_norm: The same for the others (`Metric.encoded`); None: as the encoder.
        rates: Rates of augmentation, as in `views.augmented_views`.
        skips_not_finite: Whether the metrics of a layer with states that are not finite are NaN, instead of an error.
    """

    metrics: Collection[str]
    layers: Sequence[int]
    final_norm: bool
    settings: MetricSettings
    encoded_norm: bool | None = None
    rates: str = "paper"
    skips_not_finite: bool = False


@dataclass(frozen=True)
class PassOptions:
    """Options of the forward passes. They change values by float32 rounding at most.

    Attributes:
        workers: Number of processes that augment texts, as in `views.augmented_views`.
        batch_tokens: Number of tokens in a forward pass, as in LayerwiseEncoder.
        scratch: Folder for the vectors of the views; None: the system's temporary folder.
        show_progress: Show bars with an ETA on stderr.
        label: Prefix of the labels of the bars.
    """

    workers: int | None = None
    batch_tokens: int | None = None
    scratch: Path | None = None
    show_progress: bool = False
    label: str = ""


@dataclass(frozen=True)
class Views:
    """The pooled vectors of one kind of views.

    Attributes:
        rows: (m,) indices of the texts that have such views, in order.
        vectors: (n_layers, n_views, m, dim) float32.
    """

    rows: np.ndarray
    vectors: np.ndarray

    def places(self, rows: np.ndarray | None) -> slice | np.ndarray:
        """Where the views of some texts are on the axis of m; None stands for all."""
        return slice(None) if rows is None else np.flatnonzero(np.isin(self.rows, rows))


@dataclass(frozen=True)
class Representations:
    """The states of n texts at some layers.

    Attributes:
        layers: Layers 0..L; all axes of layers are in this order.
        n_texts: n.
        dim: Width of a state.
        n_tokens: (n,) number of tokens of each text, special ones included; empty if no metric needs it.
        token_values: For each token metric (n_layers, n), NaN where a text is too short for it.
        vectors: (n_layers, n, dim) float32, pooled; None if no metric needs them.
        views: The views that the metrics need, by their kind (`Metric.views`).
        settings: Settings of the metrics.
        skips_not_finite: Whether the metrics of a layer with states that are not finite are NaN, instead of an error.
    """

    layers: Sequence[int]
    n_texts: int
    dim: int
    n_tokens: np.ndarray
    token_values: Mapping[str, np.ndarray]
    vectors: np.ndarray | None
    views: Mapping[ViewKind, Views]
    settings: MetricSettings
    skips_not_finite: bool = False

    def measure(
        self, metric: str, rows: np.ndarray | None = None, *, on_layers: Callable[[int], object] = lambda n: None
    ) -> np.ndarray:
        """A metric at each of the layers: float64 (n_layers,), unnormalised.

        Args:
            metric: One of the requested metrics.
            rows: Indices of texts, for resampling; None for all.
            on_layers: Called with the number of layers that have been measured since the last call.

        Raises:
            InputError: (a ValueError) states that are not finite, unless they are skipped; the message names the layer.
        """
        if METRIC_TABLE[metric].measured_on == "tokens":
            on_layers(len(self.layers))
            return _mean_of_known(self.token_values[metric], rows)
        values = []
        for slot, layer in enumerate(self.layers):
            try:
                values.append(self._at_slot(metric, slot, rows))
            except InputError as error:
                raise InputError(f"{metric} of layer {layer}: {error}") from error
            on_layers(1)
        return np.array(values)

    def n_measured(self, metric: str, rows: np.ndarray | None = None) -> int:
        """Number of texts that a metric measures: those that are long enough.

        Args:
            metric: One of the requested metrics.
            rows: Indices of texts, as for `measure`.
        """
        if METRIC_TABLE[metric].measured_on == "views":
            views = self.views[METRIC_TABLE[metric].views]
            return len(views.rows[views.places(rows)])
        if METRIC_TABLE[metric].measured_on == "vectors":
            return self.n_texts if rows is None else len(rows)
        values = self.token_values[metric] if rows is None else self.token_values[metric][:, rows]
        return int(np.isfinite(values).any(axis=0).sum())

    def curves(
        self, wanted: Sequence[str], normalizations: Sequence[str], *, show_progress: bool = False, label: str = ""
    ) -> dict[tuple[str, str], np.ndarray]:
        """Metrics with their normalisations: for each (metric, normalization) float64 (n_layers,).

        Args:
            wanted: Metrics, as for `measure`.
            normalizations: What entropies are divided by. "raw" is always included, and so is the `mi_lower_bound` of
                a metric that bounds information.
            show_progress: Show a bar on stderr.
            label: Prefix of the label of the bar.
        """
        found: dict[tuple[str, str], np.ndarray] = {}
        total = len(wanted) * len(self.layers)
        with progress(total, f"{label}Measuring", "layer", show_progress, delay=_BAR_AFTER) as bar:
            for metric in wanted:
                bar.set_postfix_str(metric)
                values = found[metric, RAW] = self.measure(metric, on_layers=bar.update)
                for name in normalizations:
                    if name != RAW and (divided := self.normalized(metric, values, name)) is not None:
                        found[metric, name] = divided
                if METRIC_TABLE[metric].bounds_information:
                    found[metric, MI_LOWER_BOUND] = np.log(self.n_texts) - values
        return found

    def normalized(self, metric: str, values: np.ndarray, normalization: str) -> np.ndarray | None:
        """A metric divided by the divisor of a normalisation: (n_layers,).

        Args:
            metric: A metric.
            values: The result of `measure` for it.
            normalization: One of `terms.NORMALIZATIONS`.

        Returns:
            NaN where the divisor is ln 1; None for a metric that is not an entropy.
        """
        counted = METRIC_TABLE[metric].normalized_by
        if counted is None:
            return None
        if counted == "texts":
            return np.asarray(values / self._divisors(normalization, torch.tensor([self.n_texts])))
        shares = self.token_values[metric] / self._divisors(normalization, torch.from_numpy(self.n_tokens))
        return _mean_of_known(shares, None)

    def _divisors(self, normalization: str, n: torch.Tensor) -> np.ndarray:
        if self.dim == 1 and normalization != "logN":  # ln 1
            return np.full(len(n), np.nan)
        found = divisor(normalization, n, self.dim).numpy()
        return np.asarray(np.where(found > 0, found, np.nan))

    def _at_slot(self, name: str, slot: int, rows: np.ndarray | None) -> float:
        metric = METRIC_TABLE[name]
        if metric.measured_on == "vectors":
            assert self.vectors is not None
            some = self.vectors[slot, slice(None) if rows is None else rows]
        else:
            views = self.views[metric.views]
            some = views.vectors[slot, : metric.n_views][:, views.places(rows)]
            if not some.shape[1]:
                return float("nan")
        if self.skips_not_finite and not np.isfinite(some).all():
            return float("nan")
        return float(MEASURES[name](some, self.settings))


def _mean_of_known(values: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    """The mean over the texts that are long enough, (n_layers,); NaN if none is, or if a value is not finite."""
    values = values if rows is None else values[:, rows]
    values = np.where(np.isinf(values).any(axis=1, keepdims=True), np.nan, values)
    known = np.isfinite(values)
    counts = known.sum(axis=1)
    sums = np.where(known, values, 0.0).sum(axis=1)
    return np.asarray(np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0))


class TextPass:
    """The results of one forward pass over the texts, for the metrics that need no views.

    Args:
        n_texts: Number of texts.
        dim: Width of a state.
        request: The metrics to compute.

    Attributes:
        measures: Measurements for `pooled_batches` to make during the pass; `add` expects the results in this order.
    """

    def __init__(self, n_texts: int, dim: int, request: MetricRequest) -> None:
        names = [
            name for name, metric in METRIC_TABLE.items() if name in request.metrics and metric.measured_on == "tokens"
        ]
        shape = (len(request.layers), n_texts)
        self.measures = [
            TokenMeasure(partial(_measure_tokens, name, request.settings, request.skips_not_finite), request.final_norm)
            for name in names
        ]
        self.n_tokens = np.zeros(n_texts, dtype=np.int64)
        self.token_values = {name: np.full(shape, np.nan) for name in names}
        self.vectors = np.zeros((*shape, dim), dtype=np.float32)

    @staticmethod
    def is_needed(wanted: Collection[str]) -> bool:
        """Whether some of the metrics are measured on the texts themselves, not on views of them."""
        return any(METRIC_TABLE[name].measured_on != "views" for name in wanted)

    def add(self, rows: np.ndarray, sources: np.ndarray, pooled: PooledBatch, vectors: np.ndarray) -> None:
        """Add a batch.

        Args:
            rows: (m,) indices of the texts that the batch covers.
            sources: (m,) the row of the batch for each of these texts.
            pooled: The batch, with the results of `measures`.
            vectors: (n_layers, b, dim) the pooled states that are measured, raw or normed.
        """
        self.n_tokens[rows] = pooled.n_tokens[sources]
        self.vectors[:, rows] = vectors[:, sources]
        for values, measured in zip(self.token_values.values(), pooled.measured, strict=True):
            values[:, rows] = measured[:, sources]


def _measure_tokens(
    metric: str, settings: MetricSettings, skips_not_finite: bool, states: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """A token metric of each text of a batch; infinity for the whole batch if its states are not finite."""
    if skips_not_finite and not torch.isfinite(states[mask.bool()]).all():
        return torch.full((len(states),), torch.inf)
    return torch.as_tensor(MEASURES[metric](states, mask, settings))


@contextmanager
def build_representations(
    encoder: LayerwiseEncoder,
    texts: Sequence[str],
    request: MetricRequest,
    options: PassOptions,
    text_pass: TextPass | None = None,
) -> Iterator[Representations]:
    """Run the forward passes that some metrics need: one over the texts, one over each augmented view, none twice.

    Args:
        encoder: The model.
        texts: From `corpora.sample_texts`.
        request: The metrics to compute.
        options: Options of the forward passes.
        text_pass: The pass over the texts, if the caller has run it already.

    Yields:
        The representations; their scratch file is deleted when the block ends.
    """
    if text_pass is None and TextPass.is_needed(request.metrics):
        text_pass = TextPass(len(texts), encoder.dim, request)
        for rows, sources, pooled in _batches(
            encoder, texts, request.layers, request.final_norm, options, text_pass.measures, "Encoding"
        ):
            text_pass.add(rows, sources, pooled, pooled.vectors[0])
    found = Representations(
        layers=request.layers,
        n_texts=len(texts),
        dim=encoder.dim,
        n_tokens=np.zeros(0, dtype=np.int64) if text_pass is None else text_pass.n_tokens,
        token_values={} if text_pass is None else text_pass.token_values,
        vectors=None if text_pass is None else text_pass.vectors,
        views={},
        settings=request.settings,
        skips_not_finite=request.skips_not_finite,
    )
    with ExitStack() as scratch:
        views = {
            kind: scratch.enter_context(_encoded_views(encoder, texts, kind, count, request, options))
            for kind, count in views_of(request.metrics).items()
        }
        yield replace(found, views=views)


@contextmanager
def _encoded_views(
    encoder: LayerwiseEncoder,
    texts: Sequence[str],
    kind: ViewKind,
    count: int,
    request: MetricRequest,
    options: PassOptions,
) -> Iterator[Views]:
    """One kind of views, from one forward pass over all of them."""
    seed, show = request.settings.seed, options.show_progress
    if kind == "augmented":
        norm = request.final_norm
        rows = list(range(len(texts)))
        made = augmented_views(
            texts, count, seed=seed, rates=request.rates, workers=options.workers, show_progress=show
        )
    else:
        norm = encoder.final_norm if request.encoded_norm is None else request.encoded_norm
        rows, made = word_views(texts, kind, seed)
    shape = (len(request.layers), count, len(rows), encoder.dim)
    with scratch_array(shape, options.scratch) as vectors:
        flat = vectors.reshape(shape[0], count * len(rows), encoder.dim)
        together = [text for view in made for text in view]
        for places, sources, pooled in _batches(encoder, together, request.layers, norm, options, [], "Encoding views"):
            flat[:, places] = pooled.vectors[0][:, sources]
        yield Views(np.array(rows, dtype=np.int64), vectors)


def _batches(
    encoder: LayerwiseEncoder,
    texts: Sequence[str],
    layers: Sequence[int],
    final_norm: bool,
    options: PassOptions,
    measures: Sequence[TokenMeasure],
    description: str,
) -> Iterator[tuple[np.ndarray, np.ndarray, PooledBatch]]:
    """Encode each distinct text once: the indices of the texts of a batch, the row of each, and the batch."""
    unique, where = distinct(encoder.prompted(texts))
    texts_of_row = np.split(np.argsort(where, kind="stable"), np.cumsum(np.bincount(where, minlength=len(unique)))[:-1])
    for pooled in encoder.pooled_batches(
        unique,
        layers,
        norms=[final_norm],
        measures=measures,
        batch_tokens=options.batch_tokens,
        show_progress=options.show_progress,
        description=options.label + description,
    ):
        rows = [texts_of_row[row] for row in pooled.rows]
        yield np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(some) for some in rows]), pooled
