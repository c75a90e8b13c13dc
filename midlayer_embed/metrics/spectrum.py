"""Metrics of the eigenvalues of a set of vectors: matrix-based entropy and what is made of it. Order plays no part."""

from typing import Any

import torch

from midlayer_embed.metrics.arrays import Array, answer, check_above_zero, read
from midlayer_embed.metrics.gram import centred_unit_rows, divisor, renyi, row_entropy, singular_values
from midlayer_embed.metrics.portions import Portion, in_portions

__all__ = ["dataset_entropy", "effective_rank", "matrix_entropy"]


def matrix_entropy(Z: Any, alpha: float = 1.0, normalization: str = "raw") -> Array:
    """Renyi's matrix-based entropy S_alpha of the rows of Z: how evenly they fill their dimensions.

    The eigenvalues of the Gram matrix Z Z^T (or of Z^T Z, the same but for zeros; whichever is smaller) are scaled to
    sum to 1 and their Renyi entropy of order alpha is taken. Equation 1 of "Layer by Layer" (ICML 2025).

    High: many directions, evenly used. Low: compressed onto few. Neither is better by itself.

    Args:
        Z: (..., n, d), n rows of d dimensions; any leading batch dimensions; numpy or torch. Used as given: not
            centred, not scaled.
        alpha: Order, above 0. 1 is the limit, Shannon's entropy; 2 needs no eigenvalues. Falls as alpha rises.
        normalization: "raw"; "maxEntropy" (/ min(ln n, ln d)); "logN"; "logD"; "logNlogD" (/ (ln n ln d)).

    Returns:
        float64 (...) of the kind of Z; in nats and in 0..min(ln n, ln d) when raw. 0 where all of Z is zero or it has
        one direction only.

    Raises:
        InputError: (a ValueError) Z has fewer than two axes, no rows, or holds NaN or infinity (the first such item
            of a batch is named); alpha is not a finite number above 0; an unknown normalization, or one that would
            divide by ln 1.

    Example:
        >>> import numpy as np
        >>> float(matrix_entropy(np.eye(4))) == float(np.log(4))
        True
    """
    alpha = check_above_zero("alpha", alpha)
    batch = read("Z", Z, "n, d")
    scale = divisor(normalization, *batch.values.shape[1:])
    found = in_portions(lambda rows: row_entropy(rows.values, alpha), batch, copies=2)
    return answer(found / scale, batch)


def effective_rank(Z: Any) -> Array:
    """How many dimensions the rows of Z use: exp of the entropy of the singular values, scaled to sum to 1.

    Roy and Vetterli (2007). Never below exp(S_1(Z)), the same of the squared singular values: squaring makes a
    distribution less even. Theorem 1 of "Layer by Layer" (ICML 2025) prints the inequality the other way round.

    Args:
        Z: (..., n, d); numpy or torch. Used as given: not centred, not scaled.

    Returns:
        float64 (...) of the kind of Z, in 1..min(n, d); 1 where all of Z is zero. High: many dimensions are in use.

    Raises:
        InputError: (a ValueError) as `matrix_entropy`.

    Example:
        >>> import numpy as np
        >>> round(float(effective_rank(np.eye(4))), 9), float(effective_rank(np.ones((5, 3))))
        (4.0, 1.0)
    """
    batch = read("Z", Z, "n, d")
    return answer(in_portions(_effective_rank, batch, copies=3), batch)


def dataset_entropy(Z: Any, alpha: float = 1.0, normalization: str = "raw") -> Array:
    """The entropy of a corpus at one layer: pooled vectors of its texts, centred over texts, rows scaled to length 1.

    Section 3.3.1 of "Layer by Layer" (ICML 2025). High: the texts are kept apart in many directions. Low: they have
    collapsed onto few. The paper's criterion picks the layer where it is lowest.

    Args:
        Z: (..., n, d): n texts; numpy or torch. A text at the mean, but for rounding, has no direction and counts as
            zero.
        alpha: As in `matrix_entropy`.
        normalization: As in `matrix_entropy`.

    Returns:
        float64 (...) of the kind of Z; in nats and in 0..min(ln n, ln d) when raw; 0 where all vectors are equal.

    Raises:
        InputError: (a ValueError) as `matrix_entropy`.

    Example:
        >>> float(dataset_entropy([[1.0, 2.0], [1.0, 2.0]]))
        0.0
    """
    alpha = check_above_zero("alpha", alpha)
    batch = read("Z", Z, "n, d")
    scale = divisor(normalization, *batch.values.shape[1:])
    found = in_portions(lambda rows: row_entropy(centred_unit_rows(rows.values), alpha), batch, copies=2)
    return answer(found / scale, batch)


def _effective_rank(rows: Portion) -> torch.Tensor:
    return renyi(singular_values(rows.values), 1.0).exp()
