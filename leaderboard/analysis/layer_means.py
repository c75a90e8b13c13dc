"""Means over the tasks at each layer, with the number of tasks in each mean.

A mean over some of the tasks is not comparable with a mean over all of them. Every mean here comes with both counts, so
that callers can leave incomplete means out or mark them.
"""

from collections.abc import Sequence

import polars as pl

from leaderboard.analysis.variants import MODEL, VARIANT, with_recipe
from midlayer_embed.terms import RAW

# Whether a mean includes all tasks.
WHOLE = pl.col("n_tasks") == pl.col("of_tasks")


def layer_means(frame: pl.DataFrame, column: str, by: Sequence[str]) -> pl.DataFrame:
    """The mean of a column over the tasks at each layer.

    Args:
        frame: Columns layer, task, `column` and those of `by`; one row per layer and task.
        column: The column to average; rows without a finite number count as missing.
        by: Columns to group by, besides layer.

    Returns:
        Columns of `by`, layer, `column`, n_tasks (in the mean) and of_tasks (at any layer); sorted by layer.
    """
    n_tasks = pl.col("task").n_unique()
    finite = frame.filter(pl.col(column).is_finite())
    whole = finite.with_columns(of_tasks=n_tasks.over(by) if by else n_tasks)
    return (
        whole.group_by(*by, "layer")
        .agg(pl.col(column).mean(), n_tasks=n_tasks.cast(pl.Int64), of_tasks=pl.col("of_tasks").first().cast(pl.Int64))
        .sort(*by, "layer")
    )


def score_curves(scores: pl.DataFrame) -> pl.DataFrame:
    """The mean score of every layer of every model with every recipe, in points.

    Args:
        scores: Scores with the columns of `Leaderboard.scores`.

    Returns:
        model, revision, template, transform, fitted_on, layer, depth, score, n_tasks, of_tasks.
    """
    points = with_recipe(scores).with_columns(score=pl.col("main_score") * 100)
    return (
        layer_means(points, "score", VARIANT)
        .join(_depths(points, VARIANT), on=[*VARIANT, "layer"], nulls_equal=True, maintain_order="left")
        .select(*VARIANT, "layer", "depth", "score", "n_tasks", "of_tasks")
    )


def metric_curves(scores: pl.DataFrame, metrics: pl.DataFrame) -> pl.DataFrame:
    """The mean of every raw metric at every layer that has scores, for every model. A recipe has no part in metrics.

    Args:
        scores: Scores with the columns of `Leaderboard.scores`, which give the depths.
        metrics: Metrics with the columns of `Leaderboard.metrics`.

    Returns:
        model, revision, metric, layer, depth, value, n_tasks, of_tasks.
    """
    means = layer_means(metrics.filter(pl.col("normalization") == RAW), "value", [*MODEL, "metric"])
    return means.join(_depths(scores, MODEL), on=[*MODEL, "layer"], maintain_order="left").select(
        *MODEL, "metric", "layer", "depth", "value", "n_tasks", "of_tasks"
    )


def _depths(scores: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    return scores.select(*by, "layer", "depth").unique([*by, "layer"])
