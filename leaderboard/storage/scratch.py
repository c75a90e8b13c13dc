"""Folders of this machine for files that one process needs for a while: vectors, texts and data of a task."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from midlayer_embed.errors import InputError
from midlayer_embed.ground.paths import user_path


def check_scratch(scratch: str | Path) -> Path:
    """Checks the folder for temporary files.

    Raises:
        InputError: (a ValueError) there is no such folder, or it cannot be written to.
    """
    folder = user_path(scratch, "scratch")
    if not folder.is_dir():
        raise InputError(f"scratch: there is no folder {str(scratch)!r}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"scratch: the folder {scratch} cannot be written to: Permission denied")
    return folder


@contextmanager
def scratch_in(folder: Path) -> Iterator[Path]:
    """A temporary folder in another one.

    That one and its parents are removed if they were made here and are empty at the end, and so are temporary folders
    of processes on this machine that were killed.
    """
    created = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    mark = f".scratch-{socket.gethostname()}-"
    for orphan in folder.glob(f"{mark}*"):
        if not _is_alive(orphan.name.removeprefix(mark).partition("-")[0]):
            shutil.rmtree(orphan, ignore_errors=True)
    try:
        with tempfile.TemporaryDirectory(prefix=f"{mark}{os.getpid()}-", dir=folder) as made:
            yield Path(made)
    finally:
        remove_empty(created)


def free_bytes(folder: Path) -> int:
    """Free space on the disk of a folder, which may not exist yet."""
    there = next(place for place in (folder, *folder.parents) if place.is_dir())
    return shutil.disk_usage(there).free


def remove_empty(folders: Sequence[Path]) -> None:
    """Removes folders, the innermost first, up to one that is not empty."""
    with suppress(OSError):  # not empty, or never made
        for folder in folders:
            folder.rmdir()


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:  # a process of another user
        return True
    return True
