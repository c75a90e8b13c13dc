"""Every metric against its plain oracle: shapes, batches, numpy and torch, float types."""

from typing import Any

import numpy as np
import pytest
import torch
from support import plain_metrics

from midlayer_embed import metrics

SHAPES = [(5, 3), (50, 20), (20, 50), (200, 64)]
TWO_VIEWS = {"infonce", "mi_lower_bound", "dime", "neighbour_agreement"}
CASES = [
    ("matrix_entropy", {}),
    ("matrix_entropy", {"alpha": 0.3}),
    ("matrix_entropy", {"alpha": 0.9, "normalization": "logN"}),
    ("matrix_entropy", {"alpha": 2}),
    ("matrix_entropy", {"alpha": 4.5, "normalization": "maxEntropy"}),
    ("effective_rank", {}),
    ("dataset_entropy", {}),
    ("dataset_entropy", {"alpha": 2, "normalization": "logD"}),
    ("isotropy", {}),
    ("alpha_req", {}),
    ("two_nn", {}),
    ("uniformity", {}),
    ("neighbour_agreement", {}),
    ("neighbour_agreement", {"k": 3}),
    ("sink", {}),
    ("prompt_entropy", {}),
    ("prompt_entropy", {"alpha": 0.5, "normalization": "logNlogD"}),
    ("curvature", {}),
    ("infonce", {}),
    ("infonce", {"temperature": 0.02}),
    ("mi_lower_bound", {}),
    ("lidar", {}),
    ("lidar", {"delta": 0.01, "normalization": "maxEntropy"}),
    ("dime", {}),
    ("dime", {"alpha": 2, "n_permutations": 3, "seed": 7, "normalization": "logNlogD"}),
    ("dime", {"alpha": 1.4, "n_permutations": 2, "normalization": "logN"}),
]


def operands(metric: str, shape: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    """Random states with a mean, of unlike scales; two views of them; or three views that share a class's part."""
    rng = np.random.default_rng(seed)
    states = rng.normal(size=shape) * rng.uniform(0.5, 3, size=shape[-1]) + rng.normal(size=shape[-1])
    if metric == "lidar":
        *batch, n, d = shape
        return [states[..., None, :] + 0.7 * rng.normal(size=(*batch, n, 3, d))]
    return [states, states + 0.7 * rng.normal(size=shape)] if metric in TWO_VIEWS else [states]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("metric", "arguments"), CASES, ids=str)
def test_equals_the_plain_metric(metric: str, arguments: dict[str, Any], shape: tuple[int, int]) -> None:
    arrays = operands(metric, shape)
    expected = getattr(plain_metrics, metric)(*arrays, **arguments)
    found = getattr(metrics, metric)(*arrays, **arguments)
    assert isinstance(found, (np.ndarray, np.float64)) and found.dtype == np.float64 and found.shape == ()
    assert float(found) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("batch", [(3,), (2, 2), (1,)], ids=str)
@pytest.mark.parametrize("shape", SHAPES[:3], ids=str)
@pytest.mark.parametrize("metric", dict(CASES))
def test_leading_dimensions(metric: str, shape: tuple[int, int], batch: tuple[int, ...]) -> None:
    arrays = operands(metric, (*batch, *shape))
    found = getattr(metrics, metric)(*arrays)
    assert found.shape == batch
    for index in np.ndindex(batch):
        expected = getattr(plain_metrics, metric)(*(array[index] for array in arrays))
        assert found[index] == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("kind", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("metric", dict(CASES))
def test_tensors_give_float64_tensors(metric: str, kind: str) -> None:
    tensors = [torch.from_numpy(array).to(getattr(torch, kind)) for array in operands(metric, (2, 20, 9))]
    found = getattr(metrics, metric)(*tensors)
    assert isinstance(found, torch.Tensor) and found.dtype == torch.float64 and found.shape == (2,)
    for i in range(2):  # of the same values: what is lost, the input had lost
        expected = getattr(plain_metrics, metric)(*(tensor[i].double().numpy() for tensor in tensors))
        assert float(found[i]) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("kind", ["float32", "float16", ">f8"])
@pytest.mark.parametrize("metric", dict(CASES))
def test_arrays_give_float64_arrays(metric: str, kind: str) -> None:
    arrays = [array.astype(kind) for array in operands(metric, (20, 9))]
    found = getattr(metrics, metric)(*arrays)
    assert found.dtype == np.float64
    expected = getattr(plain_metrics, metric)(*(array.astype(np.float64) for array in arrays))
    assert float(found) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("shape", [(270, 300), (300, 270)], ids=str)
@pytest.mark.parametrize("metric", ["matrix_entropy", "effective_rank", "prompt_entropy", "lidar"])
def test_matrices_large_enough_for_blocks(metric: str, shape: tuple[int, int]) -> None:
    arrays = operands(metric, shape)
    expected = getattr(plain_metrics, metric)(*arrays)
    assert float(getattr(metrics, metric)(*arrays)) == pytest.approx(expected, rel=1e-8)
