"""Every single regret: of each rule, on each task, type of tasks and model. `regret` makes the table of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from leaderboard.analysis.grid import without_holes
from leaderboard.analysis.picking import best_of_each, by_criteria, last_layers
from leaderboard.analysis.variants import MODEL, VARIANT, with_recipe
from midlayer_embed.errors import InputError
from midlayer_embed.selection.criteria import CRITERIA, fixed_layer
from midlayer_embed.terms import RAW

READINGS = ("model", "type", "task")
BEST, RANDOM, TUNED_DEPTH, TUNED_CRITERION = "best", "random", "tuned-depth", "tuned-criterion"
# Rules that measure nothing, with the criterion that says which layer they want; the nearest one with a score is taken.
FIXED = {"first": "depth:0", **{name: name for name in ("middle", "depth:0.7", "depth:0.8", "last")}}
# The depths that `tuned-depth` chooses from.
_DEPTHS = tuple(f"depth:{step / 20:.2f}" for step in range(21))
# Regrets that differ by less are equal: sums of floats depend on their order.
DECIMALS = 9
# A model and revision with one recipe, as a number; what is picked.
NUMBER, RULE = "variant", "criterion"


@dataclass(frozen=True)
class RegretData:
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
    def of(cls, scores: pl.DataFrame, metrics: pl.DataFrame) -> "RegretData":
        """Of the tables that `regret` takes."""
        scores = with_recipe(scores)
        if "base" not in scores.columns:
            scores = scores.with_columns(base=pl.col("model"))
        variants = scores.select("base", *VARIANT).unique(maintain_order=True).with_row_index(NUMBER)
        of_variants = scores.join(variants, on=VARIANT, nulls_equal=True, maintain_order="left")
        scored = of_variants.filter(pl.col("main_score").is_finite()).select(
            NUMBER, "task", "task_type", "layer", score=pl.col("main_score") * 100
        )
        scored = scored.filter(pl.col("layer").n_unique().over(NUMBER, "task") > 1)
        values = (
            metrics.filter(pl.col("normalization") == RAW, pl.col("value").is_finite())
            .join(variants.select(*MODEL, NUMBER), on=MODEL)
            .join(scored, on=[NUMBER, "task", "layer"])
            .select(*scored.columns, "metric", "value")
        )
        rules = FIXED | {depth: depth for depth in _DEPTHS}
        wanted = [
            (variant, rule, fixed_layer(criterion, n_blocks or 1).layer)
            for variant, _, n_blocks in last_layers(of_variants, NUMBER).iter_rows()
            for rule, criterion in rules.items()
        ]
        schema = {NUMBER: pl.UInt32, RULE: pl.String, "wanted": pl.Int64}
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


def compare(data: RegretData, names: Sequence[str]) -> pl.DataFrame:
    """Every single regret of these criteria and of all their baselines, over what the criteria share.

    Returns:
        Columns reading, criterion, base, variant, on (the task or the type; null for the reading model), task_type,
        tasks (a list of those behind the score), layer, best_layer, regret, choice (of a rule that is tuned), model,
        revision, template, transform, fitted_on.
    """
    shared, each = _layer_per_task(data, names)
    whole, one = _layer_per_model(data, names, shared)
    types = data.scored.select(NUMBER, "task", "task_type").unique([NUMBER, "task"], keep="first", maintain_order=True)
    of_types, of_all = (
        whole.group_by(by).agg(tasks=pl.col("task").unique().sort()) for by in ([NUMBER, "task_type"], [NUMBER])
    )
    none = pl.lit(None, pl.String)
    frames = {
        "model": one.join(of_all, on=NUMBER).with_columns(on=none, task_type=none),
        "type": _on_types(whole, one).join(of_types, on=[NUMBER, "task_type"]).with_columns(on="task_type"),
        "task": each.join(types, on=[NUMBER, "task"]).with_columns(on="task", tasks=pl.concat_list("task")),
    }
    columns = [RULE, "base", NUMBER, "on", "task_type", "tasks", "layer", "best_layer", "regret", "choice"]
    return (
        pl.concat([frames[reading].select(pl.lit(reading).alias("reading"), *columns) for reading in READINGS])
        .filter(~pl.col(RULE).is_in(_DEPTHS))
        .join(data.variants.select(NUMBER, *VARIANT), on=NUMBER, maintain_order="left")
    )


def _layer_per_task(data: RegretData, names: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The tasks that all criteria have, as columns variant and task, and the regrets of one layer for each of them."""
    by = [NUMBER, "task"]
    picked = by_criteria(data.values, by, names)
    shared = _having_all(picked, by, names, data.scored)
    scored, picked = (frame.join(shared, on=by, how="semi", maintain_order="left") for frame in (data.scored, picked))
    return shared, _tuned(_regrets(scored, picked, data, by), names)


