"""Opens what a user calls a results folder: a folder, or the URL of an object store."""

import os
from pathlib import Path

from leaderboard.storage.local import LocalStorage
from leaderboard.storage.objects import ObjectStorage
from leaderboard.storage.protocol import Storage
from midlayer_embed.ground.paths import is_url

# What fsspec calls a folder of this machine.
_LOCAL = ("file://", "local://")


def open_storage(results: str | Path, scratch: Path | None = None) -> Storage:
    """The storage of a results folder.

    Args:
        results: A folder, or a URL such as "s3://bucket/results".
        scratch: Where temporary folders are made; None: in the folder, or in the system's temporary folder.

    Raises:
        InputError: (a ValueError) not a path, or a URL that cannot be used; the message says why.

    Example:
        >>> open_storage("results").name
        'results'
    """
    if not (isinstance(results, (str, os.PathLike)) and is_url(results)):
        return LocalStorage(results, scratch)
    url = os.fspath(results)
    local = next((mark for mark in _LOCAL if url.startswith(mark)), None)
    return ObjectStorage(url, scratch) if local is None else LocalStorage(url.removeprefix(local), scratch)
