"""Atomic writes: a file or folder appears complete or not at all.

The temporary path is next to the target, because a rename is atomic only within one file system. As `cp` does, a write
follows links and keeps the permissions of what it replaces; a device or a pipe is written to and never replaced.
"""

import errno
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from midlayer_embed.errors import InputError
from midlayer_embed.ground.paths import followed, is_special, stream_number, target_file, target_folder

# Part of the name of every unfinished file or folder, after the name of its target.
PARTIAL_MARK = ".partial-"
# Errors of the system that are about the path that the user gave.
_MISTAKES = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP),
    *(errno.ENAMETOOLONG, errno.EINVAL, errno.EBUSY),
}


@contextmanager
def atomic_file(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to `target` and move it there when the block ends without an error.

    Args:
        target: Path of the file. Missing folders are created; an existing file is replaced, at the end of a link the
            file that it leads to.

    Yields:
        A path that does not exist yet; the caller writes the file.

    Raises:
        InputError: (a ValueError) the target cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with atomic_file(folder / "a.txt") as path:
        ...     _ = path.write_text("whole")
        >>> [p.name for p in folder.iterdir()]
        ['a.txt']
    """
    given = target_file(target)
    if is_special(given):
        with _for_special(given) as partial:
            yield partial
        return
    with _about(given):
        real = followed(given)
        real.parent.mkdir(parents=True, exist_ok=True)
        partial = _partial_name(real)
    try:
        yield partial
        with _about(given):
            replace_file(partial, real)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()


def replace_file(whole: Path, target: Path) -> None:
    """Move a file to its place in one step, with the owner and permissions of the file that is there, if any.

    Args:
        whole: The new file, in the same file system.
        target: Where it goes, links followed.
    """
    with suppress(FileNotFoundError):
        old = target.stat()
        whole.chmod(stat.S_IMODE(old.st_mode))
        with suppress(OSError):  # only root gives files away
            os.chown(whole, old.st_uid, old.st_gid)
    os.replace(whole, target)


@contextmanager
def atomic_folder(target: str | Path, *, replace: bool = False, add: bool = False) -> Iterator[Path]:
    """Like `atomic_file`, for a folder.

    Args:
        target: Path of the folder.
        replace: Whether to replace the contents of an existing folder, which stays the same folder. If False, the
            existing one is kept: another process was first.
        add: Whether to add to the contents of an existing folder, where files of the same names are replaced.

    Yields:
        An empty folder; the caller fills it.

    Raises:
        InputError: (a ValueError) the target cannot be written.
    """
    given = target_folder(target)
    with _about(given):
        real = followed(given)
        real.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{real.name}{PARTIAL_MARK}", dir=_place_beside(real)))
    try:
        yield partial
        # mkdtemp creates folders for their owner alone, and a rename keeps the permissions.
        partial.chmod(0o777 & ~_umask())
        with _about(given):
            if add and real.is_dir():
                _add_contents(partial, real)
            elif replace and real.is_dir():
                _replace_contents(partial, real)
            else:
                _move_folder(partial, real)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _move_folder(partial: Path, target: Path) -> None:
    try:
        os.replace(partial, target)
    except OSError:  # a folder that is not empty cannot be replaced in one step
        if not target.is_dir():
            raise


def _replace_contents(partial: Path, target: Path) -> None:
    """Put the contents of a new folder into an old one, which stays: a shell, a link or a mount may be at it."""
    old, new = [path for path in target.iterdir() if path != partial], list(partial.iterdir())
    with tempfile.TemporaryDirectory(prefix=f".{target.name}{PARTIAL_MARK}", dir=partial.parent) as aside:
        moved: list[tuple[Path, Path]] = []
        try:
            for paths, folder in ((old, Path(aside)), (new, target)):
                for path in paths:
                    os.replace(path, folder / path.name)
                    moved.append((folder / path.name, path))
        except OSError:
            for there, here in reversed(moved):
                os.replace(there, here)
            raise


def _add_contents(partial: Path, target: Path) -> None:
    for path in sorted(partial.rglob("*")):
        place = target / path.relative_to(partial)
        if path.is_dir():
            place.mkdir(exist_ok=True)
        else:
            replace_file(path, place)


def _place_beside(target: Path) -> Path:
    """Where the contents of a folder are prepared: beside it, or in it if it is a mount or its parent is read-only."""
    is_apart = target.is_dir() and (os.path.ismount(target) or not os.access(target.parent, os.W_OK))
    return target if is_apart else target.parent


@contextmanager
def _about(target: Path) -> Iterator[None]:
    """Turn an error of the system about a path into an InputError that names the target."""
    try:
        yield
    except OSError as error:
        if error.errno not in _MISTAKES:
            raise
        raise InputError(f"{target} cannot be written: {error.strerror}") from error


@contextmanager
def _for_special(target: Path) -> Iterator[Path]:
    """A file elsewhere, whose content goes into the device, pipe or stream at the end."""
    with tempfile.TemporaryDirectory() as folder:
        partial = Path(folder) / target.name
        yield partial
        stream = stream_number(target)
        with _about(target), partial.open("rb") as whole:
            if stream is None:
                # no O_CREAT: a special file that is gone must not become a plain one
                out = os.fdopen(os.open(target, os.O_WRONLY), "wb")
            else:
                (sys.stdout if stream == 1 else sys.stderr).flush()
                out = os.fdopen(os.dup(stream), "wb")
            with out:
                shutil.copyfileobj(whole, out)


def _partial_name(target: Path) -> Path:
    handle, name = tempfile.mkstemp(prefix=f".{target.name}{PARTIAL_MARK}", dir=target.parent)
    os.close(handle)
    os.unlink(name)  # the caller creates it, with the usual permissions
    return Path(name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def only_process_in(folder: Path, doing: str) -> FileLock:
    """Make a folder, and have it for this process alone until the lock is released.

    Args:
        folder: The folder.
        doing: What another process would be doing there, for the message.

    Raises:
        InputError: (a ValueError) another process has it, or it cannot be written.

    Example:
        >>> import tempfile
        >>> lock = only_process_in(Path(tempfile.mkdtemp()) / "kept", "measuring")
        >>> lock.is_locked
        True
        >>> lock.release()
    """
    lock = FileLock(folder / "lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise InputError(f"folder: another process is {doing} in {folder}") from None
    except OSError as error:
        raise InputError(f"folder: {folder} cannot be written: {error.strerror}") from error
    return lock
