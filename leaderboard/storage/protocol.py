"""What results are written to and read from. Processes of many machines use one storage at the same time."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol


class Storage(Protocol):
    """Files with relative paths, such as "metrics/a__b/main/Task.parquet".

    Every file appears whole or not at all. No method locks: what several processes may write is created by one of them,
    see `create`, and every other file has one owner.

    Attributes:
        name: What the user gave, for messages.
    """

    name: str

    def read(self, path: str) -> bytes | None:
        """The content of a file; None if there is none."""

    def read_many(self, paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Paths with contents, in the given order. Files that are gone are left out."""

    def write(self, path: str, content: bytes) -> None:
        """Writes or replaces a whole file."""

    def create(self, path: str, content: bytes) -> bool:
        """Writes a file that is not there yet. Of several processes that create it, one gets True."""

    def paths(self, under: str = "") -> list[str]:
        """All files below a folder, sorted. Files and folders that begin with a dot are not ours, and left out."""

    def modified(self, path: str) -> float | None:
        """When a file was last written or touched; None if there is none.

        In seconds of the storage's own clock: compare them with those of other files of this storage alone.
        """

    def touch(self, path: str) -> None:
        """Sets `modified` of a file to now. Only its owner may do so."""

    def exists(self) -> bool:
        """Whether there is such a folder; for an object store, whether there are files."""

    def check_readable(self) -> None:
        """Tries to look into the folder.

        Raises:
            InputError: (a ValueError) there is no such folder, or the message says why it cannot be read.
        """

    def check_writable(self) -> None:
        """Tries to write.

        Raises:
            InputError: (a ValueError) the message says why files cannot be written.
        """

    def free_bytes(self) -> int:
        """Free disk space where `scratch` is."""

    def scratch(self) -> AbstractContextManager[Path]:
        """A folder of this machine for files that only this process needs; deleted at the end."""
