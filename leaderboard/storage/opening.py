"""Opens what a user calls a results folder: a folder, or the URL of an object store."""

import os
from pathlib import Path

from leaderboard.storage.local import LocalStorage
from leaderboard.storage.protocol import Storage


def is_url(results: str | Path) -> bool:
    """Whether results are on an object store.

    Example:
        >>> is_url("s3://bucket/results"), is_url("results")
        (True, False)
    """
    return "://" in os.fspath(results)


def open_storage(results: str | Path) -> Storage:
    """The storage of a results folder.

    Args:
        results: A folder, or a URL such as "s3://bucket/results".

    Raises:
        InputError: (a ValueError) not a path, or a URL that cannot be used; the message says why.
    """
    return LocalStorage(results)
