import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import plain_metrics

from midlayer_embed import metrics
from midlayer_embed.metrics import distances

_SEEDS = st.integers(0, 2**32 - 1)
_QUICK = settings(max_examples=40, deadline=None)
_OF_ONE = [metrics.two_nn, metrics.uniformity]


def rotation(rng: np.random.Generator, d: int) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(d, d)))[0]


@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_a_flat_surface_has_its_dimension(dimensions: int) -> None:
    rng = np.random.default_rng(dimensions)
    inside = rng.uniform(size=(2000, dimensions))
    surface = inside @ rotation(rng, 40)[:dimensions] + 0.5
    assert metrics.two_nn(surface) == pytest.approx(dimensions, rel=0.12)


def test_a_curved_line_has_one_dimension() -> None:
    angles = np.random.default_rng(0).uniform(0, 6, size=1000)
    spiral = np.stack([angles * np.cos(angles), angles * np.sin(angles), angles], axis=1)
    assert metrics.two_nn(spiral) == pytest.approx(1, rel=0.1)


@_QUICK
@given(_SEEDS, st.floats(1e-3, 1e3), st.floats(-100, 100))
def test_place_size_and_direction_change_no_dimension(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(40, 5))
    moved = scale * Z @ rotation(rng, 5) + shift
    assert metrics.two_nn(moved) == pytest.approx(float(metrics.two_nn(Z)), rel=1e-6)


@_QUICK
@given(_SEEDS, st.integers(1, 20))
def test_copies_of_texts_change_no_dimension(seed: int, n_copies: int) -> None:
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(30, 4))
    with_copies = rng.permutation(np.vstack([Z, Z[rng.integers(0, 30, size=n_copies)]]))
    assert metrics.two_nn(with_copies) == pytest.approx(float(metrics.two_nn(Z)), rel=1e-9)
    rounded = with_copies + 1e-8 * rng.normal(size=with_copies.shape)  # the same words in another order, at layer 0
    assert metrics.two_nn(rounded) == pytest.approx(float(metrics.two_nn(Z)), rel=1e-5)


def test_distances_that_the_products_have_lost() -> None:
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(60, 8))
    Z[:, 0] += np.repeat([0, 1e5], 30)  # two far groups: the squares of the norms are 1e10 times those of the distances
    assert metrics.two_nn(Z) == pytest.approx(plain_metrics.two_nn(Z), rel=1e-9)


@pytest.mark.parametrize("Z", [np.ones((1, 3)), np.ones((9, 3)), np.eye(2), np.eye(2)[[0, 1, 1, 0]]], ids=str)
def test_two_different_texts_have_no_dimension_and_spoil_no_other_item(Z: np.ndarray) -> None:
    assert np.isnan(metrics.two_nn(Z))
    other = np.random.default_rng(0).normal(size=Z.shape)
    if len(Z) > 2:
        np.testing.assert_array_equal(np.isnan(metrics.two_nn(np.stack([other, Z, other]))), [False, True, False])


def test_texts_at_equal_distances_have_infinite_dimension() -> None:
    assert metrics.two_nn(np.eye(5)) == math.inf


@_QUICK
@given(_SEEDS, st.floats(1e-3, 1e3))
def test_size_and_direction_change_no_uniformity(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(12, 5))
    moved = scale * rng.uniform(0.1, 10, size=(12, 1)) * Z @ rotation(rng, 5)
    assert metrics.uniformity(moved) == pytest.approx(float(metrics.uniformity(Z)), rel=1e-9)
    assert -8 <= metrics.uniformity(Z) <= 0


def test_uniformity_of_opposite_and_of_equal_texts() -> None:
    assert metrics.uniformity([[1.0, 0.0], [-2.0, 0.0]]) == pytest.approx(-8)
    for n in (1, 2, 50):
        assert metrics.uniformity(np.tile([3.0, 4.0], (n, 1))) == pytest.approx(0, abs=1e-12)
    assert metrics.uniformity(np.zeros((4, 3))) == 0
    assert metrics.uniformity([[0.0, 0.0], [1.0, 0.0]]) == pytest.approx(-2)


def test_spread_texts_are_more_uniform_than_texts_in_a_cone() -> None:
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(100, 8))
    assert metrics.uniformity(Z) < metrics.uniformity(Z + 2) < metrics.uniformity(Z + 9)


