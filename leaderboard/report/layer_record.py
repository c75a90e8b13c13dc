"""Reads everything that a results folder holds about one layer of a model. Does not format or publish it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from mteb.models.model_meta import ModelMeta
from mteb.results import TaskResult

from leaderboard.models.meta import model_label
from leaderboard.models.origin import Origin
from leaderboard.models.reload import origin_of
from leaderboard.results.folder import ResultsFolder
from leaderboard.results.load import read_results
from leaderboard.results.provenance import provenance_of
from leaderboard.results.remarks import said_of_nothing
from leaderboard.results.tables import Tables
from leaderboard.tasks.names import OTHER_COLUMNS
from midlayer_embed.errors import InputError
from midlayer_embed.layers import layer_number


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
    """

    board: Tables
    model: str
    revision: str
    layer: int
    meta: ModelMeta
    results: tuple[TaskResult, ...]

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
    def limit(self) -> int | None:
        """Maximum number of evaluated items per split; None for all."""
        limit: int | None = self.provenance["limit"]
        return limit

    @property
    def layers(self) -> pl.DataFrame:
        """Layer table of the model."""
        return self.board.layer_table(self.model, self.revision)

    @property
    def tasks(self) -> list[str]:
        """Tasks with a score for any layer of the model."""
        return [name for name in self.layers.columns if name not in OTHER_COLUMNS]

    @property
    def no_scores(self) -> pl.DataFrame:
        """The tasks on which the layer has no score, with the reasons; see `Tables.no_scores`."""
        here = {"model": self.model, "revision": self.revision, "layer": self.layer}
        return self.board.no_scores().filter(**here)

    @property
    def best(self) -> int | None:
        """Layer with the highest mean score; None if no layer has all tasks."""
        return self.board.best_layer(self.model, self.revision)

    @property
    def origin(self) -> Origin:
        """Name and settings that load the model again."""
        return origin_of(self.meta, self.provenance)


def find_layer(
    results_dir: str | Path,
    model: str | None = None,
    layer: int | float | None = None,
    *,
    revision: str | None = None,
) -> LayerRecord:
    """Read the results of one layer.

    Args:
        results_dir: Results folder of `run_sweep`.
        model: Model name in the tables; optional if there is only one model.
        layer: A layer or depth that was scored. None: the layer with the best mean score over the tasks.
        revision: Revision of the model; optional if there is only one.

    Raises:
        InputError: (a ValueError) if there is no such folder, model or layer; the message lists the available ones.
    """
    board = read_results(results_dir)
    if board.scores.is_empty():
        raise InputError(said_of_nothing(results_dir, board.remarks))
    name, which = board.find_model(model, revision)
    every = [
        (provenance, meta, result)
        for meta, result in ResultsFolder(results_dir).results()
        if (model_label(meta), meta.revision) == (name, which) and (provenance := provenance_of(result)) is not None
    ]
    number = board.best_layer(name, which) if layer is None else layer_number(layer, every[0][0]["n_blocks"])
    if number is None:
        raise InputError(f"layer: no layer of {name} has all tasks, so there is no best layer; pass a layer")
    by_task = {result.task_name: (meta, result) for provenance, meta, result in every if provenance["layer"] == number}
    layers = board.layer_table(name, which)
    if not by_task:
        scored = ", ".join(map(str, layers["layer"]))
        raise InputError(f"layer: expected a scored layer ({scored}), got {layer}")
    metas, results = zip(*(by_task[task] for task in layers.columns if task in by_task), strict=True)
    return LayerRecord(board, name, which, number, metas[0], results)
