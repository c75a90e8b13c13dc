"""Every single regret: of each rule, on each task, type of tasks and model. `regret` makes the table of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from leaderboard.analysis.grid import without_holes
from leaderboard.analysis.picking import best_of_each, last_layers
from leaderboard.analysis.rules import DEPTHS, NUMBER, PLACES, RULE, RULES, Evidence, Known, Rule
from leaderboard.analysis.variants import MODEL, VARIANT, Variant, with_recipe
from midlayer_embed.errors import InputError
from midlayer_embed.selection.criteria import OUTSIDE, metrics_of, needs_texts
from midlayer_embed.terms import RAW

READINGS = ("model", "type", "task")
BEST, RANDOM, TUNED_DEPTH, TUNED_CRITERION = "best", "random", "tuned-depth", "tuned-criterion"
# Regrets that differ by less are equal: sums of floats depend on their order.
DECIMALS = 9
# The metric that the number of texts belongs to.
_OF_TEXTS = metrics_of("half-and-drop")[0]


@dataclass(frozen=True)
class RegretData:
    """The numbers behind regrets.

    Attributes:
        variants: Columns variant, base, model, revision, template, transform, fitted_on, label, n_blocks, published,
            is_sentence_transformer, auto.
        scored: Finite scores in points, of tasks with at least two layers: variant, task, task_type, layer, score.
        values: Finite raw metrics where there is a score: the columns of `scored`, metric, value, n_texts.
        known: What else rules go by.
    """

    variants: pl.DataFrame
    scored: pl.DataFrame
    values: pl.DataFrame
    known: Known

    @classmethod
    def of(cls, scores: pl.DataFrame, metrics: pl.DataFrame, known: Known) -> "RegretData":
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
        texts = pl.DataFrame(
            [(*key, n) for key, n in known.n_texts.items()],
            schema={**dict.fromkeys((*MODEL, "task"), pl.String), "n_texts": pl.Int64},
            orient="row",
        )
        values = (
            metrics.filter(pl.col("normalization") == RAW, pl.col("value").is_finite())
            .join(texts, on=[*MODEL, "task"], how="left", maintain_order="left")
            .join(variants.select(*MODEL, NUMBER), on=MODEL)
            .join(scored, on=[NUMBER, "task", "layer"])
            .select(*scored.columns, "metric", "value", "n_texts")
        )
        found = [Variant(*row) for row in variants.select(VARIANT).iter_rows()]
        variants = variants.join(
            last_layers(of_variants, NUMBER).select(NUMBER, "n_blocks"), on=NUMBER, maintain_order="left"
        ).with_columns(
            pl.Series("label", [one.label(_name(one)) for one in found], pl.String),
            pl.Series("published", [None if one.template else known.published.get(one[:2]) for one in found], pl.Int64),
            pl.Series("is_sentence_transformer", [one[:2] in known.sentence_transformers for one in found], pl.Boolean),
            pl.Series("auto", [known.autos.get(one[:2]) for one in found], pl.String),
        )
        return cls(variants, scored, values, known)

    def compared(self, criteria: Sequence[str] | None, *, over_common: bool) -> list[str]:
        """The criteria to compare, each once, in the order of `RULES`.

        Where none is named, these are those that pick a layer anywhere. Over common tasks, one that knows only some of
        the models would leave the others out of all rows, so it is not among them.
        """
        if criteria is not None:
            for name in criteria:
                if self._picked[name].is_empty():
                    raise InputError(f"criteria: {name} {RULES[name].lacks}")
            return [name for name in RULES if name in criteria]
        names = [name for name in self.picking if name not in OUTSIDE]
        for name in OUTSIDE:
            wider = [*names, name]
            if name in self.picking and not (over_common and self._models_of(wider) < self._models_of(names)):
                names = wider
        return [name for name in RULES if name in names]

    @property
    def picking(self) -> list[str]:
        """The criteria that pick a layer for any task."""
        return [name for name, picked in self._picked.items() if not picked.is_empty()]

    @cached_property
    def of_tasks(self) -> Evidence:
        """What a layer is picked by for each task."""
        return self.evidence([NUMBER, "task"], self.scored, self.values)

    def evidence(self, by: list[str], layers: pl.DataFrame, values: pl.DataFrame) -> Evidence:
        """What a layer is picked by within each place.

        Args:
            by: The columns of a place.
            layers: Columns `by`, layer.
            values: Rows of `values`; metrics of several tasks of a place become means over the tasks without holes.
        """
        n_texts = values.filter(metric=_OF_TEXTS).unique([NUMBER, "task"], maintain_order=True)
        known = pl.when(pl.col("n_texts").null_count() == 0).then(pl.col("n_texts").sum())
        if "task" not in by:
            values = _means(without_holes(values, [NUMBER, "metric"]), [*by, "metric"], "value")
        return Evidence(
            by,
            layers.select(*by, "layer"),
            values.select(*by, "layer", "metric", "value"),
            n_texts.group_by(by, maintain_order=True).agg(n_texts=known),
            self.variants,
            self._proxy,
            self.known.proxies,
        )

    @cached_property
    def _picked(self) -> dict[str, pl.DataFrame]:
        """The layers that each criterion picks for each task."""
        return {name: rule.pick(self.of_tasks) for name, rule in RULES.items()}

    @cached_property
    def _proxy(self) -> pl.DataFrame:
        """The means over the proxy tasks, of the variants that have all of them."""
        proxies = list(self.known.proxies)
        of_proxies = self.scored.filter(pl.col("task").is_in(proxies))
        of_proxies = of_proxies.filter(pl.col("task").n_unique().over(NUMBER) == len(proxies))
        return _means(without_holes(of_proxies, [NUMBER]), [NUMBER], "score")

    def _models_of(self, names: Sequence[str]) -> set[int]:
        """The variants with a task of which all criteria pick a layer."""
        by = self.of_tasks.by
        picked = [self._picked[name].select(*by, pl.lit(name).alias(RULE)) for name in names]
        found = pl.concat([self.scored.clear().select(*by, pl.lit("").alias(RULE)), *picked])
        return set(_having_all(found, by, names, self.scored)[NUMBER])


def _name(variant: Variant) -> str | None:
    return None if variant.revision == "main" else f"{variant.model} ({variant.revision})"


def compare(data: RegretData, names: Sequence[str]) -> pl.DataFrame:
    """Every single regret of these criteria and of all their baselines, over what the criteria share.

    Returns:
        Columns reading, criterion, base, variant, on (the task or the type; null for the reading model), task_type,
        tasks (a list of those behind the score), layer, best_layer, regret, choice (what the rule took where its name
        does not say it), model, revision, template, transform, fitted_on.
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
        .filter(~pl.col(RULE).is_in(DEPTHS))
        .join(data.variants.select(NUMBER, *VARIANT), on=NUMBER, maintain_order="left")
    )


