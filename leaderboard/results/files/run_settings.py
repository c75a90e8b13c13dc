"""mteb's run_settings.jsonl: which versions and settings each result is from.

mteb reads the file, adds a row and writes it again with every result. Here it is derived from the results, which record
the versions that they were made with, so that writers of one folder have no file in common.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from mteb.models.model_meta import ModelMeta
from mteb.results import TaskResult

from leaderboard.results.files.folder import ResultsFolder, result_path
from leaderboard.results.provenance import provenance_of
from leaderboard.scoring.score import ENCODE_KWARGS

logger = logging.getLogger(__name__)

_NAME = "run_settings.jsonl"
# The packages that mteb records.
_PACKAGES = ("mteb", "torch", "sentence-transformers", "flash-attn", "transformers")


def write_run_settings(folder: ResultsFolder, found: Iterable[tuple[ModelMeta, TaskResult]]) -> None:
    """Writes the file of each experiment, where it lacks a row. Rows of other results are kept.

    Args:
        folder: The folder.
        found: All of its results, see `ResultsFolder.results`.
    """
    rows: defaultdict[str, dict[str, list[dict[str, Any]]]] = defaultdict(dict)
    for meta, result in found:
        provenance = provenance_of(result)
        if provenance is not None:
            path = PurePosixPath(result_path(result.task_name, meta)).with_name(_NAME)
            rows[str(path)][result.task_name] = list(_rows(result, provenance))
    storage = folder.storage
    there = dict(storage.read_many(sorted(rows)))
    for name, of_tasks in rows.items():
        before = there.get(name, b"")
        kept = [row for row in _read(before) if row.get("task") not in of_tasks]
        lines = [json.dumps(row) for row in (*kept, *(row for task in sorted(of_tasks) for row in of_tasks[task]))]
        content = "".join(f"{line}\n" for line in lines).encode()
        if sorted(before.splitlines()) != sorted(content.splitlines()):
            storage.write(name, content)


def _rows(result: TaskResult, provenance: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of a result: splits with the same subsets are together."""
    versions = provenance.get("versions") or {}
    splits: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for split, entries in result.scores.items():
        splits[tuple(sorted({entry.get("hf_subset", "default") for entry in entries}))].append(split)
    for subsets, names in splits.items():
        yield {
            "task": result.task_name,
            "splits": sorted(names),
            "version": {name: versions.get(name) for name in _PACKAGES},
            "encode_kwargs": dict(ENCODE_KWARGS),
            "subsets": list(subsets),
        }


def _read(content: bytes) -> Iterator[dict[str, Any]]:
    for line in content.decode(errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # cut off, by a writer that was killed
            continue
        if isinstance(row, dict):
            yield row
