"""Embeds what is missing of a file of vectors, chunk by chunk and batch by batch, whether of texts or of images."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from tqdm.auto import tqdm

from midlayer_embed.bulk.vector_files import UnfinishedVectors
from midlayer_embed.errors import InputError
from midlayer_embed.ground.progress import progress

# Seconds of work that a killed run loses at most, besides a batch.
SAVE_SECONDS = 5


class Embedder(Protocol):
    """One layer of a model, for items of one kind.

    Attributes:
        noun: What an item is called: "text" or "image".
        unit: What a bar counts.
    """

    noun: str
    unit: str

    def sizes(self, items: Sequence[Any]) -> np.ndarray:
        """The share of each item in the bar, int64 (n,)."""
        ...

    def batches(self, items: Sequence[Any]) -> Iterator[tuple[list[Any], np.ndarray, np.ndarray]]:
        """The batches of a chunk. They depend on it and the settings alone; items without a vector are left out.

        Yields:
            Distinct items; the rows of the chunk that hold them, rising; and for each such row, which of the items it
            is.
        """
        ...

    def encode(self, items: Sequence[Any]) -> np.ndarray:
        """The vectors of a batch, float32 (n, dim)."""
        ...


def append_all(
    vectors: UnfinishedVectors,
    chunks: Iterable[Sequence[Any]],
    embedder: Embedder,
    *,
    total: int,
    normalize: bool,
    show_progress: bool,
    what: str = "Encoding",
) -> None:
    """Embed the chunks that are missing.

    Args:
        vectors: What is done so far.
        chunks: All items, the same in every run.
        embedder: Embeds them.
        total: Sum of the sizes of all items.
        normalize: Whether vectors are normalised to length 1.
        show_progress: Show a bar with an ETA on stderr.
        what: Label of the bar.

    Raises:
        InputError: (a ValueError) a vector is not finite, or what the embedder raises.
    """
    read = 0
    with progress(total, what, embedder.unit, show_progress) as bar:
        for chunk in chunks:
            read += len(chunk)
            if read <= vectors.done:
                _skip(bar, int(embedder.sizes(chunk).sum()))
                continue
            _append(vectors, chunk, embedder, normalize, bar)
            bar.set_postfix_str(f"{vectors.done} of {vectors.shape[0]} {embedder.noun}s")


def _append(vectors: UnfinishedVectors, items: Sequence[Any], embedder: Embedder, normalize: bool, bar: tqdm) -> None:
    """Embed a chunk. Batches that an earlier run saved are left out."""
    chunk = vectors.chunk(len(items))
    sizes = embedder.sizes(items)
    total, saved = 0, time.monotonic()
    try:
        for number, (batch, rows, which) in enumerate(embedder.batches(items), start=1):
            size = int(sizes[rows].sum())
            total += size
            if number <= chunk.n_batches:
                _skip(bar, size)
                continue
            encoded = embedder.encode(batch)
            if normalize:  # in float32, whatever the weights are; zero vectors stay zero
                encoded /= np.maximum(np.linalg.norm(encoded, axis=1, keepdims=True), 1e-12)
            _check_finite(encoded[which], vectors.done + rows, embedder.noun)
            chunk.vectors[rows] = encoded[which]
            chunk.n_batches, chunk.n_rows = number, chunk.n_rows + len(rows)
            bar.update(size)
            if time.monotonic() - saved > SAVE_SECONDS:
                vectors.save(chunk)
                saved = time.monotonic()
    except KeyboardInterrupt:
        vectors.save(chunk)
        raise
    bar.update(int(sizes.sum()) - total)  # items without a vector
    vectors.append(chunk.vectors)


def positions_in(
    batches: Iterable[np.ndarray], where: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each batch of distinct items, the rows that hold them.

    Args:
        batches: Numbers of distinct items.
        where: (n_rows,) the number of the item of each row.

    Yields:
        The numbers; the rows, rising; and for each row, the position of its item in the batch.

    Example:
        >>> [tuple(part.tolist() for part in found) for found in positions_in([np.array([1, 0])], np.array([0, 1, 0]))]
        [([1, 0], [0, 1, 2], [1, 0, 1])]
    """
    position = np.full(int(where.max(initial=-1)) + 1, -1)
    for numbers in batches:
        position[numbers] = np.arange(len(numbers))
        which = position[where]
        position[numbers] = -1
        rows = np.flatnonzero(which >= 0)
        yield numbers, rows, which[rows]


def _check_finite(encoded: np.ndarray, rows: np.ndarray, noun: str) -> None:
    finite = np.isfinite(encoded).all(axis=1)
    if not finite.all():
        raise InputError(
            f"input: the vector of {noun} {int(rows[np.argmin(finite)]) + 1} is not finite; "
            "half precision overflows with some models: try --dtype float32"
        )


def _skip(bar: tqdm, size: int) -> None:
    """Count what an earlier run did as done, and not towards the speed of this one."""
    bar.n += size
    bar.initial = bar.n
