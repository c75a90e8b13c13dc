"""Metrics of augmented views of the same texts: does a layer keep what the texts are, whatever happens to their form?

How views are made is not known here.
"""

import math
from typing import Any

import numpy as np
import torch

from midlayer_embed.ground.checks import check_int
from midlayer_embed.metrics.arrays import Array, answer, check_above_zero, read, read_pair, refuse
from midlayer_embed.metrics.gram import centred_unit_rows, divisor, entropy, lower_product, row_entropy, unit_rows
from midlayer_embed.metrics.portions import PORTION_BYTES, Portion, in_portions, on_every_core

# Of the Cholesky factor of LiDAR's scatter within classes, as a share of the largest pivot.
_LEAST_PIVOT = 1e-5


def infonce(A: Any, B: Any, temperature: float = 0.1) -> Array:
    """The InfoNCE loss: how badly a text's view in A is told from the n views in B by cosine, and the other way round.

    Oord et al. (2018); section 3.3.3 of "Layer by Layer" (ICML 2025). Rows are scaled to length 1, similarities divided
    by the temperature; the mean cross-entropy of the right partner, A to B and B to A averaged. Lower is better.

    Args:
        A: (..., n, d): one view of n texts; numpy or torch. A row of zeros is alike to nothing (cosine 0).
        B: (..., n, d): another view of the same texts in the same order.
        temperature: Above 0.

    Returns:
        float64 (...) of the kind of A and B; in nats, 0 or more; ln n by chance; 0 for a single text.

    Raises:
        InputError: (a ValueError) A or B has fewer than two axes, an empty one, or holds NaN or infinity (the first
            such item of a batch is named); shapes differ; a temperature that is not a finite number above 0.

    Example:
        >>> import numpy as np
        >>> float(infonce(np.zeros((4, 2)), np.zeros((4, 2)))) == math.log(4)
        True
    """
    temperature = check_above_zero("temperature", temperature)
    first, second = read_pair(A, B)
    n = first.values.shape[1]
    found = in_portions(lambda a, b: _infonce(a, b, temperature), first, second, copies=1, extra=2 * n * n)
    return answer(found, first)


def mi_lower_bound(A: Any, B: Any, temperature: float = 0.1) -> Array:
    """What two views of a text say about each other, at least: ln n - InfoNCE. Higher is better.

    Theorem 3 (and 7) of "Layer by Layer" (ICML 2025), after Oord et al. (2018): a lower bound of the mutual
    information, and so of the entropy of what is encoded.

    Args:
        A: (..., n, d): one view of n texts; numpy or torch.
        B: (..., n, d): another view of the same texts in the same order.
        temperature: As in `infonce`.

    Returns:
        float64 (...) of the kind of A and B; in nats, at most ln n; below 0 where partners are told apart worse than by
        chance.

    Raises:
        InputError: (a ValueError) as `infonce`.

    Example:
        >>> import numpy as np
        >>> views = np.eye(4)
        >>> round(float(mi_lower_bound(views, views)), 3)
        1.386
    """
    loss = infonce(A, B, temperature)
    return math.log(np.shape(A)[-2]) - loss


def lidar(V: Any, delta: float = 1e-4, normalization: str = "raw") -> Array:
    """LiDAR: how many directions tell texts apart once the scatter among views of a text is divided out.

    Thilak et al. (2024); section 3.3.3 of "Layer by Layer" (ICML 2025). Each text is a class, its views are the
    members: S_1 of W^(-1/2) B W^(-1/2), B being the scatter of the class means (a mean over classes) and W the scatter
    of views about their class mean (a mean over views), delta added to its diagonal. Views are used as given: neither
    centred nor scaled. exp of it is the rank of Thilak et al. Higher: more directions hold what the texts are.

    Args:
        V: (..., n, views, d): n texts; numpy or torch.
        delta: Above 0: keeps directions without scatter from counting without bound.
        normalization: As in `matrix_entropy`, n being the number of texts.

    Returns:
        float64 (...) of the kind of V; in nats and in 0..min(ln n, ln d) when raw; 0 where all class means are equal.

    Raises:
        InputError: (a ValueError) V has fewer than three axes, an empty one, or holds NaN or infinity (the first such
            item of a batch is named); delta is not a finite number above 0; normalization as in `matrix_entropy`.

    Example:
        >>> import numpy as np
        >>> square = np.array([[0.0, 1.0], [0.0, -1.0], [1.0, 0.0], [-1.0, 0.0]])
        >>> round(float(lidar(np.stack([square, square], axis=1))), 6) == round(math.log(2), 6)
        True
    """
    delta = check_above_zero("delta", delta)
    batch = read("V", V, "n, views, d")
    n, _, d = batch.values.shape[1:]
    scale = divisor(normalization, n, d)
    run = on_every_core if batch.values.is_cpu else map
    each = run(lambda views: _lidar(views, delta), list(batch.values))
    found = torch.cat([batch.values.new_zeros(0, dtype=torch.float64), *each])
    refuse(found.isnan(), batch, "holds NaN or infinity")
    return answer(found / scale, batch)


