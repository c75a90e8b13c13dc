"""Compares ways to pick a layer: the paper's Table 2, and more. Does not read files or format tables.

As in the paper, a criterion picks a layer for each task, by the raw metric of the task's own texts, among the layers
that have a score; the score of a scheme is the mean of the tasks' scores at the layers that it picks. With a recipe, a
criterion still goes by the metrics of plain texts, and the score is the recipe's at the layer: criteria that are
misled by transformed vectors find good layers on plain ones.
"""

from functools import cached_property
from typing import Literal, get_args

import numpy as np
import polars as pl

from leaderboard.analysis.intervals import intervals
from leaderboard.analysis.picking import best_of_each, by_criteria, last_layers
from leaderboard.analysis.variants import MODEL, RECIPE, SAID_OF_TRANSDUCTIVE, TASK, VARIANT, Variant, with_recipe
from midlayer_embed.errors import InputError
from midlayer_embed.selection.criteria import CRITERIA, FIRST, fixed_layer
from midlayer_embed.terms import RAW

Tasks = Literal["available", "common"]


def _column(criterion: str) -> str:
    """Column name of a criterion: min_dime for "min-dime", depth_0_7 for "depth:0.7"."""
    return "".join(character if character.isalnum() else "_" for character in criterion)


_DEPTHS = {_column(criterion): criterion for criterion in ("middle", "depth:0.7")}
_MEASURED = {criterion: _column(criterion) for criterion in CRITERIA}
SCHEMES = ("best", "last", "random_layer", *_DEPTHS, "oracle", *_MEASURED.values())

# Columns that say how far the numbers can be compared.
_ABOUT = ("n_shared", "last_layer", "n_blocks")
# A model and revision with one recipe, as a number: what all schemes are compared within.
_VARIANT = "variant"


def check_comparison(tasks: str) -> None:
    """Reject what schemes cannot be compared over.

    Raises:
        InputError: (a ValueError) neither "available" nor "common".
    """
    if tasks not in get_args(Tasks):
        raise InputError(f"tasks: expected one of {', '.join(get_args(Tasks))}, got {tasks!r}")


