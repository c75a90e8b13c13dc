"""Gram matrices, their eigenvalues and Renyi entropies.

All tensors are float64 (m, ...), for m matrices at once. Arguments are checked in `arrays`, not here.
"""

import math
from collections.abc import Callable, Sequence

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

# Below this size, half of a product in blocks is not faster than the whole product.
_WORTH_BLOCKS = 256

_EPS = torch.finfo(torch.float64).eps
# If the smallest eigenvalue is below this fraction of the largest, its square root is mostly rounding error.
_ILL_CONDITIONED = 1e-9


def divisor(normalization: str, n: int | torch.Tensor, d: int) -> torch.Tensor:
    """Divisor of an entropy under a normalisation.

    Args:
        normalization: One of `terms.NORMALIZATIONS`.
        n: Number of rows: an int, or a tensor with one number per item (values below 2 are not checked).
        d: Number of dimensions.

    Returns:
        float64, a scalar or of the shape of n.

    Raises:
        InputError: (a ValueError) the normalisation is unknown, or it would divide by ln 1.

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
    """Scale rows to length 1, in place. Rows of zeros stay zero.

    Args:
        Z: (m, n, d).
    """
    lengths = torch.linalg.vector_norm(Z, dim=-1, keepdim=True)
    return Z.mul_(torch.where(lengths > 0, 1 / lengths, 0))


def centred_unit_rows(Z: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Centre rows and scale them to length 1, in place. Rows that equal the mean up to rounding become zero.

    Args:
        Z: (m, n, d), zero where the mask is False.
        mask: (m, n), True for the rows that count. The others stay zero.
    """
    lengths = _centre(Z, mask)
    return Z.mul_(torch.where(lengths > 0, 1 / lengths, 0))


def centred_rows(Z: torch.Tensor) -> torch.Tensor:
    """Centre rows, in place. Rows that equal the mean up to rounding become zero.

    Args:
        Z: (m, n, d).
    """
    lengths = _centre(Z, None)
    return Z.mul_(lengths > 0)


def _centre(Z: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Centre rows in place. Returns their lengths, (m, n, 1): 0 for rows that equal the mean up to rounding."""
    n = Z.shape[-2]
    if mask is None:
        mean = Z.mean(dim=-2, keepdim=True)
    else:
        weights = mask.double()
        mean = (weights / weights.sum(dim=-1, keepdim=True).clamp(min=1)).unsqueeze(-2) @ Z
    lengths = torch.linalg.vector_norm(Z.sub_(mean), dim=-1, keepdim=True)
    kept = torch.ones_like(lengths, dtype=torch.bool) if mask is None else mask.unsqueeze(-1)
    # Upper bound of the row lengths: a sum of n rows is exact to n rounding errors of it.
    longest = lengths.where(kept, 0).amax(-2, keepdim=True) + torch.linalg.vector_norm(mean, dim=-1, keepdim=True)
    found: torch.Tensor = lengths.where(kept & (lengths > _EPS * n * longest), 0)
    return found


def gram(Z: torch.Tensor) -> torch.Tensor:
    """Z Z^T or Z^T Z, whichever is smaller: they have the same nonzero eigenvalues.

    Args:
        Z: (m, n, d).

    Returns:
        (m, k, k), k = min(n, d).
    """
    return Z @ Z.mT if Z.shape[-2] <= Z.shape[-1] else Z.mT @ Z


def lower_product(rows: torch.Tensor) -> torch.Tensor:
    """Lower triangle of rows rows^T, the only part that LAPACK reads. Entries above the diagonal are not valid.

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
    """Like `gram`, but only the lower triangle is valid.

    Args:
        Z: (m, n, d).

    Returns:
        (m, k, k), k = min(n, d).
    """
    return lower_product(Z if Z.shape[-2] <= Z.shape[-1] else Z.mT)


def entropy(K: torch.Tensor, alpha: float) -> torch.Tensor:
    """Entropy S_alpha of positive semi-definite matrices; 0 for zero matrices. Equation 1 of "Layer by Layer".

    Args:
        K: (m, k, k). Except for order 2, only the lower triangle is read.
        alpha: Order of the entropy, above 0. Order 2 needs no eigenvalues.

    Returns:
        (m,), in nats.
    """
    if alpha == 2:
        trace = K.diagonal(dim1=-2, dim2=-1).sum(-1)
        squares = torch.linalg.matrix_norm(K).square() / trace.where(trace > 0, 1).square()
        collision: torch.Tensor = -squares.where(trace > 0, 1).log()
        return collision.clamp(min=0) + 0.0  # + 0.0: no negative zero
    found: torch.Tensor = torch.linalg.eigvalsh(K)
    if alpha < 1:  # eigenvalues that should be zero are rounding errors, which low orders amplify
        found = found.where(found > K.shape[-1] * _EPS * found[:, -1:], 0)
    return renyi(found, alpha)


def row_entropies(Z: torch.Tensor, alphas: Sequence[float]) -> torch.Tensor:
    """Entropies S_alpha of the Gram matrices of rows, all orders from one decomposition.

    Below order 1 small eigenvalues matter. They are inaccurate in a Gram matrix, so singular values are used.

    Args:
        Z: (m, n, d).
        alphas: k orders, above 0. Order 2 alone needs no eigenvalues.

    Returns:
        (m, k), in nats.
    """
    if set(alphas) == {2}:
        return entropy(gram(Z), 2).unsqueeze(-1).expand(-1, len(alphas))
    found = singular_values(Z).square() if min(alphas) < 1 else torch.linalg.eigvalsh(lower_gram(Z))
    return torch.stack([renyi(found, alpha) for alpha in alphas], dim=-1)


def row_entropy(Z: torch.Tensor, alpha: float) -> torch.Tensor:
    """Like `row_entropies`, for one order: (m,)."""
    return row_entropies(Z, [alpha]).squeeze(-1)


def renyi(weights: torch.Tensor, alpha: float) -> torch.Tensor:
    """Renyi entropy of order alpha of weights, which are scaled to sum to 1.

    Args:
        weights: (m, k). Negative values are rounding errors and count as zero.
        alpha: Order of the entropy, above 0. Order 1 is the Shannon entropy.

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
    elif abs(alpha - 1) < 0.5:  # sum p^alpha = 1 + sum p (p^(alpha-1) - 1), exact as alpha approaches 1
        found = (shares * ((alpha - 1) * logs).expm1()).sum(-1).log1p() / (1 - alpha)
    else:
        powers = (alpha * logs).where(shares > 0, -math.inf)
        found = powers.logsumexp(-1) / (1 - alpha)
    return found.clamp(min=0).where(total.squeeze(-1) > 0, 0) + 0.0  # + 0.0: no negative zero


def singular_values(Z: torch.Tensor) -> torch.Tensor:
    """Singular values of each matrix, unordered. Values that are zero up to rounding are set to zero.

    Computed as square roots of the eigenvalues of the Gram matrix, much faster than an SVD, where these are accurate
    enough: a zero eigenvalue comes out as 1e-16 of the largest, its root as 1e-8.

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
