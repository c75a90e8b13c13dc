"""How strongly a metric is associated with the score over layers: the numbers of the paper's Figures 3, 8 and 9."""

from collections.abc import Callable

import numpy as np
import polars as pl

from leaderboard.analysis.layer_means import WHOLE, layer_means
from midlayer_embed.terms import RAW


def distance_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """The distance correlation of two samples of numbers (Székely, Rizzo and Bakirov, 2007, definition 5).

    It is 0 only for independent samples, and detects relations that are not monotonic, unlike a rank correlation.

    Args:
        x: First sample, shape (n,).
        y: Second sample, shape (n,).

    Returns:
        0..1; NaN if all x or all y are equal.

    Example:
        >>> x = np.arange(-3.0, 4.0)
        >>> round(distance_correlation(x, 2 - 5 * x), 3), round(distance_correlation(x, x**2), 3)
        (1.0, 0.505)
    """
    a, b = (_centred(np.abs(np.subtract.outer(values, values))) for values in (x, y))
    variances = (a * a).mean() * (b * b).mean()
    return float(np.sqrt(max(0.0, (a * b).mean()) / np.sqrt(variances))) if variances > 0 else float("nan")


def _centred(distances: np.ndarray) -> np.ndarray:
    rows = distances.mean(axis=0)
    return np.asarray(distances - rows - rows[:, None] + rows.mean())


def _kendall(x: np.ndarray, y: np.ndarray) -> float:
    from scipy.stats import kendalltau  # scipy takes seconds to import

    return float(kendalltau(x, y).statistic)


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    from scipy.stats import rankdata

    return _pearson(rankdata(x), rankdata(y))


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(x, y)[0, 1])


_COEFFICIENTS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "spearman": _spearman,
    "kendall": _kendall,
    "pearson": _pearson,
    "dcor": distance_correlation,
}


def associations(scores: pl.DataFrame, metrics: pl.DataFrame, per_task: bool = False) -> pl.DataFrame:
    """Correlates raw metrics with scores over the layers of one model.

    At each layer, a metric is averaged over the tasks that have it, and the score over all tasks. Layers where a task
    is missing from either mean are left out: means over different tasks are not comparable.

    Args:
        scores: Scores of one model, with the columns of `Leaderboard.scores`.
        metrics: Metrics of the same model, with the columns of `Leaderboard.metrics`.
        per_task: Whether to correlate within each task, over the layers that have both its score and the metric.

    Returns:
        One row per metric, or per metric and task, sorted by name: metric, (task,) spearman, kendall, pearson, dcor,
        n_layers (in the coefficients), n_tasks (with the metric). Coefficients are null if there are fewer than two
        layers, or if the metric or the score is the same at all of them.
    """
    by = ["metric", "task"] if per_task else ["metric"]
    side = ["task"] if per_task else []
    measured = metrics.filter(pl.col("normalization") == RAW, pl.col("value").is_finite())
    values = _means(measured, "value", by)
    means = _means(scores, "main_score", side)
    pairs = (
        values.join(means, on=[*side, "layer"])
        .sort("layer")
        .group_by(by)
        .agg("value", "main_score", n_layers=pl.len().cast(pl.Int64))
    )
    counts = measured.group_by(by).agg(n_tasks=pl.col("task").n_unique().cast(pl.Int64))
    found = counts.join(pairs, on=by, how="inner" if per_task else "left").sort(by)
    rows = [
        _coefficients(x, y) if n_layers is not None else dict.fromkeys(_COEFFICIENTS)
        for x, y, n_layers in found.select("value", "main_score", "n_layers").iter_rows()
    ]
    coefficients = pl.DataFrame(rows, schema=dict.fromkeys(_COEFFICIENTS, pl.Float64)).fill_nan(None)
    return pl.concat([found, coefficients], how="horizontal").select(
        *by, *_COEFFICIENTS, pl.col("n_layers").fill_null(0), "n_tasks"
    )


def _means(frame: pl.DataFrame, column: str, by: list[str]) -> pl.DataFrame:
    """The mean of a column over the tasks, at the layers that have all of them."""
    return layer_means(frame, column, by).filter(WHOLE).select(*by, "layer", column)


def _coefficients(x: list[float], y: list[float]) -> dict[str, float | None]:
    if len(set(x)) < 2 or len(set(y)) < 2:
        return dict.fromkeys(_COEFFICIENTS)
    return {name: coefficient(np.asarray(x), np.asarray(y)) for name, coefficient in _COEFFICIENTS.items()}
