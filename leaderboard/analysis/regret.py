"""What picking a layer without labels costs: the regret of each criterion, over all models, recipes and tasks.

There are three readings of a regret, `READINGS`:

- model: a criterion picks one layer for all tasks of a model; the regret is on the mean over the types of tasks.
- type: the same layer; a regret on each type of tasks, whose score is the mean of its tasks.
- task: a criterion picks a layer for each task, as in the paper's Table 2; a regret on each task.

A regret is the score of the best layer minus the score of the picked one, in points. Every rule picks among the layers
that have a score, and criteria go by the raw metrics of plain texts, whatever the recipe; `rules` has them all.
"""

from collections.abc import Collection, Iterator, Sequence

import polars as pl

from leaderboard.analysis.intervals import intervals
from leaderboard.analysis.rules import LABELS, NUMBER, RULE, RULES, SHOWN_PLACES, Known, cost
from leaderboard.analysis.schemes import Tasks, check_comparison
from leaderboard.analysis.single_regrets import (
    BEST,
    DECIMALS,
    RANDOM,
    READINGS,
    TUNED_CRITERION,
    TUNED_DEPTH,
    RegretData,
    compare,
    of_models,
)
from leaderboard.analysis.variants import VARIANT
from midlayer_embed.errors import InputError
from midlayer_embed.selection.criteria import AUTO, OUTSIDE

_COLUMNS = (
    *("tasks", "regret", "low", "high", "worst"),
    *(f"worst_{name}" for name in (*VARIANT, "on", "layer", "best_layer")),
    *("n_models", "n_tasks", "n", "of_models", "of_tasks", "choice", "texts", "passes", "labels"),
)


# As a list for people: those of the paper come first.
_CRITERIA = (*(name for name in RULES if name != AUTO), AUTO)
_TUNED = (TUNED_CRITERION, TUNED_DEPTH)
# So many things that a rule took are told, the others are counted.
_SHOWN = 4


def check_criteria(criteria: Collection[str] | None) -> None:
    """Reject names that are no criteria of a table of regrets.

    Raises:
        InputError: (a ValueError) an unknown criterion, or none at all; the message lists the criteria.
    """
    unknown = [name for name in criteria or () if name not in RULES]
    if unknown or (criteria is not None and not criteria):
        got = repr(unknown[0]) if unknown else "none"
        raise InputError(f"criteria: expected some of {', '.join(_CRITERIA)}, got {got}")


