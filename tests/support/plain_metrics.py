"""Every metric the slow plain way: what `midlayer_embed.metrics` is held against, in tests and in a benchmark.

numpy float64, one item at a time, `eigvalsh` for each matrix, Python loops; nothing of the package is used.
"""

import itertools
import math

import numpy as np


def divisor(normalization: str, n: int, d: int) -> float:
    return {
        "raw": 1.0,
        "maxEntropy": min(math.log(n), math.log(d)),
        "logN": math.log(n),
        "logD": math.log(d),
        "logNlogD": math.log(n) * math.log(d),
    }[normalization]


def gram(Z: np.ndarray) -> np.ndarray:
    return Z @ Z.T if Z.shape[0] <= Z.shape[1] else Z.T @ Z


def shares(K: np.ndarray, root: bool = False) -> list[float]:
    """Eigenvalues, or their square roots, scaled to sum to 1; those that are zero but for rounding left out."""
    found = [float(value) for value in np.linalg.eigvalsh(K)]
    least = 1e-13 * max(found)
    found = [math.sqrt(value) if root else value for value in found if value > least]
    total = math.fsum(found)
    return [value / total for value in found]


def renyi(weights: list[float], alpha: float) -> float:
    if not weights:
        return 0.0
    if alpha == 1:
        return -math.fsum(p * math.log(p) for p in weights)
    return math.log(math.fsum(p**alpha for p in weights)) / (1 - alpha)


def unit(Z: np.ndarray) -> np.ndarray:
    rows = [row / np.linalg.norm(row) if np.linalg.norm(row) > 1e-11 else 0 * row for row in Z]
    return np.array(rows)


def centred_unit(Z: np.ndarray) -> np.ndarray:
    return unit(Z - Z.mean(axis=0))


def matrix_entropy(Z: np.ndarray, alpha: float = 1, normalization: str = "raw") -> float:
    return renyi(shares(gram(Z)), alpha) / divisor(normalization, *Z.shape)


def effective_rank(Z: np.ndarray) -> float:
    return math.exp(renyi(shares(gram(Z), root=True), 1))


def spectrum(Z: np.ndarray) -> list[float]:
    """The eigenvalues of the covariance in falling order."""
    centred = Z - Z.mean(axis=0)
    return sorted((float(value) for value in np.linalg.eigvalsh(centred.T @ centred / len(Z))), reverse=True)


def isotropy(Z: np.ndarray) -> float:
    found = spectrum(Z)
    mean = math.fsum(found) / len(found)
    return mean / math.sqrt(math.fsum((value - mean) ** 2 for value in found) / len(found))


def alpha_req(Z: np.ndarray) -> float:
    found = [value for value in spectrum(Z) if value > 1e-12 * spectrum(Z)[0]]
    skipped = min(10, (len(found) - 1) // 2)
    ranks = range(skipped + 1, min(100, len(found)) + 1)
    logs = [(math.log(rank), math.log(found[rank - 1])) for rank in ranks]
    slope, _ = np.polyfit(*zip(*logs, strict=True), 1, w=[rank**-0.5 for rank in ranks])  # which squares the weights
    return -float(slope)


def two_nn(Z: np.ndarray) -> float:
    rows = [np.array(row) for row in sorted({tuple(row) for row in Z})]
    ratios = []
    for i, row in enumerate(rows):
        first, second = sorted(float(np.linalg.norm(row - other)) for j, other in enumerate(rows) if j != i)[:2]
        ratios.append(second / first)
    ratios.sort()
    n = len(ratios)
    points = [(math.log(ratio), -math.log(1 - i / n)) for i, ratio in enumerate(ratios, start=1) if 10 * i <= 9 * n]
    return math.fsum(x * y for x, y in points) / math.fsum(x * x for x, _ in points)


def uniformity(Z: np.ndarray) -> float:
    pairs = [math.exp(-2 * float(np.sum((x - y) ** 2))) for x, y in itertools.combinations(unit(Z), 2)]
    return math.log(math.fsum(pairs) / len(pairs))


def neighbour_agreement(A: np.ndarray, B: np.ndarray, k: int = 10) -> float:
    shared = []
    for i in range(len(A)):
        first, second = (_neighbours(unit(Z), i, k) for Z in (A, B))
        shared.append(len(first & second) / len(first))
    return math.fsum(shared) / len(shared)


def _neighbours(U: np.ndarray, i: int, k: int) -> set[int]:
    others = [j for j in range(len(U)) if j != i]
    return set(sorted(others, key=lambda j: -float(U[i] @ U[j]))[:k])


def dataset_entropy(Z: np.ndarray, alpha: float = 1, normalization: str = "raw") -> float:
    return matrix_entropy(centred_unit(Z), alpha, normalization)


prompt_entropy = dataset_entropy  # of tokens instead of texts


def curvature(Z: np.ndarray) -> float:
    steps = [after - before for before, after in itertools.pairwise(Z) if (after != before).any()]
    angles = []
    for before, after in itertools.pairwise(steps):
        cosine = float(after @ before) / float(np.linalg.norm(after) * np.linalg.norm(before))
        angles.append(math.acos(min(1.0, max(-1.0, cosine))))
    return math.fsum(angles) / len(angles)


def sink(Z: np.ndarray) -> float:
    first, *others = (float(np.linalg.norm(token)) for token in Z)
    return first / (math.fsum(others) / len(others))


def infonce(A: np.ndarray, B: np.ndarray, temperature: float = 0.1) -> float:
    scores = unit(A) @ unit(B).T / temperature
    return (_cross_entropy(scores) + _cross_entropy(scores.T)) / 2


def _cross_entropy(scores: np.ndarray) -> float:
    losses = []
    for i, row in enumerate(scores):
        losses.append(row.max() + math.log(np.exp(row - row.max()).sum()) - row[i])
    return math.fsum(losses) / len(losses)


def mi_lower_bound(A: np.ndarray, B: np.ndarray, temperature: float = 0.1) -> float:
    return math.log(len(A)) - infonce(A, B, temperature)


def lidar(V: np.ndarray, delta: float = 1e-4, normalization: str = "raw") -> float:
    n, views, d = V.shape
    means = V.mean(axis=1)
    grand = means.mean(axis=0)
    between, within = np.zeros((d, d)), np.zeros((d, d))
    for i in range(n):
        between += np.outer(means[i] - grand, means[i] - grand) / n
        for j in range(views):
            within += np.outer(V[i, j] - means[i], V[i, j] - means[i]) / (n * views)
    values, vectors = np.linalg.eigh(within + delta * np.eye(d))
    whitening = vectors @ np.diag(values**-0.5) @ vectors.T
    return renyi(shares(whitening @ between @ whitening), 1) / divisor(normalization, n, d)


def dime(
    A: np.ndarray,
    B: np.ndarray,
    alpha: float = 1,
    n_permutations: int = 10,
    seed: int = 0,
    normalization: str = "raw",
) -> float:
    n, d = A.shape
    K_a, K_b = (rows @ rows.T for rows in (centred_unit(A), centred_unit(B)))
    generator = np.random.default_rng(seed)
    shuffled = []
    for _ in range(n_permutations):
        P = np.eye(n)[generator.permutation(n)]
        shuffled.append(renyi(shares(K_a * (P @ K_b @ P.T)), alpha))
    right = renyi(shares(K_a * K_b), alpha)
    return (math.fsum(shuffled) / n_permutations - right) / divisor(normalization, n, d)
