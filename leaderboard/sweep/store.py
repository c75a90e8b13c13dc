"""Vectors of the texts or pictures of one task at several layers, on disk, one row for each distinct one.

The store grows by segments, one for each call that adds texts. A segment is one file, stored layer by layer, so that
reading a layer reads one contiguous part of the file. Other processes can read a store after `publish`.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from leaderboard.sweep.arguments import check_store_dtype
from leaderboard.tasks.images.pictures import Shelf
from leaderboard.tasks.items import Item, identity_of, item_from_json
from midlayer_embed.errors import InputError
from midlayer_embed.ground.atomic import atomic_file

_INDEX = "index.json"


class VectorStore:
    """Vectors of texts at some layers, in a temporary folder that is deleted with the store.

    Args:
        parent: Folder in which the folder of the store is created.
        layers: The layers to keep.
        dim: Width of a vector.
        dtype: dtype of the files: "float32", or "float16", which takes half the space.

    Example:
        >>> with VectorStore(Path(tempfile.mkdtemp()), layers=[0, 3], dim=2) as store:
        ...     rows, segment = store.grow(["a", "b"])
        ...     segment[:] = [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
        ...     store.vectors(layer=3, rows=store.rows(["b", "a", "b"])).tolist()
        [[7.0, 8.0], [5.0, 6.0], [7.0, 8.0]]
    """

    def __init__(self, parent: Path, layers: Sequence[int], dim: int, dtype: str = "float32") -> None:
        check_store_dtype(dtype)
        parent.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix=".store-", dir=parent))
        self.layers = list(layers)
        self.dim = dim
        self.dtype = dtype
        self._slots = {layer: slot for slot, layer in enumerate(self.layers)}
        self._number: dict[Item, int] = {}
        self._segments: list[np.memmap] = []
        self._starts: list[int] = []

    @classmethod
    def published(cls, folder: Path) -> "VectorStore":
        """Opens the store of another process for reading. That process deletes the folder."""
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        store = cls.__new__(cls)
        store.folder, store.layers, store.dim, store.dtype = folder, index["layers"], index["dim"], index["dtype"]
        store._slots = {layer: slot for slot, layer in enumerate(store.layers)}
        store._number = {item_from_json(text, Shelf({})): number for number, text in enumerate(index["texts"])}
        store._starts = index["starts"]
        store._segments = [
            np.load(folder / _segment_name(number), mmap_mode="r") for number in range(len(store._starts))
        ]
        return store

    def publish(self) -> Path:
        """Writes an index of the texts, so that other processes can read the store.

        Returns:
            The folder, for `published`.
        """
        index = {
            "layers": self.layers,
            "dim": self.dim,
            "dtype": self.dtype,
            "starts": self._starts,
            "texts": [identity_of(item) for item in self._number],
        }
        with atomic_file(self.folder / _INDEX) as partial:
            partial.write_text(json.dumps(index), encoding="utf-8")
        return self.folder

    def __enter__(self) -> "VectorStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drop()

    def __len__(self) -> int:
        return len(self._number)

    def missing(self, texts: Sequence[Item]) -> list[Item]:
        """The distinct texts that are not in the store yet, in order of first appearance."""
        return list(dict.fromkeys(text for text in texts if text not in self._number))

    def grow(self, texts: Sequence[Item]) -> tuple[range, np.ndarray]:
        """Adds rows for new distinct texts.

        Returns:
            The rows of the texts, and a writable array (n_layers, n_texts, dim) of zeros.

        Raises:
            InputError: (a ValueError) a text is in the store already or twice in `texts`, or the disk is full.
        """
        if self.missing(texts) != list(texts):
            raise InputError("texts: expected texts that are distinct and not in the store yet")
        path = self.folder / _segment_name(len(self._segments))
        shape = (len(self.layers), len(texts), self.dim)
        segment = _create_segment(path, shape, self.dtype)
        start = len(self._number)
        self._number.update((text, start + number) for number, text in enumerate(texts))
        self._segments.append(segment)
        self._starts.append(start)
        return range(start, len(self._number)), segment

    def rows(self, texts: Sequence[Item]) -> np.ndarray:
        """Rows of texts: an int array (n_texts,). A text that is not in the store raises KeyError."""
        return np.fromiter((self._number[text] for text in texts), dtype=np.int64, count=len(texts))

    def vectors(self, layer: int, rows: np.ndarray) -> np.ndarray:
        """Vectors of one layer at some rows: float32 (n_rows, dim)."""
        slot = self._slots[layer]
        found = np.empty((len(rows), self.dim), dtype=np.float32)
        segment_of = np.searchsorted(self._starts, rows, side="right") - 1
        for number, segment in enumerate(self._segments):
            chosen = segment_of == number
            if chosen.any():
                found[chosen] = segment[slot][rows[chosen] - self._starts[number]]
        return found

    def drop(self) -> None:
        """Deletes the vectors and their folder. The store is empty afterwards."""
        self._segments.clear()
        self._starts.clear()
        self._number.clear()
        shutil.rmtree(self.folder, ignore_errors=True)


def layer_bytes(n_texts: int, dim: int, dtype: str) -> int:
    """Bytes of one layer of a store on disk.

    Example:
        >>> layer_bytes(1000, 576, "float32"), layer_bytes(1000, 576, "float16")
        (2304000, 1152000)
    """
    return n_texts * dim * np.dtype(dtype).itemsize


def _segment_name(number: int) -> str:
    return f"vectors-{number:04d}.npy"


def _create_segment(path: Path, shape: tuple[int, ...], dtype: str) -> np.memmap:
    """Creates a file of zeros with all its blocks: writing to a mapped file on a full disk kills the process."""
    try:
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        path.unlink(missing_ok=True)
        size = np.prod(shape, dtype=np.int64) * np.dtype(dtype).itemsize
        raise InputError(
            f"the vectors of its texts need {size / 1e9:.1f} GB in the results folder: {error.strerror}; free some "
            "space, or set a store budget"
        ) from error
    return array