@_QUICK
@given(_SEEDS, st.integers(1, 12), st.floats(1e-3, 1e3))
def test_a_layer_agrees_with_itself_turned(seed: int, k: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(20, 6))
    turned = scale * A @ rotation(rng, 6)
    assert metrics.neighbour_agreement(A, turned, k=k) == pytest.approx(1)
    B = rng.normal(size=(20, 6))
    agreement = float(metrics.neighbour_agreement(A, B, k=k))
    assert 0 <= agreement <= 1
    assert metrics.neighbour_agreement(B, A, k=k) == pytest.approx(agreement)
    order = rng.permutation(20)
    assert metrics.neighbour_agreement(A[order], B[order], k=k) == pytest.approx(agreement)


def test_unrelated_layers_agree_by_chance() -> None:
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(2, 400, 8))
    assert metrics.neighbour_agreement(A, B) == pytest.approx(10 / 399, abs=0.01)


@pytest.mark.parametrize("row", [[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [1 / 3, 0.1, 1e-5]])
def test_a_layer_of_equal_texts_agrees_by_chance(row: list[float]) -> None:
    equal = np.tile(row, (41, 1))
    other = np.random.default_rng(0).normal(size=(41, 3))
    for A, B in [(equal, other), (other, equal), (equal, equal)]:
        assert metrics.neighbour_agreement(A, B) == pytest.approx(10 / 40)


def test_texts_that_tie_share_the_last_places() -> None:
    # Row 0 has row 1 before it, rows 2 and 3 tie for the second place; in B row 2 alone is there.
    A = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 1.0], [1.0, -1.0]])
    B = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [0.0, -1.0]])
    near = distances._near(torch.nn.functional.normalize(torch.from_numpy(A), dim=1)[None], slice(0, 1), 2)
    assert near.tolist() == [[[0.0, 1.0, 0.5, 0.5]]]
    both = distances._near(torch.nn.functional.normalize(torch.from_numpy(B), dim=1)[None], slice(0, 1), 2)
    assert both.tolist() == [[[0.0, 1.0, 1.0, 0.0]]]


def test_all_of_a_few_texts_are_neighbours_and_one_has_none() -> None:
    A, B = np.random.default_rng(0).normal(size=(2, 5, 3))
    assert metrics.neighbour_agreement(A, B) == 1
    assert metrics.neighbour_agreement(A, B, k=4) == 1 > metrics.neighbour_agreement(A, B, k=2)
    assert np.isnan(metrics.neighbour_agreement(A[:1], B[:1]))


@pytest.mark.parametrize("n", [1, 7, 50])
def test_blocks_of_rows_change_nothing(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(2, 3, 61, 5))
    whole = [metrics.two_nn(A), metrics.uniformity(A), metrics.neighbour_agreement(A, B)]
    monkeypatch.setattr(distances, "PORTION_BYTES", 8 * 61 * n)
    parts = [metrics.two_nn(A), metrics.uniformity(A), metrics.neighbour_agreement(A, B)]
    np.testing.assert_allclose(parts, whole, rtol=1e-12)


@pytest.mark.parametrize("factor", [1e-200, 1e-90, 1e90, 1e200])
def test_numbers_whose_squares_over_and_underflow(factor: float) -> None:
    Z = np.random.default_rng(3).normal(size=(3, 30, 20))
    scaled = Z * np.array([1, factor, 1])[:, None, None]
    for metric in _OF_ONE:
        np.testing.assert_allclose(metric(scaled), metric(Z), rtol=1e-9)
    assert metrics.neighbour_agreement(Z, scaled).tolist() == [1, 1, 1]


@pytest.mark.parametrize("metric", [*_OF_ONE, lambda Z: metrics.neighbour_agreement(Z, Z)])
def test_bad_input_is_named(metric: Callable[..., np.ndarray]) -> None:
    for Z, message in [
        (np.ones(3), "[ZA]: expected an array"),
        (np.ones((0, 3)), "[ZA]: expected an array"),
        (np.array([[1.0, np.nan]]), "[ZA]: holds NaN or infinity$"),
        (np.stack([np.ones((2, 2)), np.full((2, 2), np.inf)]), r"in item \(1,\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            metric(Z)


@pytest.mark.parametrize("k", [0, -1, 2.0, "3"])
def test_a_wrong_number_of_neighbours_is_named(k: object) -> None:
    with pytest.raises(ValueError, match="k: expected an int of at least 1"):
        metrics.neighbour_agreement(np.eye(3), np.eye(3), k=k)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="B: expected the shape of A"):
        metrics.neighbour_agreement(np.eye(3), np.ones((3, 2)))