def regret(
    scores: pl.DataFrame,
    metrics: pl.DataFrame,
    criteria: Sequence[str] | None = None,
    tasks: Tasks = "common",
    per_type: bool = False,
    seed: int = 0,
    known: Known | None = None,
) -> pl.DataFrame:
    """The regret of each criterion and of its baselines, in points.

    The mean is over models: within a model it is over its revisions and recipes, and within these over types or tasks,
    so that every model weighs the same. A task, type or model counts if at least two of its layers have a score. Where
    one layer is picked for all tasks, the scores and the metrics are means over the types of the means over the tasks;
    tasks or layers with holes are left out until none is left.

    Beside the criteria that go by one metric there are

    - half-and-drop: the highest geometric mean of half-retrieval and drop-retrieval;
    - auto: what "auto" takes for each model, or for each task in the reading task: the last layer of a
      sentence-transformers model, else half-and-drop with 200 texts or more, else published, else depth 0.8. Where the
      metrics of half-and-drop are missing, there count as no texts;
    - proxy: the best layer by the mean score of other tasks, those of the starter benchmark. It is judged on the tasks
      that are not among them, and so is all that is compared with it;
    - published: the best layer by published scores of the model, or the nearest one that has a score.

    And as baselines

    - best: the best layer by the labels; of a type the best single layer of its model, all tasks together;
    - random: the expected score of a layer drawn at random;
    - first, middle, depth:0.7, depth:0.8, last: the layer at a place, or the nearest one that has a score;
    - tuned-depth: the depth (0, 0.05, ..., 1) with the lowest regret on the other models; tuned-criterion: the
      criterion with the lowest one, of those that measure texts. Both leave the whole model out, with all its revisions
      and recipes, and are missing for a single model.

    Args:
        scores: Scores with the columns of `Leaderboard.scores`, and optionally `base`, the name under which the rows of
            one model are found. Without it, that is `model`.
        metrics: Metrics with the columns of `Leaderboard.metrics`.
        criteria: Criteria to compare, from `RULES`; None: those that pick a layer for any task. Over common tasks,
            proxy and published are not compared unless they know every model that the others know: their rows have no
            numbers then.
        tasks: "common": all over the tasks of each model that all criteria have; "available": each over its own. Then
            do not compare them, and there is no tuned-criterion.
        per_type: Whether to give a row for each type of tasks, in a column task_type; of the readings type and task.
        seed: Seed of the bootstrap resamples.
        known: What criteria go by besides scores and metrics; None: nothing is known.

    Returns:
        One row per reading and criterion (and type), the lowest regret first.

        - reading, (task_type,) criterion, tasks.
        - regret: the mean; low and high: its 95% interval, from 1,000 resamples of the models; null for one model.
        - worst: the highest single regret, and where it is: worst_model, worst_revision, worst_template,
          worst_transform, worst_fitted_on, worst_on (the type or the task), worst_layer (the picked one; null for
          random), worst_best_layer.
        - n_models, n_tasks, n: the models, the different tasks and the single regrets in the mean; of_models and
          of_tasks: how many there are. A criterion without any has 0, and null elsewhere.
        - choice: what a rule takes where its name does not say it: tuned-depth and tuned-criterion if they are tuned on
          all models; auto; a rule such as last where the layer at its place has no score.
        - What it costs: texts, whether texts are needed; passes, the forward passes over each of them; labels: "none",
          "other models" (the scores of other models on tasks with labels), "other tasks" (those of this model on other
          tasks), "published" (those that others published of this model) or "own".

    Raises:
        InputError: (a ValueError) an unknown criterion, one whose metric is missing, or `tasks` is neither "common" nor
            "available".
    """
    return RegretComparison(scores, metrics, known).table(criteria, tasks, per_type, seed)


class RegretComparison:
    """The regrets of one set of tables. Results, and work that several results share, are computed once.

    Args:
        scores: As for `regret`.
        metrics: As for `regret`.
        known: As for `regret`.
    """

    def __init__(self, scores: pl.DataFrame, metrics: pl.DataFrame, known: Known | None = None) -> None:
        self._data = RegretData.of(scores, metrics, known or Known())
        self._single: dict[tuple[tuple[str, ...], Tasks], pl.DataFrame] = {}
        self._tables: dict[tuple[tuple[str, ...], Tasks, bool, int], pl.DataFrame] = {}

    def table(
        self, criteria: Sequence[str] | None = None, tasks: Tasks = "common", per_type: bool = False, seed: int = 0
    ) -> pl.DataFrame:
        """The table of regrets; see `regret`."""
        check_comparison(tasks)
        check_criteria(criteria)
        names = tuple(self._data.compared(criteria, over_common=tasks == "common"))
        key = (names, tasks, per_type, seed)
        if key not in self._tables:
            left_out = [name for name in self._data.picking if criteria is None and name not in names]
            self._tables[key] = self._compare(names, tasks, per_type, seed, left_out)
        return self._tables[key].clone()

    def _compare(
        self, names: tuple[str, ...], tasks: Tasks, per_type: bool, seed: int, left_out: Sequence[str]
    ) -> pl.DataFrame:
        if (names, tasks) not in self._single:
            self._single[names, tasks] = _single_regrets(self._data, names, tasks)
        found = self._single[names, tasks]
        within = ["reading", "task_type"] if per_type else ["reading"]
        if per_type:
            found = found.filter(pl.col("reading") != "model")
        shown = [BEST, *names, *left_out, *_TUNED, *SHOWN_PLACES, RANDOM]
        found = found.with_columns(place=pl.col(RULE).replace_strict(shown, range(len(shown)), return_dtype=pl.Int64))
        table = _summaries(found, [*within, RULE], seed)
        missing = [] if per_type else _missing(table, [name for name in shown if name not in _TUNED])
        table = pl.concat([table, *missing], how="diagonal_relaxed")
        return _finish(table.with_columns(tasks=pl.lit(tasks)), self._data, within, shown)


