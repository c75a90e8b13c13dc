"""mteb's run_settings.jsonl: which versions and settings each result is from.

mteb reads the file, adds a row and writes it again with every result. Here it is derived from the results, which record
the versions that they were made with, so that writers of one folder have no file in common. mteb is not imported here.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from leaderboard.results.schemas import RUN_SETTINGS
from leaderboard.scoring.encode_kwargs import ENCODE_KWARGS

if TYPE_CHECKING:
    from mteb.models.model_meta import ModelMeta
    from mteb.results import TaskResult

    from leaderboard.results.files.folder import ResultsFolder

# The packages that mteb records.
_PACKAGES = ("mteb", "torch", "sentence-transformers", "flash-attn", "transformers")
Row = dict[str, Any]


def write_run_settings(folder: "ResultsFolder", found: "Iterable[tuple[ModelMeta, TaskResult]]") -> None:
    """Writes the file of each experiment, where it lacks a row. Rows of other results are kept.

    Args:
        folder: The folder.
        found: All of its results, see `ResultsFolder.results`.
    """
    from leaderboard.results.files.folder import result_path
    from leaderboard.results.provenance import provenance_of

    rows: defaultdict[str, dict[str, list[Row]]] = defaultdict(dict)
    for meta, result in found:
        if (provenance := provenance_of(result)) is not None:
            path = PurePosixPath(result_path(result.task_name, meta)).with_name(RUN_SETTINGS)
            rows[str(path)][result.task_name] = rows_of(result.task_name, result.scores, provenance)
    storage = folder.storage
    there = dict(storage.read_many(sorted(rows)))
    for name, of_tasks in rows.items():
        before = there.get(name, b"")
        content = settings_file(read_rows(before), of_tasks)
        if sorted(before.splitlines()) != sorted(content.splitlines()):
            storage.write(name, content)


def rows_of(task: str, scores: Mapping[str, Sequence[Mapping[str, Any]]], provenance: Mapping[str, Any]) -> list[Row]:
    """The rows of a result of a sweep: splits with the same subsets are together.

    Args:
        task: Name of the task.
        scores: The entries of each split.
        provenance: The provenance of the result.
    """
    versions = provenance.get("versions") or {}
    splits: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for split, entries in scores.items():
        splits[tuple(sorted({str(entry.get("hf_subset", "default")) for entry in entries}))].append(split)
    return [
        {
            "task": task,
            "splits": sorted(names),
            "version": {name: versions.get(name) for name in _PACKAGES},
            "encode_kwargs": dict(ENCODE_KWARGS),
            "subsets": list(subsets),
        }
        for subsets, names in splits.items()
    ]


def settings_file(others: Iterable[Row], of_tasks: Mapping[str, Sequence[Row]]) -> bytes:
    """The content of the file.

    Args:
        others: Rows of a file that was there; those of the tasks of sweeps are replaced.
        of_tasks: The rows of the results of sweeps, by task.
    """
    kept = [row for row in others if row.get("task") not in of_tasks]
    lines = [json.dumps(row) for row in (*kept, *(row for task in sorted(of_tasks) for row in of_tasks[task]))]
    return "".join(f"{line}\n" for line in lines).encode()


def read_rows(content: bytes) -> Iterator[Row]:
    """The rows of a file. Lines that cannot be read are left out, as mteb does."""
    for line in content.decode(errors="replace").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # cut off, by a writer that was killed
            continue
        if isinstance(row, dict):
            yield row
