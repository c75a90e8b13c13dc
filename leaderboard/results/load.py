"""Reads the tables from a folder of results. Queries on them are in `tables`."""

from collections.abc import Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

import polars as pl
from mteb.models.model_meta import ModelMeta
from mteb.results import TaskResult

from leaderboard.config_files import read_config
from leaderboard.models.meta import model_label
from leaderboard.models.origin import Origin
from leaderboard.models.reload import origin_of
from leaderboard.results.arguments import check_results
from leaderboard.results.folder import ResultsFolder
from leaderboard.results.provenance import entries_of, provenance_of
from leaderboard.results.schemas import SCORES_SCHEMA
from leaderboard.results.tables import Tables

# Scores that the paper reports instead of mteb's main score, by task type.
_PAPER_SCORES: dict[str, list[str]] = read_config("benchmarks", "paper")["paper_scores"]


def read_results(results_dir: str | Path) -> Tables:
    """The results of every model in a folder: what `leaderboard.load_results` returns, without the writers.

    Args:
        results_dir: The `results_dir` of `run_sweep`.

    Returns:
        The tables; empty if no task is finished.

    Raises:
        InputError: (a ValueError) there is no such folder.
    """
    check_results(results_dir)
    folder = ResultsFolder(results_dir)
    rows: dict[str, list[tuple[Any, ...]]] = {"main": [], "paper": []}
    origins: dict[tuple[str, str], Origin] = {}
    for meta, result in folder.results():
        provenance = provenance_of(result)
        if provenance is not None:
            origins.setdefault((model_label(meta), str(meta.revision)), origin_of(meta, provenance))
            for kind, row in _score_rows(meta, result, provenance):
                rows[kind].append(row)
    scores, paper_scores = (
        pl.DataFrame(found, schema=SCORES_SCHEMA, orient="row").sort("model", "revision", "layer", maintain_order=True)
        for found in rows.values()
    )
    return Tables(scores, folder.metrics(), paper_scores, origins)


def _score_rows(
    meta: ModelMeta, result: TaskResult, provenance: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The row of the main score and, if the paper reports another score, the row of that score."""
    layer, n_blocks, task_type = (provenance[key] for key in ("layer", "n_blocks", "task_type"))
    head = (model_label(meta), meta.revision, layer, layer / n_blocks, result.task_name, task_type)
    yield "main", (*head, float(result.get_score()))
    for name in _PAPER_SCORES.get(task_type, []):
        if all(name in entry for entry in entries_of(result)):
            yield "paper", (*head, float(result.get_score(getter=itemgetter(name))))
            break
