import resource

import numpy as np
import pytest
import torch

from midlayer_embed import metrics


def _slow(first: np.ndarray, second: np.ndarray) -> float:
    """Cosine by cosine in plain Python."""
    n = len(first)
    found = []
    for views, others in ((first, second), (second, first)):
        for number in range(n):
            cosines = [_cosine(views[number], other) for other in others]
            nearer = sum(cosine > cosines[number] + 1e-6 for cosine in cosines)
            as_near = sum(abs(cosine - cosines[number]) <= 1e-6 for cosine in cosines) - 1
            found.append(1 / (1 + nearer + as_near / 2))
    return float(np.mean(found))


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths else 0.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_the_slow_sum(dtype: type) -> None:
    rng = np.random.default_rng(0)
    first = rng.standard_normal((2, 3, 40, 5)).astype(dtype)
    second = first + 0.7 * rng.standard_normal(first.shape).astype(dtype)
    second[0, 0, :7] = second[0, 0, 7]  # as near as each other
    first[1, 2, 3] = 0
    found = metrics.retrieval(first, second)
    assert found.shape == (2, 3) and found.dtype == np.float64
    expected = [[_slow(*pair) for pair in zip(*row, strict=True)] for row in zip(first, second, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    as_tensor = metrics.retrieval(torch.from_numpy(first), second)
    assert isinstance(as_tensor, torch.Tensor)
    np.testing.assert_allclose(as_tensor, expected, atol=1e-12)


def test_limits() -> None:
    views = np.eye(6)
    assert metrics.retrieval(views, 3 * views) == 1
    assert metrics.retrieval(np.ones((1, 4)), -np.ones((1, 4))) == 1
    for constant in (np.ones((6, 3)), np.zeros((6, 3))):  # a layer whose vectors are all equal finds nothing
        assert metrics.retrieval(constant, constant) == pytest.approx(2 / 7)
    assert metrics.retrieval(views, -views) == pytest.approx(1 / 6)
    assert metrics.retrieval(np.zeros((0, 4, 2)), np.zeros((0, 4, 2))).shape == (0,)


def test_order_and_sides_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.standard_normal((2, 50, 4))
    order = rng.permutation(50)
    found = metrics.retrieval(first, second)
    assert metrics.retrieval(first[order], second[order]) == pytest.approx(float(found), abs=1e-12)
    assert metrics.retrieval(second, first) == pytest.approx(float(found), abs=1e-12)


def test_blocks_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = np.random.default_rng(2).standard_normal((2, 53, 4))
    whole = metrics.retrieval(first, second)
    monkeypatch.setattr("midlayer_embed.metrics.nearest.PORTION_BYTES", 8 * 53 * 7)
    assert metrics.retrieval(first, second) == pytest.approx(float(whole), abs=1e-12)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_square() -> None:
    views = np.random.default_rng(3).standard_normal((20_000, 2)).astype(np.float32)
    before = _peak()
    metrics.retrieval(views, views)
    assert _peak() - before < 1_000_000_000  # the square in float64 takes 3.2 GB


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        (np.ones(3), np.ones(3), r"A: expected an array \(\.\.\., n, d\)"),
        (np.ones((3, 2)), np.ones((2, 2)), r"B: expected the shape of A, \(3, 2\), got \(2, 2\)"),
        (np.ones((2, 3, 2)), np.full((2, 3, 2), np.nan), r"B: holds NaN or infinity in item \(0,\)"),
    ],
)
def test_wrong_arguments(first: np.ndarray, second: np.ndarray, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        metrics.retrieval(first, second)
