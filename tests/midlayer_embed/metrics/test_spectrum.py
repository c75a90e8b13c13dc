import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support import plain_metrics

from midlayer_embed import metrics
from midlayer_embed.terms import NORMALIZATIONS

_SHAPES = st.tuples(st.integers(1, 8), st.integers(1, 8))
_MATRICES = _SHAPES.flatmap(lambda shape: arrays(np.float64, shape, elements=st.floats(-10, 10, width=32)))
# The rank of these is never in doubt.
_WHOLE = _SHAPES.flatmap(lambda shape: arrays(np.float64, shape, elements=st.integers(-5, 5).map(float)))
_ALPHAS = st.sampled_from([0.2, 0.5, 1.0, 1.2, 2.0, 3.0, 40.0])
_QUICK = settings(max_examples=50, deadline=None)


def rotation(rng: np.random.Generator, d: int) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(d, d)))[0]


@_QUICK
@given(_WHOLE, _ALPHAS)
def test_between_zero_and_the_log_of_the_rank(Z: np.ndarray, alpha: float) -> None:
    entropy = metrics.matrix_entropy(Z, alpha=alpha)
    assert 0 <= entropy <= math.log(max(1, np.linalg.matrix_rank(Z))) + 1e-9


@_QUICK
@given(_WHOLE)
def test_falls_in_alpha(Z: np.ndarray) -> None:
    by_alpha = [float(metrics.matrix_entropy(Z, alpha=alpha)) for alpha in (0.2, 0.7, 0.999, 1, 1.001, 1.4, 1.6, 2, 9)]
    assert all(before >= after - 1e-9 for before, after in itertools.pairwise(by_alpha))


@_QUICK
@given(_MATRICES, st.floats(1e-12, 1e-7))
def test_1_is_the_limit(Z: np.ndarray, step: float) -> None:
    limit = pytest.approx(float(metrics.matrix_entropy(Z)), abs=1e-5)
    assert metrics.matrix_entropy(Z, alpha=1 + step) == limit
    assert metrics.matrix_entropy(Z, alpha=1 - step) == limit


def test_nothing_is_lost_near_alpha_1() -> None:
    Z = np.random.default_rng(0).normal(size=(30, 20))
    shannon, near = (float(metrics.matrix_entropy(Z, alpha=alpha)) for alpha in (1, 1 + 1e-10))
    # S_alpha falls in alpha at half the variance of -ln p, some 0.1 to 1 here.
    assert shannon == pytest.approx(near, rel=1e-9)


_ENTROPIES = [metrics.matrix_entropy, metrics.dataset_entropy, metrics.prompt_entropy]
_GRID = [0.1, 0.5, 0.99, 1, 1.01, 1.5, 2, 3, 10]


@pytest.mark.parametrize("normalization", ["raw", "logNlogD"])
@pytest.mark.parametrize("alphas", [_GRID, [1, 2, 5], [2, 2], [0.3], (2,), np.array([3.0, 1.0])], ids=str)
@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (3, 20, 30), (2, 3, 5, 4)], ids=str)
def test_several_orders_at_once_are_those_one_by_one(
    shape: tuple[int, ...], alphas: list[float], normalization: str
) -> None:
    Z = np.random.default_rng(0).normal(size=shape) ** 3
    Z[..., 1, :] = Z[..., 0, :]  # so that an eigenvalue is zero
    for entropy in _ENTROPIES:
        found = entropy(Z, alpha=alphas, normalization=normalization)
        alone = [entropy(Z, alpha=float(alpha), normalization=normalization) for alpha in alphas]
        assert found.shape == (*shape[:-2], len(alphas))
        np.testing.assert_allclose(found, np.stack(alone, axis=-1), rtol=0, atol=1e-9)


def test_several_orders_of_texts_of_many_lengths() -> None:
    rng = np.random.default_rng(1)
    Z, lengths = rng.normal(size=(6, 9, 12)), np.array([9, 1, 2, 5, 0, 7])
    mask = np.arange(9) < lengths[:, None]
    for normalization in NORMALIZATIONS:
        found = metrics.prompt_entropy(Z, mask, alpha=_GRID, normalization=normalization)
        assert found.shape == (6, len(_GRID))
        np.testing.assert_array_equal(np.isnan(found).all(axis=1), lengths < 2)
        for number, alpha in enumerate(_GRID):
            alone = metrics.prompt_entropy(Z, mask, alpha=alpha, normalization=normalization)
            np.testing.assert_allclose(found[:, number], alone, rtol=0, atol=1e-9)


