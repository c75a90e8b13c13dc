"""Selects the rows of a leaderboard that figures show. `figures` draws them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from leaderboard.analysis.layer_means import MODEL, metric_curves, score_curves
from leaderboard.report import figures
from leaderboard.results.tables import Tables, picked_layers
from midlayer_embed.ground.paths import user_path
from midlayer_embed.terms import METRICS

# Schemes whose layers are marked in figures, with their labels.
_MARKED_SCHEMES = {
    "oracle": "best",
    "last": "last",
    "min_dime": "min-dime",
    "min_infonce": "min-infonce",
    "min_entropy": "min-entropy",
}


def with_labels(frame: pl.DataFrame, board: Tables) -> pl.DataFrame:
    """The frame with the labels that figures use in the column `model`."""
    labels = pl.DataFrame(
        [(*which, label) for which, label in board.labels().items()],
        schema={"model": pl.String, "revision": pl.String, "label": pl.String},
        orient="row",
    )
    named = frame.join(labels, on=list(MODEL), maintain_order="left")
    return named.drop(MODEL).rename({"label": "model"})


def marks(board: Tables, **options: Any) -> pl.DataFrame:
    """The layers that schemes pick for each task, and the best and the last layer for all tasks together.

    Criteria pick a layer for each task, so they have none for all tasks together.

    Args:
        board: The tables.
        **options: Options of `Leaderboard.schemes`: tasks, complete_only, seed.

    Returns:
        Columns model, revision, task (null: all tasks together), layer, and said, the label of the mark.
    """
    picked = picked_layers(board).filter(pl.col("scheme").is_in(list(_MARKED_SCHEMES)))
    last = board.scores.group_by(MODEL).agg(layer=pl.col("layer").max())
    best = board.schemes(**options).select(*MODEL, layer="best_layer").drop_nulls()
    together = pl.concat(
        [
            frame.select(*MODEL, pl.lit(scheme).alias("scheme"), pl.lit(None, pl.String).alias("task"), "layer")
            for scheme, frame in (("oracle", best), ("last", last))
        ]
    )
    order = list(_MARKED_SCHEMES)
    return (
        pl.concat([together, picked.select(together.columns)])
        .sort(pl.col("scheme").cast(pl.Enum(order)))
        .with_columns(pl.col("scheme").replace(_MARKED_SCHEMES))
        .group_by(*MODEL, "task", "layer", maintain_order=True)
        .agg(said=pl.col("scheme").str.join(", "))
    )


def heat_map(scores: pl.DataFrame) -> pl.DataFrame:
    """The scores, each with its position between the worst and the best score of its model and task.

    Args:
        scores: Scores with the columns of `Leaderboard.scores`.

    Returns:
        Columns model, revision, task, layer, depth, score (x100), and share: 0 at the worst layer of the task, 1 at the
        best one, and 1 if all are equal.
    """
    score = pl.col("score")
    low, high = (end.over(*MODEL, "task") for end in (score.min(), score.max()))
    return (
        scores.filter(pl.col("main_score").is_finite())
        .select(*MODEL, "task", "task_type", "layer", "depth", score=pl.col("main_score") * 100)
        .with_columns(share=pl.when(high > low).then((score - low) / (high - low)).otherwise(1.0))
        .sort("task_type", "task", "layer")
        .drop("task_type")
    )


def save_figures(board: Tables, folder: str | Path, **options: Any) -> None:
    """Draws scores and metrics of all models over depth, and the associations and the heat map of each model.

    Args:
        board: The tables.
        folder: Target folder, created if needed.
        **options: Options of `Leaderboard.schemes`: tasks, complete_only, seed.
    """
    for name, figure in _all_figures(board, options):
        for ending in (".png", ".svg"):
            figures.save_figure(figure, user_path(folder) / f"{name}{ending}")


def _all_figures(board: Tables, options: dict[str, Any]) -> Iterator[tuple[str, figures.Figure]]:
    labels = list(board.labels().values())
    together = marks(board, **options).filter(pl.col("task").is_null())
    yield "score_over_depth", _score_over_depth(board, together)
    metrics = with_labels(metric_curves(board.scores, board.metrics), board)
    if not metrics.is_empty():
        yield "metrics_over_depth", figures.metrics_over_depth(metrics, labels)
    for (model, revision), name in zip(board.models(), _file_names(labels), strict=True):
        bars = association_rows(board.associations(model, revision))
        if not bars.is_empty():
            yield f"associations-{name}", figures.association_bars(bars)
        yield f"heat_map-{name}", figures.score_heat_map(heat_map(board.only(model, revision).scores))


def layer_figure(board: Tables, layer: int) -> figures.Figure:
    """The scores of one model over depth, with one layer marked.

    Args:
        board: The tables of the model.
        layer: The layer to mark, which must have a score.
    """
    mark = pl.DataFrame({"layer": [layer], "said": [f"layer {layer}"]})
    return _score_over_depth(board, board.scores.select(MODEL).unique().join(mark, how="cross"))


def _score_over_depth(board: Tables, layers: pl.DataFrame) -> figures.Figure:
    scores = score_curves(board.scores).rename({"score": "value"})
    chosen = layers.select(*MODEL, "layer", "said", word="said").join(scores, on=[*MODEL, "layer"])
    return figures.score_over_depth(
        with_labels(scores, board), with_labels(chosen, board), list(board.labels().values())
    )


def _file_names(labels: list[str]) -> list[str]:
    """A unique part of a file name for each label."""
    plain = ["".join(letter if letter.isalnum() or letter in "-." else "_" for letter in label) for label in labels]
    before = [sum(other.lower() == name.lower() for other in plain[:place]) for place, name in enumerate(plain)]
    return [f"{name}-{n + 1}" if n else name for name, n in zip(plain, before, strict=True)]


def association_rows(associations: pl.DataFrame) -> pl.DataFrame:
    """One row per metric and coefficient, metrics in the order of `terms.METRICS`."""
    side = [name for name in ("metric", "task") if name in associations.columns]
    order = {name: place for place, name in enumerate(METRICS)}
    return (
        associations.unpivot(["dcor", "spearman", "kendall"], index=side, variable_name="coefficient")
        .drop_nulls("value")
        .sort(pl.col("metric").replace_strict(order, default=len(order)), maintain_order=True)
    )
