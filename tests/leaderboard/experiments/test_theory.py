"""What the paper states of its metrics, checked by simulation; and where what it prints does not hold."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from leaderboard.experiments import theory
from midlayer_embed import metrics

_LENGTHS = (64, 128, 256)
_TEXTS = (4, 8, 16)
_SHAPES = st.tuples(st.integers(1, 8), st.integers(1, 8))
_MATRICES = _SHAPES.flatmap(lambda shape: arrays(np.float64, shape, elements=st.floats(-10, 10, width=32)))
_QUICK = settings(max_examples=40, deadline=None)


# --- Lemma 1 and theorem 1


@_QUICK
@given(_MATRICES)
def test_effective_rank_is_never_below_the_exponential_of_entropy(Z: np.ndarray) -> None:
    """Theorem 1, which the paper prints the other way round."""
    (row,) = theory.effective_rank_bound({"Z": Z}).iter_rows(named=True)
    assert row["exp_entropy"] - 1e-9 <= row["effective_rank"] <= min(Z.shape) + 1e-9


def test_they_are_equal_where_the_spectrum_is_flat_only() -> None:
    table = theory.effective_rank_bound()
    gaps = dict(zip(table["vectors"], table["effective_rank"] - table["exp_entropy"], strict=True))
    flat = {"axes of 1 and 1", "one direction"}
    assert {name for name, gap in gaps.items() if abs(gap) < 1e-9} == flat
    assert all(gap > 0.1 for name, gap in gaps.items() if name not in flat)


@_QUICK
@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.integers(0, 2**32 - 1), st.floats(0.1, 20))
def test_entropy_is_schur_concave(eigenvalues: list[float], seed: int, alpha: float) -> None:
    """Lemma 1: taking from a large eigenvalue for a small one, as far as their mean, lowers no entropy."""
    rng = np.random.default_rng(seed)
    before = np.array(eigenvalues) + 1e-3
    pair = rng.choice(len(before), 2, replace=False)
    after = before.copy()
    after[pair] += rng.uniform(0, 0.5) * (before[pair[::-1]] - before[pair])
    first, second = (float(metrics.matrix_entropy(np.diag(np.sqrt(some)), alpha=alpha)) for some in (before, after))
    assert first <= second + 1e-9


# --- Proposition 1 and theorem 2


def _beyond(cosines: np.ndarray, dim: int) -> np.ndarray:
    """How likely two random directions have a cosine beyond: its square is distributed as Beta."""
    found: np.ndarray = stats.beta.sf(cosines**2, 0.5, (dim - 1) / 2)
    return found


@pytest.mark.parametrize("dim", [2, 3, 10, 100, 1000])
def test_random_directions_are_nearly_orthogonal(dim: int) -> None:
    cosines = np.linspace(0.01, 0.99, 99)
    bound = math.sqrt(2 * math.pi) * np.exp(-dim * cosines**2 / 2)
    assert (_beyond(cosines, dim) <= bound).all()


def test_the_band_of_its_proof_is_too_narrow() -> None:
    """Half of the cosine, as printed, is exceeded more often than the bound says."""
    assert _beyond(np.array([0.2]), 100)[0] > 50 * math.sqrt(2 * math.pi) * math.exp(-100 * 0.4**2 / 2)


def test_maximal_prompt_entropy_lets_dataset_entropy_grow() -> None:
    """Theorem 2.1 (5): S_2 of the pooled texts is ln(L^2 / N) for N texts of L = D tokens."""
    table = theory.maximal_prompt_entropy(_LENGTHS, _TEXTS)
    assert table.select("length", "n_texts").rows() == [(length, n) for length in _LENGTHS for n in _TEXTS]
    for row in table.iter_rows(named=True):
        length, n = row["length"], row["n_texts"]
        assert row["prompt_entropy"] == pytest.approx(math.log(length), rel=1e-9)
        # Chance makes texts overlap by 1 / L each: at most ln(1 + N / L) is missing.
        assert row["printed"] == row["proven"]
        assert -0.01 < row["proven"] - row["dataset_entropy"] < 2 * math.log(1 + n / length)


def test_minimal_prompt_entropy_keeps_dataset_entropy_small() -> None:
    """Theorem 2.2 (6): S_2 of the pooled texts is -ln N whatever L is; what is printed is that where L = N."""
    for length, n in [(n, n) for n in _TEXTS] + [(4 * n, n) for n in _TEXTS]:
        (row,) = theory.minimal_prompt_entropy([length], [n], seed=1).iter_rows(named=True)
        assert row["prompt_entropy"] == pytest.approx(0, abs=1e-12)
        assert row["dataset_entropy"] == pytest.approx(row["proven"], abs=2 * math.log(1 + n / 256))
        assert (abs(row["printed"] - row["proven"]) < 1e-9) == (length == n)


def test_dataset_entropy_grows_with_length_only_if_prompt_entropy_does() -> None:
    """What theorem 2 is for: twice the tokens are worth 2 ln 2 where prompts are diverse, and nothing where not."""
    diverse = theory.maximal_prompt_entropy(_LENGTHS, [8], seed=2)["dataset_entropy"].to_numpy()
    np.testing.assert_allclose(np.diff(diverse), 2 * math.log(2), atol=0.2)
    repeated = theory.minimal_prompt_entropy(_LENGTHS, [8], seed=3)["dataset_entropy"].to_numpy()
    np.testing.assert_allclose(np.diff(repeated), 0, atol=1e-9)


@pytest.mark.parametrize("simulate", [theory.maximal_prompt_entropy, theory.minimal_prompt_entropy])
def test_divided_by_the_trace_as_in_equation_1_the_difference_is_gone(simulate: object) -> None:
    """Then both kinds of texts have nearly orthogonal means, of which S_2 is ln N: theorem 2 is about their length."""
    table: pl.DataFrame = simulate(_LENGTHS, _TEXTS)  # type: ignore[operator]
    for row in table.iter_rows(named=True):
        assert row["scaled"] == pytest.approx(math.log(row["n_texts"]), abs=2 * math.log(1 + row["n_texts"] / 64))


# --- Theorem 3


@_QUICK
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.floats(0.01, 5), st.integers(0, 2**32 - 1))
def test_what_views_say_of_each_other_is_bounded_by_dataset_entropy(
    sizes: list[int], temperature: float, seed: int
) -> None:
    """Theorem 3: ln N - InfoNCE <= H(Z), where it must hold: texts that are orthogonal or the same.

    Then a text is told from no other of its kind, so that the bound is at most the entropy of the kinds, which is S_1
    of the texts; and it comes near as the temperature falls. Many texts in few dimensions are another matter: below.
    """
    Z = theory.kinds_of_texts(sizes, seed=seed)
    table = theory.infonce_bound({"kinds": (Z, Z)}, [temperature, 0.01])
    shares = np.array(sizes) / sum(sizes)
    expected = -float((shares * np.log(shares)).sum())
    np.testing.assert_allclose(table["matrix_entropy"], expected, atol=1e-9)
    np.testing.assert_allclose(table["discrete_entropy"], expected, atol=1e-9)
    assert table["mi_lower_bound"][0] <= expected + 1e-9
    assert table["mi_lower_bound"][1] == pytest.approx(expected, abs=1e-9)


@_QUICK
@given(_MATRICES, st.floats(0.01, 5))
def test_the_entropy_of_the_discrete_variable_is_a_bound_of_any_texts(Z: np.ndarray, temperature: float) -> None:
    (row,) = theory.infonce_bound({"texts": (Z, Z)}, [temperature]).iter_rows(named=True)
    assert row["mi_lower_bound"] <= row["discrete_entropy"] + 1e-9 <= math.log(len(Z)) + 2e-9


def test_theorem_3_does_not_hold_of_any_texts() -> None:
    """Sixteen directions in a plane: told apart by a low temperature, and still of rank 2."""
    plane = theory.directions_in_a_plane(16)
    (row,) = theory.infonce_bound({"plane": (plane, plane)}, [0.005]).iter_rows(named=True)
    assert row["mi_lower_bound"] > math.log(15)
    assert row["matrix_entropy"] <= math.log(2) + 1e-9
    assert row["discrete_entropy"] == pytest.approx(math.log(16))


def test_random_texts_of_many_dimensions_break_the_bound_at_a_low_temperature_only() -> None:
    """Told apart, they reach ln N; their matrix entropy misses it, because no two are quite orthogonal."""
    table = theory.infonce_bound().filter(texts="random, 200 dimensions")
    holds = dict(zip(table["temperature"], table["mi_lower_bound"] <= table["matrix_entropy"], strict=True))
    assert holds == {1.0: True, 0.1: False, 0.01: False}


def test_random_views_of_many_dimensions_keep_the_bound() -> None:
    rng = np.random.default_rng(4)
    A = rng.normal(size=(50, 30, 200))
    B = A + 0.5 * rng.normal(size=A.shape)
    assert (metrics.mi_lower_bound(A, B, 1.0) <= metrics.dataset_entropy(A)).all()


# --- What is said of alpha and of the determinant


@_QUICK
@given(st.lists(st.floats(0.05, 20), min_size=2, max_size=6, unique=True), st.floats(0, 4), st.integers(2, 200))
def test_small_eigenvalues_count_less_at_higher_orders(alphas: list[float], beta: float, n: int) -> None:
    table = theory.weight_of_small_eigenvalues(sorted(alphas), beta=beta, n=n)
    assert (np.diff(table["share"].to_numpy()) <= 1e-12).all()
    assert table["share"].is_between(0, 0.5).all()
    if beta == 0:
        np.testing.assert_allclose(table["share"], (n // 2) / n)


@_QUICK
@given(_MATRICES)
def test_the_log_determinant_of_a_scaled_matrix_is_no_more_than_zero(Z: np.ndarray) -> None:
    """It is below the entropy, as the paper says, because it is below zero. Without scaling it is not."""
    K = Z @ Z.T
    if np.trace(K) > 1e-9:
        assert np.linalg.slogdet(K / np.trace(K))[1] <= 1e-9


def test_the_log_determinant_of_a_matrix_as_it_is_exceeds_the_entropy() -> None:
    Z = 10 * np.eye(4)
    assert np.linalg.slogdet(Z @ Z.T)[1] - math.log(2) > 10 * metrics.matrix_entropy(Z)
