"""What picking a layer without labels costs: the regret of each criterion, over all models, recipes and tasks.

There are three readings of a regret, `READINGS`:

- model: a criterion picks one layer for all tasks of a model; the regret is on the mean over the types of tasks.
- type: the same layer; a regret on each type of tasks, whose score is the mean of its tasks.
- task: a criterion picks a layer for each task, as in the paper's Table 2; a regret on each task.

A regret is the score of the best layer minus the score of the picked one, in points. Every rule picks among the layers
that have a score, and criteria go by the raw metrics of plain texts, whatever the recipe.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from leaderboard.analysis.intervals import intervals
from leaderboard.analysis.picking import best_of_each, by_criteria, last_layers
from leaderboard.analysis.schemes import Tasks, check_comparison
from leaderboard.analysis.variants import MODEL, RECIPE, VARIANT, with_recipe
from midlayer_embed.errors import InputError
from midlayer_embed.selection.criteria import CRITERIA, fixed_layer
from midlayer_embed.terms import METRIC_TABLE, RAW

READINGS = ("model", "type", "task")
BEST, RANDOM, TUNED_DEPTH, TUNED_CRITERION = "best", "random", "tuned-depth", "tuned-criterion"
# Rules that measure nothing, with the criterion that says which layer they want; the nearest one with a score is taken.
_FIXED = {
    **{"first": "depth:0.0", "middle": "middle", "depth:0.7": "depth:0.7", "depth:0.8": "depth:0.8"},
    "last": "last",
}
# The depths that `tuned-depth` chooses from.
_DEPTHS = tuple(f"depth:{step / 20:.2f}" for step in range(21))
# Regrets that differ by less are equal: sums of floats depend on their order.
_DECIMALS = 9
# A model and revision with one recipe, as a number; what is picked.
_VARIANT, _RULE = "variant", "criterion"
_COLUMNS = (
    *("regret", "low", "high", "worst"),
    *(f"worst_{name}" for name in (*VARIANT, "on", "layer", "best_layer")),
    *("n_models", "n_tasks", "n", "of_models", "of_tasks", "choice", "texts", "passes", "labels"),
)


def check_criteria(criteria: Collection[str] | None) -> None:
    """Reject names that are no criteria of metrics.

    Raises:
        InputError: (a ValueError) an unknown criterion, or none at all; the message lists the criteria.
    """
    unknown = [name for name in criteria or () if name not in CRITERIA]
    if unknown or (criteria is not None and not criteria):
        got = repr(unknown[0]) if unknown else "none"
        raise InputError(f"criteria: expected some of {', '.join(CRITERIA)}, got {got}")


def regret(
    scores: pl.DataFrame,
    metrics: pl.DataFrame,
    criteria: Sequence[str] | None = None,
    tasks: Tasks = "common",
    per_type: bool = False,
    seed: int = 0,
) -> pl.DataFrame:
    """The regret of each criterion and of its baselines, in points.

    The mean is over models: within a model it is over its revisions and recipes, and within these over types or tasks,
    so that every model weighs the same. A task, type or model counts if at least two of its layers have a score. Where
    one layer is picked for all tasks, the scores and the metrics are means over the types of the means over the tasks;
    tasks or layers with holes are left out until none is left.

    Beside the criteria there are

    - best: the best layer by the labels; of a type the best single layer of its model, all tasks together;
    - random: the expected score of a layer drawn at random;
    - first, middle, depth:0.7, depth:0.8, last: the layer at a place, or the nearest one that has a score;
    - tuned-depth: the depth (0, 0.05, ..., 1) with the lowest regret on the other models; tuned-criterion: the
      criterion with the lowest one. Both leave the whole model out, with all its revisions and recipes, and are missing
      for a single model.

    Args:
        scores: Scores with the columns of `Leaderboard.scores`, and optionally `base`, the name under which the rows of
            one model are found. Without it, that is `model`.
        metrics: Metrics with the columns of `Leaderboard.metrics`.
        criteria: Criteria to compare, from `CRITERIA`; None: those whose metric is there.
        tasks: "common": all over the tasks of each model that all criteria have; "available": each over its own. Then
            do not compare them, and there is no tuned-criterion.
        per_type: Whether to give a row for each type of tasks, in a column task_type; of the readings type and task.
        seed: Seed of the bootstrap resamples.

    Returns:
        One row per reading and criterion (and type), the lowest regret first: reading, (task_type,) criterion, regret;
        low and high, the 95% interval of 1,000 resamples of the models, null for one model; worst, the highest single
        regret, and where: worst_model, worst_revision, worst_template, worst_transform, worst_fitted_on, worst_on (the
        type or task), worst_layer (the picked one, null for random) and worst_best_layer. n_models, n_tasks and n: the
        models, the different tasks and the single regrets in the mean; of_models and of_tasks: those that there are.
        choice: what tuned-depth and tuned-criterion take if tuned on all models. What it costs: texts, whether texts
        are needed; passes, the forward passes over each text; labels, "none", "other models" (their scores) or "own".
        A criterion without any task has null and 0.

    Raises:
        InputError: (a ValueError) an unknown criterion, one whose metric is missing, or `tasks` is neither "common" nor
            "available".
    """
    check_comparison(tasks)
    check_criteria(criteria)
    data = _Data.of(scores, metrics)
    names = data.compared(criteria)
    if tasks == "common":
        found = _compare(data, names)
    else:
        alone = [_compare(data, [name]).filter(pl.col(_RULE) == name) for name in names]
        found = pl.concat([_compare(data, []), *alone])
    within = ["reading", "task_type"] if per_type else ["reading"]
    if per_type:
        found = found.filter(pl.col("reading") != "model")
    rules = [BEST, *names, TUNED_CRITERION, TUNED_DEPTH, "depth:0.8", "depth:0.7", "middle", "last", "first", RANDOM]
    found = found.with_columns(place=pl.col(_RULE).replace_strict(rules, range(len(rules)), return_dtype=pl.Int64))
    table = _summaries(found, [*within, _RULE], seed)
    missing = [] if per_type else _missing(table, names)
    table = pl.concat([table, *missing], how="diagonal_relaxed")
    return _finish(table, data, within, rules)


@dataclass(frozen=True)
class _Data:
    """The numbers behind regrets.

    Attributes:
        variants: Columns variant, base, model, revision, template, transform, fitted_on.
        scored: Finite scores in points, of tasks with at least two layers: variant, task, task_type, layer, score.
        values: Finite raw metrics where there is a score: the columns of `scored`, metric, value.
        wanted: The layer of each rule that measures nothing: variant, criterion, wanted.
    """

    variants: pl.DataFrame
    scored: pl.DataFrame
    values: pl.DataFrame
    wanted: pl.DataFrame

    @classmethod
    def of(cls, scores: pl.DataFrame, metrics: pl.DataFrame) -> "_Data":
        scores = with_recipe(scores)
        if "base" not in scores.columns:
            scores = scores.with_columns(base=pl.col("model"))
        variants = scores.select("base", *VARIANT).unique(maintain_order=True).with_row_index(_VARIANT)
        of_variants = scores.join(variants, on=VARIANT, nulls_equal=True, maintain_order="left")
        scored = of_variants.filter(pl.col("main_score").is_finite()).select(
            _VARIANT, "task", "task_type", "layer", score=pl.col("main_score") * 100
        )
        scored = scored.filter(pl.col("layer").n_unique().over(_VARIANT, "task") > 1)
        values = (
            metrics.filter(pl.col("normalization") == RAW, pl.col("value").is_finite())
            .join(variants.select(*MODEL, _VARIANT), on=MODEL)
            .join(scored, on=[_VARIANT, "task", "layer"])
            .select(*scored.columns, "metric", "value")
        )
        rules = _FIXED | {depth: depth for depth in _DEPTHS}
        wanted = [
            (variant, rule, fixed_layer(criterion, n_blocks or 1).layer)
            for variant, _, n_blocks in last_layers(of_variants, _VARIANT).iter_rows()
            for rule, criterion in rules.items()
        ]
        schema = {_VARIANT: pl.UInt32, _RULE: pl.String, "wanted": pl.Int64}
        return cls(variants, scored, values, pl.DataFrame(wanted, schema=schema, orient="row"))

    def compared(self, criteria: Sequence[str] | None) -> list[str]:
        """The criteria to compare, each once, in the order of `CRITERIA`."""
        measured = set(self.values["metric"])
        if criteria is None:
            return [name for name, (metric, _) in CRITERIA.items() if metric in measured]
        for name in criteria:
            if CRITERIA[name][0] not in measured:
                raise InputError(
                    f"criteria: {name} goes by the metric {CRITERIA[name][0]}, which no task with scores has"
                )
        return [name for name in CRITERIA if name in criteria]


def _compare(data: _Data, names: Sequence[str]) -> pl.DataFrame:
    """Every single regret of these criteria and all baselines, over what the criteria share, in all three readings."""
    scored, values = data.scored, data.values
    of_task = [_VARIANT, "task"]
    picked = by_criteria(values, of_task, names)
    if names:
        shared = picked.group_by(of_task).len().filter(pl.col("len") == len(names)).select(of_task)
        scored, values, picked = (
            frame.join(shared, on=of_task, how="semi", maintain_order="left") for frame in (scored, values, picked)
        )
    bases = data.variants.select(_VARIANT, "base")
    each = _tuned(_regrets(scored, picked, data.wanted, of_task).join(bases, on=_VARIANT), names)
    types = scored.select(*of_task, "task_type").unique(of_task)
    each = each.join(types, on=of_task).with_columns(on=pl.col("task"), tasks=pl.concat_list("task"))

    whole = _without_holes(scored, [_VARIANT])
    whole = whole.filter(pl.col("layer").n_unique().over(_VARIANT) > 1)
    measured = values.join(whole, on=[*of_task, "layer"], how="semi", maintain_order="left")
    means = _means(_without_holes(measured, [_VARIANT, "metric"]), [_VARIANT, "metric"], "value")
    picked = by_criteria(means, [_VARIANT], names)
    if names:
        shared = picked.group_by(_VARIANT).len().filter(pl.col("len") == len(names)).select(_VARIANT)
        whole, picked = (frame.join(shared, on=_VARIANT, how="semi", maintain_order="left") for frame in (whole, picked))
    one = _tuned(_regrets(_means(whole, [_VARIANT], "score"), picked, data.wanted, [_VARIANT]).join(bases, on=_VARIANT), names)
    of_types = _of_types(whole, one)
    own = whole.group_by(_VARIANT).agg(tasks=pl.col("task").unique().sort())
    own_types = whole.group_by(_VARIANT, "task_type").agg(tasks=pl.col("task").unique().sort())
    one = one.join(own, on=_VARIANT).with_columns(on=pl.lit(None, pl.String), task_type=pl.lit(None, pl.String))
    of_types = of_types.join(own_types, on=[_VARIANT, "task_type"]).with_columns(on=pl.col("task_type"))
    columns = [_RULE, "base", _VARIANT, "on", "task_type", "tasks", "layer", "best_layer", "regret", "choice"]
    frames = zip(READINGS, (one, of_types, each), strict=True)
    return (
        pl.concat([frame.select(pl.lit(reading).alias("reading"), *columns) for reading, frame in frames])
        .filter(~pl.col(_RULE).is_in(_DEPTHS))
        .join(data.variants.select(_VARIANT, *VARIANT), on=_VARIANT, maintain_order="left")
    )


def _regrets(scored: pl.DataFrame, picked: pl.DataFrame, wanted: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """The regret of every rule: `by`, criterion, layer (null for random), best_layer, regret.

    Args:
        scored: Columns `by`, layer, score.
        picked: The layers of criteria: columns `by`, criterion, layer.
        wanted: The layers that the other rules want.
        by: Within what a layer is picked.
    """
    curves = scored.select(*by, "layer", "score")
    best = best_of_each(curves, by).join(curves, on=[*by, "layer"])
    near = (
        curves.join(wanted, on=_VARIANT)
        .with_columns(far=(pl.col("layer") - pl.col("wanted")).abs())
        .sort("far", "layer", maintain_order=True)
        .group_by(*by, _RULE, maintain_order=True)
        .agg(pl.col("layer", "score").first())
    )
    at_random = curves.sort(*by, "layer").group_by(by, maintain_order=True).agg(pl.col("score").mean())
    columns = [*by, _RULE, "layer", "score"]
    rules = (
        picked.join(curves, on=[*by, "layer"]).select(columns),
        near.select(columns),
        best.with_columns(pl.lit(BEST).alias(_RULE)).select(columns),
        at_random.with_columns(pl.lit(RANDOM).alias(_RULE), layer=pl.lit(None, pl.Int64)).select(columns),
    )
    return (
        pl.concat(rules)
        .join(best.select(*by, best_layer="layer", best="score"), on=by)
        .select(*by, _RULE, "layer", "best_layer", regret=pl.col("best") - pl.col("score"))
    )


def _of_types(whole: pl.DataFrame, one: pl.DataFrame) -> pl.DataFrame:
    """The regrets on each type of tasks of the layers that were picked for all tasks."""
    by = [_VARIANT, "task_type"]
    curves = whole.sort("task").group_by(*by, "layer", maintain_order=True).agg(pl.col("score").mean())
    best = best_of_each(curves, by).join(curves, on=[*by, "layer"]).select(*by, best_layer="layer", best="score")
    at_random = curves.sort("layer").group_by(by, maintain_order=True).agg(expected=pl.col("score").mean())
    picks = one.select(_VARIANT, "base", _RULE, "layer", "choice")
    found = best.join(at_random, on=by).join(picks, on=_VARIANT).join(curves, on=[*by, "layer"], how="left")
    score = pl.when(pl.col(_RULE) == RANDOM).then("expected").otherwise("score")
    return found.with_columns(regret=pl.col("best") - score)


def _means(frame: pl.DataFrame, by: Sequence[str], column: str) -> pl.DataFrame:
    """The mean over the types of tasks of the mean over the tasks of each, at every layer."""
    of_types = (
        frame.sort("task_type", "task").group_by(*by, "task_type", "layer", maintain_order=True).agg(pl.col(column).mean())
    )
    return of_types.group_by(*by, "layer", maintain_order=True).agg(pl.col(column).mean())


def _without_holes(cells: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """The cells of the tasks and layers that are left once none misses another.

    As long as a cell is missing, the task or the layer that misses the largest share is left out; of a tie the layer,
    and the lower one.
    """
    kept = []
    for group in cells.partition_by(by, maintain_order=True):
        tasks, layers = (group[name].unique().sort() for name in ("task", "layer"))
        if group.height < len(tasks) * len(layers):
            keys = group.select(
                task=pl.col("task").replace_strict(tasks, range(len(tasks)), return_dtype=pl.Int64),
                layer=pl.col("layer").replace_strict(layers, range(len(layers)), return_dtype=pl.Int64),
            ).to_numpy()
            has = np.zeros((len(tasks), len(layers)), bool)
            has[keys[:, 0], keys[:, 1]] = True
            rows, columns = _rectangle(has)
            in_tasks, in_layers = tasks[rows].to_list(), layers[columns].to_list()
            group = group.filter(pl.col("task").is_in(in_tasks), pl.col("layer").is_in(in_layers))
        kept.append(group)
    return pl.concat(kept) if kept else cells


def _rectangle(has: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows and columns that are left, as indices."""
    rows, columns = np.arange(has.shape[0]), np.arange(has.shape[1])
    while not (left := has[np.ix_(rows, columns)]).all():
        missed_by_row, missed_by_column = (~left).sum(axis=1), (~left).sum(axis=0)
        row, column = int(missed_by_row.argmax()), int(missed_by_column.argmax())
        # missed / len, compared without a division
        if missed_by_row[row] * len(rows) > missed_by_column[column] * len(columns):
            rows = np.delete(rows, row)
        else:
            columns = np.delete(columns, column)
    return rows, columns