def dime(
    A: Any,
    B: Any,
    alpha: float = 1.0,
    n_permutations: int = 10,
    seed: int = 0,
    normalization: str = "raw",
) -> Array:
    """DiME: how much more is known of two views together when they are paired right than when paired at random.

    Skean et al. (2023); section 3.3.3 of "Layer by Layer" (ICML 2025). Rows are centred and scaled to length 1; of
    their Gram matrices K_a and K_b (n x n) the mean over random permutations P of S(K_a o P K_b P^T) minus
    S(K_a o K_b), o being the elementwise product. A surrogate of the mutual information of the views. Higher: right
    pairs stand out more. (The paper's criterion picks the layer where it is lowest.)

    One set of permutations a call, the same for every item of a batch and for numpy and torch. The global random state
    is neither used nor changed. Memory does not grow with the batch nor with the permutations: each CPU thread holds
    about 16 MB of copies and n x n matrices, or about seven n x n matrices where that is more.

    Args:
        A: (..., n, d): one view of n texts; numpy or torch.
        B: (..., n, d): another view of the same texts in the same order.
        alpha: As in `matrix_entropy`. 2 needs no eigenvalues, and is by far the quickest.
        n_permutations: How many random pairings, 1 or more.
        seed: Of the permutations.
        normalization: As in `matrix_entropy`.

    Returns:
        float64 (...) of the kind of A and B; in nats and in -ln n..ln n when raw (below zero by chance only); 0 where
        all rows of A or of B are equal, and for a single text.

    Raises:
        InputError: (a ValueError) as `infonce`; alpha, n_permutations or seed out of range; normalization as in
            `matrix_entropy`.

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
    return answer(found / scale, first)


def _infonce(A: Portion, B: Portion, temperature: float) -> torch.Tensor:
    scores = unit_rows(A.values) @ unit_rows(B.values).mT
    scores /= temperature
    right = scores.diagonal(dim1=-2, dim2=-1)
    losses = (scores.logsumexp(-1) + scores.logsumexp(-2)) / 2 - right
    return losses.mean(-1).clamp(min=0)


def _lidar(V: torch.Tensor, delta: float) -> torch.Tensor:
    """LiDAR of one item (n, views, d), (1,); NaN where it holds NaN or infinity."""
    n, views, d = V.shape
    means = V.new_empty(n, d, dtype=torch.float64)
    within = V.new_zeros(d, d, dtype=torch.float64)
    # Some classes at a time: float64 copies of all views would be large. Never as moments minus squared means, whose
    # difference is rounding where views agree.
    step = max(1, PORTION_BYTES // (8 * views * d))
    for start in range(0, n, step):
        classes = slice(start, start + step)
        deviations = V[classes].to(torch.float64, copy=True)
        means[classes] = deviations.mean(dim=1)
        deviations = deviations.sub_(means[classes].unsqueeze(1)).flatten(0, 1)
        within += lower_product(deviations.mT)  # all that is used of it
    if not bool(torch.isfinite(within).all()):
        peak = float(V.abs().max())
        if not math.isfinite(peak):
            return within.new_full((1,), math.nan)
        # Squares overflowed. delta is absolute: where V is scaled, so is delta.
        return _lidar(V.double() / peak, max(delta / peak / peak, 1e-300))
    within /= n * views
    within.diagonal().add_(delta)
    between = means - means.mean(dim=0)
    # With within = L L^T, the rows of between L^-T have the LDA matrix's eigenvalues.
    factor, failed = torch.linalg.cholesky_ex(within)
    pivots = factor.diagonal()
    if failed or bool(pivots.min() < _LEAST_PIVOT * pivots.max()):
        # Too wide a spread: small scatters are lost in the rounding of large ones. QR of deviations does not square it.
        rows = (V.double() - means.unsqueeze(1)).flatten(0, 1) / math.sqrt(n * views)
        ridge = math.sqrt(delta) * torch.eye(d, dtype=rows.dtype, device=rows.device)
        factor = torch.linalg.qr(torch.cat([rows, ridge]), mode="r").R.mT
    white = torch.linalg.solve_triangular(factor.mT, between, upper=True, left=False)
    peak = white.abs().max()
    return row_entropy((white / peak.where(peak > 0, 1)).unsqueeze(0), 1.0)


def _dime(A: Portion, B: Portion, orders: torch.Tensor, alpha: float) -> torch.Tensor:
    first, second = (rows @ rows.mT for rows in (centred_unit_rows(A.values), centred_unit_rows(B.values)))

    def joint(order: torch.Tensor) -> torch.Tensor:
        # Rows, then columns as rows of the transpose (the matrix is symmetric): whole rows are copied, not numbers.
        shuffled = second.index_select(1, order).mT.contiguous().index_select(1, order)
        return entropy(shuffled.mul_(first), alpha)

    entropies = torch.stack(on_every_core(joint, list(orders)) if first.is_cpu else [joint(order) for order in orders])
    return entropies[1:].mean(0) - entropies[0]
