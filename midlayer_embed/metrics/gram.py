"""The core of the entropies: Gram matrices of rows, their eigenvalues, and Renyi entropies of those.

Everything is a float64 tensor (m, ...), m matrices at once. What is checked is checked in `arrays`.
"""

import math
from collections.abc import Callable

import torch

from midlayer_embed.errors import InputError
from midlayer_embed.terms import NORMALIZATIONS

# What each normalisation divides an entropy by, given ln n of the rows (a tensor) and ln d of the dimensions.
_NORMALIZERS: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "raw": lambda ln_n, ln_d: torch.ones_like(ln_n),
    "maxEntropy": lambda ln_n, ln_d: ln_n.clamp(max=ln_d),
    "logN": lambda ln_n, ln_d: ln_n,
    "logD": lambda ln_n, ln_d: torch.full_like(ln_n, ln_d),
    "logNlogD": lambda ln_n, ln_d: ln_n * ln_d,
}

# Below this size half a product in blocks is no quicker than a whole one.
_WORTH_BLOCKS = 256

_EPS = torch.finfo(torch.float64).eps
# A smallest eigenvalue below this share of the largest: its square root is mostly rounding.
_ILL_CONDITIONED = 1e-9


def divisor(normalization: str, n: int | torch.Tensor, d: int) -> torch.Tensor:
    """What a normalisation divides an entropy by.

    Args:
        normalization: One of `terms.NORMALIZATIONS`.
        n: Rows: a number, or one for each item of a batch (those below 2 are not checked).
        d: Dimensions.

    Returns:
        float64, a scalar or of the shape of n.

    Raises:
        InputError: (a ValueError) no such normalisation, or it would divide by ln 1.

    Example:
        >>> float(divisor("logNlogD", 10, 100)) == math.log(10) * math.log(100)
        True
    """
    if normalization not in NORMALIZATIONS:
        raise InputError(f"normalization: expected one of {', '.join(NORMALIZATIONS)}, got {normalization!r}")
    ln_n = torch.as_tensor(n, dtype=torch.float64).log()
    found = _NORMALIZERS[normalization](ln_n, math.log(d))
    if bool((found == 0).any()) and (d == 1 or not isinstance(n, torch.Tensor)):
        rows = "" if isinstance(n, torch.Tensor) else f"n = {n}, "
        raise InputError(f"normalization: {normalization} divides by ln 1 for {rows}d = {d}")
    return found


def unit_rows(Z: torch.Tensor) -> torch.Tensor:
    """Rows scaled to length 1, in place; rows of zeros stay.

    Args:
        Z: (m, n, d).
    """
    lengths = torch.linalg.vector_norm(Z, dim=-1, keepdim=True)
    return Z.mul_(torch.where(lengths > 0, 1 / lengths, 0))


