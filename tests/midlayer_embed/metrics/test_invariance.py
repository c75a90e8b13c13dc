import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import plain_metrics

from midlayer_embed import metrics
from midlayer_embed.terms import NORMALIZATIONS

_SEEDS = st.integers(0, 2**32 - 1)
_QUICK = settings(max_examples=30, deadline=None)


def rotation(rng: np.random.Generator, d: int) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(d, d)))[0]


# InfoNCE


@_QUICK
@given(_SEEDS, st.floats(0.01, 10))
def test_infonce_ignores_lengths_and_a_common_rotation(seed: int, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    A, B = rng.normal(size=(2, 12, 6))
    turn = rotation(rng, 6)
    lengths = rng.uniform(0.1, 9, size=(2, 12, 1))
    loss = pytest.approx(float(metrics.infonce(A, B, temperature)), rel=1e-8)
    assert metrics.infonce(lengths[0] * A @ turn, lengths[1] * B @ turn, temperature) == loss
    assert metrics.infonce(B, A, temperature) == loss
    assert metrics.mi_lower_bound(A, B, temperature) == pytest.approx(math.log(12) - loss.expected, rel=1e-8, abs=1e-9)


def test_infonce_of_right_and_wrong_partners() -> None:
    views = np.eye(6)
    assert metrics.infonce(views, views, 0.01) == pytest.approx(0, abs=1e-12)
    assert metrics.infonce(views, np.roll(views, 1, axis=0), 0.01) == pytest.approx(100, rel=1e-9)
    assert metrics.infonce(views, -views, 1e-4) == pytest.approx(1e4 + math.log(5), rel=1e-9)  # exp(1e4) overflows


def test_infonce_where_nothing_tells_partners_apart() -> None:
    assert metrics.infonce(np.zeros((5, 3)), np.zeros((5, 3))) == pytest.approx(math.log(5))
    assert metrics.infonce(np.ones((5, 3)), np.ones((5, 3))) == pytest.approx(math.log(5))
    assert metrics.infonce([[1.0, 2.0]], [[3.0, -4.0]]) == 0
    assert metrics.mi_lower_bound([[1.0, 2.0]], [[3.0, -4.0]]) == 0
    one_zero = np.eye(4)
    one_zero[2] = 0
    assert metrics.infonce(one_zero, one_zero) == pytest.approx(plain_metrics.infonce(one_zero, one_zero))


# LiDAR


@_QUICK
@given(_SEEDS, st.floats(1e-3, 1e3))
def test_lidar_ignores_place_direction_and_unit(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    V = rng.normal(size=(9, 1, 5)) + 0.3 * rng.normal(size=(9, 4, 5))
    moved = scale * (V @ rotation(rng, 5) + rng.normal(size=5))
    found = metrics.lidar(moved, delta=1e-4 * scale**2)
    assert found == pytest.approx(float(metrics.lidar(V, delta=1e-4)), rel=1e-8)


@pytest.mark.parametrize("shape", [(3, 2, 7), (40, 3, 5), (4, 1, 6), (1, 4, 3), (5, 3, 1), (70, 16, 300)], ids=str)
def test_lidar_of_every_shape(shape: tuple[int, int, int]) -> None:
    V = np.random.default_rng(0).normal(size=shape)
    assert metrics.lidar(V) == pytest.approx(plain_metrics.lidar(V), rel=1e-8, abs=1e-12)


def test_lidar_does_not_depend_on_how_classes_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    V = np.random.default_rng(1).normal(size=(2, 50, 3, 200))
    expected = metrics.lidar(V)
    monkeypatch.setattr("midlayer_embed.metrics.invariance.PORTION_BYTES", 8 * 3 * 200 * 7)
    np.testing.assert_allclose(metrics.lidar(V), expected, rtol=1e-12)


def test_lidar_far_from_the_origin() -> None:
    """Squared means minus mean squares would lose the scatter of views that agree."""
    V = np.random.default_rng(2).normal(size=(30, 4, 6))
    assert metrics.lidar(V + 1e6, delta=0.01) == pytest.approx(plain_metrics.lidar(V, delta=0.01), rel=1e-8)


def test_lidar_where_delta_is_lost_in_the_rounding_of_the_scatter() -> None:
    """Fewer views than dimensions: the directions without scatter, where delta is all there is, count nevertheless."""
    rng = np.random.default_rng(3)
    V = 1e7 * rng.normal(size=(3, 2, 8))
    within = (V - V.mean(axis=1, keepdims=True)).reshape(6, 8)
    assert np.finfo(np.float64).eps * (within**2).sum() / 6 > 10 * 1e-4
    # Scatter in the three directions of `within` is worth nothing: what is left is S_1 of the means in the other five.
    rest = np.linalg.svd(within)[2][3:]
    means = V.mean(axis=1) - V.mean(axis=(0, 1))
    expected = plain_metrics.matrix_entropy(means @ rest.T)
    assert metrics.lidar(V) == pytest.approx(expected, rel=1e-6)
    assert metrics.lidar(np.stack([V / 1e7, V]))[1] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("factor", [1e-200, 1e200])
def test_lidar_of_numbers_whose_squares_over_and_underflow(factor: float) -> None:
    V = np.random.default_rng(4).normal(size=(2, 20, 5, 3))
    within_only = V.copy()
    within_only[1] *= factor
    # delta is all there is beside tiny numbers, and nothing beside huge ones.
    limit = metrics.lidar(V[1], delta=1e9 if factor < 1 else 1e-9)
    np.testing.assert_allclose(metrics.lidar(within_only), [metrics.lidar(V[0]), limit], rtol=1e-7)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_lidar_is_normalised_by_classes_and_dimensions(normalization: str) -> None:
    V = np.random.default_rng(5).normal(size=(9, 3, 4))
    expected = plain_metrics.lidar(V, normalization=normalization)
    assert metrics.lidar(V, normalization=normalization) == pytest.approx(expected, rel=1e-8)


def test_lidar_where_classes_are_equal() -> None:
    V = np.tile(np.random.default_rng(6).normal(size=(1, 4, 5)), (7, 1, 1))
    assert metrics.lidar(np.ones((5, 2, 3))) == 0
    assert metrics.lidar(V[:4]) == pytest.approx(0, abs=1e-12)


# DiME


@_QUICK
@given(_SEEDS, st.floats(1e-3, 1e3))
def test_dime_ignores_place_size_and_each_views_direction(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    A, B = rng.normal(size=(2, 12, 6))
    moved = scale * A @ rotation(rng, 6) + rng.normal(size=6)
    found = metrics.dime(moved, B @ rotation(rng, 6), seed=seed)
    assert found == pytest.approx(float(metrics.dime(A, B, seed=seed)), rel=1e-7, abs=1e-10)


@_QUICK
@given(_SEEDS)
def test_dime_of_identical_views_is_above_that_of_independent_ones(seed: int) -> None:
    A, B = np.random.default_rng(seed).normal(size=(2, 40, 8))
    same, independent = metrics.dime([A, A], [A, B], seed=seed)
    assert same > independent + 0.05
    assert abs(independent) < 0.2


@pytest.mark.parametrize("alpha", [0.5, 1, 2])
def test_dime_is_zero_where_no_pairing_matters(alpha: float) -> None:
    rng = np.random.default_rng(0)
    A, equal = rng.normal(size=(6, 4)), np.tile(rng.normal(size=4), (6, 1))
    assert metrics.dime(A, equal, alpha=alpha) == 0
    assert metrics.dime(equal, equal, alpha=alpha) == 0
    assert metrics.dime([[1.0, 2.0]], [[2.0, 2.0]], alpha=alpha) == 0


def test_dime_below_order_1_where_joint_matrices_have_no_full_rank() -> None:
    A, B = np.random.default_rng(1).normal(size=(2, 40, 2))  # rank 4 of 40
    assert metrics.dime(A, B, alpha=0.2) == pytest.approx(plain_metrics.dime(A, B, alpha=0.2), rel=1e-8)


def test_one_set_of_permutations_a_call() -> None:
    A, B = np.random.default_rng(2).normal(size=(2, 5, 30, 4))
    together = metrics.dime(A, B, seed=3)
    np.testing.assert_allclose(together, [metrics.dime(a, b, seed=3) for a, b in zip(A, B, strict=True)], rtol=1e-12)
    np.testing.assert_array_equal(metrics.dime(torch.from_numpy(A), torch.from_numpy(B), seed=3), together)
    assert metrics.dime(A[0], B[0], seed=4) != together[0]


def test_the_global_random_state_is_neither_used_nor_changed() -> None:
    A, B = np.random.default_rng(3).normal(size=(2, 20, 4))
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    before = np.random.get_state()[1].copy(), torch.get_rng_state().clone()  # noqa: NPY002
    first = metrics.dime(A, B)
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])
    np.random.seed(2)  # noqa: NPY002
    torch.manual_seed(2)
    assert metrics.dime(A, B) == first


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel counts peaks on Linux only")
def test_memory_of_dime_grows_neither_with_the_batch_nor_with_permutations() -> None:
    def peak_mb(batch: int, n_permutations: int) -> float:
        A = np.random.default_rng(4).normal(size=(batch, 300, 4))
        Path("/proc/self/clear_refs").write_text("5")
        metrics.dime(A, A, alpha=2, n_permutations=n_permutations)
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(status["VmHWM"].split()[0]) / 1024

    peak_mb(8, 2)
    small = peak_mb(8, 2)
    assert peak_mb(24, 20) < small + 150  # all matrices at once: 360 MB


# Both views


@pytest.mark.parametrize("metric", [metrics.infonce, metrics.mi_lower_bound, metrics.dime])
def test_bad_views_are_named(metric: Callable[..., Any]) -> None:
    A, B = np.random.default_rng(5).normal(size=(2, 3, 6, 4))
    with pytest.raises(ValueError, match=r"B: expected the shape of A, \(3, 6, 4\), got \(3, 5, 4\)"):
        metric(A, B[:, 1:])
    with pytest.raises(ValueError, match=r"B: expected an array \(\.\.\., n, d\).*\(4,\)"):
        metric(A, B[0, 0])
    with pytest.raises(ValueError, match="A: expected an array of numbers"):
        metric("A", B)
    B[1, 2, 3] = np.inf
    with pytest.raises(ValueError, match=r"B: holds NaN or infinity in item \(1,\)"):
        metric(A, B)
    with pytest.raises(ValueError, match="A: holds NaN or infinity$"):
        metric(B[1], A[1])


@pytest.mark.parametrize("metric", [metrics.infonce, metrics.mi_lower_bound, metrics.dime])
def test_a_numpy_view_beside_a_torch_view(metric: Callable[..., Any]) -> None:
    A, B = np.random.default_rng(6).normal(size=(2, 6, 4))
    expected = pytest.approx(float(metric(A, B)))
    for first, second in ((torch.from_numpy(A), B), (A, torch.from_numpy(B))):
        found = metric(first, second)
        assert isinstance(found, torch.Tensor) and float(found) == expected


@pytest.mark.parametrize(
    ("metric", "arguments", "message"),
    [
        (metrics.infonce, {"temperature": 0}, "temperature: expected a finite number above 0, got 0"),
        (metrics.infonce, {"temperature": math.nan}, "temperature: expected"),
        (metrics.mi_lower_bound, {"temperature": -1}, "temperature: expected"),
        (metrics.dime, {"alpha": -1}, "alpha: expected"),
        (metrics.dime, {"n_permutations": 0}, "n_permutations: expected an int of at least 1, got 0"),
        (metrics.dime, {"n_permutations": 2.5}, "n_permutations: expected"),
        (metrics.dime, {"seed": -1}, "seed: expected"),
        (metrics.dime, {"normalization": "none"}, "normalization: expected"),
    ],
)
def test_bad_options_are_named(metric: Callable[..., Any], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metric(np.eye(3), np.eye(3), **arguments)


@pytest.mark.parametrize(
    ("V", "arguments", "message"),
    [
        (np.ones((4, 3)), {}, r"V: expected an array \(\.\.\., n, views, d\)"),
        (np.ones((4, 0, 3)), {}, r"V: expected an array"),
        (np.ones((4, 2, 3)), {"delta": 0}, "delta: expected a finite number above 0"),
        (np.ones((4, 2, 3)), {"normalization": "x"}, "normalization: expected"),
        (np.full((4, 2, 3), np.nan), {}, "V: holds NaN or infinity$"),
        (np.stack([np.ones((4, 1, 3)), np.full((4, 1, 3), -np.inf)]), {}, r"V: holds NaN or infinity in item \(1,\)"),
    ],
)
def test_bad_input_of_lidar_is_named(V: np.ndarray, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.lidar(V, **arguments)
