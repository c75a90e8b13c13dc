"""What the paper proves of its metrics, checked by simulation; and where what it prints does not hold."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midlayer_embed import metrics

_LENGTHS = (64, 128, 256)
_TEXTS = (4, 8, 16)


def unscaled_entropy(Z: np.ndarray) -> float:
    """S_2 as theorems 5 and 6 use it, of eigenvalues that are not divided by their sum: -ln ||Z Z^T||_F^2."""
    return float(metrics.matrix_entropy(Z, alpha=2)) - 2 * math.log((Z**2).sum())


def texts_of_maximal_prompt_entropy(rng: np.random.Generator, n: int, length: int) -> np.ndarray:
    """Rows of a random rotation each: length tokens of length 1 in as many dimensions, all orthogonal."""
    return np.linalg.qr(rng.normal(size=(n, length, length)))[0]


def texts_of_minimal_prompt_entropy(rng: np.random.Generator, n: int, length: int, d: int) -> np.ndarray:
    """One random token of length 1, repeated."""
    tokens = rng.normal(size=(n, 1, d))
    tokens /= np.linalg.norm(tokens, axis=-1, keepdims=True)
    return np.repeat(tokens, length, axis=1)


def test_maximal_prompt_entropy_lets_dataset_entropy_grow() -> None:
    """Theorem 2.1 (5): S_2 of the pooled texts is ln(L^2 / N) for N texts of L = D tokens."""
    rng = np.random.default_rng(0)
    for length in _LENGTHS:
        for n in _TEXTS:
            Z = texts_of_maximal_prompt_entropy(rng, n, length)
            np.testing.assert_allclose(metrics.matrix_entropy(Z, alpha=2), math.log(length), rtol=1e-9)
            # Chance makes texts overlap by 1 / L each: at most ln(1 + N / L) is missing.
            missing = math.log(length**2 / n) - unscaled_entropy(Z.mean(axis=1))
            assert -0.01 < missing < 2 * math.log(1 + n / length)


def test_minimal_prompt_entropy_keeps_dataset_entropy_small() -> None:
    """Theorem 2.2 (6): S_2 of the pooled texts is ln(L^2 / N^3).

    The proof takes the mean of L equal tokens to be N/L times one of them, so what is printed holds where L = N. The
    mean is the token itself, and S_2 is -ln N whatever L is: which is the same there, and is the point.
    """
    rng = np.random.default_rng(1)
    for n in _TEXTS:
        for length in (n, 4 * n):
            Z = texts_of_minimal_prompt_entropy(rng, n, length, d=256)
            np.testing.assert_allclose(metrics.matrix_entropy(Z, alpha=2), 0, atol=1e-12)
            found = unscaled_entropy(Z.mean(axis=1))
            assert found == pytest.approx(-math.log(n), abs=2 * math.log(1 + n / 256))
            if length == n:
                assert found == pytest.approx(math.log(length**2 / n**3), abs=2 * math.log(1 + n / 256))


def test_dataset_entropy_grows_with_length_only_if_prompt_entropy_does() -> None:
    """What theorem 2 is for: twice the tokens are worth 2 ln 2 where prompts are diverse, and nothing where not."""
    rng = np.random.default_rng(2)
    diverse = [unscaled_entropy(texts_of_maximal_prompt_entropy(rng, 8, length).mean(axis=1)) for length in _LENGTHS]
    np.testing.assert_allclose(np.diff(diverse), 2 * math.log(2), atol=0.2)
    repeated = [
        unscaled_entropy(texts_of_minimal_prompt_entropy(np.random.default_rng(3), 8, length, d=256).mean(axis=1))
        for length in _LENGTHS
    ]
    np.testing.assert_allclose(np.diff(repeated), 0, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.floats(0.01, 5), st.integers(0, 2**32 - 1))
def test_what_views_say_of_each_other_is_bounded_by_dataset_entropy(
    sizes: list[int], temperature: float, seed: int
) -> None:
    """Theorem 3: ln N - InfoNCE <= H(Z), where it must hold: texts that are orthogonal or the same.

    Then a text is told from no other of its kind, so that the bound is at most the entropy of the kinds, which is S_1
    of the texts; and it comes near as the temperature falls. Many texts in few dimensions are another matter: below.
    """
    kinds = np.linalg.qr(np.random.default_rng(seed).normal(size=(10, 10)))[0][: len(sizes)]
    Z = np.repeat(kinds, sizes, axis=0)
    entropy = metrics.matrix_entropy(Z)
    assert metrics.mi_lower_bound(Z, Z, temperature) <= entropy + 1e-9
    assert metrics.mi_lower_bound(Z, Z, 0.01) == pytest.approx(float(entropy), abs=1e-9)
    shares = np.array(sizes) / sum(sizes)
    assert entropy == pytest.approx(-float((shares * np.log(shares)).sum()), abs=1e-9)


def test_theorem_3_does_not_hold_of_any_texts() -> None:
    """Sixteen directions in a plane: told apart by a low temperature, and still of rank 2."""
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    Z = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert metrics.mi_lower_bound(Z, Z, 0.005) > math.log(15)
    assert metrics.matrix_entropy(Z) <= math.log(2) + 1e-9


def test_random_views_of_many_dimensions_keep_the_bound() -> None:
    rng = np.random.default_rng(4)
    A = rng.normal(size=(50, 30, 200))
    B = A + 0.5 * rng.normal(size=A.shape)
    assert (metrics.mi_lower_bound(A, B, 1.0) <= metrics.dataset_entropy(A)).all()
