"""Every layer's vectors of one task's texts, on disk, one row a distinct text. Knows neither models nor mteb.

The store grows by segments: the texts that one call found missing. A segment is one file a kind of vectors, layer by
layer, so that reading a layer reads one piece of the file.
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from midlayer_embed.errors import InputError


class VectorStore:
    """Vectors of texts at some layers, in a temporary folder that goes with the store.

    Args:
        parent: The store's own folder is made in here.
        layers: The layers that are kept.
        dim: Width of a vector.
        kinds: Names of the kinds of vectors kept for each text and layer, such as "scored".

    Example:
        >>> with VectorStore(Path(tempfile.mkdtemp()), layers=[0, 3], dim=2, kinds=["scored"]) as store:
        ...     (rows, segment), = [store.grow(["a", "b"])]
        ...     segment["scored"][:, [0, 1]] = [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
        ...     store.vectors("scored", layer=3, rows=store.rows(["b", "a", "b"])).tolist()
        [[7.0, 8.0], [5.0, 6.0], [7.0, 8.0]]
    """

    def __init__(self, parent: Path, layers: Sequence[int], dim: int, kinds: Sequence[str]) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix=".store-", dir=parent))
        self.layers = list(layers)
        self.dim = dim
        self.kinds = list(kinds)
        self._slots = {layer: slot for slot, layer in enumerate(self.layers)}
        self._number: dict[str, int] = {}
        self._segments: list[dict[str, np.memmap]] = []
        self._starts: list[int] = []

    def __enter__(self) -> "VectorStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drop()

    def __len__(self) -> int:
        return len(self._number)

    def missing(self, texts: Sequence[str]) -> list[str]:
        """The distinct texts that the store does not hold yet, in order of first appearance."""
        return list(dict.fromkeys(text for text in texts if text not in self._number))

    def grow(self, texts: Sequence[str]) -> tuple[range, dict[str, np.memmap]]:
        """Makes room for new distinct texts.

        Returns:
            The rows of the texts, and for each kind a writable float32 array (n_layers, n_texts, dim) of zeros.
        """
        if self.missing(texts) != list(texts):
            raise InputError("texts: expected texts that are distinct and not in the store yet")
        start = len(self._number)
        self._number.update((text, start + number) for number, text in enumerate(texts))
        shape = (len(self.layers), len(texts), self.dim)
        segment = {
            kind: np.lib.format.open_memmap(
                self.folder / f"{kind}-{len(self._segments):04d}.npy", mode="w+", dtype=np.float32, shape=shape
            )
            for kind in self.kinds
        }
        self._segments.append(segment)
        self._starts.append(start)
        return range(start, len(self._number)), segment

    def rows(self, texts: Sequence[str]) -> np.ndarray:
        """Where texts are: an int array (n_texts,). A text that is not there raises KeyError."""
        return np.fromiter((self._number[text] for text in texts), dtype=np.int64, count=len(texts))

    def vectors(self, kind: str, layer: int, rows: np.ndarray) -> np.ndarray:
        """One layer's vectors at some rows: float32 (n_rows, dim)."""
        slot = self._slots[layer]
        found = np.empty((len(rows), self.dim), dtype=np.float32)
        segment_of = np.searchsorted(self._starts, rows, side="right") - 1
        for number, segment in enumerate(self._segments):
            chosen = segment_of == number
            if chosen.any():
                found[chosen] = segment[kind][slot][rows[chosen] - self._starts[number]]
        return found

    def drop(self) -> None:
        """Deletes the vectors. The store holds nothing afterwards."""
        self._segments.clear()
        self._starts.clear()
        self._number.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
