"""Metrics of augmented views of the same texts: does a layer keep what the texts are, whatever happens to their form?

How views are made is not known here.
"""

import math
from typing import Any

import numpy as np
import torch

from midlayer_embed.errors import InputError
from midlayer_embed.metrics.arrays import (
    Array,
    Batch,
    answer,
    check_above_zero,
    in_portions,
    read,
    read_pair,
)
from midlayer_embed.metrics.gram import centred_unit_rows, divisor, entropy, on_every_core, row_entropy, unit_rows


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
    # delta is absolute: where V is scaled to a peak of 1, so is delta.
    tiny, huge = 1e-100, 1e100
    peaks = batch.peaks.clamp(tiny, huge)
    batch = Batch(batch.name, batch.values, peaks, batch.shape, batch.as_numpy)
    ridges = Batch("delta", delta / peaks.square(), torch.ones_like(peaks), batch.shape, batch.as_numpy)
    found = in_portions(_lidar, batch, ridges, copies=1, extra=4 * d * d)
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
    is neither used nor changed. Memory does not grow with the batch nor with the permutations: about 64 MB of float64
    copies and n x n matrices (no fewer than two of these), and three n x n matrices a CPU thread, are held at a time.

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
    _check_integer("n_permutations", n_permutations, 1)
    _check_integer("seed", seed, 0)
    first, second = read_pair(A, B)
    n, d = first.values.shape[1:]
    scale = divisor(normalization, n, d)
    generator = np.random.default_rng(seed)
    shuffles = np.stack([np.arange(n), *(generator.permutation(n) for _ in range(n_permutations))])
    orders = torch.from_numpy(shuffles).to(first.values.device)
    found = in_portions(lambda a, b: _dime(a, b, orders, alpha), first, second, copies=1, extra=2 * n * n)
    return answer(found / scale, first)


def _check_integer(name: str, value: Any, least: int) -> None:
    if not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"{name}: expected an integer of {least} or more, got {value!r}")


def _infonce(A: torch.Tensor, B: torch.Tensor, temperature: float) -> torch.Tensor:
    scores = unit_rows(A) @ unit_rows(B).mT
    scores /= temperature
    right = scores.diagonal(dim1=-2, dim2=-1)
    losses = (scores.logsumexp(-1) + scores.logsumexp(-2)) / 2 - right
    return losses.mean(-1).clamp(min=0)


def _lidar(V: torch.Tensor, ridge: torch.Tensor) -> torch.Tensor:
    means = V.mean(dim=-2)
    deviations = V.sub_(means.unsqueeze(-2)).flatten(-3, -2)
    within = (deviations.mT @ deviations) / deviations.shape[-2]
    within.diagonal(dim1=-2, dim2=-1).add_(ridge.unsqueeze(-1))
    between = means - means.mean(dim=-2, keepdim=True)
    # With within = L L^T, the rows of between L^-T have the LDA matrix's eigenvalues, n of them or d.
    factor, failed = torch.linalg.cholesky_ex(within)
    for item in failed.nonzero().flatten().tolist():
        # Too wide a spread for a Cholesky factor; that of the rows themselves, by QR, never squares it.
        rows = deviations[item] / math.sqrt(deviations.shape[-2])
        corner = ridge[item].sqrt() * torch.eye(rows.shape[-1], dtype=rows.dtype, device=rows.device)
        factor[item] = torch.linalg.qr(torch.cat([rows, corner]), mode="r").R.mT
    white = torch.linalg.solve_triangular(factor.mT, between, upper=True, left=False)
    peaks = white.abs().amax((-2, -1), keepdim=True)
    return row_entropy(white / peaks.where(peaks > 0, 1), 1.0)


def _dime(A: torch.Tensor, B: torch.Tensor, orders: torch.Tensor, alpha: float) -> torch.Tensor:
    grams = [rows @ rows.mT for rows in (centred_unit_rows(A), centred_unit_rows(B))]

    def joint(task: tuple[int, int]) -> torch.Tensor:
        item, shuffle = task
        order = orders[shuffle]
        shuffled = grams[1][item].index_select(0, order).index_select(1, order)
        return entropy(shuffled.mul_(grams[0][item]).unsqueeze(0), alpha)

    tasks = [(item, shuffle) for item in range(len(A)) for shuffle in range(len(orders))]
    run = on_every_core if A.device.type == "cpu" else map
    entropies = torch.cat(list(run(joint, tasks))).reshape(len(A), len(orders))
    return entropies[:, 1:].mean(1) - entropies[:, 0]