@_QUICK
@given(_MATRICES, st.lists(st.floats(0.05, 50), min_size=1, max_size=6))
def test_no_order_of_several_is_above_a_lower_one(Z: np.ndarray, alphas: list[float]) -> None:
    found = metrics.matrix_entropy(Z, alpha=sorted(alphas))
    assert (np.diff(found) <= 1e-9).all()
    assert 0 <= found[-1] <= found[0] <= math.log(min(Z.shape)) + 1e-9


def test_torch_takes_several_orders() -> None:
    Z = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    found = metrics.dataset_entropy(Z, alpha=[0.5, 2.0])
    assert isinstance(found, torch.Tensor)
    assert (found.dtype, found.shape) == (torch.float64, (2, 2))


@_QUICK
@given(_MATRICES)
def test_alpha_2_in_closed_form(Z: np.ndarray) -> None:
    shares = plain_metrics.shares(plain_metrics.gram(Z)) or [1.0]
    collision = -math.log(math.fsum(p * p for p in shares))
    assert metrics.matrix_entropy(Z, alpha=2) == pytest.approx(collision, rel=1e-8, abs=1e-9)


@_QUICK
@given(_MATRICES, _ALPHAS.filter(lambda alpha: alpha >= 1))
def test_gram_and_covariance_agree(Z: np.ndarray, alpha: float) -> None:
    entropy = pytest.approx(float(metrics.matrix_entropy(Z, alpha=alpha)), abs=1e-9)
    assert plain_metrics.renyi(plain_metrics.shares(Z @ Z.T), alpha) == entropy
    assert plain_metrics.renyi(plain_metrics.shares(Z.T @ Z), alpha) == entropy


@_QUICK
@given(_MATRICES, _ALPHAS, st.floats(1e-3, 1e3), st.integers(0, 2**32 - 1))
def test_rotating_and_scaling_change_nothing(Z: np.ndarray, alpha: float, scale: float, seed: int) -> None:
    turned = scale * Z @ rotation(np.random.default_rng(seed), Z.shape[1])
    if alpha >= 1:  # below, a singular value at the edge of rounding may count or not
        entropy = metrics.matrix_entropy(Z, alpha=alpha)
        assert metrics.matrix_entropy(turned, alpha=alpha) == pytest.approx(entropy, abs=1e-9)
    rank = metrics.effective_rank(Z)
    assert metrics.effective_rank(turned) == pytest.approx(rank, abs=1e-7)


@pytest.mark.parametrize("alpha", [0.2, 1, 2, 5])
@pytest.mark.parametrize("shape", [(40, 30), (30, 40)], ids=str)
@pytest.mark.parametrize("rank", [1, 7, 30])
def test_a_flat_spectrum_has_the_entropy_of_its_rank(shape: tuple[int, int], rank: int, alpha: float) -> None:
    rng = np.random.default_rng(rank)
    Z = 3.7 * rotation(rng, shape[0])[:, :rank] @ rotation(rng, shape[1])[:rank]
    assert np.exp(metrics.matrix_entropy(Z, alpha=alpha)) == pytest.approx(rank, rel=1e-9)
    assert metrics.effective_rank(Z) == pytest.approx(rank, rel=1e-9)


@_QUICK
@given(_MATRICES)
def test_effective_rank_is_between_one_and_the_number_of_dimensions(Z: np.ndarray) -> None:
    assert 1 <= metrics.effective_rank(Z) <= min(Z.shape) + 1e-9


@pytest.mark.parametrize("rank", [1, 3, 20])
@pytest.mark.parametrize("spread", [1e-2, 1e-6, 1e-11], ids=str)
def test_effective_rank_where_the_gram_matrix_has_lost_it(rank: int, spread: float) -> None:
    rng = np.random.default_rng(rank)
    sigma = np.append(np.geomspace(1, spread, rank), 0)[:rank]
    Z = np.stack([rotation(rng, 60)[:, :rank] * sigma @ rotation(rng, 20)[:rank], rng.normal(size=(60, 20))])
    shares = sigma / sigma.sum()
    expected = math.exp(-math.fsum(p * math.log(p) for p in shares))
    found = metrics.effective_rank(Z)
    assert found[0] == pytest.approx(expected, rel=1e-9)
    assert found[1] == pytest.approx(plain_metrics.effective_rank(Z[1]), rel=1e-9)
    quarter = math.log(math.fsum((sigma**2 / (sigma**2).sum()) ** 0.25)) / 0.75
    assert metrics.matrix_entropy(Z[0], alpha=0.25) == pytest.approx(quarter, rel=1e-7, abs=1e-9)


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


