"""Metrics of augmented views of the same texts: InfoNCE, LiDAR, DiME. The views are built elsewhere.

They measure whether a layer keeps the content of a text when its form changes.
"""

import math
from typing import Any

import numpy as np
import torch

from midlayer_embed.ground.checks import check_above_zero, check_int
from midlayer_embed.metrics.arrays import (
    Array,
    read_batch,
    read_pair,
    reject_items,
    restore_shape,
)
from midlayer_embed.metrics.gram import centred_unit_rows, divisor, entropy, lower_product, row_entropy, unit_rows
from midlayer_embed.metrics.portions import PORTION_BYTES, Portion, in_portions, on_every_core

# Smallest acceptable pivot of the Cholesky factor of LiDAR's within-class scatter, relative to the largest.
_LEAST_PIVOT = 1e-5


def infonce(A: Any, B: Any, temperature: float = 0.1) -> Array:
    """InfoNCE loss: how hard it is to find the B view of a text among all n by cosine with its A view, and vice versa.

    Oord et al. (2018); section 3.3.3 of "Layer by Layer" (ICML 2025). Rows are scaled to length 1 and similarities
    divided by the temperature. The loss is the cross-entropy of the true partner, averaged over texts and over both
    directions. Lower is better.

    Args:
        A: (..., n, d), one view of n texts; numpy or torch. A row of zeros has cosine 0 with every row.
        B: (..., n, d), another view of the same texts in the same order.
        temperature: Temperature of the softmax, above 0.

    Returns:
        float64 (...), numpy or torch like A and B; in nats, 0 or more; ln n by chance; 0 for a single text.

    Raises:
        InputError: (a ValueError) A or B has fewer than two axes, an empty axis, or NaN or infinity (the message names
            the first such item of a batch); the shapes differ; the temperature is not a finite number above 0.

    Example:
        >>> import numpy as np
        >>> float(infonce(np.zeros((4, 2)), np.zeros((4, 2)))) == math.log(4)
        True
    """
    temperature = check_above_zero("temperature", temperature)
    first, second = read_pair(A, B)
    n = first.values.shape[1]
    found = in_portions(lambda a, b: _infonce(a, b, temperature), first, second, copies=1, extra=2 * n * n)
    return restore_shape(found, first)


def mi_lower_bound(A: Any, B: Any, temperature: float = 0.1) -> Array:
    """Lower bound of the mutual information of two views of a text: ln n - InfoNCE. Higher is better.

    Theorems 3 and 7 of "Layer by Layer" (ICML 2025), after Oord et al. (2018). It is also a lower bound of the entropy
    of the representation.

    Args:
        A: (..., n, d), one view of n texts; numpy or torch.
        B: (..., n, d), another view of the same texts in the same order.
        temperature: Temperature of the softmax, above 0.

    Returns:
        float64 (...), numpy or torch like A and B; in nats, at most ln n; below 0 where partners are found less often
        than by chance.

    Raises:
        InputError: (a ValueError) as in `infonce`.

    Example:
        >>> import numpy as np
        >>> views = np.eye(4)
        >>> round(float(mi_lower_bound(views, views)), 3)
        1.386
    """
    loss = infonce(A, B, temperature)
    return math.log(np.shape(A)[-2]) - loss


def lidar(V: Any, delta: float = 1e-4, normalization: str = "raw") -> Array:
    """LiDAR: entropy of the directions that separate texts, relative to the scatter among the views of a text.

    Thilak et al. (2024); section 3.3.3 of "Layer by Layer" (ICML 2025). Each text is a class, its views are the
    samples. LiDAR is S_1 of W^(-1/2) B W^(-1/2): B is the scatter of the class means (a mean over classes), W the
    scatter of the views about their class mean (a mean over views) with delta added to its diagonal. Views are neither
    centred nor scaled. Its exponential is the rank of Thilak et al. Higher: more directions separate texts.

    Args:
        V: (..., n, views, d), the views of n texts; numpy or torch.
        delta: Regularisation of the within-class scatter, above 0: without it, directions without scatter would count
            without bound.
        normalization: Normalization of the entropy, see `matrix_entropy`; n is the number of texts.

    Returns:
        float64 (...), numpy or torch like V; in nats and in 0..min(ln n, ln d) when raw; 0 where all class means are
        equal.

    Raises:
        InputError: (a ValueError) V has fewer than three axes, an empty axis, or NaN or infinity (the message names
            the first such item of a batch); delta is not a finite number above 0; the normalization is unknown or
            would divide by ln 1.

    Example:
        >>> import numpy as np
        >>> square = np.array([[0.0, 1.0], [0.0, -1.0], [1.0, 0.0], [-1.0, 0.0]])
        >>> round(float(lidar(np.stack([square, square], axis=1))), 6) == round(math.log(2), 6)
        True
    """
    delta = check_above_zero("delta", delta)
    batch = read_batch("V", V, "n, views, d")
    n, _, d = batch.values.shape[1:]
    scale = divisor(normalization, n, d)
    run = on_every_core if batch.values.is_cpu else map
    each = run(lambda views: _lidar(views, delta), list(batch.values))
    found = torch.cat([batch.values.new_zeros(0, dtype=torch.float64), *each])
    reject_items(found.isnan(), batch, "holds NaN or infinity")
    return restore_shape(found / scale, batch)


