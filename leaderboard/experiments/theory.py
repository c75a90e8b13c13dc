"""What "Layer by Layer" (ICML 2025) states of its metrics, as simulations: small tables that show what holds.

The tests assert on these tables, and the page on theory prints them. Entropies are in nats.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import polars as pl

from midlayer_embed import metrics

LENGTHS = (64, 128, 256)
N_TEXTS = (4, 16)
# Width of a token in the simulation of texts of minimal prompt entropy.
_DIM = 256


def effective_rank_bound(vectors: Mapping[str, np.ndarray] | None = None) -> pl.DataFrame:
    """Theorem 1 (4): effective rank and exp(S_1) of some sets of vectors.

    The paper prints effective_rank <= exp(S_1). It is the other way round.

    Args:
        vectors: Arrays (n, d) by their names. None: examples.

    Returns:
        Columns vectors, exp_entropy, effective_rank; a row for each set.

    Example:
        >>> effective_rank_bound({"axes of 2 and 1": np.diag([2.0, 1.0])}).row(0)[1:]  # doctest: +ELLIPSIS
        (1.64..., 1.88...)
    """
    ranks = np.arange(1, 101)
    examples = {
        "axes of 1 and 1": np.eye(2),
        "axes of 2 and 1": np.diag([2.0, 1.0]),
        "one direction": np.ones((5, 3)),
        "axes of 1, 1/2, ... 1/100": np.diag(1 / ranks),
        "100 random, 50 dimensions": np.random.default_rng(0).normal(size=(100, 50)),
    }
    rows = [
        (name, math.exp(metrics.matrix_entropy(Z)), float(metrics.effective_rank(Z)))
        for name, Z in (examples if vectors is None else vectors).items()
    ]
    schema = {"vectors": pl.String, "exp_entropy": pl.Float64, "effective_rank": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def maximal_prompt_entropy(
    lengths: Sequence[int] = LENGTHS, n_texts: Sequence[int] = N_TEXTS, *, seed: int = 0
) -> pl.DataFrame:
    """Theorem 2.1 (5): texts whose tokens are all orthogonal, as many as there are dimensions, and their means.

    The paper states that S_2 of the means is ln(L^2 / N), for N texts of L tokens, where S_2 is -ln of the squared norm
    of the Gram matrix as it is. Equation 1 divides by its trace; then S_2 is about ln N whatever L is.

    Args:
        lengths: Numbers of tokens L, which are the dimensions as well.
        n_texts: Numbers of texts N.
        seed: Seed of the texts.

    Returns:
        Columns length, n_texts, prompt_entropy (S_2, mean over the texts), dataset_entropy (S_2 of the means, without
        the trace), printed (what the paper prints for it), proven (what follows), scaled (S_2 of equation 1).
    """
    rng = np.random.default_rng(seed)
    return _means_of_texts(
        (texts_of_maximal_prompt_entropy(rng, n, length), math.log(length**2 / n), math.log(length**2 / n))
        for length in lengths
        for n in n_texts
    )


def minimal_prompt_entropy(
    lengths: Sequence[int] = LENGTHS, n_texts: Sequence[int] = N_TEXTS, *, seed: int = 0
) -> pl.DataFrame:
    """Theorem 2.2 (6): texts that repeat one token, and their means.

    The paper states that S_2 of the means is ln(L^2 / N^3). Its proof takes the mean of L equal tokens to be N / L
    times one of them; it is the token itself. So S_2 is -ln N whatever L is, as the paper prints where L = N.

    Args:
        lengths: Numbers of tokens L.
        n_texts: Numbers of texts N.
        seed: Seed of the texts; those of N texts are the same for every length.

    Returns:
        As `maximal_prompt_entropy`.
    """
    return _means_of_texts(
        (
            texts_of_minimal_prompt_entropy(np.random.default_rng([seed, n]), n, length, _DIM),
            math.log(length**2 / n**3),
            -math.log(n),
        )
        for length in lengths
        for n in n_texts
    )


def infonce_bound(
    views: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
    temperatures: Sequence[float] = (1.0, 0.1, 0.01),
) -> pl.DataFrame:
    """Theorem 3 (7): the bound on information by InfoNCE, and two entropies of the texts.

    Of equal views, the bound is at most the entropy of the texts as a discrete variable: of how often each vector
    occurs. It is at most the matrix entropy where texts are orthogonal or the same, but not in general: at a low
    temperature it reaches ln N for any N texts that differ, and the matrix entropy does so for orthogonal ones only.

    Args:
        views: Two views (n, d) of some texts, by their names. None: examples of 16 texts.
        temperatures: Temperatures of InfoNCE.

    Returns:
        Columns texts, temperature, mi_lower_bound (ln N - InfoNCE), matrix_entropy (S_1 of the first view),
        discrete_entropy (H of the first view).
    """
    rows = [
        (
            name,
            float(temperature),
            float(metrics.mi_lower_bound(first, second, temperature)),
            float(metrics.matrix_entropy(first)),
            _discrete_entropy(first),
        )
        for name, (first, second) in (_examples_of_views() if views is None else views).items()
        for temperature in temperatures
    ]
    names = ("temperature", "mi_lower_bound", "matrix_entropy", "discrete_entropy")
    return pl.DataFrame(rows, schema={"texts": pl.String, **dict.fromkeys(names, pl.Float64)}, orient="row")


def weight_of_small_eigenvalues(
    alphas: Sequence[float] = (0.1, 0.5, 1, 2, 5, 10), *, beta: float = 1.0, n: int = 100
) -> pl.DataFrame:
    """How much of the sum in S_alpha, of eigenvalue^alpha, the smaller half of the eigenvalues makes.

    The paper prints that small eigenvalues contribute more for larger alpha. It is the other way round.

    Args:
        alphas: Orders of the entropy.
        beta: Exponent of the power law of the eigenvalues, i^(-beta).
        n: Number of eigenvalues.

    Returns:
        Columns alpha, share (0 to 1/2).

    Example:
        >>> weight_of_small_eigenvalues([0.5, 2], n=2).rows()  # of eigenvalues 1 and 1/2; doctest: +ELLIPSIS
        [(0.5, 0.41...), (2.0, 0.2)]
    """
    ranks = np.arange(1, n + 1, dtype=np.float64)
    rows = []
    for alpha in alphas:
        powers = ranks ** (-beta * alpha)
        rows.append((float(alpha), float(powers[n - n // 2 :].sum() / powers.sum())))
    return pl.DataFrame(rows, schema={"alpha": pl.Float64, "share": pl.Float64}, orient="row")


def texts_of_maximal_prompt_entropy(rng: np.random.Generator, n: int, length: int) -> np.ndarray:
    """Tokens (n, length, length): the rows of a random rotation for each text, all of length 1 and orthogonal."""
    return np.linalg.qr(rng.normal(size=(n, length, length)))[0]


def texts_of_minimal_prompt_entropy(rng: np.random.Generator, n: int, length: int, d: int) -> np.ndarray:
    """Tokens (n, length, d): one random token of length 1 for each text, repeated."""
    tokens = rng.normal(size=(n, 1, d))
    tokens /= np.linalg.norm(tokens, axis=-1, keepdims=True)
    return np.repeat(tokens, length, axis=1)


def unscaled_entropy(Z: np.ndarray) -> float:
    """S_2 as theorems 5 and 6 use it, of eigenvalues that are not divided by their sum: -ln ||Z Z^T||_F^2.

    Example:
        >>> f"{unscaled_entropy(np.eye(4) / 2):.6f}", f"{np.log(4):.6f}"  # trace 1: as in equation 1
        ('1.386294', '1.386294')
    """
    return float(metrics.matrix_entropy(Z, alpha=2)) - 2 * math.log((Z**2).sum())


def directions_in_a_plane(n: int) -> np.ndarray:
    """N directions (n, 2), evenly spread: rank 2, and no two of them the same."""
    angles = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def kinds_of_texts(sizes: Sequence[int], *, dim: int = 10, seed: int = 0) -> np.ndarray:
    """Texts (sum of sizes, dim) of orthogonal kinds; texts of a kind have the same vector."""
    kinds = np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0][: len(sizes)]
    return np.repeat(kinds, sizes, axis=0)


def _means_of_texts(cases: Iterable[tuple[np.ndarray, float, float]]) -> pl.DataFrame:
    """A row for each set of texts (n, length, d), with what the paper prints of it and what follows."""
    rows = []
    for texts, printed, proven in cases:
        n, length, _ = texts.shape
        means = texts.mean(axis=1)
        prompts = float(np.mean(metrics.matrix_entropy(texts, alpha=2)))
        scaled = float(metrics.matrix_entropy(means, alpha=2))
        rows.append((length, n, prompts, unscaled_entropy(means), printed, proven, scaled))
    names = ("prompt_entropy", "dataset_entropy", "printed", "proven", "scaled")
    schema = {"length": pl.Int64, "n_texts": pl.Int64, **dict.fromkeys(names, pl.Float64)}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _examples_of_views() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    kinds, plane = kinds_of_texts([8, 4, 2, 2]), directions_in_a_plane(16)
    rng = np.random.default_rng(0)
    texts = rng.normal(size=(16, 200))
    return {
        "orthogonal or the same": (kinds, kinds),
        "random, 200 dimensions": (texts, texts + 0.5 * rng.normal(size=texts.shape)),
        "directions in a plane": (plane, plane),
    }


def _discrete_entropy(Z: np.ndarray) -> float:
    counts = np.unique(Z, axis=0, return_counts=True)[1]
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum()) + 0.0
