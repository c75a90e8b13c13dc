"""Kinds of arrays, threads, and portions: whatever they are, the answer is the same."""

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from midlayer_embed import metrics
from midlayer_embed.metrics import portions
from midlayer_embed.metrics.portions import on_every_core

ONE_VIEW = [
    metrics.matrix_entropy,
    metrics.effective_rank,
    metrics.dataset_entropy,
    metrics.prompt_entropy,
    metrics.curvature,
    lambda Z: metrics.lidar(Z[..., None, :]),
    lambda Z: metrics.infonce(Z, Z),
    lambda Z: metrics.dime(Z, Z, n_permutations=2),
]


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def many_portions(monkeypatch: pytest.MonkeyPatch, three_threads: None) -> None:
    monkeypatch.setattr(portions, "PORTION_BYTES", 1)
    monkeypatch.setattr(portions, "_WORTH_THREADS", 1)


@pytest.mark.parametrize("metric", ONE_VIEW)
def test_portions_and_threads_change_nothing(metric: Callable[..., Any], request: pytest.FixtureRequest) -> None:
    Z = np.random.default_rng(0).normal(size=(7, 8, 5))
    Z[5] *= 1e200
    at_once = metric(Z)
    request.getfixturevalue("many_portions")
    np.testing.assert_allclose(metric(Z), at_once, rtol=1e-12)
    assert torch.get_num_threads() == 3
    Z[4, 3, 2] = np.nan
    with pytest.raises(ValueError, match=r"[ZVA]: holds NaN or infinity in item \(4,\)"):
        metric(Z)
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_every_thread_has_a_core_to_itself() -> None:
    found = on_every_core(lambda _: torch.get_num_threads(), range(9))
    assert found == [1] * 9
    assert torch.get_num_threads() == 3
    with ThreadPoolExecutor(1) as later:
        assert later.submit(torch.get_num_threads).result() == 3
    within = on_every_core(lambda k: sum(on_every_core(lambda j: j * k, range(4))), range(3))
    assert within == [0, 6, 12]


@pytest.mark.usefixtures("many_portions")
def test_metrics_may_be_called_from_threads() -> None:
    Z = np.random.default_rng(1).normal(size=(6, 20, 5))
    expected = metrics.matrix_entropy(Z)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: metrics.matrix_entropy(Z), range(20)):
            np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("metric", ONE_VIEW)
def test_an_empty_batch_is_an_empty_answer(metric: Callable[..., Any]) -> None:
    assert metric(np.ones((0, 2, 4, 3))).shape == (0, 2)
    assert metric(torch.ones(2, 0, 4, 3)).shape == (2, 0)


@pytest.mark.parametrize("metric", ONE_VIEW)
def test_any_memory_layout(metric: Callable[..., Any]) -> None:
    Z = np.random.default_rng(2).normal(size=(3, 8, 5))
    expected = metric(Z)
    read_only = Z.copy()
    read_only.flags.writeable = False
    kept = Z.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of what is read-only
        for same in (read_only, np.asfortranarray(Z), Z[:, ::-1][:, ::-1], np.repeat(Z, 2, axis=2)[..., ::2]):
            np.testing.assert_allclose(metric(same), expected, rtol=1e-12)
    np.testing.assert_allclose(metric(torch.from_numpy(Z.swapaxes(1, 2).copy()).mT), expected, rtol=1e-12)
    np.testing.assert_array_equal(Z, kept)  # what comes in is not written into


@pytest.mark.parametrize("metric", ONE_VIEW)
def test_whole_numbers(metric: Callable[..., Any]) -> None:
    Z = np.random.default_rng(3).integers(-9, 9, size=(6, 4))
    expected = pytest.approx(float(metric(Z.astype(np.float64))))
    assert metric(Z) == expected
    assert float(metric(torch.from_numpy(Z).to(torch.int32))) == expected


@pytest.mark.parametrize("metric", ONE_VIEW[:-3])
def test_tensors_with_gradients(metric: Callable[..., Any]) -> None:
    Z = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert not metric(Z).requires_grad
    with torch.inference_mode():
        assert metric(Z * 1) == metric(Z)


@pytest.mark.parametrize(
    "value",
    [np.ones((3, 2), dtype=complex), torch.ones(3, 2, dtype=torch.complex64), "text", None, [["a", "b"]], object()],
)
def test_what_are_no_numbers(value: object) -> None:
    with pytest.raises(TypeError, match="Z: expected") as raised:
        metrics.matrix_entropy(value)
    assert isinstance(raised.value, ValueError)


def test_ragged_lists() -> None:
    with pytest.raises(ValueError, match="Z: expected an array of numbers, got list"):
        metrics.matrix_entropy([[1.0, 2.0], [3.0]])


def test_importing_metrics_brings_no_models(fresh_answers: dict[str, Any]) -> None:
    assert fresh_answers["metrics"] == []