def _layer_per_task(data: RegretData, names: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The tasks that all criteria have, as columns variant and task, and the regrets of one layer for each of them."""
    at = data.of_tasks
    picked = _picks({name: RULES[name] for name in names}, at)
    shared = _having_all(picked, at.by, names, data.scored)
    picked = pl.concat([picked, _picks(PLACES, at)])
    scored, picked = (
        frame.join(shared, on=at.by, how="semi", maintain_order="left") for frame in (data.scored, picked)
    )
    return shared, _tuned(_regrets(scored, picked, data, at.by), names)


def _layer_per_model(data: RegretData, names: Sequence[str], shared: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The scores of the shared tasks without holes, and the regrets on their means of one layer for all of them."""
    whole = without_holes(data.scored.join(shared, on=[NUMBER, "task"], how="semi", maintain_order="left"), [NUMBER])
    whole = whole.filter(pl.col("layer").n_unique().over(NUMBER) > 1)
    values = data.values.join(whole, on=[NUMBER, "task", "layer"], how="semi", maintain_order="left")
    means = _means(whole, [NUMBER], "score")
    at = data.evidence([NUMBER], means, values)
    picked = _picks({name: RULES[name] for name in names}, at)
    have = _having_all(picked, at.by, names, whole)
    picked = pl.concat([picked, _picks(PLACES, at)])
    whole, means, picked = (
        frame.join(have, on=NUMBER, how="semi", maintain_order="left") for frame in (whole, means, picked)
    )
    return whole, _tuned(_regrets(means, picked, data, at.by), names)


def _picks(rules: Mapping[str, Rule], at: Evidence) -> pl.DataFrame:
    """The layer that each rule picks: columns `at.by`, criterion, layer, choice."""
    none = (
        at.layers.clear()
        .with_columns(pl.lit("").alias(RULE), choice=pl.lit(""))
        .select(*at.by, RULE, "layer", "choice")
    )
    picked = [rule.pick(at).with_columns(pl.lit(name).alias(RULE)).select(none.columns) for name, rule in rules.items()]
    return pl.concat([none, *picked])


def _having_all(picked: pl.DataFrame, by: Sequence[str], names: Sequence[str], scored: pl.DataFrame) -> pl.DataFrame:
    """The places where all criteria pick a layer; without criteria, all that have a score."""
    if not names:
        return scored.select(by).unique(maintain_order=True)
    return picked.group_by(by, maintain_order=True).len().filter(pl.col("len") == len(names)).select(by)


def _regrets(scored: pl.DataFrame, picked: pl.DataFrame, data: RegretData, by: Sequence[str]) -> pl.DataFrame:
    """The regret of every rule but those that are tuned: `by`, criterion, layer, best_layer, choice, base, regret.

    Args:
        scored: Columns `by`, layer, score.
        picked: The layers of rules: columns `by`, criterion, layer, choice.
        data: The variants.
        by: Within what a layer is picked.
    """
    curves = scored.select(*by, "layer", "score")
    best = best_of_each(curves, by).join(curves, on=[*by, "layer"])
    at_random = curves.sort(*by, "layer").group_by(by, maintain_order=True).agg(pl.col("score").mean())
    none = {"choice": pl.lit(None, pl.String)}
    columns = [*by, RULE, "layer", "score", "choice"]
    rules = (
        picked.join(curves, on=[*by, "layer"]).select(columns),
        best.with_columns(pl.lit(BEST).alias(RULE), **none).select(columns),
        at_random.with_columns(pl.lit(RANDOM).alias(RULE), layer=pl.lit(None, pl.Int64), **none).select(columns),
    )
    return (
        pl.concat(rules)
        .join(best.select(*by, best_layer="layer", best="score"), on=by)
        .join(data.variants.select(NUMBER, "base"), on=NUMBER)
        .select(*by, RULE, "layer", "best_layer", "choice", "base", regret=pl.col("best") - pl.col("score"))
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
        regrets: Columns base, variant, criterion, choice, regret and others.
        names: The criteria; those that measure texts are candidates.
    """
    found = [regrets]
    for rule, candidates in ((TUNED_DEPTH, DEPTHS), (TUNED_CRITERION, list(filter(needs_texts, names)))):
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
