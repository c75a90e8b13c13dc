"""Files and folders that appear whole or not at all. Nothing here knows what it writes.

The temporary name stands beside the target, because a rename is atomic only within one file system.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# What every unfinished file or folder has in its name, after the name it is going to have.
PARTIAL_MARK = ".partial-"


@contextmanager
def atomic_file(target: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside `target`; it takes the target's place when the block ends without an error.

    Args:
        target: Where the file shall appear. Its folder is made if need be; a file that is there is replaced.

    Yields:
        A path that does not exist yet, to be written by the caller.

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
    """As `atomic_file`, for a folder.

    Args:
        target: Where the folder shall appear.
        replace: Whether it takes the place of a folder that is there. If not, that one stays: who came first has made
            it.

    Yields:
        An empty folder, to be filled by the caller.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}{PARTIAL_MARK}", dir=target.parent))
    try:
        yield partial
        # mkdtemp makes folders that only their owner may enter; a rename keeps that.
        partial.chmod(0o777 & ~_umask())
        try:
            os.replace(partial, target)
        except OSError:  # a folder with something in it cannot be replaced in one step
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
    os.unlink(name)  # the writer makes it anew, with its own permissions
    return Path(name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
