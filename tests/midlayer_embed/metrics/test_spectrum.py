import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from midlayer_embed import metrics
from midlayer_embed.metrics.spectrum import NORMALIZATIONS

_MATRICES = st.tuples(st.integers(1, 8), st.integers(1, 8)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(-10, 10, allow_subnormal=False))
)
_ALPHAS = st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0])


def _plain(rows: np.ndarray, alpha: float) -> float:
    """Entropy of the squared singular values, the slow plain way."""
    shares = [float(s) ** 2 for s in np.linalg.svd(rows, compute_uv=False)]
    total = math.fsum(shares)
    if total == 0:
        return 0.0
    shares = [share / total for share in shares if share / total > 1e-14]
    if alpha == 1:
        return -math.fsum(share * math.log(share) for share in shares)
    return math.log(math.fsum(share**alpha for share in shares)) / (1 - alpha)


@pytest.mark.parametrize("shape", [(5, 3), (50, 20), (20, 50), (200, 64), (3, 7, 5), (2, 3, 6, 9)])
@pytest.mark.parametrize("alpha", [0.5, 1, 2, 3.5])
def test_equals_the_plain_oracle_batched_or_not(shape: tuple[int, ...], alpha: float) -> None:
    Z = np.random.default_rng(0).normal(size=shape)
    found = metrics.matrix_entropy(Z, alpha=alpha)
    assert found.shape == shape[:-2]
    for index in np.ndindex(shape[:-2]):
        assert found[index] == pytest.approx(_plain(Z[index], alpha), rel=1e-8)


@given(_MATRICES, _ALPHAS)
def test_between_zero_and_the_log_of_the_rank(Z: np.ndarray, alpha: float) -> None:
    entropy = metrics.matrix_entropy(Z, alpha=alpha)
    assert 0 <= entropy <= math.log(min(Z.shape)) + 1e-9


@given(_MATRICES, _ALPHAS, st.floats(1e-3, 1e3))
def test_scaling_and_transposing_change_nothing(Z: np.ndarray, alpha: float, scale: float) -> None:
    entropy = metrics.matrix_entropy(Z, alpha=alpha)
    assert metrics.matrix_entropy(scale * Z, alpha=alpha) == pytest.approx(entropy, abs=1e-6)
    assert metrics.matrix_entropy(Z.T, alpha=alpha) == pytest.approx(entropy, abs=1e-6)


def test_rotating_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    Z = rng.normal(size=(12, 6))
    rotation, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    assert metrics.matrix_entropy(Z @ rotation) == pytest.approx(float(metrics.matrix_entropy(Z)))


@given(_MATRICES)
def test_falls_in_alpha_and_1_is_the_limit(Z: np.ndarray) -> None:
    by_alpha = [float(metrics.matrix_entropy(Z, alpha=alpha)) for alpha in (0.5, 1, 2, 3)]
    assert all(a >= b - 1e-6 for a, b in itertools.pairwise(by_alpha))
    assert metrics.matrix_entropy(Z, alpha=1 + 1e-6) == pytest.approx(by_alpha[1], abs=1e-3)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_normalizations(normalization: str) -> None:
    Z = np.random.default_rng(2).normal(size=(9, 4))
    divisor = {
        "raw": 1,
        "maxEntropy": math.log(4),
        "logN": math.log(9),
        "logD": math.log(4),
        "logNlogD": math.log(9) * math.log(4),
    }[normalization]
    found = metrics.matrix_entropy(Z, normalization=normalization)
    assert found == pytest.approx(float(metrics.matrix_entropy(Z)) / divisor)


def test_whatever_comes_in_float64_is_used() -> None:
    Z = np.random.default_rng(3).normal(size=(30, 20)).astype(np.float32)
    assert metrics.matrix_entropy(Z) == pytest.approx(float(metrics.matrix_entropy(Z.astype(np.float64))), rel=1e-14)
    assert metrics.matrix_entropy((Z * 1e25).astype(np.float64)) == pytest.approx(float(metrics.matrix_entropy(Z)))


def test_zeros_have_no_entropy() -> None:
    assert metrics.matrix_entropy(np.zeros((3, 2))) == 0
    np.testing.assert_array_equal(metrics.matrix_entropy(np.zeros((2, 3, 2)), alpha=2), [0, 0])


@pytest.mark.parametrize(
    ("Z", "arguments", "message"),
    [
        (np.ones(3), {}, r"Z: expected an array"),
        (np.ones((0, 3)), {}, r"Z: expected an array"),
        (np.array([[1.0, np.nan]]), {}, "Z: holds NaN or infinity"),
        (np.stack([np.ones((2, 2)), np.full((2, 2), np.inf)]), {}, r"in item \(1,\)"),
        (np.ones((2, 2)), {"alpha": 0}, "alpha: expected"),
        (np.ones((2, 2)), {"normalization": "logX"}, "normalization: expected"),
        (np.ones((1, 3)), {"normalization": "logN"}, "divides by ln 1"),
    ],
)
def test_bad_input_is_named(Z: np.ndarray, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.matrix_entropy(Z, **arguments)  # type: ignore[arg-type]


def test_dataset_entropy_centres_and_normalises() -> None:
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(40, 8)) * rng.uniform(1, 9, size=(40, 1)) + 5
    rows = vectors - vectors.mean(axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert metrics.dataset_entropy(vectors) == pytest.approx(_plain(rows, 1), rel=1e-10)
    batched = metrics.dataset_entropy(np.stack([vectors, vectors[::-1]]))
    assert batched == pytest.approx([_plain(rows, 1)] * 2, rel=1e-10)


@given(arrays(np.float64, st.integers(1, 6), elements=st.floats(-1e3, 1e3)), st.integers(1, 6))
def test_equal_texts_have_no_entropy(vector: np.ndarray, n: int) -> None:
    assert metrics.dataset_entropy(np.tile(vector, (n, 1))) == 0