def _tuned(regrets: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """The regrets with those of the depth and of the criterion that did best on the other models.

    Args:
        regrets: Columns base, variant, criterion, regret and others.
        names: The criteria.
    """
    found = [regrets.with_columns(choice=pl.lit(None, pl.String))]
    for rule, candidates in ((TUNED_DEPTH, _DEPTHS), (TUNED_CRITERION, names)):
        of_candidates = regrets.filter(pl.col(_RULE).is_in(candidates))
        means = _of_models(of_candidates, [_RULE]).pivot(_RULE, index="base", values="regret")
        if means.height < 2 or len(candidates) < 2:
            continue
        numbers = means.select(candidates).to_numpy()
        chosen = [candidates[_lowest(np.delete(numbers, model, axis=0))] for model in range(len(numbers))]
        choices = means.select("base", pl.Series(_RULE, chosen))
        tuned = of_candidates.join(choices, on=["base", _RULE], how="semi", maintain_order="left")
        choice = candidates[_lowest(numbers)].removeprefix("depth:")
        found.append(tuned.with_columns(pl.lit(rule).alias(_RULE), choice=pl.lit(choice)))
    return pl.concat(found)


def _lowest(numbers: np.ndarray) -> int:
    return int(numbers.mean(axis=0).round(_DECIMALS).argmin())


def _of_models(regrets: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """The mean regret of each model: over its revisions and recipes, of the mean within each."""
    mean = pl.col("regret").mean()
    within = regrets.sort("base", _VARIANT, maintain_order=True).group_by(*by, "base", _VARIANT, maintain_order=True)
    return within.agg(mean).group_by(*by, "base", maintain_order=True).agg(mean)


def _summaries(regrets: pl.DataFrame, by: Sequence[str], seed: int) -> pl.DataFrame:
    """Mean, interval, worst and counts of the single regrets."""
    regrets = regrets.sort("base", _VARIANT, "on", maintain_order=True)
    means = _of_models(regrets, by).group_by(by, maintain_order=True).agg(each="regret", regret=pl.col("regret").mean())
    ends = intervals(means["each"], seed)
    means = means.with_columns(low=ends[:, 0], high=ends[:, 1], n_models=pl.col("each").list.len().cast(pl.Int64))
    several = pl.col("n_models") > 1
    means = means.with_columns(pl.when(several).then(pl.col("low", "high")))
    where = {f"worst_{name}": pl.col(name).first() for name in (*VARIANT, "on", "layer", "best_layer")}
    worst = (
        regrets.sort(pl.col("regret").round(_DECIMALS), descending=True, maintain_order=True)
        .group_by(by, maintain_order=True)
        .agg(worst=pl.col("regret").first(), **where)
    )
    counts = regrets.group_by(by).agg(
        n_tasks=pl.col("tasks").explode().n_unique().cast(pl.Int64),
        n=pl.len().cast(pl.Int64),
        choice=pl.col("choice").first(),
    )
    nulls = {"on": by, "nulls_equal": True}
    return means.drop("each").join(worst, **nulls).join(counts, **nulls)


def _missing(table: pl.DataFrame, names: Sequence[str]) -> list[pl.DataFrame]:
    """Rows without numbers for the readings and criteria that have none."""
    rules = [BEST, *names, *_FIXED, RANDOM]
    have = set(table.select("reading", _RULE).iter_rows())
    rows = [(reading, rule, 0, 0, 0) for reading in READINGS for rule in rules if (reading, rule) not in have]
    schema = {"reading": pl.String, _RULE: pl.String, **dict.fromkeys(("n_models", "n_tasks", "n"), pl.Int64)}
    return [pl.DataFrame(rows, schema=schema, orient="row")] if rows else []


def _finish(table: pl.DataFrame, data: _Data, within: Sequence[str], rules: Sequence[str]) -> pl.DataFrame:
    """All columns in their order, the lowest regret first."""
    of_models = data.scored.join(data.variants, on=_VARIANT)["base"].n_unique()
    of_type = data.scored.group_by("task_type").agg(of_tasks=pl.col("task").n_unique().cast(pl.Int64))
    if "task_type" in within:
        table = table.join(of_type, on="task_type", how="left")
    else:
        table = table.with_columns(of_tasks=pl.lit(data.scored["task"].n_unique(), pl.Int64))
    costs = {(rule, choice): _costs(rule, choice) for rule, choice in table.select(_RULE, "choice").iter_rows()}
    needed = [costs[key] for key in table.select(_RULE, "choice").iter_rows()]
    schema = {"texts": pl.Boolean, "passes": pl.Int64, "labels": pl.String}
    order = {name: place for place, name in enumerate(rules)}
    readings = {reading: place for place, reading in enumerate(READINGS)}
    return (
        pl.concat([table, pl.DataFrame(needed, schema=schema, orient="row")], how="horizontal")
        .with_columns(of_models=pl.lit(of_models, pl.Int64))
        .sort(
            pl.col("reading").replace_strict(readings, return_dtype=pl.Int64),
            *within[1:],
            pl.col("regret").round(_DECIMALS),
            pl.col(_RULE).replace_strict(order, return_dtype=pl.Int64),
            nulls_last=True,
        )
        .select(*within, _RULE, *_COLUMNS)
    )


def _costs(rule: str, choice: str | None) -> tuple[bool, int, str]:
    """What a rule needs: whether texts, how many forward passes over each, and whose labels.

    Example:
        >>> _costs("min-dime", None), _costs("last", None), _costs("tuned-depth", "0.75")
        ((True, 2, 'none'), (False, 0, 'none'), (False, 0, 'other models'))
    """
    if rule == BEST:
        return True, 1, "own"
    measured = choice if rule == TUNED_CRITERION else rule
    passes = max(1, METRIC_TABLE[CRITERIA[measured][0]].n_views) if measured in CRITERIA else 0
    return passes > 0, passes, "other models" if rule in (TUNED_DEPTH, TUNED_CRITERION) else "none"
