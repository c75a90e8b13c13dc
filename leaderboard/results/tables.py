"""Scores and metrics of models as tables, with all queries on them. Neither mteb nor torch is imported.

Result files are read by `load`, table files by `table_files`; `leaderboard.board` adds the writers.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn

import polars as pl

from leaderboard.analysis.association import associations
from leaderboard.analysis.layer_means import WHOLE, metric_curves, score_curves
from leaderboard.analysis.schemes import SchemeComparison, Tasks
from leaderboard.models.origin import Origin, origin_by_name
from leaderboard.results.schemas import METRICS_SCHEMA, SCORES_SCHEMA
from midlayer_embed.errors import InputError
from midlayer_embed.layers import layer_list, n_blocks_at
from midlayer_embed.terms import METRICS

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class LayerSummary:
    """The best layer of a model, compared with the last one if that ran.

    Attributes:
        best: The layer with the highest mean over the tasks, among the layers that have a score for every task.
        last: L, the layer after the last block; None if it did not run.
        n_blocks: L, the number of blocks of the model.
        best_score: Mean score of the best layer, in points.
        last_score: Mean score of the last layer; None if it did not run or has no score for some task.
        layers: The layers that ran.
    """

    best: int
    last: int | None
    n_blocks: int
    best_score: float
    last_score: float | None
    layers: tuple[int, ...]

    @property
    def gain(self) -> float | None:
        """Mean score of the best layer minus that of the last, in points; None if there is none of the last."""
        return None if self.last_score is None else self.best_score - self.last_score

    def __str__(self) -> str:
        share = self.best / self.n_blocks
        place, blocks = f"layer {self.best} (depth {share:.2f})", f"{share:.0%} of the blocks"
        if len(self.layers) == 1:
            which = "the last one, " if self.last is not None else ""
            return f"only {place} ran, {which}{blocks}"
        if self.last is None:
            ran = f"best of the layers that ran ({layer_list(self.layers)})"
            return f"{ran}: {place}, {blocks}; the last layer did not run"
        if self.best == self.last:
            return f"best {place}, the last one"
        if self.gain is None:
            return f"best {place}, {blocks}; the last layer has no score for some of the tasks"
        return f"best {place}: {self.gain:+.1f} points over the last layer, {blocks}"


@dataclass(frozen=True)
class Tables:
    """Scores and metrics of models, layer by layer.

    A number that is not finite becomes null: it is missing in every mean and comparison.

    Attributes:
        scores: Columns model, revision, layer, depth, task, task_type, main_score (0..1, null where a layer was tried
            and has no score).
        metrics: Columns model, revision, task, metric, normalization, layer, value.
        paper_scores: The scores that the paper reports, with the columns of `scores`, for the task types where these
            are not mteb's main scores. `configs/benchmarks/paper.yaml` names them.
        origins: How to load the models again, by (name, revision). Models from table files have none.
        reasons: Why a score is null, by (model, revision, layer, task), where that is known.
        remarks: What a reader of the results has to know, one sentence each, such as results that were passed over.
    """

    scores: pl.DataFrame
    metrics: pl.DataFrame
    paper_scores: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SCORES_SCHEMA))
    origins: Mapping[tuple[str, str], Origin] = field(default_factory=dict)
    reasons: Mapping[tuple[str, str, int, str], str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, column in (("scores", "main_score"), ("paper_scores", "main_score"), ("metrics", "value")):
            finite = pl.when(pl.col(column).is_finite()).then(column)
            object.__setattr__(self, name, getattr(self, name).with_columns(finite))  # the class is frozen

    @classmethod
    def empty(cls) -> "Self":
        """Tables without rows."""
        return cls(pl.DataFrame(schema=SCORES_SCHEMA), pl.DataFrame(schema=METRICS_SCHEMA))

    def models(self) -> list[tuple[str, str]]:
        """The models, as (name, revision)."""
        return list(self.scores.select("model", "revision").unique(maintain_order=True).iter_rows())

    def labels(self) -> dict[tuple[str, str], str]:
        """A label for each model: its name, followed by the revision if there are several revisions of it."""
        models = self.models()
        several = {name for name, count in Counter(name for name, _ in models).items() if count > 1}
        return {(name, revision): f"{name} ({revision})" if name in several else name for name, revision in models}

    def layer_table(self, model: str | None = None, revision: str | None = None) -> pl.DataFrame:
        """One row per layer of one model, scores in points.

        Args:
            model: Name of the model; optional if there is only one.
            revision: Revision of the model; optional if there is only one.

        Returns:
            Columns layer, depth, mean, one per task, and the mean of each metric over the tasks that have it. The mean
            is null for a layer without a score for some task: means over different tasks are not comparable. Likewise,
            the mean of a metric is null at a layer where a task lacks it, if the task has it at another layer.

        Raises:
            InputError: (a ValueError) no such model, or more than one.
        """
        name, which = self.find_model(model, revision)
        here = (pl.col("model") == name) & (pl.col("revision") == which)
        scores = self.scores.filter(here)
        tasks = scores["task"].unique(maintain_order=True).to_list()
        means = score_curves(scores).select("layer", mean=pl.when(WHOLE).then("score"))
        layers = (
            scores.with_columns(pl.col("main_score") * 100)
            .pivot("task", index=["layer", "depth"], values="main_score", aggregate_function="mean")
            .join(means, on="layer", how="left")
            .select("layer", "depth", "mean", *tasks)
        )
        curves = metric_curves(scores, self.metrics.filter(here))
        if not curves.is_empty():
            names = [name for name in METRICS if name in set(curves["metric"])]
            wide = curves.with_columns(pl.when(WHOLE).then("value")).pivot("metric", index="layer", values="value")
            layers = layers.join(wide.select("layer", *names), on="layer", how="left")
        return layers.sort("layer")

    def no_scores(self) -> pl.DataFrame:
        """The layers that were tried on a task and have no score: model, revision, layer, task, reason."""
        found = self.scores.filter(pl.col("main_score").is_null()).select("model", "revision", "layer", "task")
        reasons = [self.reasons.get(key, "NaN") for key in found.iter_rows()]  # type: ignore[call-overload]
        return found.with_columns(reason=pl.Series(reasons, dtype=pl.String))

    def best_layer(self, model: str | None = None, revision: str | None = None) -> int | None:
        """The layer with the highest mean over the tasks; the lowest one of a tie, None if no layer has all tasks."""
        complete = self.layer_table(model, revision).filter(pl.col("mean").is_not_null())
        best_first = complete.sort("mean", "layer", descending=[True, False])["layer"]
        return None if best_first.is_empty() else int(best_first[0])

    def summary(self, model: str | None = None, revision: str | None = None) -> LayerSummary | None:
        """The best layer, compared with the last one if that ran; None if no layer has all tasks."""
        layers = self.layer_table(model, revision)
        best = self.best_layer(model, revision)
        if best is None:
            return None
        means = dict(layers.select("layer", "mean").iter_rows())
        highest, depth = layers.select("layer", "depth").row(-1)
        n_blocks = n_blocks_at(highest, depth)
        last = highest if highest == n_blocks else None
        last_score = None if last is None else means[last]
        return LayerSummary(best, last, n_blocks, means[best], last_score, tuple(means))

    def schemes(
        self,
        model: str | None = None,
        revision: str | None = None,
        tasks: Tasks = "available",
        complete_only: bool = False,
        seed: int = 0,
    ) -> pl.DataFrame:
        """Compares ways to pick a layer, in points: one row per model and revision.

        Args:
            model: Only models of this name.
            revision: Only models of this revision.
            tasks: "available" or "common", see `leaderboard.analysis.schemes.schemes`, which also lists the columns.
            complete_only: Whether the best layer must have a score for every task.
            seed: Seed of the bootstrap resamples.

        Raises:
            InputError: (a ValueError) no such model, or `tasks` is neither "available" nor "common".
        """
        return self.only(model, revision)._comparison.table(tasks, complete_only, seed)

    def associations(self, model: str, revision: str = "main", per_task: bool = False) -> pl.DataFrame:
        """How strongly each metric is associated with the score over the layers of a model.

        Args:
            model: Name of the model.
            revision: Revision of the model. For a model without a revision "main", such as a folder, "main" is the only
                one that there is.
            per_task: One row per metric and task instead of one per metric, see
                `leaderboard.analysis.association.associations`, which also lists the columns.

        Raises:
            InputError: (a ValueError) no such model, or several revisions of which none is "main".
        """
        given = None if revision == "main" and (model, "main") not in self.models() else revision
        tables = self.only(*self.find_model(model, given))
        return associations(tables.scores, tables.metrics, per_task)

    def only(self, model: str | None = None, revision: str | None = None) -> "Self":
        """The tables of the models with this name and revision; None matches any.

        Raises:
            InputError: (a ValueError) no such model.
        """
        given = {"model": model, "revision": revision}
        asked = {column: value for column, value in given.items() if value is not None}
        if not asked:
            return self
        scores, metrics, paper = (frame.filter(**asked) for frame in (self.scores, self.metrics, self.paper_scores))
        if scores.is_empty():
            self._refuse(model, revision)
        return replace(self, scores=scores, metrics=metrics, paper_scores=paper)

    def of_every_model(self, table: Callable[[str, str], pl.DataFrame]) -> pl.DataFrame:
        """Stacks `table(model, revision)` of all models, with the columns model and revision in front."""
        return pl.concat(
            [
                table(model, revision).select(
                    pl.lit(model).alias("model"), pl.lit(revision).alias("revision"), pl.all()
                )
                for model, revision in self.models()
            ],
            how="diagonal",
        )

    def origin(self, model: str, revision: str) -> Origin:
        """How to load a model again; a model from table files is loaded by its name."""
        return self.origins.get((model, revision)) or origin_by_name(model, revision)

    def find_model(self, model: str | None = None, revision: str | None = None) -> tuple[str, str]:
        """Name and revision of one model; either may be omitted if that leaves only one model.

        Raises:
            InputError: (a ValueError) no such model, or more than one; the message lists the models.
        """
        found = [(m, r) for m, r in self.models() if model in (None, m) and revision in (None, r)]
        if len(found) != 1:
            self._refuse(model, revision)
        return found[0]

    @cached_property
    def _comparison(self) -> SchemeComparison:
        return SchemeComparison(self.scores, self.metrics)

    def _refuse(self, model: str | None, revision: str | None) -> NoReturn:
        names = ", ".join(f"{m} ({r})" for m, r in self.models()) or "none"
        raise InputError(f"model: expected one of {names}; got model={model!r}, revision={revision!r}")


def picked_layers(tables: Tables) -> pl.DataFrame:
    """The layer that each scheme picks for each task, see `SchemeComparison.picked_layers`; computed once."""
    return tables._comparison.picked_layers
