"""From the pooled vectors of a layer to the embeddings of a recipe, and what in them gives no score."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

from leaderboard.results.remarks import said_of_not_finite
from midlayer_embed.forward.after_pooling import AfterPooling
from midlayer_embed.recipes.transform import Transform

EQUAL = "all vectors are equal"
# Vectors that differ by less than this share of their entries differ by rounding.
_ROUNDING = 4 * float(np.finfo(np.float32).eps)
# Vectors that are mapped at a time, in float64.
_BLOCK = 4096
# Up to this many dimensions, matrices are so small that threads mostly wait for each other, for seconds where the
# machine is busy.
_SMALL = 1024


class VectorMap:
    """Applies a transform and the model's own modules after pooling; watches the vectors that it gives.

    Args:
        transform: A transform of one layer; None for none.
        after: The modules after pooling; None for none.

    Example:
        >>> same = VectorMap()
        >>> same(np.ones((3, 2), dtype=np.float32)).shape, same.no_score
        ((3, 2), 'all vectors are equal')
    """

    def __init__(self, transform: Transform | None = None, after: AfterPooling | None = None) -> None:
        self._transform = transform
        self._after = after if after is not None and (after.modules or after.truncate_dim is not None) else None
        self._n = self._n_wrong = 0
        self._low = self._high = self._largest = np.zeros(0)

    def __call__(self, pooled: np.ndarray) -> np.ndarray:
        """The embeddings, float32 (n, m), of pooled vectors, float32 (n, d); zero where one is not finite."""
        if not len(pooled):
            return self._finished(self._transformed(pooled))
        with threads_for(pooled.shape[1]):
            return np.concatenate([self._watched(pooled[i : i + _BLOCK]) for i in range(0, len(pooled), _BLOCK)])

    @property
    def no_score(self) -> str | None:
        """Why the vectors so far can have no score; None if they can."""
        if self._n_wrong:
            return said_of_not_finite(self._n_wrong, self._n)
        if not self._n:
            return None
        size = self._largest if self._transform is None else np.abs(self._transform.weight) @ self._largest
        return EQUAL if (self._high - self._low <= _ROUNDING * size).all() else None

    def _watched(self, pooled: np.ndarray) -> np.ndarray:
        transformed = self._transformed(pooled)
        if not self._n:
            self._low = self._high = transformed[0].astype(np.float64)
            self._largest = np.zeros(pooled.shape[1])
        self._n += len(pooled)
        self._low = np.minimum(self._low, transformed.min(axis=0))
        self._high = np.maximum(self._high, transformed.max(axis=0))
        self._largest = np.maximum(self._largest, np.abs(pooled).max(axis=0))
        vectors = self._finished(transformed)
        with np.errstate(over="ignore", invalid="ignore"):
            wrong = ~np.isfinite(np.einsum("nd,nd->n", vectors, vectors))
        if wrong.any():
            self._n_wrong += int(wrong.sum())
            vectors = np.where(wrong[:, None], np.float32(0), vectors)
        return vectors

    def _transformed(self, pooled: np.ndarray) -> np.ndarray:
        return pooled if self._transform is None else self._transform(pooled)

    def _finished(self, vectors: np.ndarray) -> np.ndarray:
        return vectors if self._after is None else self._after(torch.from_numpy(vectors)).numpy()


def all_equal(blocks: Iterable[np.ndarray]) -> bool:
    """Whether pooled vectors (n, d), block by block, are all the same, up to rounding; stops at the first difference.

    Example:
        >>> all_equal([np.ones((2, 3)), np.ones((1, 3))]), all_equal([np.eye(3)])
        (True, False)
    """
    watch = VectorMap()
    for block in blocks:
        watch(block)
        if watch.no_score != EQUAL:
            return False
    return True


def threads_for(dim: int) -> AbstractContextManager[object]:
    """Inside, products of matrices of so many dimensions take one thread if they are small."""
    return _pools().limit(limits=1) if dim <= _SMALL else nullcontext()


@cache
def _pools() -> ThreadpoolController:
    return ThreadpoolController()
