"""Loads datasets of tasks from a local mirror of the hub: FOLDER/<org>/<name>, each a copy of its repository.

For machines without access to the hub. `prefetch` fills such a folder.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datasets import config
from datasets.naming import camelcase_to_snakecase
from mteb.abstasks.abstask import AbsTask

from midlayer_embed.errors import InputError
from midlayer_embed.ground.whole_files import file_sha256

# Files that are documentation, not data.
_NO_DATA = ("README.md", "dataset_infos.json")


def dataset_folder(data_dir: Path, task: AbsTask) -> Path | None:
    """Find the folder of a task's dataset.

    Returns:
        The folder; None for a task that builds its own data (the starter tasks).

    Raises:
        InputError: (a ValueError) if the folder does not exist or holds no data; the message names the folder.
    """
    if getattr(task, "makes_its_own_data", False):
        return None
    name = task.metadata.dataset["path"]
    folder = data_dir / name
    if not folder.is_dir():
        raise InputError(f"dataset {name} not found: there is no folder {str(folder)!r}")
    if not _data_files(folder):
        raise InputError(f"dataset {name} not found: the folder {str(folder)!r} holds no data")
    return folder


@contextmanager
def reading_from(folder: Path, task: AbsTask) -> Iterator[None]:
    """Make `task.load_data()` read a folder instead of the hub.

    Changes the metadata of this task object only, not of its class, and restores them on exit: results keep the dataset
    name and revision of the task.
    """
    own = task.__dict__.get("metadata")
    dataset = {**task.metadata.dataset, "path": str(folder)}
    task.metadata = task.metadata.model_copy(update={"dataset": dataset})
    try:
        yield
    finally:
        if own is None:
            del task.metadata
        else:
            task.metadata = own


def folder_sha256(folder: Path) -> str:
    """SHA-256 over the names and contents of all data files in a dataset's folder."""
    digest = hashlib.sha256()
    for path in _data_files(folder):
        digest.update(f"{file_sha256(path)}  {path.relative_to(folder).as_posix()}\n".encode())
    return digest.hexdigest()


def is_available(task: AbsTask, data_dir: Path | None) -> bool:
    """Whether a task can be loaded without access to the hub.

    Args:
        task: The task.
        data_dir: Folder with a mirror of the hub. None: look for the task's revision in the cache of the datasets
            library.
    """
    return available_size(task, data_dir) is not None


def available_size(task: AbsTask, data_dir: Path | None) -> int | None:
    """Size of a task's data on disk in bytes: 0 if it builds its own data, None if not available (`is_available`)."""
    if data_dir is None and not getattr(task, "makes_its_own_data", False):
        *organisation, name = task.metadata.dataset["path"].split("/")
        cached = Path(config.HF_DATASETS_CACHE, "___".join([*organisation, camelcase_to_snakecase(name)]))
        folders = [info.parent for info in cached.glob(f"*/*/{task.metadata.dataset['revision']}/dataset_info.json")]
        return sum(path.stat().st_size for folder in folders for path in folder.iterdir()) if folders else None
    try:
        folder = dataset_folder(data_dir or Path(), task)
    except InputError:
        return None
    return 0 if folder is None else sum(path.stat().st_size for path in _data_files(folder))


def _data_files(folder: Path) -> list[Path]:
    """All files except documentation and hidden files (of git and of the hub's client)."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name not in _NO_DATA
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
