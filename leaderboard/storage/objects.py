"""A results folder on an object store, such as s3://bucket/results, through fsspec.

A put replaces a whole object in one step, so nobody ever reads half of one. `create` is a conditional put (S3:
If-None-Match, Google: ifGenerationMatch), so of several workers exactly one creates an object. Listings are never
cached: a worker sees at once what another one has written. Credentials and endpoints are those of the store's own
client: environment variables such as AWS_PROFILE and AWS_ENDPOINT_URL, or fsspec's configuration files.
"""

import logging
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from midlayer_embed.errors import InputError, first_line
from midlayer_embed.ground.threads import OneAtATime

logger = logging.getLogger(__name__)

# Stores where a put replaces the whole object in one step, and where `pipe_file(..., mode="create")` is conditional.
_WHOLE_AND_CONDITIONAL = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"}
_EXTRAS = {"s3": "s3", "s3a": "s3"}
# Files that a process needs for a moment. Killed processes leave them behind; they are not listed.
_UNFINISHED = ".unfinished-"
_READERS = 32
# fsspec's memory looks whether there is an object, then puts one: two threads could do so at the same time.
_MEMORY = OneAtATime()


class ObjectStorage:
    """A folder of an object store; see `leaderboard.storage.protocol.Storage`.

    It holds no connection, so that it can be pickled, forked and used by threads.

    Args:
        url: The folder, such as s3://bucket/results, gs://bucket/results or memory://results.

    Attributes:
        name: The URL as it was given, for messages.

    Raises:
        InputError: (a ValueError) not the URL of a folder of a store, or the package for its protocol is missing.
    """

    def __init__(self, url: str) -> None:
        self.name = url
        self._protocol, mark, place = url.partition("://")
        if not mark or "::" in url or not place.strip("/"):
            raise InputError(f"results: expected a URL such as s3://bucket/results, got {url!r}")
        self._is_store = self._protocol in _WHOLE_AND_CONDITIONAL
        try:
            self._at()
        except ImportError as error:
            extra = _EXTRAS.get(self._protocol)
            expected = str(error) if extra is None else f"pip install midlayer-embed[{extra}]"
            raise InputError(f"results: {url} needs a package that is not installed: {expected}") from error
        except Exception as error:
            raise InputError(f"results: {url} is not the URL of a store: {_reason(error)}") from error

    def read(self, path: str) -> bytes | None:
        """What an object holds; None if there is none."""
        with self._told("read"):
            return self._read(path)

    def read_many(self, paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """The objects that are there, in the order of their paths; many are read at a time."""
        with ThreadPoolExecutor(_READERS) as readers, self._told("read"):
            for start in range(0, len(paths), 4 * _READERS):
                some = paths[start : start + 4 * _READERS]
                for path, content in zip(some, readers.map(self._read, some), strict=True):
                    if content is not None:
                        yield path, content

    def write(self, path: str, content: bytes) -> None:
        """Puts an object, or replaces the whole of it."""
        with self._told("written to"):
            self._put(path, content)

    def create(self, path: str, content: bytes) -> bool:
        """Puts an object unless there is one. Returns whether it did; of several callers exactly one does."""
        with self._told("written to"):
            return self._info(path) is None and self._put_new(path, content)

    def paths(self, under: str = "") -> list[str]:
        """The objects in a folder and in all folders below, sorted; those that begin with a dot are left out."""
        with self._told("read"):
            store, root = self._at()
            try:
                found = store.find(self._full(root, under))
            except FileNotFoundError:
                return []
        root = store._strip_protocol(root).rstrip("/") + "/"
        inner = (path.removeprefix(root) for path in found if path.startswith(root) and not path.endswith("/"))
        return sorted(path for path in inner if not path.startswith(".") and "/." not in path)

    def modified(self, path: str) -> float | None:
        """When an object was put, in seconds by the clock of the store; None if there is none."""
        with self._told("read"):
            store, root = self._at()
            try:
                when: datetime = store.modified(self._full(root, path))
            except FileNotFoundError:
                return None
        return when.timestamp()

    def touch(self, path: str) -> None:
        """Puts an object again as it is, so that it was modified now."""
        with self._told("written to"):
            content = self._read(path)
            if content is not None:
                self._put(path, content)

    def exists(self) -> bool:
        """Whether there is any object in the folder."""
        with self._told("read"):
            found = self._info("")
        return found is not None and found["type"] == "directory"

    def check_readable(self) -> None:
        """Asks the store whether there is an object in the folder.

        Raises:
            InputError: (a ValueError) there is none, or the message says why it cannot be read.
        """
        if not self.exists():
            raise InputError(f"results: there is no folder {self.name!r}")

    def check_writable(self) -> None:
        """Puts an object and deletes it. Warns if the store has no conditional puts.

        Raises:
            InputError: (a ValueError) the message says why it cannot.
        """
        with self._told("written to"):
            path = f"{_UNFINISHED}{uuid.uuid4().hex}"
            self._put_new(path, b"")
            is_conditional = self._is_store and not self._put_new(path, b"")
            with suppress(Exception):  # not everybody who may write may delete
                store, root = self._at()
                store.rm_file(self._full(root, path))
        if not is_conditional:
            logger.warning(
                "%s has no conditional puts: several workers may do the same shard; results stay right", self.name
            )

    def free_bytes(self) -> int:
        """Free space for temporary files of this machine."""
        return shutil.disk_usage(tempfile.gettempdir()).free

    def scratch(self) -> AbstractContextManager[Path]:
        """A temporary folder of this machine, for files that only this process needs."""
        return _temporary_folder()

    def _at(self) -> tuple[Any, str]:
        """The store and the folder in it. fsspec keeps one connection a process, and opens another one after a fork."""
        import fsspec

        store, root = fsspec.url_to_fs(self.name, use_listings_cache=False)
        return store, root.rstrip("/")

    @staticmethod
    def _full(root: str, path: str) -> str:
        return f"{root}/{path}".rstrip("/")

    def _read(self, path: str) -> bytes | None:
        store, root = self._at()
        try:
            content: bytes = store.cat_file(self._full(root, path))
        except FileNotFoundError:
            return None
        return content

    def _info(self, path: str) -> dict[str, Any] | None:
        store, root = self._at()
        try:
            found: dict[str, Any] = store.info(self._full(root, path))
        except FileNotFoundError:
            return None
        return found

    def _put(self, path: str, content: bytes) -> None:
        store, root = self._at()
        full = self._full(root, path)
        if self._is_store:
            store.pipe_file(full, content)
            return
        # a file system: a file is whole once it is moved into place
        partial = self._full(root, f"{_UNFINISHED}{uuid.uuid4().hex}")
        store.makedirs(store._parent(full), exist_ok=True)
        store.pipe_file(partial, content)
        store.mv(partial, full)

    def _put_new(self, path: str, content: bytes) -> bool:
        store, root = self._at()
        if not self._is_store:
            self._put(path, content)
            return True
        try:
            with _MEMORY if self._protocol == "memory" else nullcontext():
                store.pipe_file(self._full(root, path), content, mode="create")
        except FileExistsError as error:
            return _was_repeated(error) and self._read(path) == content
        return True

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        """Turns every error of the store into one line. Clients of stores have error classes of their own."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"results: {self.name} cannot be {doing}: {_reason(error)}") from error


def _was_repeated(error: FileExistsError) -> bool:
    """Whether a put that found an object had been sent before: the store may have kept it, and its answer got lost."""
    response = getattr(error.__cause__, "response", None) or {}
    return bool(response.get("ResponseMetadata", {}).get("RetryAttempts"))


def _reason(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) else None
    return said or first_line(error)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="midlayer-") as folder:
        yield Path(folder)