@pytest.mark.parametrize("factor", [1e-200, 1e-90, 1e90, 1e200])
@pytest.mark.parametrize("alpha", [0.5, 1, 2])
def test_numbers_whose_squares_over_and_underflow(factor: float, alpha: float) -> None:
    Z = np.random.default_rng(3).normal(size=(3, 30, 20))
    scaled = Z * np.array([1, factor, 1])[:, None, None]
    for metric in (metrics.matrix_entropy, metrics.dataset_entropy):
        np.testing.assert_allclose(metric(scaled, alpha=alpha), metric(Z, alpha=alpha), rtol=1e-10)
    np.testing.assert_allclose(metrics.effective_rank(scaled), metrics.effective_rank(Z), rtol=1e-10)


def test_zeros_have_no_entropy() -> None:
    assert metrics.matrix_entropy(np.zeros((3, 2))) == 0
    np.testing.assert_array_equal(metrics.matrix_entropy(np.zeros((2, 3, 2)), alpha=2), [0, 0])
    np.testing.assert_array_equal(metrics.matrix_entropy(np.zeros((2, 3, 2)), alpha=0.5), [0, 0])
    np.testing.assert_array_equal(metrics.effective_rank(torch.zeros(2, 3, 2)), [1, 1])


@pytest.mark.parametrize("alpha", [0.5, 1, 2, 3])
def test_one_row_has_no_entropy(alpha: float) -> None:
    assert metrics.matrix_entropy([[3.0, 4.0]], alpha=alpha) == pytest.approx(0, abs=1e-15)
    assert metrics.dataset_entropy([[3.0, 4.0]], alpha=alpha) == 0


@pytest.mark.parametrize(
    ("Z", "arguments", "message"),
    [
        (np.ones(3), {}, r"Z: expected an array"),
        (np.ones((0, 3)), {}, r"Z: expected an array"),
        (np.array([[1.0, np.nan]]), {}, "Z: holds NaN or infinity$"),
        (np.stack([np.ones((2, 2)), np.full((2, 2), np.inf)]), {}, r"in item \(1,\)"),
        (np.ones((2, 2)), {"alpha": 0}, "alpha: expected"),
        (np.ones((2, 2)), {"alpha": math.inf}, "alpha: expected"),
        (np.ones((2, 2)), {"alpha": "1"}, "alpha: expected"),
        (np.ones((2, 2)), {"alpha": [1, 0]}, "alpha: expected a finite number above 0, got 0"),
        (np.ones((2, 2)), {"alpha": [1, "2"]}, "alpha: expected a finite number above 0, got '2'"),
        (np.ones((2, 2)), {"alpha": []}, "alpha: expected .*, got none"),
        (np.ones((2, 2)), {"alpha": [[1, 2]]}, "alpha: expected"),
        (np.ones((2, 2)), {"alpha": None}, "alpha: expected"),
        (np.ones((2, 2)), {"normalization": "logX"}, "normalization: expected"),
        (np.ones((1, 3)), {"normalization": "logN"}, "divides by ln 1"),
        (np.ones((3, 1)), {"normalization": "maxEntropy"}, "divides by ln 1"),
    ],
)
@pytest.mark.parametrize("metric", [metrics.matrix_entropy, metrics.dataset_entropy])
def test_bad_input_is_named(metric: object, Z: np.ndarray, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metric(Z, **arguments)  # type: ignore[operator]


@_QUICK
@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3), st.floats(-100, 100))
def test_dataset_entropy_ignores_place_size_and_direction(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(12, 6))
    moved = scale * Z @ rotation(rng, 6) + shift
    assert metrics.dataset_entropy(moved) == pytest.approx(float(metrics.dataset_entropy(Z)), rel=1e-8)


@_QUICK
@given(arrays(np.float64, st.integers(1, 6), elements=st.floats(-1e3, 1e3)), st.integers(1, 6))
def test_equal_texts_have_no_entropy(vector: np.ndarray, n: int) -> None:
    assert metrics.dataset_entropy(np.tile(vector, (n, 1))) == 0


@pytest.mark.parametrize("n", [3, 7, 1000])
def test_equal_wide_texts_have_no_entropy(n: int) -> None:
    row = np.random.default_rng(n).normal(size=4096) + 5
    assert metrics.dataset_entropy(np.tile(row, (n, 1))) == 0


def test_a_text_at_the_mean_has_no_direction() -> None:
    rng = np.random.default_rng(5)
    Z = rng.normal(size=(9, 5)) + 3
    with_mean = np.vstack([Z, Z.mean(axis=0)])
    assert metrics.dataset_entropy(with_mean) == pytest.approx(float(metrics.dataset_entropy(Z)), rel=1e-8)


_CENTRED = [metrics.isotropy, metrics.alpha_req]