class SchemeComparison:
    """Compares the schemes of one set of tables. Results, and work that several results share, are computed once.

    Args:
        scores: Scores with the columns of `Leaderboard.scores`.
        metrics: Metrics with the columns of `Leaderboard.metrics`.
    """

    def __init__(self, scores: pl.DataFrame, metrics: pl.DataFrame) -> None:
        scores = with_recipe(scores)
        self._variants = scores.select(VARIANT).unique(maintain_order=True).with_row_index(_VARIANT)
        self._scores = scores.join(self._variants, on=VARIANT, nulls_equal=True, maintain_order="left")
        self._metrics = metrics
        self._tables: dict[tuple[Tasks, bool, int], pl.DataFrame] = {}
        self._resamples: dict[tuple[int, int], np.ndarray] = {}

    @cached_property
    def picked_layers(self) -> pl.DataFrame:
        """The layer that each scheme picks for each task, among those that have a score of the task.

        Columns model, revision, template, transform, fitted_on, scheme, task, layer. The schemes best (one layer for
        all tasks) and random_layer (no particular layer) are left out.
        """
        named = self._picked_layers.join(self._variants, on=_VARIANT, maintain_order="left")
        return named.select(*VARIANT, "scheme", "task", "layer")

    @cached_property
    def _picked_layers(self) -> pl.DataFrame:
        scored = self._scored
        found = (
            scored.join(_fixed_layers(self._scores), on=[_VARIANT, "layer"]),
            best_of_each(scored, [_VARIANT, "task"]).with_columns(scheme=pl.lit("oracle")),
            _by_criteria(scored, self._metrics, self._variants),
        )
        return pl.concat([frame.select(_VARIANT, "scheme", "task", "layer") for frame in found])

    def table(self, tasks: Tasks = "available", complete_only: bool = False, seed: int = 0) -> pl.DataFrame:
        """The schemes of every model, revision and recipe; see `schemes`."""
        check_comparison(tasks)
        key = (tasks, complete_only, seed)
        if key not in self._tables:
            self._tables[key] = self._compare(*key)
        return self._tables[key].clone()

    def _compare(self, tasks: Tasks, complete_only: bool, seed: int) -> pl.DataFrame:
        scored, picked = self._tried, self._picked
        if tasks == "common":
            shared = _common_tasks(picked, self._variants)
            if shared.height == picked.select(_VARIANT, "task").n_unique():  # every scheme has every task
                return self.table("available", complete_only, seed).with_columns(tasks=pl.lit(tasks))
            scored, picked = (frame.join(shared, on=[_VARIANT, "task"], how="semi") for frame in (scored, picked))
        best = _best_layers(scored.with_columns(scheme=pl.lit("best")), complete_only)
        at_best = scored.join(best.rename({"best_layer": "layer"}), on=[_VARIANT, "layer"])
        compared = self._summarize(pl.concat([picked, at_best.select(picked.columns)]), scored, complete_only, seed)
        rows = self._variants
        for frame in (
            _task_counts(scored),
            last_layers(self._scores, _VARIANT),
            best.select(_VARIANT, "best_layer"),
            _wide(compared),
        ):
            rows = rows.join(frame, on=_VARIANT, how="left", maintain_order="left")
        return rows.select(
            *MODEL,
            pl.lit(tasks).alias("tasks"),
            "n_tasks",
            "best",
            pl.exclude(_VARIANT, *VARIANT, *_ABOUT, "n_tasks", "best"),
            *_ABOUT,
            *RECIPE,
        ).with_columns(pl.col("^n_.*$").exclude("n_blocks").fill_null(0).cast(pl.Int64))

    @cached_property
    def _tried(self) -> pl.DataFrame:
        """Scores in points of the tasks that have one at any layer: variant, task, layer, score.

        The score is null where a layer was tried and has none, such as NaN.
        """
        points = pl.when(pl.col("main_score").is_finite()).then(pl.col("main_score") * 100)
        tried = self._scores.select(_VARIANT, "task", "layer", score=points)
        return tried.filter(pl.col("score").is_not_null().any().over(_VARIANT, "task"))

    @cached_property
    def _scored(self) -> pl.DataFrame:
        """Finite scores in points: variant, task, layer, score."""
        return self._tried.drop_nulls("score")

    @cached_property
    def _picked(self) -> pl.DataFrame:
        """The score of each scheme except best for each task: variant, scheme, task, score."""
        at_layers = self._picked_layers.join(self._scored, on=[_VARIANT, "task", "layer"]).drop("layer")
        return pl.concat([at_layers, _random_layers(self._scored).select(at_layers.columns)])

    def _summarize(self, picked: pl.DataFrame, scored: pl.DataFrame, complete_only: bool, seed: int) -> pl.DataFrame:
        """Mean, number of tasks, regret and interval: one row per variant and scheme."""
        by = [_VARIANT, "scheme"]
        same_tasks = scored.join(picked.select(*by, "task"), on=[_VARIANT, "task"])
        found = (
            picked.sort("task")
            .group_by(by)
            .agg("score", mean=pl.col("score").mean(), n=pl.len())
            .join(_best_layers(same_tasks, complete_only).select(*by, "best"), on=by, how="left")
            .with_columns(regret=pl.col("best") - pl.col("mean"))
        )
        ends = intervals(found["score"], seed, self._resamples)
        return found.with_columns(low=ends[:, 0], high=ends[:, 1])


