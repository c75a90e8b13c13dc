"""What picking a layer without labels costs: the regret of each criterion, over all models, recipes and tasks.

There are three readings of a regret, `READINGS`:

- model: a criterion picks one layer for all tasks of a model; the regret is on the mean over the types of tasks.
- type: the same layer; a regret on each type of tasks, whose score is the mean of its tasks.
- task: a criterion picks a layer for each task, as in the paper's Table 2; a regret on each task.

A regret is the score of the best layer minus the score of the picked one, in points. Every rule picks among the layers
that have a score, and criteria go by the raw metrics of plain texts, whatever the recipe.
"""

from collections.abc import Collection, Sequence

import polars as pl

from leaderboard.analysis.intervals import intervals
from leaderboard.analysis.schemes import Tasks, check_comparison
from leaderboard.analysis.single_regrets import (
    BEST,
    DECIMALS,
    FIXED,
    NUMBER,
    RANDOM,
    READINGS,
    RULE,
    TUNED_CRITERION,
    TUNED_DEPTH,
    RegretData,
    compare,
    of_models,
)
from leaderboard.analysis.variants import VARIANT
from midlayer_embed.errors import InputError
from midlayer_embed.selection.criteria import CRITERIA
from midlayer_embed.terms import METRIC_TABLE

_COLUMNS = (
    *("tasks", "regret", "low", "high", "worst"),
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
        One row per reading and criterion (and type), the lowest regret first.

        - reading, (task_type,) criterion, tasks.
        - regret: the mean; low and high: its 95% interval, from 1,000 resamples of the models; null for one model.
        - worst: the highest single regret, and where it is: worst_model, worst_revision, worst_template,
          worst_transform, worst_fitted_on, worst_on (the type or the task), worst_layer (the picked one; null for
          random), worst_best_layer.
        - n_models, n_tasks, n: the models, the different tasks and the single regrets in the mean; of_models and
          of_tasks: how many there are. A criterion without any has 0, and null elsewhere.
        - choice: what tuned-depth and tuned-criterion take if they are tuned on all models.
        - What it costs: texts, whether texts are needed; passes, the forward passes over each of them; labels: "none",
          "other models" (the scores of other models on tasks with labels) or "own".

    Raises:
        InputError: (a ValueError) an unknown criterion, one whose metric is missing, or `tasks` is neither "common" nor
            "available".
    """
    check_comparison(tasks)
    check_criteria(criteria)
    data = RegretData.of(scores, metrics)
    names = data.compared(criteria)
    if tasks == "common":
        found = compare(data, names)
    else:
        alone = [compare(data, [name]).filter(pl.col(RULE) == name) for name in names]
        found = pl.concat([compare(data, []), *alone])
    within = ["reading", "task_type"] if per_type else ["reading"]
    if per_type:
        found = found.filter(pl.col("reading") != "model")
    rules = [BEST, *names, TUNED_CRITERION, TUNED_DEPTH, "depth:0.8", "depth:0.7", "middle", "last", "first", RANDOM]
    found = found.with_columns(place=pl.col(RULE).replace_strict(rules, range(len(rules)), return_dtype=pl.Int64))
    table = _summaries(found, [*within, RULE], seed)
    missing = [] if per_type else _missing(table, names)
    table = pl.concat([table, *missing], how="diagonal_relaxed")
    return _finish(table.with_columns(tasks=pl.lit(tasks)), data, within, rules)


def notes(table: pl.DataFrame) -> list[str]:
    """What has to be said beside the numbers of a table of regrets, one sentence each; empty if nothing has.

    Args:
        table: A result of `regret`.
    """
    found = []
    counts = table.filter(pl.col("reading") == "task").select("n_models", "n_tasks", "n").unique()
    if table["tasks"].first() == "available" and counts.height > 1:
        found.append("each criterion is over the models and tasks that it has: do not compare one with another")
    elif not counts["n"].sum():
        found.append(
            "the criteria share no task of any model: name fewer of them, or take each over its available tasks"
        )
    elif counts["n_models"][0] < table["of_models"][0]:
        found.append(
            f"over {counts['n_models'][0]} of {table['of_models'][0]} models: those of which every criterion has a "
            "task; fewer criteria may have more"
        )
    tuned = table.filter(pl.col("reading") == READINGS[0], pl.col("choice").is_not_null())
    if not tuned.is_empty():
        said = (f"{name} takes {choice}" for name, choice in tuned.sort(RULE).select(RULE, "choice").iter_rows())
        found.append(f"tuned on all models here, {' and '.join(said)}")
    if table["n_models"].max() == 1:
        found.append("one model: there is no interval, and no other model to tune anything on")
    return found


def _summaries(regrets: pl.DataFrame, by: Sequence[str], seed: int) -> pl.DataFrame:
    """Mean, interval, worst and counts of the single regrets."""
    regrets = regrets.sort("base", NUMBER, "on", maintain_order=True)
    means = of_models(regrets, by).group_by(by, maintain_order=True).agg(each="regret", regret=pl.col("regret").mean())
    ends = intervals(means["each"], seed)
    means = means.with_columns(low=ends[:, 0], high=ends[:, 1], n_models=pl.col("each").list.len().cast(pl.Int64))
    several = pl.col("n_models") > 1
    means = means.with_columns(pl.when(several).then(pl.col("low", "high")))
    where = {f"worst_{name}": pl.col(name).first() for name in (*VARIANT, "on", "layer", "best_layer")}
    worst = (
        regrets.sort(pl.col("regret").round(DECIMALS), descending=True, maintain_order=True)
        .group_by(by, maintain_order=True)
        .agg(worst=pl.col("regret").first(), **where)
    )
    counts = regrets.group_by(by).agg(
        n_tasks=pl.col("tasks").explode().n_unique().cast(pl.Int64),
        n=pl.len().cast(pl.Int64),
        choice=pl.col("choice").first(),
    )
    return means.drop("each").join(worst, on=by).join(counts, on=by)


def _missing(table: pl.DataFrame, names: Sequence[str]) -> list[pl.DataFrame]:
    """Rows without numbers for the readings and criteria that have none."""
    rules = [BEST, *names, *FIXED, RANDOM]
    have = set(table.select("reading", RULE).iter_rows())
    rows = [(reading, rule, 0, 0, 0) for reading in READINGS for rule in rules if (reading, rule) not in have]
    schema = {"reading": pl.String, RULE: pl.String, **dict.fromkeys(("n_models", "n_tasks", "n"), pl.Int64)}
    return [pl.DataFrame(rows, schema=schema, orient="row")] if rows else []


def _finish(table: pl.DataFrame, data: RegretData, within: Sequence[str], rules: Sequence[str]) -> pl.DataFrame:
    """All columns in their order, the lowest regret first."""
    n_models = data.scored.join(data.variants, on=NUMBER)["base"].n_unique()
    of_type = data.scored.group_by("task_type").agg(of_tasks=pl.col("task").n_unique().cast(pl.Int64))
    if "task_type" in within:
        table = table.join(of_type, on="task_type", how="left")
    else:
        table = table.with_columns(of_tasks=pl.lit(data.scored["task"].n_unique(), pl.Int64))
    costs = {(rule, choice): _costs(rule, choice) for rule, choice in table.select(RULE, "choice").iter_rows()}
    needed = [costs[key] for key in table.select(RULE, "choice").iter_rows()]
    schema = {"texts": pl.Boolean, "passes": pl.Int64, "labels": pl.String}
    order = {name: place for place, name in enumerate(rules)}
    readings = {reading: place for place, reading in enumerate(READINGS)}
    return (
        pl.concat([table, pl.DataFrame(needed, schema=schema, orient="row")], how="horizontal")
        .with_columns(of_models=pl.lit(n_models, pl.Int64))
        .sort(
            pl.col("reading").replace_strict(readings, return_dtype=pl.Int64),
            *within[1:],
            pl.col("regret").round(DECIMALS),
            pl.col(RULE).replace_strict(order, return_dtype=pl.Int64),
            nulls_last=True,
        )
        .select(*within, RULE, *_COLUMNS)
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
