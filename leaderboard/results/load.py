"""Reads the tables from a folder of results. Queries on them are in `tables`."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from leaderboard.config_files import read_config
from leaderboard.models.labels import model_label
from leaderboard.models.origin import Origin
from leaderboard.models.reload import origin_of
from leaderboard.results.arguments import check_results
from leaderboard.results.files.folder import ResultsFolder
from leaderboard.results.files.stored import StoredMeta, StoredResult
from leaderboard.results.known import known_by_provenance
from leaderboard.results.provenance import entries_of, provenance_of, recipe_of
from leaderboard.results.remarks import (
    said_of_no_scores,
    said_of_other_data,
    said_of_other_fits,
    said_of_passed_over,
    some_names,
)
from leaderboard.results.schemas import METRICS_SCHEMA, SCORES_SCHEMA
from leaderboard.results.scores import reason_of_no_score, score_of
from leaderboard.results.tables import Tables

# Scores that the paper reports instead of mteb's main score, by task type.
_PAPER_SCORES: dict[str, list[str]] = read_config("benchmarks", "paper")["paper_scores"]

_FITS = {
    **dict.fromkeys(("model", "task"), pl.String),
    "layer": pl.Int64,
    "fitted_on": pl.String,
    "n": pl.Int64,
    "sha256": pl.String,
}


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
    provenances: dict[tuple[str, str], tuple[str | None, Mapping[str, Any]]] = {}
    reasons: dict[tuple[Any, ...], str] = {}
    data: list[tuple[str, str, int, str]] = []
    fits: list[tuple[str, str, int, str, int, str]] = []
    passed_over = Counter({(model, False): n for model, n in folder.without_layer().items()})
    for meta, result in folder.stored():
        provenance = provenance_of(result)
        if provenance is None:
            passed_over[str(meta.name), True] += 1
            continue
        model, revision, layer = model_label(meta), str(meta.revision), int(provenance["layer"])
        recipe = recipe_of(provenance)
        origin = origins.setdefault((model, revision), origin_of(meta, provenance))
        if recipe[0] is None or (model, revision) not in provenances:
            provenances[model, revision] = (origin.hub_id, provenance)
        data.append((model, result.task_name, layer, _data_of(result, provenance)))
        if (fitted_on := recipe[-1]) is not None:
            texts = int(provenance.get("n_fit_texts", 0)), str(provenance.get("fit_sha256"))
            fits.append((model, result.task_name, layer, fitted_on, *texts))
        for kind, row in _score_rows(meta, result, provenance):
            rows[kind].append(row)
            if kind == "main" and score_of(result) is None:
                reasons[(model, revision, layer, result.task_name, *recipe)] = reason_of_no_score(result)
    scores, paper_scores = (
        pl.DataFrame(found, schema=SCORES_SCHEMA, orient="row").sort("model", "revision", "layer", maintain_order=True)
        for found in rows.values()
    )
    metrics = folder.metrics()
    known = known_by_provenance(provenances, metrics)
    tables = Tables(scores, metrics.select(list(METRICS_SCHEMA)), paper_scores, origins, reasons, known=known)
    scored_on = pl.DataFrame(data, schema=["model", "task", "layer", "data"], orient="row")
    fitted = pl.DataFrame(fits, schema=_FITS, orient="row")
    remarks = (
        *said_of_no_scores(tables.no_scores()),
        *said_of_passed_over(passed_over),
        *said_of_other_data(scored_on),
        *said_of_other_fits(fitted),
    )
    return replace(tables, remarks=remarks)


def _score_rows(
    meta: StoredMeta, result: StoredResult, provenance: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The row of the main score and, if the paper reports another score, the row of that score."""
    layer, n_blocks, task_type = (provenance[key] for key in ("layer", "n_blocks", "task_type"))
    head = (model_label(meta), meta.revision, layer, layer / n_blocks, result.task_name, task_type)
    recipe = recipe_of(provenance)
    yield "main", (*head, score_of(result), *recipe)
    for name in _PAPER_SCORES.get(task_type, []):
        if all(name in entry for entry in entries_of(result)):
            yield "paper", (*head, score_of(result, name), *recipe)
            break


def _data_of(result: StoredResult, provenance: Mapping[str, Any]) -> str:
    """What a result was scored on, besides the name of the task: results of different data are not comparable."""
    limit = provenance.get("limit")
    entries = sorted(f"{entry['hf_subset']} {split}" for split, some in result.scores.items() for entry in some)
    items = "" if limit is None else f", {limit} items of each split"
    return f"{provenance['dataset']} at revision {result.dataset_revision[:12]}, {some_names(entries)}{items}"
