"""Datasets of tasks out of a local folder, laid out as on the hub: FOLDER/<org>/<name>, each as its repository is.

For machines that reach no hub. Not for: filling such a folder, or what a task makes of its data.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datasets import config
from datasets.naming import camelcase_to_snakecase
from mteb.abstasks.abstask import AbsTask

from leaderboard.tasks.starter import STARTER_TASKS
from midlayer_embed.errors import InputError
from midlayer_embed.ground.checksums import file_sha256

# What a dataset's folder may hold without holding data.
_NO_DATA = ("README.md", "dataset_infos.json")


def check_data_dir(data_dir: str | Path) -> Path:
    """The folder, as an absolute path: what the working directory holds must not matter.

    Raises:
        InputError: (a ValueError) there is no such folder.
    """
    folder = Path(data_dir).expanduser().absolute()
    if not folder.is_dir():
        raise InputError(f"data_dir: there is no folder {str(data_dir)!r}")
    return folder


def dataset_folder(data_dir: Path, task: AbsTask) -> Path | None:
    """Where a task's dataset is.

    Returns:
        The folder; None for a task that makes its own data (the starter tasks).

    Raises:
        InputError: (a ValueError) there is no such folder, or no data in it; the message says where it was looked for.
    """
    if isinstance(task, STARTER_TASKS):
        return None
    name = task.metadata.dataset["path"]
    folder = data_dir / name
    if not folder.is_dir():
        raise InputError(f"its dataset {name} is not there: there is no folder {str(folder)!r}")
    if not _data_files(folder):
        raise InputError(f"its dataset {name} is not there: the folder {str(folder)!r} holds no data")
    return folder


@contextmanager
def reading_from(folder: Path, task: AbsTask) -> Iterator[None]:
    """Within, `task.load_data()` reads a folder instead of the hub.

    Only the task's own metadata are changed, never those of its class, and only until the data are loaded: results are
    of the dataset and revision that the task names.
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
    """One SHA-256 for all data files of a dataset's folder: of their names and contents."""
    digest = hashlib.sha256()
    for path in _data_files(folder):
        digest.update(f"{file_sha256(path)}  {path.relative_to(folder).as_posix()}\n".encode())
    return digest.hexdigest()


def is_at_hand(task: AbsTask, data_dir: Path | None) -> bool:
    """Whether a task can be loaded here without a hub.

    Args:
        task: The task.
        data_dir: Where its dataset has to be; None: in the cache of the datasets library, in the task's revision.
    """
    return size_at_hand(task, data_dir) is not None


def size_at_hand(task: AbsTask, data_dir: Path | None) -> int | None:
    """Bytes on disk of a task's data, 0 where it makes its own; None where they are not at hand (see `is_at_hand`)."""
    if data_dir is None and not isinstance(task, STARTER_TASKS):
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
    """All files but documentation and hidden ones (git's, and those of the hub's client)."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name not in _NO_DATA
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
