"""How well the views of a text find each other among the views of all texts."""

from typing import Any

import torch

from midlayer_embed.metrics.arrays import Array, read_pair, restore_shape
from midlayer_embed.metrics.gram import unit_rows
from midlayer_embed.metrics.portions import PORTION_BYTES, Portion, in_portions

# Cosines of float32 vectors that differ by less are equal: then neither candidate is the nearer one.
_ROUNDING = 1e-6


def retrieval(A: Any, B: Any) -> Array:
    """Mean reciprocal rank of a text's B view among the B views of all n texts by cosine with its A view, and back.

    The rank of the partner is 1 plus the number of candidates that are nearer, plus half of those that are as near.
    The mean is over texts and both directions. Higher is better. Memory does not grow with n x n.

    Args:
        A: (..., n, d), one view of n texts; numpy or torch. A row of zeros has cosine 0 with every row.
        B: (..., n, d), another view of the same texts in the same order.

    Returns:
        float64 (...), numpy or torch like A and B; above 0 and at most 1, where every partner is the nearest;
        2 / (n + 1) if all rows are equal; 1 for a single text.

    Raises:
        InputError: (a ValueError) A or B has fewer than two axes, an empty axis, or NaN or infinity (the message names
            the first such item of a batch); the shapes differ.

    Source: the mean reciprocal rank of information retrieval, Voorhees (1999).

    Example:
        >>> import numpy as np
        >>> views = np.eye(4)
        >>> float(retrieval(views, views)), float(retrieval(np.ones((4, 2)), np.ones((4, 2))))
        (1.0, 0.4)
    """
    first, second = read_pair(A, B)
    found = in_portions(_retrieval, first, second, copies=2, extra=2 * PORTION_BYTES // 8)
    return restore_shape(found, first)


def _retrieval(a: Portion, b: Portion) -> torch.Tensor:
    left, right = unit_rows(a.values), unit_rows(b.values)
    found = [
        (_reciprocal_ranks(one, other) + _reciprocal_ranks(other, one)) / 2
        for one, other in zip(left, right, strict=True)
    ]
    return torch.stack(found)


def _reciprocal_ranks(queries: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    """The mean reciprocal rank of the candidate of each query's own number, a block of queries at a time."""
    n = len(queries)
    step = max(1, PORTION_BYTES // (8 * n))
    total = queries.new_zeros(())
    for start in range(0, n, step):
        cosines = queries[start : start + step] @ candidates.T
        own = cosines.gather(1, torch.arange(start, start + len(cosines), device=cosines.device)[:, None])
        nearer = (cosines > own + _ROUNDING).sum(dim=1)
        as_near = (cosines >= own - _ROUNDING).sum(dim=1) - nearer - 1  # without the partner itself
        total += (1 / (1 + nearer + as_near.double() / 2)).sum()
    return total / n
