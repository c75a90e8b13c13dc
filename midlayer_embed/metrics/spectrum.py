"""Metrics of the eigenvalues of a set of vectors: matrix-based entropy and what is made of it."""

import math
from typing import Any

import numpy as np

from midlayer_embed.errors import InputError

# What each normalisation divides by, given n rows and d dimensions.
_NORMALIZERS = {
    "raw": lambda n, d: 1.0,
    "maxEntropy": lambda n, d: min(math.log(n), math.log(d)),
    "logN": lambda n, d: math.log(n),
    "logD": lambda n, d: math.log(d),
    "logNlogD": lambda n, d: math.log(n) * math.log(d),
}
NORMALIZATIONS = tuple(_NORMALIZERS)


def matrix_entropy(Z: Any, alpha: float = 1.0, normalization: str = "raw") -> np.ndarray:
    """Renyi's matrix-based entropy S_alpha of the rows of Z: how evenly they fill their dimensions.

    The eigenvalues of the Gram matrix Z Z^T (or of Z^T Z, the same but for zeros; whichever is smaller) are scaled to
    sum to 1 and their Renyi entropy of order alpha is taken, in nats. Equation 1 of "Layer by Layer" (ICML 2025).

    Args:
        Z: (..., n, d), n rows of d dimensions; any leading batch dimensions. Used as given: not centred, not scaled.
        alpha: Order, above 0. 1 is the limit, Shannon's entropy; 2 needs no eigenvalues.
        normalization: "raw"; "maxEntropy" (/ min(ln n, ln d)); "logN"; "logD"; "logNlogD" (/ (ln n ln d)).

    Returns:
        float64 (...), in 0..min(ln n, ln d) when raw. 0 where all of Z is zero or it has one direction only.

    Raises:
        InputError: (a ValueError) Z has fewer than two axes, no rows, or holds NaN or infinity; alpha is not above
            0; an unknown normalization, or one that would divide by ln 1.

    Example:
        >>> float(matrix_entropy(np.eye(4))) == math.log(4)
        True
    """
    states = np.asarray(Z, dtype=np.float64)
    if states.ndim < 2 or 0 in states.shape[-2:]:
        raise InputError(f"Z: expected an array (..., n, d) with n, d >= 1, got shape {states.shape}")
    finite = np.isfinite(states).all(axis=(-2, -1))
    if not finite.all():
        where = f" in item {tuple(int(i) for i in np.argwhere(~finite)[0])}" if finite.ndim else ""
        raise InputError(f"Z: holds NaN or infinity{where}")
    if not (isinstance(alpha, (int, float)) and alpha > 0):
        raise InputError(f"alpha: expected a number above 0, got {alpha!r}")
    n, d = states.shape[-2:]
    if normalization not in _NORMALIZERS:
        raise InputError(f"normalization: expected one of {', '.join(NORMALIZATIONS)}, got {normalization!r}")
    divisor = _NORMALIZERS[normalization](n, d)
    if divisor == 0:
        raise InputError(f"normalization: {normalization} divides by ln 1 for shape {states.shape}")
    return np.asarray(_entropy(states, float(alpha)) / divisor)


def dataset_entropy(vectors: Any, normalization: str = "raw") -> np.ndarray:
    """The entropy of a corpus at one layer: pooled vectors of its texts, centred over texts, rows scaled to length 1.

    Low: the texts have collapsed onto few directions. Section 3 of "Layer by Layer" (ICML 2025).

    Args:
        vectors: (..., n, d): n texts.
        normalization: As in `matrix_entropy`.

    Returns:
        float64 (...), in 0..min(ln n, ln d) when raw; 0 where all vectors are equal.

    Raises:
        InputError: (a ValueError) as `matrix_entropy`.

    Example:
        >>> float(dataset_entropy([[1.0, 2.0], [1.0, 2.0]]))
        0.0
    """
    rows = np.asarray(vectors, dtype=np.float64)
    if rows.ndim >= 2 and np.isfinite(rows).all():
        centred = rows - rows.mean(axis=-2, keepdims=True)
        # What centring leaves of equal rows is rounding, not direction.
        noise = np.finfo(np.float64).eps * rows.shape[-2] * np.abs(rows).max(axis=(-2, -1), keepdims=True, initial=0)
        lengths = np.linalg.norm(centred, axis=-1, keepdims=True)
        rows = np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > noise)
    return matrix_entropy(rows, normalization=normalization)


def _entropy(states: np.ndarray, alpha: float) -> np.ndarray:
    # Scaling first keeps tiny and huge values from under- and overflowing when squared.
    scale = np.abs(states).max(axis=(-2, -1), keepdims=True)
    states = np.divide(states, scale, out=np.zeros_like(states), where=scale > 0)
    transposed = np.swapaxes(states, -2, -1)
    gram = states @ transposed if states.shape[-2] <= states.shape[-1] else transposed @ states
    trace = np.trace(gram, axis1=-2, axis2=-1)
    empty = trace == 0
    trace = np.where(empty, 1.0, trace)
    if alpha == 2:
        entropy = -np.log(np.where(empty, 1.0, (gram**2).sum(axis=(-2, -1)) / trace**2))
    else:
        shares = np.clip(np.linalg.eigvalsh(gram), 0, None) / trace[..., None]
        if alpha == 1:
            entropy = -np.sum(shares * np.log(np.where(shares > 0, shares, 1.0)), axis=-1)
        else:
            entropy = np.log(np.where(empty, 1.0, np.sum(shares**alpha, axis=-1))) / (1 - alpha)
    return np.where(empty, 0.0, np.maximum(entropy, 0.0))