def schemes(
    scores: pl.DataFrame, metrics: pl.DataFrame, tasks: Tasks = "available", complete_only: bool = False, seed: int = 0
) -> pl.DataFrame:
    """The schemes of every model, revision and recipe, in points.

    - best: the single layer with the highest mean over the tasks, `best_layer`. Like the authors, we average a layer
      that lacks some tasks over the tasks that it has (see n_best); `complete_only` excludes such layers. A layer that
      was tried on one of the tasks and has no score, such as NaN, is never best.
    - last: the highest layer in the tables; middle and depth_0_7: the layers at these depths.
    - random_layer: the expected score of a layer drawn at random for each task. oracle: the best layer of each task.
    - min_dime, ..., max_curvature: the criteria of `select_layer`. Null if the metric is missing.

    Args:
        scores: Scores with the columns of `Leaderboard.scores`.
        metrics: Metrics with the columns of `Leaderboard.metrics`.
        tasks: "available": each scheme over the tasks that it has; "common": all schemes of all models and recipes over
            the tasks that all of them have. Schemes without any task are ignored. If they share no task, "common" takes
            the tasks that all models with the same recipe have, else those that all schemes of a row have, and `notes`
            says so.
        complete_only: Whether the best layer, also in regrets, must have a score for every task.
        seed: Seed of the bootstrap resamples.

    Returns:
        One row per model, revision and recipe: model, revision, tasks, n_tasks; best, best_layer, last and the other
        schemes of `SCHEMES`; n_<scheme>, the number of tasks that it is averaged over; regret_<scheme>, its distance
        below the best single layer over the same tasks; <scheme>_low and <scheme>_high, the 95% interval of 1,000
        resamples of the tasks. Last come n_shared, the number of these tasks that every row of the table has: means of
        two rows are only comparable if n_shared is n_tasks for both; last_layer, the layer of `last`; n_blocks, L, null
        if only layer 0 ran, whose depth does not determine it; and template, transform and fitted_on, null for plain
        layers.

    Raises:
        InputError: (a ValueError) `tasks` is neither "available" nor "common".
    """
    return SchemeComparison(scores, metrics).table(tasks, complete_only, seed)


def shown_schemes(table: pl.DataFrame) -> list[str]:
    """The schemes that a table of all of them shows: criteria beyond those of the paper only if a row has them.

    Args:
        table: A result of `schemes`.
    """
    of_others = {scheme for criterion, scheme in _MEASURED.items() if criterion not in FIRST}
    return [scheme for scheme in SCHEMES if scheme not in of_others or (table[f"n_{scheme}"] > 0).any()]


def notes(table: pl.DataFrame) -> list[str]:
    """What has to be said beside the numbers of a table of schemes, one sentence each; empty if nothing has.

    Args:
        table: A result of `schemes`.
    """
    found = [_said_of_tasks(table), _said_of_last(table), _said_of_transductive(table)]
    return [sentence for sentence in found if sentence]


def _said_of_tasks(table: pl.DataFrame) -> str | None:
    some = table.filter(pl.col("n_tasks") > 0)
    if some["n_tasks"].equals(some["n_shared"]):
        return None
    n_shared = some["n_shared"][0]
    n_models = some.select(MODEL).n_unique()
    rows, one = ("models", "model") if n_models == some.height else ("models and recipes", "row")
    rows, one = ("recipes", "recipe") if n_models == 1 else (rows, one)
    if not n_shared:
        if some["tasks"][0] != "common":
            return f"the {rows} share no task: do not compare their means"
        if one == "row":
            own = "each mean is over the tasks that the rows of its recipe share, or else over its own"
            return f"the {rows} share no task; {own}: do not compare the means of different recipes"
        return f"the {rows} share no task; each mean is over the common tasks of its {one}: do not compare their means"
    means = "means over different tasks are not comparable; tasks common takes the shared ones"
    return f"the {rows} have different tasks, and share {n_shared} of them: {means}"


def _said_of_last(table: pl.DataFrame) -> str | None:
    cut = table.filter(pl.col("last_layer") < pl.col("n_blocks").fill_null(1))
    if cut.is_empty():
        return None
    variant = Variant(*cut.select(VARIANT).row(0))
    layer, n_blocks = cut.select("last_layer", "n_blocks").row(0)
    kind = "models" if cut.select(MODEL).n_unique() == cut.height else "rows"
    others = f" (and {cut.height - 1} more {kind})" if cut.height > 1 else ""
    place = f"layer {layer}" if n_blocks is None else f"layer {layer} of {n_blocks}"
    return f"last is the highest layer that ran: {place} of {variant.label()}{others}"


def _said_of_transductive(table: pl.DataFrame) -> str | None:
    return SAID_OF_TRANSDUCTIVE if TASK in table["fitted_on"] else None


