"""Metrics based on the distances between vectors: intrinsic dimension, uniformity, agreement of neighbours.

The n x n distances are computed a block of rows at a time and are never held at once.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch

from midlayer_embed.ground.checks import check_int
from midlayer_embed.metrics.arrays import Array, read_batch, read_pair, restore_shape
from midlayer_embed.metrics.gram import unit_rows
from midlayer_embed.metrics.portions import PORTION_BYTES, Portion, in_portions

# Share of the rows, those with the largest ratios of distances, that TwoNN leaves out: one tenth, as its authors do.
_KEPT_TENTHS = 9
# Rows of float32 states whose distance is less, relative to their norm, are equal.
_ROUNDING = 5e-7
# Number of rows among which the two nearest are found by exact distances.
_CANDIDATES = 4
# Exponent of `uniformity`: exp(-t |x - y|^2).
_T = 2
# Cosines that differ by less are equal. Rounding moves those of rows that are nearly equal by its square only.
_TIE = 1e-11


def two_nn(Z: Any) -> Array:
    """TwoNN intrinsic dimension: the number of dimensions of the surface near which the vectors lie.

    Facco et al. (2017), as a linear fit. With the distances r1 and r2 of each row to its two nearest neighbours and
    their ratio mu = r2 / r1: the slope of -ln(1 - F(mu)) over ln mu through the origin, F(mu_i) = i / n for the i-th
    smallest ratio; the tenth of the rows with the largest ratios is left out. Rows that are equal up to the rounding of
    float32 count once: a copy is at no distance. High: around each other, texts vary in many independent ways. Papers
    disagree on which end is good: the peak (Cheng et al. 2025) or the minimum (KV-Embedding, 2026).

    Args:
        Z: (..., n, d), the vectors of n texts; numpy or torch. Neither centred nor scaled.

    Returns:
        float64 (...), numpy or torch like Z; above 0, a number of dimensions; infinite where every row has two nearest
        neighbours at the same distance; NaN with fewer than three different rows.

    Raises:
        InputError: (a ValueError) Z has fewer than two axes, an empty axis, or NaN or infinity (the message names the
            first such item of a batch).

    Example:
        >>> import numpy as np
        >>> plane = np.random.default_rng(0).normal(size=(1000, 2)) @ np.random.default_rng(1).normal(size=(2, 50))
        >>> round(float(two_nn(plane)))
        2
    """
    batch = read_batch("Z", Z, "n, d")
    found = in_portions(lambda rows: torch.stack([_two_nn(item) for item in rows.values]), batch, copies=4)
    return restore_shape(found, batch)


def uniformity(Z: Any) -> Array:
    """Uniformity: how evenly directions fill the sphere, as ln of the mean of exp(-2 |x - y|^2) over pairs of rows.

    Wang and Isola (2020). Rows are scaled to length 1. Lower is better: vectors keep away from each other.

    Args:
        Z: (..., n, d), the vectors of n texts; numpy or torch. A row of zeros stays zero.

    Returns:
        float64 (...), numpy or torch like Z; -8 (opposite directions) to 0 (all directions are equal, or n = 1).

    Raises:
        InputError: (a ValueError) as in `two_nn`.

    Example:
        >>> round(float(uniformity([[1.0, 0.0], [0.0, 3.0]])), 9)  # a right angle: -2 |x - y|^2
        -4.0
    """
    batch = read_batch("Z", Z, "n, d")
    found = in_portions(_uniformity, batch, copies=1, extra=_block_numbers(batch.values.shape[1]))
    return restore_shape(found, batch)


def neighbour_agreement(A: Any, B: Any, k: int = 10) -> Array:
    """Share of its k nearest neighbours that a text has in both of two layers, by cosine; the mean over the texts.

    A text is no neighbour of itself. Texts that tie for the last places share them, so that a layer at which all texts
    are equal agrees by chance only. With k + 1 texts or fewer all are neighbours, and the agreement is 1.

    Args:
        A: (..., n, d), the vectors of n texts at one layer; numpy or torch. A row of zeros has cosine 0 with every row.
        B: (..., n, d), the vectors of the same texts at another layer, in the same order.
        k: Number of neighbours, 1 or more.

    Returns:
        float64 (...), numpy or torch like A and B; in 0..1; k / (n - 1) by chance; NaN for a single text.

    Raises:
        InputError: (a ValueError) A or B has fewer than two axes, an empty axis, or NaN or infinity (the message names
            the first such item of a batch); the shapes differ; k is not an int of at least 1.

    Example:
        >>> import numpy as np
        >>> angles = np.linspace(0, 3, 30)
        >>> arc = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        >>> float(neighbour_agreement(arc, 5 * arc)), float(neighbour_agreement(arc, np.ones((30, 2)))) < 0.4
        (1.0, True)
    """
    check_int("k", k, 1)
    first, second = read_pair(A, B)
    n = first.values.shape[1]
    extra = 4 * _block_numbers(n)
    found = in_portions(lambda a, b: _agreement(a, b, min(k, n - 1)), first, second, copies=1, extra=extra)
    return restore_shape(found, first)


def _two_nn(Z: torch.Tensor) -> torch.Tensor:
    """TwoNN of one item (n, d)."""
    rows = _without_copies(Z)
    if len(rows) < 3:
        return rows.new_full((), math.nan)
    logs = []
    for block, squares in _squared_distances(rows):
        _hide_self(squares, block, math.inf)
        nearest = squares.topk(min(_CANDIDATES, len(rows) - 1), largest=False).indices
        # Again from the differences: near rows of large norm have lost their distance in the products.
        exact = torch.stack([torch.linalg.vector_norm(rows[block] - rows[column], dim=-1) for column in nearest.T])
        first, second = exact.sort(dim=0).values[:2].log()
        logs.append(second - first)
    x = torch.cat(logs).sort().values
    n = len(x)
    kept = n * _KEPT_TENTHS // 10
    x, y = x[:kept], -torch.log1p(-torch.arange(1, kept + 1, dtype=x.dtype, device=x.device) / n)
    square = (x * x).sum()
    return ((x * y).sum() / square).where(square > 0, math.inf)


def _without_copies(Z: torch.Tensor) -> torch.Tensor:
    """The rows of Z (n, d) that equal none before them."""
    least = (_ROUNDING * torch.linalg.vector_norm(Z, dim=-1)).square()
    places = torch.arange(len(Z), device=Z.device)
    copies = [
        ((squares <= least[block, None]) & (places < places[block, None])).any(-1)
        for block, squares in _squared_distances(Z)
    ]
    return Z[~torch.cat(copies)]


def _squared_distances(Z: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """Blocks of rows of Z (n, d), and their squared distances (b, n) to all rows, to the rounding of their norms."""
    around = Z - Z.mean(dim=0)
    squares = around.square().sum(-1)
    for block in _row_blocks(len(Z)):
        yield block, squares[block, None] + squares - 2 * around[block] @ around.T


def _uniformity(rows: Portion) -> torch.Tensor:
    Z = unit_rows(rows.values)
    n = Z.shape[1]
    squares = Z.square().sum(-1)  # 1, or 0 for zeros
    total = Z.new_zeros(len(Z))
    for block in _row_blocks(n):
        distances = squares[:, block, None] + squares[:, None, :] - 2 * Z[:, block] @ Z.mT
        _hide_self(distances, block, math.inf)
        total += distances.clamp_(min=0).mul_(-_T).exp_().sum((-2, -1))
    return (total / max(1, n * (n - 1))).log() if n > 1 else total


def _agreement(A: Portion, B: Portion, k: int) -> torch.Tensor:
    first, second = unit_rows(A.values), unit_rows(B.values)
    n = first.shape[1]
    total = first.new_zeros(len(first))
    if not k:
        return total.fill_(math.nan)
    for block in _row_blocks(n):
        total += (_near(first, block, k) * _near(second, block, k)).sum((-2, -1))
    return total / (n * k)


def _near(Z: torch.Tensor, block: slice, k: int) -> torch.Tensor:
    """How far each row is among the k nearest of some rows: (m, b, n), 0..1, of sum k. Those that tie share places."""
    cosines = Z[:, block] @ Z.mT
    _hide_self(cosines, block, -math.inf)
    last = cosines.topk(k).values[..., -1:]
    nearer, tied = cosines > last + _TIE, (cosines - last).abs() <= _TIE
    places = (k - nearer.sum(-1, keepdim=True)) / tied.sum(-1, keepdim=True)
    return nearer + tied * places


def _block_numbers(n: int) -> int:
    """The number of float64 values that a block of rows of an n x n matrix holds."""
    return min(n * n, max(n, PORTION_BYTES // 8))


def _row_blocks(n: int) -> Iterator[slice]:
    step = max(1, _block_numbers(n) // n)
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def _hide_self(matrix: torch.Tensor, block: slice, value: float) -> None:
    """Set the entries of rows `block` with themselves, in place; matrix (..., b, n)."""
    matrix[..., block].diagonal(dim1=-2, dim2=-1).fill_(value)