@_QUICK
@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3), st.floats(-100, 100))
def test_a_covariance_ignores_place_size_and_direction(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(30, 6)) * [5, 3, 2, 1, 1, 0.5]
    for metric in _CENTRED:
        moved = scale * Z @ rotation(rng, 6) + shift
        assert metric(moved) == pytest.approx(float(metric(Z)), rel=1e-7)


@_QUICK
@given(_MATRICES)
def test_isotropy_is_between_one_direction_and_all(Z: np.ndarray) -> None:
    found, d = float(metrics.isotropy(Z)), Z.shape[1]
    if np.ptp(Z, axis=0).max() == 0:
        assert found == 0
    else:
        assert found >= (1 - 1e-9) / math.sqrt(d - 1) if d > 1 else found == math.inf


@pytest.mark.parametrize("shape", [(40, 6), (6, 40)], ids=str)
def test_one_direction_is_the_least_isotropic(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    line = rng.normal(size=(shape[0], 1)) * rng.normal(size=shape[1]) + 3
    assert metrics.isotropy(line) == pytest.approx(1 / math.sqrt(shape[1] - 1), rel=1e-9)


@pytest.mark.parametrize("d", [2, 9])
def test_all_directions_alike_are_isotropic_without_bound(d: int) -> None:
    cross = np.vstack([np.eye(d), -np.eye(d)])
    assert metrics.isotropy(cross) > 1e7
    assert metrics.alpha_req(cross) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("n_directions", [2, 3, 8, 21, 150])
def test_a_power_law_has_its_exponent(alpha: float, n_directions: int) -> None:
    sigma = np.arange(1, n_directions + 1) ** (-alpha / 2)
    axes = np.diag(sigma) @ rotation(np.random.default_rng(0), n_directions)
    assert metrics.alpha_req(np.vstack([axes, -axes])) == pytest.approx(alpha, abs=1e-8)


def test_the_first_ten_and_all_after_a_hundred_eigenvalues_are_left_out() -> None:
    ranks = np.arange(1, 151)
    eigenvalues = np.where((ranks > 10) & (ranks <= 100), 1 / ranks, 1e-9 + 5.0 * (ranks <= 10))
    axes = np.diag(eigenvalues**0.5)
    assert metrics.alpha_req(np.vstack([axes, -axes])) == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("Z", [np.ones((1, 3)), np.ones((5, 3)), np.zeros((4, 2)), np.full((7, 5), 1 / 3)], ids=str)
def test_equal_texts_have_no_spectrum(Z: np.ndarray) -> None:
    assert metrics.isotropy(Z) == 0
    assert np.isnan(metrics.alpha_req(Z))


def test_the_rounding_of_texts_that_are_nearly_equal_is_no_spectrum() -> None:
    rng = np.random.default_rng(2)
    Z = np.repeat(rng.normal(size=(8, 20)), 2, axis=0)  # the same words in another order, at layer 0
    rounded = Z + 1e-8 * rng.normal(size=Z.shape)
    assert metrics.alpha_req(rounded) == pytest.approx(float(metrics.alpha_req(Z)), rel=1e-5)


def test_one_direction_has_no_decay_and_spoils_no_other_item() -> None:
    rng = np.random.default_rng(1)
    Z = np.stack([rng.normal(size=(9, 4)), np.outer(np.arange(9.0), [1, 2, 3, 4]), np.ones((9, 4))])
    found = metrics.alpha_req(Z)
    np.testing.assert_array_equal(np.isnan(found), [False, True, True])
    assert found[0] == pytest.approx(plain_metrics.alpha_req(Z[0]), rel=1e-8)


@pytest.mark.parametrize("metric", _CENTRED)
def test_bad_input_of_a_covariance_is_named(metric: object) -> None:
    for Z, message in [
        (np.ones(3), "Z: expected an array"),
        (np.ones((0, 3)), "Z: expected an array"),
        (np.array([[1.0, np.nan]]), "Z: holds NaN or infinity$"),
        (np.stack([np.ones((2, 2)), np.full((2, 2), np.inf)]), r"in item \(1,\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            metric(Z)  # type: ignore[operator]


@pytest.mark.parametrize("factor", [1e-200, 1e-90, 1e90, 1e200])
def test_a_covariance_of_numbers_whose_squares_over_and_underflow(factor: float) -> None:
    Z = np.random.default_rng(3).normal(size=(3, 30, 20))
    scaled = Z * np.array([1, factor, 1])[:, None, None]
    for metric in _CENTRED:
        np.testing.assert_allclose(metric(scaled), metric(Z), rtol=1e-9)
