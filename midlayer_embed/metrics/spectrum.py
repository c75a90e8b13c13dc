"""Metrics based on the eigenvalues of a set of vectors: matrix entropy, effective rank, dataset entropy."""

from typing import Any

import torch

from midlayer_embed.metrics.arrays import Array, check_above_zero, read_batch, restore_shape
from midlayer_embed.metrics.gram import centred_unit_rows, divisor, renyi, row_entropy, singular_values
from midlayer_embed.metrics.portions import Portion, in_portions

__all__ = ["dataset_entropy", "effective_rank", "matrix_entropy"]


def matrix_entropy(Z: Any, alpha: float = 1.0, normalization: str = "raw") -> Array:
    """Matrix-based Renyi entropy S_alpha of the rows of Z: how evenly they fill their dimensions.

    The Renyi entropy of order alpha of the eigenvalues of the Gram matrix, scaled to sum to 1. The Gram matrix is
    Z Z^T or Z^T Z, whichever is smaller; their nonzero eigenvalues agree. Equation 1 of "Layer by Layer" (ICML 2025).

    High: many directions, evenly used. Low: compressed onto few directions. Neither is better by itself.

    Args:
        Z: (..., n, d), n rows of d dimensions, with any leading batch dimensions; numpy or torch. Neither centred nor
            scaled.
        alpha: Order of the entropy, above 0. Order 1 is the limit, the Shannon entropy; order 2 needs no eigenvalues.
            The entropy falls as alpha rises.
        normalization: "raw"; "maxEntropy" (/ min(ln n, ln d)); "logN"; "logD"; "logNlogD" (/ (ln n ln d)).

    Returns:
        float64 (...), numpy or torch like Z; in nats and in 0..min(ln n, ln d) when raw. 0 where Z is all zero or has
        one direction only.

    Raises:
        InputError: (a ValueError) Z has fewer than two axes, an empty axis, or NaN or infinity (the message names the
            first such item of a batch); alpha is not a finite number above 0; the normalization is unknown or would
            divide by ln 1.

    Example:
        >>> import numpy as np
        >>> float(matrix_entropy(np.eye(4))) == float(np.log(4))
        True
    """
    alpha = check_above_zero("alpha", alpha)
    batch = read_batch("Z", Z, "n, d")
    scale = divisor(normalization, *batch.values.shape[1:])
    found = in_portions(lambda rows: row_entropy(rows.values, alpha), batch, copies=2)
    return restore_shape(found / scale, batch)


def effective_rank(Z: Any) -> Array:
    """Number of dimensions that the rows of Z use: exp of the entropy of the singular values, scaled to sum to 1.

    Roy and Vetterli (2007). Never below exp(S_1(Z)), which uses the squared singular values: squaring makes a
    distribution less even. Theorem 1 of "Layer by Layer" (ICML 2025) prints the inequality the other way round.

    Args:
        Z: (..., n, d); numpy or torch. Neither centred nor scaled.

    Returns:
        float64 (...), numpy or torch like Z, in 1..min(n, d); 1 where Z is all zero. High: many dimensions are in use.

    Raises:
        InputError: (a ValueError) as in `matrix_entropy`.

    Example:
        >>> import numpy as np
        >>> round(float(effective_rank(np.eye(4))), 9), float(effective_rank(np.ones((5, 3))))
        (4.0, 1.0)
    """
    batch = read_batch("Z", Z, "n, d")
    return restore_shape(in_portions(_effective_rank, batch, copies=3), batch)


def dataset_entropy(Z: Any, alpha: float = 1.0, normalization: str = "raw") -> Array:
    """Entropy of a corpus at one layer: of the pooled vectors of its texts, centred and scaled to length 1.

    Section 3.3.1 of "Layer by Layer" (ICML 2025). High: texts differ in many directions. Low: they have collapsed onto
    few. The paper's criterion picks the layer with the lowest value.

    Args:
        Z: (..., n, d), the vectors of n texts; numpy or torch. A vector that equals the mean up to rounding has no
            direction and counts as zero.
        alpha: Order of the entropy, see `matrix_entropy`.
        normalization: Normalization of the entropy, see `matrix_entropy`.

    Returns:
        float64 (...), numpy or torch like Z; in nats and in 0..min(ln n, ln d) when raw; 0 where all vectors are equal.

    Raises:
        InputError: (a ValueError) as in `matrix_entropy`.

    Example:
        >>> float(dataset_entropy([[1.0, 2.0], [1.0, 2.0]]))
        0.0
    """
    alpha = check_above_zero("alpha", alpha)
    batch = read_batch("Z", Z, "n, d")
    scale = divisor(normalization, *batch.values.shape[1:])
    found = in_portions(lambda rows: row_entropy(centred_unit_rows(rows.values), alpha), batch, copies=2)
    return restore_shape(found / scale, batch)


def _effective_rank(rows: Portion) -> torch.Tensor:
    return renyi(singular_values(rows.values), 1.0).exp()