def dime(
    A: Any,
    B: Any,
    alpha: float = 1.0,
    n_permutations: int = 10,
    seed: int = 0,
    normalization: str = "raw",
) -> Array:
    """DiME: difference of the joint entropy of two views between random pairs and true pairs.

    Skean et al. (2023); section 3.3.3 of "Layer by Layer" (ICML 2025). Rows are centred and scaled to length 1. With
    their Gram matrices K_a and K_b (n x n), DiME is the mean over random permutations P of S(K_a o P K_b P^T), minus
    S(K_a o K_b), where o is the elementwise product. It is a surrogate of the mutual information of the views. Higher:
    true pairs differ more from random ones. (The paper's criterion picks the layer with the lowest value.)

    Each call draws one set of permutations, the same for every item of a batch and for numpy and torch. The global
    random state is neither used nor changed. Memory does not grow with the batch or the number of permutations: each
    CPU thread holds about 16 MB of copies and n x n matrices, or about seven n x n matrices if that is more.

    Args:
        A: (..., n, d), one view of n texts; numpy or torch.
        B: (..., n, d), another view of the same texts in the same order.
        alpha: Order of the entropy, see `matrix_entropy`. Order 2 needs no eigenvalues and is by far the fastest.
        n_permutations: Number of random pairings, 1 or more.
        seed: Seed of the permutations.
        normalization: Normalization of the entropy, see `matrix_entropy`.

    Returns:
        float64 (...), numpy or torch like A and B; in nats and in -ln n..ln n when raw (below zero by chance only); 0
        where all rows of A or of B are equal, and for a single text.

    Raises:
        InputError: (a ValueError) as in `infonce`; alpha, n_permutations or seed is out of range; the normalization is
            unknown or would divide by ln 1.

    Example:
        >>> import numpy as np
        >>> views = np.random.default_rng(0).normal(size=(2, 50, 8))
        >>> bool(dime(views[0], views[0]) > dime(views[0], views[1]))
        True
    """
    alpha = check_above_zero("alpha", alpha)
    check_int("n_permutations", n_permutations, 1)
    check_int("seed", seed, 0)
    first, second = read_pair(A, B)
    n, d = first.values.shape[1:]
    scale = divisor(normalization, n, d)
    generator = np.random.default_rng(seed)
    shuffles = np.stack([np.arange(n), *(generator.permutation(n) for _ in range(n_permutations))])
    orders = torch.from_numpy(shuffles).to(first.values.device)
    found = in_portions(lambda a, b: _dime(a, b, orders, alpha), first, second, copies=1, extra=5 * n * n)
    return restore_shape(found / scale, first)


def _infonce(A: Portion, B: Portion, temperature: float) -> torch.Tensor:
    scores = unit_rows(A.values) @ unit_rows(B.values).mT
    scores /= temperature
    right = scores.diagonal(dim1=-2, dim2=-1)
    losses = (scores.logsumexp(-1) + scores.logsumexp(-2)) / 2 - right
    return losses.mean(-1).clamp(min=0)


def _lidar(V: torch.Tensor, delta: float) -> torch.Tensor:
    """LiDAR of one item (n, views, d), as (1,); NaN if the item holds NaN or infinity."""
    n, views, d = V.shape
    means = V.new_empty(n, d, dtype=torch.float64)
    within = V.new_zeros(d, d, dtype=torch.float64)
    # A few classes at a time: float64 copies of all views would be large. Not as second moments minus squared means:
    # where views agree, that difference is rounding error.
    step = max(1, PORTION_BYTES // (8 * views * d))
    for start in range(0, n, step):
        classes = slice(start, start + step)
        deviations = V[classes].to(torch.float64, copy=True)
        means[classes] = deviations.mean(dim=1)
        deviations = deviations.sub_(means[classes].unsqueeze(1)).flatten(0, 1)
        within += lower_product(deviations.mT)  # the only part that is read
    if not bool(torch.isfinite(within).all()):
        peak = float(V.abs().max())
        if not math.isfinite(peak):
            return within.new_full((1,), math.nan)
        # Squares overflowed, so scale V, and delta with it: delta is absolute.
        return _lidar(V.double() / peak, max(delta / peak / peak, 1e-300))
    within /= n * views
    within.diagonal().add_(delta)
    between = means - means.mean(dim=0)
    # With within = L L^T, the Gram matrix of the rows of between L^-T has the eigenvalues of the LDA matrix.
    factor, failed = torch.linalg.cholesky_ex(within)
    pivots = factor.diagonal()
    if failed or bool(pivots.min() < _LEAST_PIVOT * pivots.max()):
        # Ill-conditioned: small scatters are lost in the rounding of large ones. QR of the deviations avoids squaring.
        rows = (V.double() - means.unsqueeze(1)).flatten(0, 1) / math.sqrt(n * views)
        ridge = math.sqrt(delta) * torch.eye(d, dtype=rows.dtype, device=rows.device)
        factor = torch.linalg.qr(torch.cat([rows, ridge]), mode="r").R.mT
    white = torch.linalg.solve_triangular(factor.mT, between, upper=True, left=False)
    peak = white.abs().max()
    return row_entropy((white / peak.where(peak > 0, 1)).unsqueeze(0), 1.0)


def _dime(A: Portion, B: Portion, orders: torch.Tensor, alpha: float) -> torch.Tensor:
    first, second = (rows @ rows.mT for rows in (centred_unit_rows(A.values), centred_unit_rows(B.values)))

    def joint(order: torch.Tensor) -> torch.Tensor:
        # Permute rows, then columns as rows of the transpose (the matrix is symmetric): this copies whole rows.
        shuffled = second.index_select(1, order).mT.contiguous().index_select(1, order)
        return entropy(shuffled.mul_(first), alpha)

    entropies = torch.stack(on_every_core(joint, list(orders)) if first.is_cpu else [joint(order) for order in orders])
    return entropies[1:].mean(0) - entropies[0]
