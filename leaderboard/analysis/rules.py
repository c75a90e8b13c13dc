"""The rules of a table of regrets: which layer each picks without the labels that it is judged by, and what that costs.

`RULES` has the criteria, `PLACES` those that measure nothing. A rule picks among the layers that have a score.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from leaderboard.analysis.picking import best_of_each, by_criteria, nearest
from midlayer_embed.selection.criteria import (
    AUTO,
    COMBINED,
    CRITERIA,
    GUESS,
    LEAST_TEXTS,
    auto_takes,
    fixed_layer,
    metrics_of,
)
from midlayer_embed.terms import METRIC_TABLE

# A model and revision with one recipe, as a number; what is picked.
NUMBER, RULE = "variant", "criterion"
# Whose labels a rule needs, from the cheapest to the dearest.
LABELS = ("none", "other models", "other tasks", "published", "own")


@dataclass(frozen=True)
class Known:
    """What rules go by besides the scores and metrics of the tasks that they are judged on.

    Attributes:
        published: The best layer by published scores, by (model, revision), where there are such scores. They are of
            plain texts: with a template, none are known.
        sentence_transformers: The models, as (model, revision), that are sentence-transformers models.
        n_texts: The number of different texts of two words or more that the metrics of views of words were measured
            on, at most, by (model, revision, task); where it is not known, it counts as enough.
        proxies: The tasks whose labels `proxy` goes by.
        autos: What "auto" takes for an architecture, whatever its texts, by (model, revision): of image encoders.
    """

    published: Mapping[tuple[str, str], int] = field(default_factory=dict)
    sentence_transformers: Collection[tuple[str, str]] = ()
    n_texts: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    proxies: Collection[str] = ()
    autos: Mapping[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """What a layer is picked by, within each place of `by`: a variant, or a variant and a task.

    Attributes:
        by: The columns of a place; the first one is NUMBER.
        layers: The layers that have a score: columns `by`, layer.
        values: Finite raw metrics at these layers: columns `by`, layer, metric, value.
        n_texts: Texts behind the metrics of views of words: columns `by`, n_texts, which is null if not known.
        variants: Columns variant, label, n_blocks, published (null if not known), is_sentence_transformer, auto (null
            if it depends on the texts).
        proxy: Mean scores of the proxy tasks: columns variant, layer, score.
        proxies: The proxy tasks, which `proxy` picks no layer for.
    """

    by: list[str]
    layers: pl.DataFrame
    values: pl.DataFrame
    n_texts: pl.DataFrame
    variants: pl.DataFrame
    proxy: pl.DataFrame
    proxies: Collection[str]


class Rule(Protocol):
    """A way to pick a layer."""

    @property
    def passes(self) -> int:
        """Forward passes over each text; 0 if no texts are needed."""

    @property
    def labels(self) -> str:
        """One of `LABELS`."""

    @property
    def lacks(self) -> str:
        """What is missing where the rule picks no layer at all, in words that follow its name."""

    def pick(self, at: Evidence) -> pl.DataFrame:
        """Columns `at.by`, layer, choice: the layer, and what the rule took where its name does not say it, or null."""


def _chosen(picked: pl.DataFrame, at: Evidence, choice: pl.Expr | None = None) -> pl.DataFrame:
    said = pl.lit(None, pl.String) if choice is None else choice
    return picked.select(*at.by, "layer", choice=said)


@dataclass(frozen=True)
class _Measured:
    """The layer at one end of a metric, or of the mean of several."""

    name: str
    labels: str = "none"

    @property
    def passes(self) -> int:
        # Metrics of the same views share the passes over them.
        views = {METRIC_TABLE[metric].views: max(1, METRIC_TABLE[metric].n_views) for metric in metrics_of(self.name)}
        return sum(views.values())

    @property
    def lacks(self) -> str:
        metrics = metrics_of(self.name)
        kind = "metric" if len(metrics) == 1 else "metrics"
        return f"goes by the {kind} {' and '.join(metrics)}, which no task with scores has"

    def pick(self, at: Evidence) -> pl.DataFrame:
        return _chosen(by_criteria(at.values, at.by, [self.name]), at)


@dataclass(frozen=True)
class _Place:
    """The layer at a place of the model, or the nearest one that has a score."""

    criterion: str
    passes: int = 0
    labels: str = "none"
    lacks: str = "finds no layer with a score"

    def pick(self, at: Evidence) -> pl.DataFrame:
        wanted = pl.Series(
            [fixed_layer(self.criterion, n_blocks or 1).layer for n_blocks in at.variants["n_blocks"]], dtype=pl.Int64
        )
        places = at.variants.select(NUMBER, "label", "n_blocks", wanted=wanted)
        words = pl.format("layer {} of {} of {}", "layer", "n_blocks", "label")
        return _chosen(nearest(at.layers, places, at.by), at, pl.when(pl.col("layer") != pl.col("wanted")).then(words))


@dataclass(frozen=True)
class _Published:
    """The best layer by published scores of the model, or the nearest one that has a score."""

    passes: int = 0
    labels: str = "published"
    lacks: str = "knows no scores of any model here"

    def pick(self, at: Evidence) -> pl.DataFrame:
        known = at.variants.select(NUMBER, wanted="published").drop_nulls()
        return _chosen(nearest(at.layers, known, at.by), at)


@dataclass(frozen=True)
class _Proxy:
    """The best layer by the mean score of the proxy tasks. It picks none for these tasks: it has seen their labels."""

    passes: int = 0
    labels: str = "other tasks"
    lacks: str = "goes by the starter benchmark, and no model has scores of all of its tasks and of another one"

    def pick(self, at: Evidence) -> pl.DataFrame:
        layers = at.layers
        if "task" in at.by:
            layers = layers.filter(~pl.col("task").is_in(list(at.proxies)))
        return _chosen(best_of_each(layers.join(at.proxy, on=[NUMBER, "layer"]), at.by), at)


@dataclass(frozen=True)
class _Auto:
    """What "auto" takes for the model and its texts; the metrics that it needs count as too few texts if missing."""

    passes: int = 0  # what it takes says more: see `cost`
    labels: str = "none"
    lacks: str = "finds no layer with a score"

    def pick(self, at: Evidence) -> pl.DataFrame:
        of_architectures = at.variants["auto"].drop_nulls().unique().sort().to_list()
        kinds = dict.fromkeys(("last", "half-and-drop", "published", GUESS, *of_architectures))
        picked = pl.concat(
            [(RULES.get(kind) or PLACES[kind]).pick(at).with_columns(choice=pl.lit(kind)) for kind in kinds]
        )
        facts = (
            picked.group_by(at.by, maintain_order=True)
            .agg(kinds="choice")
            .join(at.n_texts, on=at.by, how="left", maintain_order="left")
            .join(at.variants, on=NUMBER, how="left", maintain_order="left")
        )
        taken = [
            row["auto"]
            or auto_takes(
                (LEAST_TEXTS if row["n_texts"] is None else row["n_texts"]) if "half-and-drop" in row["kinds"] else 0,
                is_sentence_transformer=row["is_sentence_transformer"],
                is_published=lambda found=row["kinds"]: "published" in found,  # type: ignore[misc]
            )
            for row in facts.iter_rows(named=True)
        ]
        chosen = facts.select(at.by).with_columns(choice=pl.Series(taken, dtype=pl.String))
        return _chosen(
            picked.join(chosen, on=[*at.by, "choice"], how="semi", maintain_order="left"), at, pl.col("choice")
        )


# The criteria, in the order of the tables where regrets tie.
RULES: dict[str, Rule] = {
    AUTO: _Auto(),
    **{name: _Measured(name) for name in (*CRITERIA, *COMBINED)},
    "proxy": _Proxy(),
    "published": _Published(),
}
# Rules that measure nothing. Of those that a table shows, the nearest layer that has a score is taken.
SHOWN_PLACES = ("depth:0.8", "depth:0.7", "middle", "last", "first")
DEPTHS = tuple(f"depth:{step / 20:.2f}" for step in range(21))
PLACES: dict[str, Rule] = {name: _Place("depth:0" if name == "first" else name) for name in (*SHOWN_PLACES, *DEPTHS)}


def cost(rule: str, choices: Collection[str] = ()) -> tuple[bool, int, str]:
    """What a rule needs: whether texts, how many forward passes over each, and whose labels.

    Args:
        rule: Its name.
        choices: What it took, if it takes other rules; the dearest counts.

    Example:
        >>> cost("min-dime"), cost("last"), cost("auto", ["half-and-drop", "last"])
        ((True, 2, 'none'), (False, 0, 'none'), (True, 4, 'none'))
    """
    known = {**RULES, **PLACES}
    taken = [known[name] for name in (rule, *choices) if name in known]
    passes = max((one.passes for one in taken), default=0)
    labels = max((one.labels for one in taken), default=LABELS[0], key=LABELS.index)
    return passes > 0, passes, labels
