"""The states of a corpus at some layers, and the metrics of them. Nothing is encoded here.

The forward passes are in `representations`, the functions behind the metrics in `measures`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch

from midlayer_embed.errors import InputError
from midlayer_embed.ground.progress import progress
from midlayer_embed.metrics.gram import divisor
from midlayer_embed.selection.measures import MEASURES, MetricSettings
from midlayer_embed.terms import METRIC_TABLE, MI_LOWER_BOUND, RAW, ViewKind

_BAR_AFTER = 1  # seconds; metrics that are measured sooner show no bar


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
        n_tokens: (n,) number of tokens of each text that count, special ones included; empty if no metric needs it.
        token_values: For each token metric (n_layers, n), NaN where a text is too short for it.
        vectors: (n_layers, n, dim) float32, pooled, followed by those of the layers `beside`; None if no metric needs
            them.
        views: The views that the metrics need, by their kind (`Metric.views`).
        settings: Settings of the metrics.
        skips_not_finite: Whether the metrics of a layer with states that are not finite are NaN, instead of an error.
        beside: Further layers, each next to one of `layers`, for the metrics of adjacent layers.
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
    beside: Sequence[int] = ()

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
        measured_on = METRIC_TABLE[metric].measured_on
        if measured_on == "tokens":
            on_layers(len(self.layers))
            of_texts = self.token_values[metric]
            return mean_of_known(of_texts if rows is None else of_texts[:, rows])
        known = {*self.layers, *self.beside}
        value = cache(partial(self._value, metric, rows))
        values: list[float] = []
        for layer in self.layers:
            if measured_on == "layers":
                pairs = [value(low, low + 1) for low in (layer - 1, layer) if {low, low + 1} <= known]
                values.append(float(np.mean(pairs)))
            else:
                values.append(value(layer))
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
        if METRIC_TABLE[metric].measured_on != "tokens":
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
        return mean_of_known(shares)

    def _divisors(self, normalization: str, n: torch.Tensor) -> np.ndarray:
        if self.dim == 1 and normalization != "logN":  # ln 1
            return np.full(len(n), np.nan)
        found = divisor(normalization, n, self.dim).numpy()
        return np.asarray(np.where(found > 0, found, np.nan))

    def _value(self, metric: str, rows: np.ndarray | None, *layers: int) -> float:
        """A metric of one layer, or of two adjacent ones."""
        states = [self._states(metric, layer, rows) for layer in layers]
        if not states[0].size or (self.skips_not_finite and not all(np.isfinite(some).all() for some in states)):
            return float("nan")
        try:
            return float(MEASURES[metric](*states, self.settings))
        except InputError as error:
            shown = f"layer {layers[0]}" if len(layers) == 1 else f"layers {layers[0]} and {layers[1]}"
            raise InputError(f"{metric} of {shown}: {error}") from error

    def _states(self, metric: str, layer: int, rows: np.ndarray | None) -> np.ndarray:
        slot = [*self.layers, *self.beside].index(layer)
        record = METRIC_TABLE[metric]
        if record.measured_on == "views":
            views = self.views[record.views]
            return views.vectors[slot, : record.n_views][:, views.places(rows)]
        assert self.vectors is not None
        return np.asarray(self.vectors[slot, slice(None) if rows is None else rows])


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """The mean over the texts that are long enough; NaN if none is, or if a value is not finite.

    Args:
        values: (..., n), NaN for texts that are too short.

    Example:
        >>> mean_of_known(np.array([[1.0, np.nan, 3.0], [np.nan] * 3, [1.0, 2.0, np.inf]])).tolist()
        [2.0, nan, nan]
    """
    values = np.where(np.isinf(values).any(axis=-1, keepdims=True), np.nan, values)
    known = np.isfinite(values)
    counts = known.sum(axis=-1)
    sums = np.where(known, values, 0.0).sum(axis=-1)
    return np.asarray(np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0))
