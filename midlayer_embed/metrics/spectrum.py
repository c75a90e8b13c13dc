"""Metrics based on the eigenvalues of a set of vectors: entropies, effective rank, isotropy, decay of the spectrum."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from midlayer_embed.ground.checks import check_orders
from midlayer_embed.metrics.arrays import Array, read_batch, restore_shape
from midlayer_embed.metrics.gram import (
    centred_rows,
    centred_unit_rows,
    divisor,
    gram,
    renyi,
    row_entropies,
    singular_values,
)
from midlayer_embed.metrics.portions import Portion, in_portions

__all__ = ["alpha_req", "dataset_entropy", "effective_rank", "isotropy", "matrix_entropy"]

# The ranks of eigenvalues behind `alpha_req`, the first of them left out, as in the code of its authors.
_SKIPPED_RANKS, _LAST_RANK = 10, 100
# Singular values that are less, relative to the norm of all vectors, are the rounding of float32 states.
_ROUNDING = 1e-7


def matrix_entropy(Z: Any, alpha: float | Sequence[float] = 1.0, normalization: str = "raw") -> Array:
    """Matrix-based Renyi entropy S_alpha of the rows of Z: how evenly they fill their dimensions.

    The Renyi entropy of order alpha of the eigenvalues of the Gram matrix, scaled to sum to 1. The Gram matrix is
    Z Z^T or Z^T Z, whichever is smaller; their nonzero eigenvalues agree. Equation 1 of "Layer by Layer" (ICML 2025).

    High: many directions, evenly used. Low: compressed onto few directions. Neither is better by itself.

    Args:
        Z: (..., n, d), n rows of d dimensions, with any leading batch dimensions; numpy or torch. Neither centred nor
            scaled.
        alpha: Order of the entropy, above 0. Order 1 is the limit, the Shannon entropy; order 2 needs no eigenvalues.
            The entropy falls as alpha rises. Several orders, from one decomposition, are the last axis of the result.
        normalization: "raw"; "maxEntropy" (/ min(ln n, ln d)); "logN"; "logD"; "logNlogD" (/ (ln n ln d)).

    Returns:
        float64 (...), or (..., k) for k orders, numpy or torch like Z; in nats and in 0..min(ln n, ln d) when raw. 0
        where Z is all zero or has one direction only.

    Raises:
        InputError: (a ValueError) Z has fewer than two axes, an empty axis, or NaN or infinity (the message names the
            first such item of a batch); alpha is not a finite number above 0; the normalization is unknown or would
            divide by ln 1.

    Example:
        >>> import numpy as np
        >>> float(matrix_entropy(np.eye(4))) == float(np.log(4))
        True
        >>> matrix_entropy(np.diag([3.0, 1.0]), alpha=[0.5, 1, 2]).round(3).tolist()  # of eigenvalues 0.9 and 0.1
        [0.47, 0.325, 0.198]
    """
    alphas, several = check_orders("alpha", alpha)
    batch = read_batch("Z", Z, "n, d")
    scale = divisor(normalization, *batch.values.shape[1:])
    found = in_portions(lambda rows: row_entropies(rows.values, alphas), batch, copies=2) / scale
    return restore_shape(found if several else found.squeeze(-1), batch)


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


def dataset_entropy(Z: Any, alpha: float | Sequence[float] = 1.0, normalization: str = "raw") -> Array:
    """Entropy of a corpus at one layer: of the pooled vectors of its texts, centred and scaled to length 1.

    Section 3.3.1 of "Layer by Layer" (ICML 2025). High: texts differ in many directions. Low: they have collapsed onto
    few. The paper's criterion picks the layer with the lowest value.

    Args:
        Z: (..., n, d), the vectors of n texts; numpy or torch. A vector that equals the mean up to rounding has no
            direction and counts as zero.
        alpha: Order of the entropy, or several, see `matrix_entropy`.
        normalization: Normalization of the entropy, see `matrix_entropy`.

    Returns:
        float64 (...), or (..., k) for k orders, numpy or torch like Z; in nats and in 0..min(ln n, ln d) when raw; 0
        where all vectors are equal.

    Raises:
        InputError: (a ValueError) as in `matrix_entropy`.

    Example:
        >>> float(dataset_entropy([[1.0, 2.0], [1.0, 2.0]]))
        0.0
    """
    alphas, several = check_orders("alpha", alpha)
    batch = read_batch("Z", Z, "n, d")
    scale = divisor(normalization, *batch.values.shape[1:])
    found = in_portions(lambda rows: row_entropies(centred_unit_rows(rows.values), alphas), batch, copies=2) / scale
    return restore_shape(found if several else found.squeeze(-1), batch)


def isotropy(Z: Any) -> Array:
    """Isotropy of a corpus at one layer: mean over standard deviation of the eigenvalues of the covariance of Z.

    Batra et al. (2026), whose LOES takes, without labels, the layer where 1 - isotropy is lowest: the most isotropic
    one. Here without the constants that their code adds against rounding, and over all d eigenvalues, those that are
    zero because n is small included. High: vectors spread alike in all directions. Low: a few directions hold most of
    the variance.

    Args:
        Z: (..., n, d), the vectors of n texts; numpy or torch. They are centred.

    Returns:
        float64 (...), numpy or torch like Z; 1 / sqrt(d - 1) (one direction only) to infinity (all eigenvalues are
        equal, as for d = 1); 0 where all vectors are equal.

    Raises:
        InputError: (a ValueError) as in `matrix_entropy`.

    Example:
        >>> round(float(isotropy([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])), 9)  # eigenvalues 4.5 and 0.5
        1.25
    """
    batch = read_batch("Z", Z, "n, d")
    return restore_shape(in_portions(_isotropy, batch, copies=3), batch)


def alpha_req(Z: Any) -> Array:
    """alpha-ReQ: how fast the eigenvalues of the covariance of Z fall, as the exponent of a power law of their rank.

    Agrawal et al. (2022). Eigenvalues in falling order, eigenvalue_i ~ i^(-alpha): minus the slope of a line through
    their logarithms over log i, by least squares weighted with 1 / i, over the ranks 11 to 100 as in the authors' code;
    where fewer than 21 are above the rounding of float32, over the lower half of them. High: a few directions dominate.
    Near 0: all directions alike. Values near 1 went with good representations in vision.

    Args:
        Z: (..., n, d), the vectors of n texts; numpy or torch. They are centred.

    Returns:
        float64 (...), numpy or torch like Z; 0 or more; NaN where fewer than two eigenvalues are above zero.

    Raises:
        InputError: (a ValueError) as in `matrix_entropy`.

    Example:
        >>> import numpy as np
        >>> axes = np.diag(np.arange(1, 9) ** -0.5)  # eigenvalues 1, 1/2, 1/3, ...
        >>> round(float(alpha_req(np.vstack([axes, -axes]))), 9)
        1.0
    """
    batch = read_batch("Z", Z, "n, d")
    return restore_shape(in_portions(_alpha_req, batch, copies=3), batch)


def _isotropy(rows: Portion) -> torch.Tensor:
    d = rows.values.shape[-1]
    covariance = gram(centred_rows(rows.values))
    mean = covariance.diagonal(dim1=-2, dim2=-1).sum(-1) / d
    # Their squared deviations from the mean, without an eigensolver; eigenvalues that the Gram matrix lacks are zero.
    covariance.diagonal(dim1=-2, dim2=-1).sub_(mean.unsqueeze(-1))
    missing = d - covariance.shape[-1]
    deviations = torch.linalg.matrix_norm(covariance).square() + missing * mean.square()
    found: torch.Tensor = mean / (deviations / d).sqrt()
    return found.where(mean > 0, 0)


def _alpha_req(rows: Portion) -> torch.Tensor:
    noise = _ROUNDING * torch.linalg.matrix_norm(rows.values).unsqueeze(-1)
    sigma = singular_values(centred_rows(rows.values)).sort(descending=True).values
    sigma = sigma.where(sigma > noise, 0)
    count = (sigma > 0).sum(-1, keepdim=True)
    ranks = torch.arange(1, sigma.shape[-1] + 1, device=sigma.device)
    skipped = ((count - 1) // 2).clamp(max=_SKIPPED_RANKS)
    fitted = (ranks > skipped) & (ranks <= count.clamp(max=_LAST_RANK))
    weights = fitted / ranks.double()
    weights = weights / weights.sum(-1, keepdim=True)
    x, y = ranks.double().log().expand_as(sigma), 2 * sigma.where(fitted, 1).log()
    x = x - (weights * x).sum(-1, keepdim=True)
    slope: torch.Tensor = (weights * x * y).sum(-1) / (weights * x.square()).sum(-1)
    return (0.0 - slope).where(count.squeeze(-1) >= 2, math.nan)


def _effective_rank(rows: Portion) -> torch.Tensor:
    return renyi(singular_values(rows.values), 1.0).exp()
