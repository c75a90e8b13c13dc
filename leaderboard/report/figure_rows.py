"""Selects the rows of a leaderboard that figures show. `figures` draws them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl

from leaderboard.analysis.layer_means import metric_curves, score_curves
from leaderboard.analysis.recipes import compared
from leaderboard.analysis.schemes import Tasks
from leaderboard.analysis.task_sets import task_sets
from leaderboard.analysis.variants import MODEL, VARIANT, Variant, distinct, rows_of, with_recipe
from leaderboard.report import figures
from leaderboard.report.cells import recipe_name, variant_of
from leaderboard.results.remarks import some_names
from leaderboard.results.tables import Tables, picked_layers
from midlayer_embed.ground.paths import target_folder
from midlayer_embed.options import DEFAULT_POOLING_MODE
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
# More curves of recipes than this cannot be told apart.
_MOST_CURVES = 6
_HEAT_MAP_NOTE = "Each task from its worst layer (0%) to its best (100%, a dot)"


def with_labels(frame: pl.DataFrame, labels: Mapping[Variant, str]) -> pl.DataFrame:
    """The frame with the labels of figures in the column `model`; without columns of a recipe, of plain layers."""
    keys = [name for name in VARIANT if name in frame.columns]
    of_keys = [(*variant[: len(keys)], label) for variant, label in labels.items() if variant.is_plain or keys[2:]]
    named = pl.DataFrame(of_keys, schema=dict.fromkeys((*keys, "_label"), pl.String), orient="row")
    joined = frame.join(named, on=keys, nulls_equal=True, maintain_order="left")
    return joined.drop(keys).rename({"_label": "model"})


def marks(board: Tables, **options: Any) -> pl.DataFrame:
    """The layers that schemes pick for each task, and the best and the last layer for all tasks together.

    A last layer that did not run is not marked.

    Criteria pick a layer for each task, so they have none for all tasks together.

    Args:
        board: The tables.
        **options: Options of `Leaderboard.schemes`: tasks, complete_only, seed.

    Returns:
        Columns model, revision, template, transform, fitted_on, task (null: all tasks together), layer, and said, the
        label of the mark.
    """
    picked = picked_layers(board).filter(pl.col("scheme").is_in(list(_MARKED_SCHEMES)))
    # The highest layer that ran is not the last one if that did not run.
    last = board.scores.filter(pl.col("depth") == 1).select(*VARIANT, "layer").unique(maintain_order=True)
    is_last = pl.col("scheme") == "last"
    ran = picked.filter(is_last).join(last, on=[*VARIANT, "layer"], how="semi", nulls_equal=True, maintain_order="left")
    picked = pl.concat([picked.filter(~is_last), ran])
    best = board.schemes(**options).select(*VARIANT, layer="best_layer").drop_nulls("layer")
    together = pl.concat(
        [
            frame.select(*VARIANT, pl.lit(scheme).alias("scheme"), pl.lit(None, pl.String).alias("task"), "layer")
            for scheme, frame in (("oracle", best), ("last", last))
        ]
    )
    order = list(_MARKED_SCHEMES)
    return (
        pl.concat([together, picked.select(together.columns)])
        .sort(pl.col("scheme").cast(pl.Enum(order)))
        .with_columns(pl.col("scheme").replace(_MARKED_SCHEMES))
        .group_by(*VARIANT, "task", "layer", maintain_order=True)
        .agg(said=pl.col("scheme").str.join(", "))
    )


def heat_map(scores: pl.DataFrame) -> pl.DataFrame:
    """The scores, each with its position between the worst and the best score of its model, recipe and task.

    Args:
        scores: Scores with the columns of `Leaderboard.scores`.

    Returns:
        Columns model, revision, template, transform, fitted_on, task, layer, depth, score (x100), and share: 0 at the
        worst layer of the task, 1 at the best one, and 1 if all are equal. Both are null for a score that is not a
        finite number.
    """
    score = pl.col("score")
    low, high = (end.over(*VARIANT, "task") for end in (score.min(), score.max()))
    share = pl.when(high > low).then((score - low) / (high - low)).when(score.is_not_null()).then(1.0)
    finite = pl.when(pl.col("main_score").is_finite()).then(pl.col("main_score") * 100)
    return (
        with_recipe(scores)
        .select(*VARIANT, "task", "task_type", "layer", "depth", score=finite)
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
    target = target_folder(folder, "folder")
    for name, figure in all_figures(board, **options):
        figures.save_figure(figure, *(target / f"{name}{ending}" for ending in (".png", ".svg")))


def all_figures(board: Tables, **options: Any) -> Iterator[tuple[str, figures.Figure]]:
    """The figures of `save_figures`, each with the name of its files."""
    labels = board.variant_labels()
    together = marks(board, **options).filter(pl.col("task").is_null())
    sets = [(tasks, models) for tasks, models in task_sets(board.plain.scores).items() if tasks]
    for place, (tasks, models) in enumerate(sets, start=1):
        ending = "" if place == 1 else f"-{place}"
        yield f"score_over_depth{ending}", score_figure(board, models, together)
        curves = metric_curves(board.plain.scores, board.metrics)
        metrics = with_labels(
            curves.join(_frame(models).select(MODEL), on=MODEL, how="semi", maintain_order="left"), labels
        )
        if not metrics.is_empty():
            names = [labels[model] for model in models]
            figure = figures.metrics_over_depth(metrics, names)
            title = f"Metrics of every layer: {_named(names)}"
            yield f"metrics_over_depth{ending}", figures.titled(figure, title, f"{_mean_of(tasks)}. Raw states")
    recipes = list(recipe_curves(board, options.get("tasks", "available")))
    for of_model, name in zip(recipes, _file_names([one.model for one in recipes]), strict=True):
        yield f"recipes-{name}", of_model.figure()
    shown = _in_detail(board)
    for variant, name in zip(shown, _file_names([labels[variant] for variant in shown]), strict=True):
        label, of_variant = labels[variant], board.of_variant(variant)
        bars = association_rows(board.associations(*variant[:2], **variant.recipe()))
        if not bars.is_empty():
            title = f"Association of metrics with scores: {label}"
            yield f"associations-{name}", figures.titled(figures.association_bars(bars), title)
        heat = figures.score_heat_map(heat_map(of_variant.scores))
        yield f"heat_map-{name}", figures.titled(heat, f"All tasks, all layers: {label}", _HEAT_MAP_NOTE)


def _in_detail(board: Tables) -> list[Variant]:
    """The variants with figures of their own: plain layers, and the first recipe of each model, the best if any is."""
    first = board.recipes().unique(MODEL, keep="first")
    best = {variant_of(row) for row in first.iter_rows(named=True)}
    return [variant for variant in board.variants() if variant.is_plain or variant in best]


def score_figure(board: Tables, variants: Sequence[Variant], layers: pl.DataFrame) -> figures.Figure:
    """The scores over depth of models or recipes that have the same tasks, with some layers marked.

    Args:
        board: The tables.
        variants: The models with their recipes.
        layers: The layers to mark: columns of a variant, layer, said. Those of other variants are left out.
    """
    all_labels = board.variant_labels()
    scores = score_curves(rows_of(board.scores, list(variants))).rename({"score": "value"})
    labels = [all_labels[variant] for variant in variants]
    (tasks,) = task_sets(rows_of(board.scores, list(variants)))
    note = _mean_of(tasks)
    word = pl.format("{}: layer {}", "said", "layer")
    if len(variants) > 1:
        # Names at the marks of several models would be all over the place.
        word = pl.lit("")
        note += ". Rings: the best and the last layer of each model"
    keys = [*VARIANT, "layer"]
    chosen = layers.select(*keys, "said", word=word).join(scores, on=keys, nulls_equal=True, maintain_order="left")
    figure = figures.score_over_depth(with_labels(scores, all_labels), with_labels(chosen, all_labels), labels)
    return figures.titled(figure, f"Score of every layer: {_named(labels)}", note)


@dataclass(frozen=True)
class RecipeCurves:
    """The recipes of one model over depth, over the same tasks: the best ones and the plain layers.

    Attributes:
        model: The model, with its revision if it has several.
        names: What each drawn variant is called, the best first.
        tasks: The tasks that each mean is over.
        n_recipes: The number of recipes of the model; some may not be drawn.
        scores: Columns model (the name), layer, depth, value, n_tasks, of_tasks.
        marks: The best layer of each: columns of `scores`, said, word.
    """

    model: str
    names: dict[Variant, str]
    tasks: tuple[str, ...]
    n_recipes: int
    scores: pl.DataFrame
    marks: pl.DataFrame

    @property
    def note(self) -> str:
        """What the curves are of."""
        some = f"{len(self.names)} of {self.n_recipes} recipes. " if len(self.names) < self.n_recipes else ""
        return f"{some}{_mean_of(self.tasks)}. Rings: the best layer of each recipe"

    def figure(self) -> figures.Figure:
        """The picture."""
        figure = figures.score_over_depth(self.scores, self.marks, list(self.names.values()))
        return figures.titled(figure, f"Recipes: {self.model}", self.note)


def recipe_curves(board: Tables, tasks: Tasks = "available") -> Iterator[RecipeCurves]:
    """The curves of the recipes of each model that has some besides the plain one.

    Args:
        board: The tables.
        tasks: As for `Leaderboard.recipes`. With "available", recipes that lack tasks of the best one are left out.
    """
    table = compared(board.recipes(tasks=tasks))
    task_sets_of = {variant: set(names) for names, some in task_sets(board.scores).items() for variant in some}
    every = set.intersection(*task_sets_of.values()) if task_sets_of else set()
    several = table.select(MODEL).unique().filter(pl.len().over("model") > 1)["model"]
    for (model, revision), of_model in table.partition_by(MODEL, as_dict=True, maintain_order=True).items():
        rows = {variant_of(row): row for row in of_model.iter_rows(named=True)}
        best = next((variant for variant, row in rows.items() if row["is_best"]), next(iter(rows)))
        shared = task_sets_of[best]
        if tasks == "common":
            shared = every or set.intersection(*(task_sets_of[variant] for variant in rows))
        drawn = [variant for variant in rows if shared and shared <= task_sets_of[variant]]
        if not drawn:
            continue
        plain = sorted(
            filter(lambda one: one.is_plain, drawn), key=lambda one: rows[one]["pooling"] != DEFAULT_POOLING_MODE
        )[:1]
        best_others = [variant for variant in drawn if variant not in plain][: _MOST_CURVES - len(plain)]
        names = distinct({one: recipe_name(rows[one]) for one in drawn if one in (*best_others, *plain)})
        scores = board.scores.filter(pl.col("task").is_in(list(shared)))
        curves = score_curves(rows_of(scores, list(names))).rename({"score": "value"})
        whole = curves.filter(pl.col("n_tasks") == pl.col("of_tasks"))
        marks = whole.sort("value", "layer", descending=[True, False]).unique(
            VARIANT, keep="first", maintain_order=True
        )
        yield RecipeCurves(
            f"{model} ({revision})" if model in several else model,
            names,
            tuple(sorted(shared)),
            len(rows),
            with_labels(curves, names),
            with_labels(marks.with_columns(said=pl.lit("best"), word=pl.lit("")), names),
        )


def layer_figure(board: Tables, layer: int) -> figures.Figure:
    """The scores of one model with one recipe over depth, with one layer marked.

    Args:
        board: The tables of the model and recipe.
        layer: The layer to mark, which must have a score.
    """
    mark = pl.DataFrame({"layer": [layer], "said": ["chosen"]})
    variants = board.variants()
    return score_figure(board, variants, board.scores.select(VARIANT).unique().join(mark, how="cross"))


def _frame(variants: Sequence[Variant]) -> pl.DataFrame:
    return pl.DataFrame(variants, schema=dict.fromkeys(VARIANT, pl.String), orient="row")


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
