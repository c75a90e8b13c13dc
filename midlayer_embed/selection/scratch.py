"""Arrays on disk, for what may not fit into memory."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from midlayer_embed.errors import InputError


@contextmanager
def scratch_array(shape: tuple[int, ...], folder: Path | None, what: str = "views") -> Iterator[np.ndarray]:
    """float32 zeros in a file without a name, which is gone when the block ends, even if the process is killed.

    Args:
        shape: Shape of the array.
        folder: Folder of the file; None: the system's temporary folder.
        what: What it holds, for messages.

    Raises:
        InputError: (a ValueError) the disk has no room for it.
    """
    with tempfile.TemporaryFile(prefix="midlayer-embed-", dir=folder) as file:
        yield array_in(file, shape, folder, what)


def array_in(file: BinaryIO, shape: tuple[int, ...], folder: Path | None, what: str) -> np.ndarray:
    """float32 zeros in an empty file, which has all of its room from the start: see `scratch_array`."""
    size = 4 * int(np.prod(shape, dtype=np.int64))
    if not size:
        return np.zeros(shape, dtype=np.float32)
    if hasattr(os, "posix_fallocate"):  # otherwise a full disk would kill the process at a later write
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise InputError(
                f"{what}: their vectors need {size / 1e9:.1f} GB in {folder or tempfile.gettempdir()}: "
                f"{error.strerror}; measure fewer texts, or use a larger disk (TMPDIR, if no folder is given)"
            ) from error
    return np.memmap(file, dtype=np.float32, mode="r+", shape=shape)  # type: ignore[call-overload, no-any-return]
