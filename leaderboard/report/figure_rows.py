"""Selects the rows of a leaderboard that figures show. `figures` draws them."""

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl

from leaderboard.analysis.layer_means import MODEL, metric_curves, score_curves
from leaderboard.analysis.task_sets import task_sets
from leaderboard.report import figures
from leaderboard.results.remarks import some_names
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

_FILE_NAME_BYTES = 150
_HEAT_MAP_NOTE = "Each task from its worst layer (0%) to its best (100%, a dot)"


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

    A last layer that did not run is not marked.

    Criteria pick a layer for each task, so they have none for all tasks together.

    Args:
        board: The tables.
        **options: Options of `Leaderboard.schemes`: tasks, complete_only, seed.

    Returns:
        Columns model, revision, task (null: all tasks together), layer, and said, the label of the mark.
    """
    picked = picked_layers(board).filter(pl.col("scheme").is_in(list(_MARKED_SCHEMES)))
    # The highest layer that ran is not the last one if that did not run.
    last = board.scores.filter(pl.col("depth") == 1).select(*MODEL, "layer").unique(maintain_order=True)
    is_last = pl.col("scheme") == "last"
    picked = pl.concat([picked.filter(~is_last), picked.filter(is_last).join(last, on=[*MODEL, "layer"], how="semi")])
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
        best one, and 1 if all are equal. Both are null for a score that is not a finite number.
    """
    score = pl.col("score")
    low, high = (end.over(*MODEL, "task") for end in (score.min(), score.max()))
    share = pl.when(high > low).then((score - low) / (high - low)).when(score.is_not_null()).then(1.0)
    finite = pl.when(pl.col("main_score").is_finite()).then(pl.col("main_score") * 100)
    return (
        scores.select(*MODEL, "task", "task_type", "layer", "depth", score=finite)
        .with_columns(share=share)
        .sort("task_type", "task", "layer")
        .drop("task_type")
    )


def save_figures(board: Tables, folder: str | Path, **options: Any) -> None:
    """Draws scores and metrics of all models over depth, and the associations and the heat map of each model.

    Models with different tasks are drawn in files of their own, because their means are not comparable:
    score_over_depth for the models with the most tasks, score_over_depth-2 for the next.

    Args:
        board: The tables.
        folder: Target folder, created if needed.
        **options: Options of `Leaderboard.schemes`: tasks, complete_only, seed.
    """
    for name, figure in _all_figures(board, options):
        figures.save_figure(figure, *(user_path(folder) / f"{name}{ending}" for ending in (".png", ".svg")))


def _all_figures(board: Tables, options: dict[str, Any]) -> Iterator[tuple[str, figures.Figure]]:
    labels = board.labels()
    together = marks(board, **options).filter(pl.col("task").is_null())
    sets = [(tasks, models) for tasks, models in task_sets(board.scores).items() if tasks]
    for place, (tasks, models) in enumerate(sets, start=1):
        ending = "" if place == 1 else f"-{place}"
        yield f"score_over_depth{ending}", score_figure(board, models, together)
        metrics = with_labels(_only(metric_curves(board.scores, board.metrics), models), board)
        if not metrics.is_empty():
            names = [labels[model] for model in models]
            figure = figures.metrics_over_depth(metrics, names)
            title = f"Metrics of every layer: {_named(names)}"
            yield f"metrics_over_depth{ending}", figures.titled(figure, title, f"{_mean_of(tasks)}. Raw states")
    for ((model, revision), label), name in zip(labels.items(), _file_names(list(labels.values())), strict=True):
        bars = association_rows(board.associations(model, revision))
        if not bars.is_empty():
            title = f"Association of metrics with scores: {label}"
            yield f"associations-{name}", figures.titled(figures.association_bars(bars), title)
        heat = figures.score_heat_map(heat_map(board.only(model, revision).scores))
        yield f"heat_map-{name}", figures.titled(heat, f"All tasks, all layers: {label}", _HEAT_MAP_NOTE)


def score_figure(board: Tables, models: Sequence[tuple[str, str]], layers: pl.DataFrame) -> figures.Figure:
    """The scores over depth of models that have the same tasks, with some layers marked.

    Args:
        board: The tables.
        models: The models, as (name, revision).
        layers: The layers to mark: columns model, revision, layer, said. Those of other models are left out.
    """
    scores = _only(score_curves(board.scores).rename({"score": "value"}), models)
    labels = [board.labels()[model] for model in models]
    (tasks,) = task_sets(_only(board.scores, models))
    note = _mean_of(tasks)
    word = pl.format("{}: layer {}", "said", "layer")
    if len(models) > 1:
        # Names at the marks of several models would be all over the place.
        word = pl.lit("")
        note += ". Rings: the best and the last layer of each model"
    chosen = layers.select(*MODEL, "layer", "said", word=word).join(scores, on=[*MODEL, "layer"])
    figure = figures.score_over_depth(with_labels(scores, board), with_labels(chosen, board), labels)
    return figures.titled(figure, f"Score of every layer: {_named(labels)}", note)


def layer_figure(board: Tables, layer: int) -> figures.Figure:
    """The scores of one model over depth, with one layer marked.

    Args:
        board: The tables of the model.
        layer: The layer to mark, which must have a score.
    """
    mark = pl.DataFrame({"layer": [layer], "said": ["chosen"]})
    models = board.models()
    return score_figure(board, models, board.scores.select(MODEL).unique().join(mark, how="cross"))


def _only(frame: pl.DataFrame, models: Sequence[tuple[str, str]]) -> pl.DataFrame:
    """The rows of some models."""
    wanted = pl.DataFrame(models, schema=list(MODEL), orient="row")
    return frame.join(wanted, on=list(MODEL), how="semi", maintain_order="left")


def _named(labels: list[str]) -> str:
    return labels[0] if len(labels) == 1 else f"{len(labels)} models"


def _mean_of(tasks: Sequence[str]) -> str:
    return f"Mean of {len(tasks)} tasks: {some_names(tasks)}" if len(tasks) != 1 else f"Task {tasks[0]}"


def _file_names(labels: list[str]) -> list[str]:
    """A unique part of a file name for each label, short enough for every file system."""
    found: list[str] = []
    for label in labels:
        plain = "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in label)
        short = plain.encode()[:_FILE_NAME_BYTES].decode(errors="ignore")
        taken = {name.lower() for name in found}
        others = (f"{short}-{n}" for n in count(2))
        found.append(short if short.lower() not in taken else next(one for one in others if one.lower() not in taken))
    return found


def association_rows(associations: pl.DataFrame) -> pl.DataFrame:
    """One row per metric and coefficient, metrics in the order of `terms.METRICS`."""
    side = [name for name in ("metric", "task") if name in associations.columns]
    order = {name: place for place, name in enumerate(METRICS)}
    return (
        associations.unpivot(["dcor", "spearman", "kendall"], index=side, variable_name="coefficient")
        .drop_nulls("value")
        .sort(pl.col("metric").replace_strict(order, default=len(order)), maintain_order=True)
    )
