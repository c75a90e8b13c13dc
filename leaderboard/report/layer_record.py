"""Reads everything that a results folder holds about one layer of a model. Does not format or publish it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from mteb.models.model_meta import ModelMeta
from mteb.results import TaskResult

from leaderboard.analysis.variants import RecipeKeywords, Variant
from leaderboard.models.labels import model_label
from leaderboard.models.origin import Origin
from leaderboard.models.reload import origin_of
from leaderboard.results.files.folder import ResultsFolder
from leaderboard.results.load import read_results
from leaderboard.results.provenance import provenance_of, recipe_of
from leaderboard.results.remarks import said_of_nothing, some_recipes
from leaderboard.results.tables import Tables
from leaderboard.tasks.names import OTHER_COLUMNS
from midlayer_embed.errors import InputError
from midlayer_embed.layers import check_is_layer, layer_number
from midlayer_embed.options import fold

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True)
class LayerRecord:
    """Results and metadata of one layer.

    Attributes:
        board: Leaderboard of the whole results folder.
        model: Model name in the tables.
        revision: Model revision in the tables.
        layer: Layer index.
        meta: mteb's metadata of the layer.
        results: Results of the layer, in the task order of the tables.
        template: Template of the recipe.
        transform: Transform of the recipe.
        fitted_on: What the transform was fitted on.
    """

    board: Tables
    model: str
    revision: str
    layer: int
    meta: ModelMeta
    results: tuple[TaskResult, ...]
    template: str | None = None
    transform: str | None = None
    fitted_on: str | None = None

    @property
    def variant(self) -> Variant:
        """The model with its recipe."""
        return Variant(self.model, self.revision, self.template, self.transform, self.fitted_on)

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Provenance of the first task. Model fields are the same for all tasks; data and versions may differ."""
        first = provenance_of(self.results[0])
        assert first is not None
        return first

    @property
    def n_blocks(self) -> int:
        """Number of blocks of the model, L."""
        return int(self.provenance["n_blocks"])

    @property
    def dim(self) -> int:
        """Embedding dimension."""
        dim = self.meta.embed_dim
        assert isinstance(dim, int)
        return dim

    @property
    def is_comparable(self) -> bool:
        """Whether the scores are of whole tasks, by vectors that have not seen the evaluated texts before."""
        return self.limit is None and not self.variant.is_transductive

    @property
    def limit(self) -> int | None:
        """Maximum number of evaluated items per split; None for all."""
        limit: int | None = self.provenance["limit"]
        return limit

    @property
    def layers(self) -> pl.DataFrame:
        """Layer table of the model with the recipe."""
        return self.board.layer_table(self.model, self.revision, **self.variant.recipe())

    @property
    def tasks(self) -> list[str]:
        """Tasks with a score for any layer of the model."""
        return [name for name in self.layers.columns if name not in OTHER_COLUMNS]

    @property
    def no_scores(self) -> pl.DataFrame:
        """The tasks on which the layer has no score, with the reasons; see `Tables.no_scores`."""
        return self.board.of_variant(self.variant).no_scores().filter(layer=self.layer)

    @property
    def best(self) -> int | None:
        """Layer with the highest mean score; None if no layer has all tasks."""
        return self.board.best_layer(self.model, self.revision, **self.variant.recipe())

    @property
    def origin(self) -> Origin:
        """Name and settings that load the model again."""
        origin, recipe = origin_of(self.meta, self.provenance), self.variant.recipe()
        own = {name: recipe[name] for name in ("template", "transform") if recipe[name] is not None}
        others = {name: value for name, value in origin.settings.items() if name not in recipe}
        return replace(origin, settings={**others, **own})


def find_layer(
    results_dir: str | Path,
    model: str | None = None,
    layer: int | float | None = None,
    *,
    revision: str | None = None,
    **recipe: "Unpack[RecipeKeywords]",
) -> LayerRecord:
    """Read the results of one layer.

    Args:
        results_dir: Results folder of `run_sweep`.
        model: Model name in the tables; optional if there is only one model.
        layer: A layer or depth that was scored. None: the layer with the best mean score over the tasks.
        revision: Revision of the model; optional if there is only one.
        **recipe: template, transform and fitted_on, as for `Tables.layer_table`. Without them, the layer is plain, or
            of the only recipe if no plain layer was scored.

    Raises:
        InputError: (a ValueError) if there is no such folder, model, recipe or layer; the message lists what there is.
            Or the results are of a site within blocks, which cannot be saved.
    """
    board = read_results(results_dir)
    if board.scores.is_empty():
        raise InputError(said_of_nothing(results_dir, board.remarks))
    variant = _find_variant(board, model, revision, recipe)
    name, which = variant[:2]
    every = [
        (provenance, meta, result)
        for meta, result in ResultsFolder(results_dir).results()
        if (model_label(meta), meta.revision) == (name, which)
        and (provenance := provenance_of(result)) is not None
        and recipe_of(provenance) == variant[2:]
    ]
    best = board.best_layer(name, which, **variant.recipe())
    number = best if layer is None else layer_number(layer, every[0][0]["n_blocks"])
    if number is None:
        raise InputError(f"layer: no layer of {variant.label()} has all tasks, so there is no best layer; pass a layer")
    by_task = {result.task_name: (meta, result) for provenance, meta, result in every if provenance["layer"] == number}
    layers = board.layer_table(name, which, **variant.recipe())
    check_is_layer(fold(every[0][0])[1].site, "the subject of a card")
    if not by_task:
        scored = ", ".join(map(str, layers["layer"]))
        raise InputError(f"layer: expected a scored layer ({scored}), got {layer}")
    metas, results = zip(*(by_task[task] for task in layers.columns if task in by_task), strict=True)
    return LayerRecord(board, name, which, number, metas[0], results, *variant[2:])


def _find_variant(board: Tables, model: str | None, revision: str | None, recipe: RecipeKeywords) -> Variant:
    variant = board.find_variant(model, revision, **recipe)
    found = [one for one in board.variants() if one[:2] == variant[:2]]
    if variant in found:
        return variant
    if len(found) > 1:
        names = some_recipes(found)
        raise InputError(f"recipe of {variant.model}: no plain layer was scored; pass template, transform of {names}")
    return found[0]