def _layer_per_model(data: RegretData, names: Sequence[str], shared: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The scores of the shared tasks without holes, and the regrets on their means of one layer for all of them."""
    whole = without_holes(data.scored.join(shared, on=[NUMBER, "task"], how="semi", maintain_order="left"), [NUMBER])
    whole = whole.filter(pl.col("layer").n_unique().over(NUMBER) > 1)
    values = data.values.join(whole, on=[NUMBER, "task", "layer"], how="semi", maintain_order="left")
    by = [NUMBER, "metric"]
    picked = by_criteria(_means(without_holes(values, by), by, "value"), [NUMBER], names)
    have = _having_all(picked, [NUMBER], names, whole)
    whole, picked = (frame.join(have, on=NUMBER, how="semi", maintain_order="left") for frame in (whole, picked))
    return whole, _tuned(_regrets(_means(whole, [NUMBER], "score"), picked, data, [NUMBER]), names)


def _having_all(picked: pl.DataFrame, by: Sequence[str], names: Sequence[str], scored: pl.DataFrame) -> pl.DataFrame:
    """The places where all criteria pick a layer; without criteria, all that have a score."""
    if not names:
        return scored.select(by).unique(maintain_order=True)
    return picked.group_by(by, maintain_order=True).len().filter(pl.col("len") == len(names)).select(by)


def _regrets(scored: pl.DataFrame, picked: pl.DataFrame, data: RegretData, by: Sequence[str]) -> pl.DataFrame:
    """The regret of every rule but those that are tuned: `by`, criterion, layer, best_layer, regret, base.

    Args:
        scored: Columns `by`, layer, score.
        picked: The layers of criteria: columns `by`, criterion, layer.
        data: What the other rules go by.
        by: Within what a layer is picked.
    """
    curves = scored.select(*by, "layer", "score")
    best = best_of_each(curves, by).join(curves, on=[*by, "layer"])
    near = (
        curves.join(data.wanted, on=NUMBER)
        .with_columns(far=(pl.col("layer") - pl.col("wanted")).abs())
        .sort("far", "layer", maintain_order=True)
        .group_by(*by, RULE, maintain_order=True)
        .agg(pl.col("layer", "score").first())
    )
    at_random = curves.sort(*by, "layer").group_by(by, maintain_order=True).agg(pl.col("score").mean())
    columns = [*by, RULE, "layer", "score"]
    rules = (
        picked.join(curves, on=[*by, "layer"]).select(columns),
        near.select(columns),
        best.with_columns(pl.lit(BEST).alias(RULE)).select(columns),
        at_random.with_columns(pl.lit(RANDOM).alias(RULE), layer=pl.lit(None, pl.Int64)).select(columns),
    )
    return (
        pl.concat(rules)
        .join(best.select(*by, best_layer="layer", best="score"), on=by)
        .join(data.variants.select(NUMBER, "base"), on=NUMBER)
        .select(*by, RULE, "layer", "best_layer", "base", regret=pl.col("best") - pl.col("score"))
    )


def _on_types(whole: pl.DataFrame, one: pl.DataFrame) -> pl.DataFrame:
    """The regrets on each type of tasks of the layers that were picked for all tasks."""
    by = [NUMBER, "task_type"]
    curves = whole.sort("task").group_by(*by, "layer", maintain_order=True).agg(pl.col("score").mean())
    best = best_of_each(curves, by).join(curves, on=[*by, "layer"]).select(*by, best_layer="layer", best="score")
    at_random = curves.sort("layer").group_by(by, maintain_order=True).agg(expected=pl.col("score").mean())
    picks = one.select(NUMBER, "base", RULE, "layer", "choice")
    found = best.join(at_random, on=by).join(picks, on=NUMBER).join(curves, on=[*by, "layer"], how="left")
    score = pl.when(pl.col(RULE) == RANDOM).then("expected").otherwise("score")
    return found.with_columns(regret=pl.col("best") - score)


def _means(frame: pl.DataFrame, by: Sequence[str], column: str) -> pl.DataFrame:
    """The mean over the types of tasks of the mean over the tasks of each, at every layer."""
    of_types = (
        frame.sort("task_type", "task")
        .group_by(*by, "task_type", "layer", maintain_order=True)
        .agg(pl.col(column).mean())
    )
    return of_types.group_by(*by, "layer", maintain_order=True).agg(pl.col(column).mean())


def _tuned(regrets: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """The regrets with those of the depth and of the criterion that did best on the other models.

    Args:
        regrets: Columns base, variant, criterion, regret and others.
        names: The criteria.
    """
    found = [regrets.with_columns(choice=pl.lit(None, pl.String))]
    for rule, candidates in ((TUNED_DEPTH, _DEPTHS), (TUNED_CRITERION, names)):
        of_candidates = regrets.filter(pl.col(RULE).is_in(candidates))
        means = of_models(of_candidates, [RULE]).pivot(RULE, index="base", values="regret")
        if means.height < 2 or len(candidates) < 2:
            continue
        numbers = means.select(candidates).to_numpy()
        chosen = [candidates[_lowest(np.delete(numbers, model, axis=0))] for model in range(len(numbers))]
        choices = means.select("base", pl.Series(RULE, chosen))
        tuned = of_candidates.join(choices, on=["base", RULE], how="semi", maintain_order="left")
        choice = candidates[_lowest(numbers)].removeprefix("depth:")
        found.append(tuned.with_columns(pl.lit(rule).alias(RULE), choice=pl.lit(choice)))
    return pl.concat(found)


def _lowest(numbers: np.ndarray) -> int:
    return int(numbers.mean(axis=0).round(DECIMALS).argmin())


def of_models(regrets: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """The mean regret of each model: over its revisions and recipes, of the mean within each."""
    mean = pl.col("regret").mean()
    within = regrets.sort("base", NUMBER, maintain_order=True).group_by(*by, "base", NUMBER, maintain_order=True)
    return within.agg(mean).group_by(*by, "base", maintain_order=True).agg(mean)