def _common_tasks(picked: pl.DataFrame, variants: pl.DataFrame) -> pl.DataFrame:
    """The tasks that all schemes of all variants have.

    If there is none, those that all schemes of all models with the same recipe have; if there is none, of the variant.
    """
    n_schemes = pl.col("scheme").n_unique()
    counted = picked.with_columns(of=n_schemes.over(_VARIANT), has=n_schemes.over(_VARIANT, "task"))
    own = counted.filter(pl.col("of") == pl.col("has")).select(_VARIANT, "task").unique()
    shared = own.filter(pl.len().over("task") == picked[_VARIANT].n_unique())
    if not shared.is_empty():
        return shared
    of_recipe = own.join(variants.select(_VARIANT, *RECIPE), on=_VARIANT)
    shared_by = pl.len().over(*RECIPE, "task") == pl.col(_VARIANT).n_unique().over(RECIPE)
    return of_recipe.filter(shared_by | ~shared_by.any().over(RECIPE)).select(_VARIANT, "task")


def _task_counts(scored: pl.DataFrame) -> pl.DataFrame:
    """The number of tasks of each variant, and how many of them every variant has."""
    tasks = scored.select(_VARIANT, "task").unique()
    shared = pl.len().over("task") == tasks[_VARIANT].n_unique()
    return tasks.with_columns(shared=shared).group_by(_VARIANT).agg(n_tasks=pl.len(), n_shared=pl.col("shared").sum())


def _fixed_layers(scores: pl.DataFrame) -> pl.DataFrame:
    """The layers that are the same for every task: last, middle, depth 0.7."""
    rows = []
    for variant, highest, n_blocks in last_layers(scores, _VARIANT).iter_rows():
        rows.append((variant, "last", highest))
        for scheme, criterion in _DEPTHS.items():
            rows.append((variant, scheme, fixed_layer(criterion, n_blocks or 1).layer))
    schema = {_VARIANT: pl.UInt32, "scheme": pl.String, "layer": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _random_layers(scored: pl.DataFrame) -> pl.DataFrame:
    """The mean of each task over its layers."""
    by = [_VARIANT, "task"]
    return scored.group_by(by).agg(pl.lit("random_layer").first().alias("scheme"), pl.col("score").mean())


def _by_criteria(scored: pl.DataFrame, metrics: pl.DataFrame, variants: pl.DataFrame) -> pl.DataFrame:
    """The layer that each criterion picks for each task. Metrics are of all recipes."""
    values = (
        metrics.filter(pl.col("normalization") == RAW, pl.col("value").is_finite())
        .join(variants.select(*MODEL, _VARIANT), on=MODEL)
        .join(scored, on=[_VARIANT, "task", "layer"])
    )
    picked = by_criteria(values, [_VARIANT, "task"])
    return picked.with_columns(scheme=pl.col("criterion").replace_strict(_MEASURED))


def _best_layers(scored: pl.DataFrame, complete_only: bool) -> pl.DataFrame:
    """The layer with the highest mean over the tasks, per variant and scheme; the lowest one of a tie.

    A layer with a score that is null would be averaged over the tasks that it is good at, so it is left out.
    """
    by = [_VARIANT, "scheme"]
    layers = scored.group_by(*by, "layer").agg(
        mean=pl.col("score").mean(), n=pl.len(), holes=pl.col("score").null_count()
    )
    layers = layers.filter(pl.col("holes") == 0)
    if complete_only:
        n_tasks = scored.group_by(by).agg(of=pl.col("task").n_unique())
        layers = layers.join(n_tasks, on=by).filter(pl.col("n") == pl.col("of"))
    return (
        layers.sort("mean", "layer", descending=[True, False])
        .group_by(by, maintain_order=True)
        .agg(best_layer=pl.col("layer").first(), best=pl.col("mean").first())
    )


def _wide(compared: pl.DataFrame) -> pl.DataFrame:
    """One row per variant, with the numbers of each scheme in columns."""
    columns = {
        **{scheme: (scheme, "mean") for scheme in SCHEMES},
        **{f"n_{scheme}": (scheme, "n") for scheme in SCHEMES},
        **{f"regret_{scheme}": (scheme, "regret") for scheme in SCHEMES if scheme != "best"},
        **{f"{scheme}_{end}": (scheme, end) for scheme in SCHEMES for end in ("low", "high")},
    }
    return compared.group_by(_VARIANT).agg(
        pl.col(value).filter(pl.col("scheme") == scheme).first().alias(name)
        for name, (scheme, value) in columns.items()
    )
