"""Scores and metrics of models as tables, with all queries on them. Neither mteb nor torch is imported.

Result files are read by `load`, table files by `table_files`; `leaderboard.board` adds the writers.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import polars as pl

from leaderboard.analysis.association import associations
from leaderboard.analysis.layer_means import WHOLE, metric_curves, score_curves
from leaderboard.analysis.recipes import recipes
from leaderboard.analysis.regret import RegretComparison
from leaderboard.analysis.rules import Known
from leaderboard.analysis.schemes import SchemeComparison, Tasks
from leaderboard.analysis.variants import (
    IS_PLAIN,
    MODEL,
    RECIPE,
    VARIANT,
    RecipeKeywords,
    Variant,
    distinct,
    rows_of,
    variants_of,
    with_recipe,
)
from leaderboard.models.labels import of_layers, with_base, without_pooling
from leaderboard.models.origin import Origin, origin_by_name, with_recipe_of
from leaderboard.results.remarks import some_recipes
from leaderboard.results.schemas import METRICS_SCHEMA, SCORES_SCHEMA
from leaderboard.results.summary import LayerSummary
from leaderboard.tasks.names import starter_tasks
from midlayer_embed.errors import InputError
from midlayer_embed.layers import n_blocks_at
from midlayer_embed.recipes.names import asked_template, asked_transform
from midlayer_embed.terms import METRICS

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack


@dataclass(frozen=True)
class Tables:
    """Scores and metrics of models, layer by layer.

    A number that is not finite becomes null: it is missing in every mean and comparison.

    Attributes:
        scores: Columns model, revision, layer, depth, task, task_type, main_score (0..1, null where a layer was tried
            and has no score), and the recipe: template, transform, fitted_on (null for a plain layer).
        metrics: Columns model, revision, task, metric, normalization, layer, value.
        paper_scores: The scores that the paper reports, with the columns of `scores`, for the task types where these
            are not mteb's main scores. `configs/benchmarks/paper.yaml` names them.
        origins: How to load the models again, by (name, revision). Models from table files have none.
        reasons: Why a score is null, where known, by (model, revision, layer, task), followed by a recipe's columns.
        remarks: What a reader of the results has to know, one sentence each, such as results that were passed over.
        known: What rules of `regret` go by besides scores and metrics, as far as the results say it.
    """

    scores: pl.DataFrame
    metrics: pl.DataFrame
    paper_scores: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SCORES_SCHEMA))
    origins: Mapping[tuple[str, str], Origin] = field(default_factory=dict)
    reasons: Mapping[tuple[Any, ...], str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    known: Known = field(default_factory=Known)

    def __post_init__(self) -> None:
        for name in ("scores", "paper_scores"):
            object.__setattr__(self, name, with_recipe(getattr(self, name)))  # the class is frozen
        for name, column in (("scores", "main_score"), ("paper_scores", "main_score"), ("metrics", "value")):
            finite = pl.when(pl.col(column).is_finite()).then(column)
            object.__setattr__(self, name, getattr(self, name).with_columns(finite))

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

    @cached_property
    def plain(self) -> "Self":
        """The tables without the scores of any recipe: a layer of a model and nothing else."""
        scores, paper = (frame.filter(IS_PLAIN) for frame in (self.scores, self.paper_scores))
        return replace(self, scores=scores, paper_scores=paper)

    def variants(self) -> list[Variant]:
        """The models with each of their recipes; a plain layer is one of them."""
        return variants_of(self.scores)

    def variant_labels(self) -> dict[Variant, str]:
        """A label for each model and recipe, each another one: that of `labels`, and the recipe if it is not plain."""
        models = self.labels()
        return distinct({one: one.label(models[one.model, one.revision]) for one in self.variants()})

    def of_variant(self, variant: Variant) -> "Self":
        """The tables of one model with one recipe."""
        tables = self.only(variant.model, variant.revision)
        scores, paper = (rows_of(frame, [variant]) for frame in (tables.scores, tables.paper_scores))
        return replace(tables, scores=scores, paper_scores=paper)

    def find_variant(
        self,
        model: str | None = None,
        revision: str | None = None,
        *,
        template: str | None = None,
        transform: str | None = None,
        fitted_on: str | None = None,
    ) -> Variant:
        """One model with one recipe; without a recipe its plain layers, whether or not these were scored.

        A template or transform "none" is None, as in a sweep. The model may be omitted if there is only one, or if the
        recipe tells which of its poolings is meant.

        Raises:
            InputError: (a ValueError) no such model or recipe, or more than one; the message lists them.
        """
        recipe = asked_template(template), asked_transform(transform)
        if model is None:  # one model has several labels if its recipes have different poolings
            labels = [(label, of) for label, of in self.models() if revision in (None, of)]
            having = {one[:2] for one in self.variants() if one[2:4] == recipe}.intersection(labels)
            if len(having) == 1 and len({(without_pooling(label)[0], of) for label, of in labels}) == 1:
                ((model, revision),) = having
        name, which = self.find_model(model, revision)
        if (*recipe, fitted_on) == (None, None, None):
            return Variant(name, which)
        of_model = [one for one in self.variants() if one[:2] == (name, which)]
        found = [one for one in of_model if one[2:4] == recipe and fitted_on in (None, one.fitted_on)]
        if len(found) == 1:
            return found[0]
        asked = f"template={recipe[0]!r}, transform={recipe[1]!r}"
        if found:
            several = " or ".join(str(one.fitted_on) for one in found)
            raise InputError(f"fitted_on of {name}: expected {several}, with {asked}; got None")
        raise InputError(
            f"recipe of {name}: expected one of {some_recipes(of_model)}; got {asked}, fitted_on={fitted_on!r}"
        )

    def recipes(
        self,
        model: str | None = None,
        revision: str | None = None,
        tasks: Tasks = "available",
        per_type: bool = False,
    ) -> pl.DataFrame:
        """Compares the recipes of each model with its plain last layer, in points: one row per recipe.

        A recipe is template, pooling, transform, and what the transform was fitted on. The best recipe comes first and
        has `is_best`; one whose transform has seen the evaluated texts (`transductive`) comes last.

        Args:
            model: Only this model; its name without a pooling, as in the column model.
            revision: Only models of this revision.
            tasks: "available" or "common", see `leaderboard.analysis.recipes.recipes`, which also lists the columns.
            per_type: One row per recipe and type of tasks, in a column task_type.

        Raises:
            InputError: (a ValueError) no such model, or `tasks` is neither "available" nor "common".
        """
        scores = with_base(self.scores)
        if model is not None:
            scores = scores.filter(base=without_pooling(model)[0] if model in set(self.scores["model"]) else model)
        if revision is not None:
            scores = scores.filter(revision=revision)
        if scores.is_empty() and not self.scores.is_empty():
            self._refuse(model, revision)
        return recipes(scores, tasks, per_type)

    def layer_table(
        self,
        model: str | None = None,
        revision: str | None = None,
        *,
        template: str | None = None,
        transform: str | None = None,
        fitted_on: str | None = None,
    ) -> pl.DataFrame:
        """One row per layer of one model, scores in points.

        Args:
            model: Name of the model; optional if there is only one.
            revision: Revision of the model; optional if there is only one.
            template: Template of the recipe.
            transform: Transform of the recipe. Without template and transform, layers are plain; if no plain layer was
                scored, the table has no rows.
            fitted_on: What the transform was fitted on; optional if that leaves only one recipe.

        Returns:
            Columns layer, depth, mean, one per task, and the mean of each metric over the tasks that have it. The mean
            is null for a layer without a score for some task: means over different tasks are not comparable. Likewise,
            the mean of a metric is null at a layer where a task lacks it, if the task has it at another layer.

        Raises:
            InputError: (a ValueError) no such model or recipe, or more than one.
        """
        variant = self.find_variant(model, revision, template=template, transform=transform, fitted_on=fitted_on)
        of_variant = self.of_variant(variant)
        scores = of_variant.scores
        tasks = scores["task"].unique(maintain_order=True).to_list()
        means = score_curves(scores).select("layer", mean=pl.when(WHOLE).then("score"))
        layers = (
            scores.with_columns(pl.col("main_score") * 100)
            .pivot("task", index=["layer", "depth"], values="main_score", aggregate_function="mean")
            .join(means, on="layer", how="left")
            .select("layer", "depth", "mean", *tasks)
        )
        curves = metric_curves(scores, of_variant.metrics)
        if not curves.is_empty():
            names = [name for name in METRICS if name in set(curves["metric"])]
            wide = curves.with_columns(pl.when(WHOLE).then("value")).pivot("metric", index="layer", values="value")
            layers = layers.join(wide.select("layer", *names), on="layer", how="left")
        return layers.sort("layer")

    def no_scores(self) -> pl.DataFrame:
        """The layers that were tried on a task and have no score.

        Columns model, revision, layer, task, template, transform, fitted_on, reason.
        """
        key = ["model", "revision", "layer", "task", *RECIPE]
        found = self.scores.filter(pl.col("main_score").is_null()).select(key)
        reasons = [self.reasons.get(row) or self.reasons.get(row[:4], "NaN") for row in found.iter_rows()]
        return found.with_columns(reason=pl.Series(reasons, dtype=pl.String))

    def best_layer(
        self, model: str | None = None, revision: str | None = None, **recipe: "Unpack[RecipeKeywords]"
    ) -> int | None:
        """The layer with the highest mean over the tasks; the lowest one of a tie, None if no layer has all tasks.

        Args:
            model: Name of the model; optional if there is only one.
            revision: Revision of the model; optional if there is only one.
            **recipe: As for `layer_table`: template, transform, fitted_on. Without them, layers are plain.
        """
        complete = self.layer_table(model, revision, **recipe).filter(pl.col("mean").is_not_null())
        best_first = complete.sort("mean", "layer", descending=[True, False])["layer"]
        return None if best_first.is_empty() else int(best_first[0])

    def summary(
        self, model: str | None = None, revision: str | None = None, **recipe: "Unpack[RecipeKeywords]"
    ) -> LayerSummary | None:
        """The best layer, compared with the last one if that ran; None if no layer has all tasks.

        Args:
            model: Name of the model; optional if there is only one.
            revision: Revision of the model; optional if there is only one.
            **recipe: As for `layer_table`: template, transform, fitted_on. Without them, layers are plain.
        """
        layers = self.layer_table(model, revision, **recipe)
        best = self.best_layer(model, revision, **recipe)
        if best is None:
            return None
        means = dict(layers.select("layer", "mean").iter_rows())
        highest, depth = layers.select("layer", "depth").row(-1)
        n_blocks = n_blocks_at(highest, depth)
        last = highest if highest == n_blocks else None
        return LayerSummary(best, last, n_blocks, means[best], None if last is None else means[last], tuple(means))

    def schemes(
        self,
        model: str | None = None,
        revision: str | None = None,
        tasks: Tasks = "available",
        complete_only: bool = False,
        seed: int = 0,
    ) -> pl.DataFrame:
        """Compares ways to pick a layer, in points: one row per model, revision and recipe.

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

    def regret(
        self,
        model: str | None = None,
        revision: str | None = None,
        criteria: Sequence[str] | None = None,
        tasks: Tasks = "common",
        per_type: bool = False,
        seed: int = 0,
    ) -> pl.DataFrame:
        """What picking a layer without labels costs, in points: one row per reading and criterion, over all models.

        `leaderboard.analysis.regret.regret` describes the columns and the other arguments. A model or a revision leaves
        only models of that name. Sites within blocks are left out: only a layer can be picked.

        Raises:
            InputError: (a ValueError) no such model or criterion, or `tasks` is neither "common" nor "available".
        """
        return self.only(model, revision)._regrets.table(criteria, tasks, per_type, seed)

    def associations(
        self, model: str, revision: str = "main", per_task: bool = False, **recipe: "Unpack[RecipeKeywords]"
    ) -> pl.DataFrame:
        """How strongly each metric is associated with the score over the layers of a model.

        Args:
            model: Name of the model.
            revision: Revision of the model. For a model without a revision "main", such as a folder, "main" is the only
                one that there is.
            per_task: One row per metric and task instead of one per metric, see
                `leaderboard.analysis.association.associations`, which also lists the columns.
            **recipe: As for `layer_table`: template, transform, fitted_on. Without them, scores are of plain layers;
                metrics always are.

        Raises:
            InputError: (a ValueError) no such model or recipe, or several revisions of which none is "main".
        """
        given = None if revision == "main" and (model, "main") not in self.models() else revision
        tables = self.of_variant(self.find_variant(model, given, **recipe))
        return associations(tables.scores, tables.metrics, per_task)

    def only(self, model: str | None = None, revision: str | None = None) -> "Self":
        """The tables of the models with this name and revision; None matches any.

        Raises:
            InputError: (a ValueError) no such model.
        """
        asked = {key: value for key, value in (("model", model), ("revision", revision)) if value is not None}
        if not asked:
            return self
        scores, metrics, paper = (frame.filter(**asked) for frame in (self.scores, self.metrics, self.paper_scores))
        if scores.is_empty():
            self._refuse(model, revision)
        return replace(self, scores=scores, metrics=metrics, paper_scores=paper)

    def of_every_model(self, table: Callable[..., pl.DataFrame]) -> pl.DataFrame:
        """Stacks `table(model, revision, template=, transform=, fitted_on=)` of all models with each of their recipes.

        The columns model and revision come in front, and those of a recipe if there is one that is not plain.
        """
        variants = self.variants()
        named = MODEL if all(one.is_plain for one in variants) else VARIANT
        return pl.concat(
            [
                table(one.model, one.revision, **one.recipe()).select(
                    *(pl.lit(getattr(one, name), pl.String).alias(name) for name in named), pl.all()
                )
                for one in variants
            ],
            how="diagonal",
        )

    def origin(self, model: str, revision: str, template: str | None = None, transform: str | None = None) -> Origin:
        """How to load a model again, with a recipe; a model from table files is loaded by its name."""
        base, pooling = without_pooling(model)
        found = self.origins.get((model, revision)) or origin_by_name(base, revision, pooling)
        return with_recipe_of(found, template, transform, pooling)

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

    @cached_property
    def _regrets(self) -> RegretComparison:
        return RegretComparison(
            with_base(of_layers(self.scores)), self.metrics, replace(self.known, proxies=starter_tasks())
        )

    def _refuse(self, model: str | None, revision: str | None) -> NoReturn:
        names = ", ".join(f"{m} ({r})" for m, r in self.models()) or "none"
        raise InputError(f"model: expected one of {names}; got model={model!r}, revision={revision!r}")


def picked_layers(tables: Tables) -> pl.DataFrame:
    """The layer that each scheme picks for each task, see `SchemeComparison.picked_layers`; computed once."""
    return tables._comparison.picked_layers
