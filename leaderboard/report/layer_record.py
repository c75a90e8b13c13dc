"""Everything that a results folder says of one layer of a model, for whoever shows or publishes that layer.

Read here; put into words elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from mteb.models.model_meta import ModelMeta
from mteb.results import TaskResult

from leaderboard.models.meta import model_label
from leaderboard.models.reload import Origin, origin_of
from leaderboard.results.folder import ResultsFolder
from leaderboard.results.provenance import provenance_of
from leaderboard.results.tables import Leaderboard, load_results
from midlayer_embed.errors import InputError
from midlayer_embed.layers import layer_number
from midlayer_embed.selection.representations import METRICS


@dataclass(frozen=True)
class LayerRecord:
    """What is known of a layer.

    Attributes:
        board: Of the whole folder.
        model: The model's name in its tables.
        revision: The model's revision there.
        layer: The layer.
        meta: What mteb was told of it.
        results: Its results, in the order of the tables' tasks.
    """

    board: Leaderboard
    model: str
    revision: str
    layer: int
    meta: ModelMeta
    results: tuple[TaskResult, ...]

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Of the first task. What it says of the model holds for all tasks; of data and versions it need not."""
        found = provenance_of(self.results[0])
        assert found is not None
        return found

    @property
    def n_blocks(self) -> int:
        """L."""
        return int(self.provenance["n_blocks"])

    @property
    def dim(self) -> int:
        """Width of a vector."""
        dim = self.meta.embed_dim
        assert isinstance(dim, int)
        return dim

    @property
    def limit(self) -> int | None:
        """Evaluated items that were kept of each split; None for all."""
        limit: int | None = self.provenance["limit"]
        return limit

    @property
    def layers(self) -> pl.DataFrame:
        """The model's layer table."""
        return self.board.layer_table(self.model, self.revision)

    @property
    def tasks(self) -> list[str]:
        """The tasks that any layer of the model was scored on."""
        return [name for name in self.layers.columns if name not in ("layer", "depth", "mean", *METRICS)]

    @property
    def best(self) -> int | None:
        """The layer with the highest mean score."""
        return self.board.best_layer(self.model, self.revision)

    @property
    def origin(self) -> Origin:
        """How the model is loaded again."""
        return origin_of(self.meta, self.provenance)


def find_layer(
    results_dir: str | Path,
    model: str | None = None,
    layer: int | float | None = None,
    *,
    revision: str | None = None,
) -> LayerRecord:
    """Reads what a results folder says of one layer.

    Args:
        results_dir: What was given to `run_sweep`.
        model: The model's name in its tables; may be left out where there is only one.
        layer: A layer or depth that was scored. None: the best, by the mean over the tasks.
        revision: The model's; may be left out where there is only one.

    Raises:
        InputError: (a ValueError) no such folder, model or layer; the message names those there are.
    """
    board = load_results(results_dir)
    name, which = board.find_model(model, revision)
    every = [
        (provenance, meta, result)
        for meta, result in ResultsFolder(results_dir).results()
        if (model_label(meta), meta.revision) == (name, which) and (provenance := provenance_of(result)) is not None
    ]
    number = board.best_layer(name, which) if layer is None else layer_number(layer, every[0][0]["n_blocks"])
    if number is None:
        raise InputError(f"layer: no layer of {name} has all tasks, so none is best; expected one to be named")
    found = {result.task_name: (meta, result) for provenance, meta, result in every if provenance["layer"] == number}
    layers = board.layer_table(name, which)
    if not found:
        there = ", ".join(map(str, layers["layer"]))
        raise InputError(f"layer: expected one that was scored ({there}), got {layer}")
    metas, results = zip(*(found[task] for task in layers.columns if task in found), strict=True)
    return LayerRecord(board, name, which, number, metas[0], results)
