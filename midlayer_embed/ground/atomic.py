"""Atomic writes: a file or folder appears complete or not at all.

The temporary path is next to the target, because a rename is atomic only within one file system.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Part of the name of every unfinished file or folder, after the name of its target.
PARTIAL_MARK = ".partial-"


@contextmanager
def atomic_file(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to `target` and move it there when the block ends without an error.

    Args:
        target: Path of the file. Missing folders are created; an existing file is replaced.

    Yields:
        A path that does not exist yet; the caller writes the file.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with atomic_file(folder / "a.txt") as path:
        ...     _ = path.write_text("whole")
        >>> [p.name for p in folder.iterdir()]
        ['a.txt']
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial_name(target)
    try:
        yield partial
        os.replace(partial, target)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()


@contextmanager
def atomic_folder(target: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """Like `atomic_file`, for a folder.

    Args:
        target: Path of the folder.
        replace: Whether to replace an existing folder. If False, the existing one is kept: another process was first.

    Yields:
        An empty folder; the caller fills it.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}{PARTIAL_MARK}", dir=target.parent))
    try:
        yield partial
        # mkdtemp creates folders for their owner alone, and a rename keeps the permissions.
        partial.chmod(0o777 & ~_umask())
        try:
            os.replace(partial, target)
        except OSError:  # a folder that is not empty cannot be replaced in one step
            if not target.is_dir():
                raise
            if replace:
                _swap(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _swap(partial: Path, target: Path) -> None:
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}{PARTIAL_MARK}", dir=target.parent)) / target.name
    os.replace(target, aside)
    try:
        os.replace(partial, target)
    except OSError:
        os.replace(aside, target)
        raise
    finally:
        shutil.rmtree(aside.parent, ignore_errors=True)


def _partial_name(target: Path) -> Path:
    handle, name = tempfile.mkstemp(prefix=f".{target.name}{PARTIAL_MARK}", dir=target.parent)
    os.close(handle)
    os.unlink(name)  # the caller creates it, with the usual permissions
    return Path(name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