def centred_unit_rows(Z: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Rows minus their mean, scaled to length 1, in place. A row that is the mean, but for rounding, becomes zero.

    Args:
        Z: (m, n, d), zero where the mask is.
        mask: (m, n): rows that count. The others stay zero.
    """
    n = Z.shape[-2]
    if mask is None:
        mean = Z.mean(dim=-2, keepdim=True)
    else:
        weights = mask.double()
        mean = (weights / weights.sum(dim=-1, keepdim=True).clamp(min=1)).unsqueeze(-2) @ Z
    lengths = torch.linalg.vector_norm(Z.sub_(mean), dim=-1, keepdim=True)
    kept = torch.ones_like(lengths, dtype=torch.bool) if mask is None else mask.unsqueeze(-1)
    # No row is longer than this; a sum of n of them is exact to n roundings of it.
    longest = lengths.where(kept, 0).amax(-2, keepdim=True) + torch.linalg.vector_norm(mean, dim=-1, keepdim=True)
    return Z.mul_(torch.where(kept & (lengths > _EPS * n * longest), 1 / lengths, 0))


def gram(Z: torch.Tensor) -> torch.Tensor:
    """Z Z^T, or Z^T Z, which has the same eigenvalues but for zeros: whichever is smaller.

    Args:
        Z: (m, n, d).

    Returns:
        (m, k, k), k = min(n, d).
    """
    return Z @ Z.mT if Z.shape[-2] <= Z.shape[-1] else Z.mT @ Z


def lower_product(rows: torch.Tensor) -> torch.Tensor:
    """The lower triangle of rows rows^T, which is all that LAPACK reads; what stands above it is not to be used.

    Args:
        rows: (..., k, d).

    Returns:
        (..., k, k).
    """
    k = rows.shape[-2]
    if k < _WORTH_BLOCKS:
        return rows @ rows.mT
    found = rows.new_zeros(*rows.shape[:-2], k, k)
    width = math.ceil(k / 4)
    for left in range(0, k, width):
        block = slice(left, left + width)
        found[..., left:, block] = rows[..., left:, :] @ rows[..., block, :].mT
    return found


def lower_gram(Z: torch.Tensor) -> torch.Tensor:
    """`gram`, of which the lower triangle only is to be used.

    Args:
        Z: (m, n, d).

    Returns:
        (m, k, k), k = min(n, d).
    """
    return lower_product(Z if Z.shape[-2] <= Z.shape[-1] else Z.mT)


def entropy(K: torch.Tensor, alpha: float) -> torch.Tensor:
    """S_alpha of positive semi-definite matrices: 0 where a matrix is zero. Equation 1 of "Layer by Layer".

    Args:
        K: (m, k, k). The lower triangle will do, but for order 2.
        alpha: Order, above 0. 2 takes no eigenvalues.

    Returns:
        (m,), in nats.
    """
    if alpha == 2:
        trace = K.diagonal(dim1=-2, dim2=-1).sum(-1)
        squares = torch.linalg.matrix_norm(K).square() / trace.where(trace > 0, 1).square()
        collision: torch.Tensor = -squares.where(trace > 0, 1).log()
        return collision.clamp(min=0) + 0.0  # + 0.0: no negative zero
    found: torch.Tensor = torch.linalg.eigvalsh(K)
    if alpha < 1:  # a zero eigenvalue comes out as rounding, and low orders make much of it
        found = found.where(found > K.shape[-1] * _EPS * found[:, -1:], 0)
    return renyi(found, alpha)


def row_entropy(Z: torch.Tensor, alpha: float) -> torch.Tensor:
    """S_alpha of the Gram matrices of rows.

    Below order 1 small eigenvalues matter, and a Gram matrix has lost them: singular values then.

    Args:
        Z: (m, n, d).
        alpha: Order, above 0.

    Returns:
        (m,), in nats.
    """
    if alpha < 1:
        return renyi(singular_values(Z).square(), alpha)
    return entropy(gram(Z) if alpha == 2 else lower_gram(Z), alpha)


def renyi(weights: torch.Tensor, alpha: float) -> torch.Tensor:
    """Renyi entropy of order alpha of weights scaled to sum to 1.

    Args:
        weights: (m, k). What is below zero is rounding, and taken as zero.
        alpha: Order, above 0. 1 is Shannon's entropy.

    Returns:
        (m,), in nats; 0 where all weights are zero.

    Example:
        >>> renyi(torch.ones(1, 4, dtype=torch.float64), 3.0).exp().round().tolist()
        [4.0]
    """
    weights = weights.clamp(min=0)
    total = weights.sum(-1, keepdim=True)
    shares = weights / total.where(total > 0, 1)
    logs = shares.where(shares > 0, 1).log()
    if alpha == 1:
        found = -(shares * logs).sum(-1)
    elif abs(alpha - 1) < 0.5:  # sum p^alpha is 1 + sum p (p^(alpha-1) - 1): nothing is lost as alpha nears 1
        found = (shares * ((alpha - 1) * logs).expm1()).sum(-1).log1p() / (1 - alpha)
    else:
        powers = (alpha * logs).where(shares > 0, -math.inf)
        found = powers.logsumexp(-1) / (1 - alpha)
    return found.clamp(min=0).where(total.squeeze(-1) > 0, 0) + 0.0  # + 0.0: no negative zero


def singular_values(Z: torch.Tensor) -> torch.Tensor:
    """Singular values of each matrix, those that are zero but for rounding set to zero; in no order.

    Square roots of the Gram matrix's eigenvalues, which is much quicker than a decomposition, where they are exact
    enough: a zero eigenvalue comes out as 1e-16 of the largest, and its root as 1e-8.

    Args:
        Z: (m, n, d).

    Returns:
        (m, min(n, d)).
    """
    squares = torch.linalg.eigvalsh(lower_gram(Z))
    found = squares.clamp(min=0).sqrt()
    poor = squares[:, 0] <= _ILL_CONDITIONED * squares[:, -1]
    if poor.any():
        found[poor] = torch.linalg.svdvals(Z[poor])
    rounding = max(Z.shape[-2:]) * _EPS * found.amax(-1, keepdim=True)
    cleared: torch.Tensor = found.where(found > rounding, 0)
    return cleared