def _single_regrets(data: RegretData, names: Sequence[str], tasks: Tasks) -> pl.DataFrame:
    if tasks == "common":
        return compare(data, names)
    alone = [compare(data, [name]).filter(pl.col(RULE) == name) for name in names]
    return pl.concat([compare(data, []), *alone])


def notes(table: pl.DataFrame) -> list[str]:
    """What has to be said beside the numbers of a table of regrets, one sentence each; empty if nothing has.

    Args:
        table: A result of `regret`.
    """
    found = []
    of_tasks = table.filter(pl.col("reading") == "task")
    unknown = of_tasks.filter(pl.col(RULE).is_in(OUTSIDE), pl.col("n") == 0)[RULE].to_list()
    counts = of_tasks.filter(~pl.col(RULE).is_in(unknown)).select("n_models", "n_tasks", "n").unique()
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
    found += [
        f"{name} knows only some of these models, so it is not compared; named as a criterion, it is, over those"
        for name in sorted(unknown)
    ]
    found += _said_of_choices(table)
    if table["n_models"].max() == 1:
        found.append("one model: there is no interval, and no other model to tune anything on")
    return found


def _said_of_choices(table: pl.DataFrame) -> Iterator[str]:
    """What rules took where their names do not say it, and whose labels they have seen."""
    numbers = table.filter(pl.col("n") > 0)
    rows = numbers.select("reading", RULE, "choice").drop_nulls("choice").iter_rows()
    choices: dict[str, dict[str, str]] = {}
    for reading, rule, choice in rows:
        choices.setdefault(rule, {})[reading] = choice
    tuned = [(rule, choices[rule][READINGS[0]]) for rule in sorted(_TUNED) if READINGS[0] in choices.get(rule, {})]
    if tuned:
        yield f"tuned on all models here, {' and '.join(f'{name} takes {choice}' for name, choice in tuned)}"
    if AUTO in choices:
        yield f"auto takes {next(iter(choices[AUTO].values()))}"
    for rule in ("last", "first"):
        if rule in choices:
            yield f"{rule} is not the {rule} layer where that has no score, but {next(iter(choices[rule].values()))}"
    seen = set(numbers.filter(pl.col("labels").is_in(["other tasks", "published"]))["labels"])
    if "other tasks" in seen:
        others = "nor is any other row" if table["tasks"].first() == "common" else "other rows are"
        yield f"proxy goes by the labels of the starter tasks, so it is not judged on them, {others}"
    if "published" in seen:
        yield "published scores are of the tasks of the paper: where such tasks are here, their labels have been seen"


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
        choices=pl.col("choice").drop_nulls().unique(maintain_order=True),
    )
    return means.drop("each").join(worst, on=by).join(counts, on=by)


def _missing(table: pl.DataFrame, rules: Sequence[str]) -> list[pl.DataFrame]:
    """Rows without numbers for the readings and rules that have none."""
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
    needed = [
        (_said(choices), *_cost(rule, choices or ())) for rule, choices in table.select(RULE, "choices").iter_rows()
    ]
    schema = {"choice": pl.String, "texts": pl.Boolean, "passes": pl.Int64, "labels": pl.String}
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


def _cost(rule: str, choices: Collection[str]) -> tuple[bool, int, str]:
    """What a rule needs: whether texts, how many forward passes over each, and whose labels.

    Example:
        >>> _cost("min-dime", ()), _cost("last", ()), _cost("tuned-depth", ["0.75"])
        ((True, 2, 'none'), (False, 0, 'none'), (False, 0, 'other models'))
    """
    if rule == BEST:
        return True, 1, LABELS[-1]
    texts, passes, labels = cost(rule, choices)
    return texts, passes, "other models" if rule in _TUNED else labels


def _said(choices: Sequence[str] | None) -> str | None:
    """What a rule took, in words; None if its name says it."""
    if not choices:
        return None
    more = len(choices) - _SHOWN
    return ", ".join(choices) if more <= 0 else f"{', '.join(choices[:_SHOWN])} and {more} more"
