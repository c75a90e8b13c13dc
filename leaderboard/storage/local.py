"""A folder as a storage, on a local disk or on one that many machines share, such as NFS. There are no locks."""

import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from midlayer_embed.errors import InputError
from midlayer_embed.ground.atomic import PARTIAL_MARK, atomic_file
from midlayer_embed.ground.paths import followed, user_path

# What a file system says that has no hard links.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES)
_NOT_THERE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class LocalStorage:
    """A folder, created on the first write.

    Args:
        folder: The folder, as the user gives it.

    Example:
        >>> storage = LocalStorage(tempfile.mkdtemp())
        >>> storage.create("a/b.txt", b"first"), storage.create("a/b.txt", b"second"), storage.read("a/b.txt")
        (True, False, b'first')
    """

    def __init__(self, folder: str | Path) -> None:
        self.name = str(folder)
        self.root = followed(user_path(folder, "results"))

    def read(self, path: str) -> bytes | None:
        """See `Storage.read`."""
        try:
            return (self.root / path).read_bytes()
        except _NOT_THERE:
            return None

    def read_many(self, paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """See `Storage.read_many`."""
        for path in paths:
            if (content := self.read(path)) is not None:
                yield path, content

    def write(self, path: str, content: bytes) -> None:
        """See `Storage.write`."""
        with atomic_file(self.root / path) as partial:
            partial.write_bytes(content)

    def create(self, path: str, content: bytes) -> bool:
        """See `Storage.create`. A link to a whole file is one step, also on NFS."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        whole = target.with_name(f".{target.name}{PARTIAL_MARK}{uuid4().hex}")
        try:
            whole.write_bytes(content)
            os.link(whole, target)
            return True
        except FileExistsError:
            return whole.stat().st_nlink == 2  # the answer of the server was lost, and this is the second request
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return _created(target, content)
        finally:
            with suppress(FileNotFoundError):
                whole.unlink()

    def paths(self, under: str = "") -> list[str]:
        """See `Storage.paths`."""
        found = []
        for folder, folders, files in os.walk(self.root / under, onerror=_unless_gone):
            folders[:] = [name for name in folders if not name.startswith(".")]
            place = Path(folder).relative_to(self.root)
            found += [(place / name).as_posix() for name in files if not name.startswith(".")]
        return sorted(found)

    def modified(self, path: str) -> float | None:
        """See `Storage.modified`. A file is opened, because NFS asks its server then, and may not otherwise."""
        try:
            with (self.root / path).open("rb") as file:
                return os.fstat(file.fileno()).st_mtime
        except _NOT_THERE:
            return None

    def touch(self, path: str) -> None:
        """See `Storage.touch`."""
        os.utime(self.root / path)

    def exists(self) -> bool:
        """See `Storage.exists`."""
        return self.root.is_dir()

    def check_readable(self) -> None:
        """See `Storage.check_readable`."""
        if not self.exists():
            raise InputError(f"results: there is no folder {self.name!r}")
        if not os.access(self.root, os.R_OK | os.X_OK):
            raise InputError(f"results: the folder {self.name!r} cannot be read: Permission denied")

    def check_writable(self) -> None:
        """See `Storage.check_writable`. The folder is made for the trial, and removed again."""
        folder = self.root
        if folder.exists() and not folder.is_dir():
            raise InputError(f"results: {self.name} is a file; expected a folder")
        made = [place for place in (folder, *folder.parents) if not place.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            what = "made" if made else "written to"
            raise InputError(f"results: the folder {self.name} cannot be {what}: {error.strerror}") from error
        finally:
            _remove_empty(made)

    def free_bytes(self) -> int:
        """See `Storage.free_bytes`."""
        there = next(place for place in (self.root, *self.root.parents) if place.is_dir())
        return shutil.disk_usage(there).free

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """See `Storage.scratch`.

        It is in the folder, whose disk is large enough for what a sweep needs. The folder and its parents are removed
        if they were made here and are empty at the end, and so are scratch folders of processes on this machine that
        were killed.
        """
        created = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
        self.root.mkdir(parents=True, exist_ok=True)
        mark = f".scratch-{socket.gethostname()}-"
        for orphan in self.root.glob(f"{mark}*"):
            if not _is_alive(orphan.name.removeprefix(mark).partition("-")[0]):
                shutil.rmtree(orphan, ignore_errors=True)
        try:
            with tempfile.TemporaryDirectory(prefix=f"{mark}{os.getpid()}-", dir=self.root) as folder:
                yield Path(folder)
        finally:
            _remove_empty(created)


def _created(target: Path, content: bytes) -> bool:
    """Create a file where there are no links: it appears in one step, and its content in a second one."""
    try:
        with target.open("xb") as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


def _unless_gone(error: OSError) -> None:
    """What may not be read must not pass for what is not there."""
    if not isinstance(error, _NOT_THERE):
        raise error


def _remove_empty(folders: Sequence[Path]) -> None:
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
