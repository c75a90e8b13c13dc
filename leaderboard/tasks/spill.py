"""Moves the data of a loaded task from memory to files, and back. Never by pickle: tables are Arrow, the rest JSON."""

import copy
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

# Nesting depth of the tables in a task's data: subset, split, table.
_DEPTH = 3


@dataclass(frozen=True)
class _JsonFile:
    """Placeholder for a dict that was written to a file."""

    path: Path


def spill(data: Any, folder: Path) -> Any:
    """A copy of a task's data that takes little memory.

    Tables in memory become memory-mapped Arrow files; tables that are memory-mapped already stay where they are. Plain
    dicts, such as the relevant documents of a retrieval task, become JSON files. Anything else is kept as it is.

    Args:
        data: The `dataset` of a loaded task: tables and dicts, nested by subset and split.
        folder: Existing folder for the files.

    Returns:
        The data with the same nesting, for `unspill`.
    """
    return _spilled(data, folder, _DEPTH)


def unspill(data: Any) -> Any:
    """The data that were given to `spill`. Tables stay memory-mapped, so their files must not be deleted."""
    if isinstance(data, _JsonFile):
        return json.loads(data.path.read_text(encoding="ascii"))
    if isinstance(data, dict):
        return with_items(data, {key: unspill(value) for key, value in data.items()})
    return data


def _spilled(data: Any, folder: Path, depth: int) -> Any:
    if isinstance(data, Dataset):
        if data.cache_files or not len(data):  # memory-mapped already, or empty: its file could not be read
            return data
        table = tempfile.mkdtemp(prefix="table-", dir=folder)
        data.save_to_disk(table)
        return Dataset.load_from_disk(table)
    if not isinstance(data, dict):
        return data
    if _is_json(data):
        path = Path(tempfile.mkdtemp(prefix="dict-", dir=folder)) / "content.json"
        path.write_text(json.dumps(data), encoding="ascii")
        return _JsonFile(path)
    if not depth:
        return data
    return with_items(data, {key: _spilled(value, folder, depth - 1) for key, value in data.items()})


def with_items(data: dict[Any, Any], items: dict[Any, Any]) -> dict[Any, Any]:
    """A dict of the same kind (a DatasetDict, a defaultdict) with other values."""
    changed = copy.copy(data)
    changed.update(items)
    return changed


def _is_json(value: Any) -> bool:
    """Whether JSON restores the value exactly."""
    if type(value) is dict:
        return all(type(key) is str and _is_json(item) for key, item in value.items())
    if type(value) is list:
        return all(map(_is_json, value))
    return value is None or type(value) in (str, int, float, bool)
