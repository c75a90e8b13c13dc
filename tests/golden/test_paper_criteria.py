"""The paper's metrics and criteria give the numbers that they gave at e24df2b, before there were others.

Weights are drawn by numpy and states are float64, so that the numbers do not depend on the CPU.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.architectures import SENTENCES

from midlayer_embed import profile_layers, select_layer

_TEXTS = [f"{first} {second}" for first in SENTENCES for second in SENTENCES[:4]]
_CURVES = {
    "prompt_entropy": [2.36927617, 2.16426715, 2.19118335, 2.14758037],
    "dataset_entropy": [1.73254147, 1.71425715, 1.83749039, 1.73839284],
    "curvature": [2.08890135, 2.02116595, 2.01194523, 1.9992933],
    "infonce": [2.52699088, 2.70713679, 2.94164633, 3.0601633],
    "lidar": [1.85350819, 1.99005795, 1.93425456, 1.99334233],
    "dime": [0.00781492964, 0.0540027053, 0.06425726, 0.0909104386],
    "effective_rank": [6.71085896, 11.5574292, 11.9747477, 12.0287586],
}
# For each criterion on raw states and on normed ones: layer, runner-up, stability over 20 halves, and the normed curve.
_SELECTIONS = {
    "min-dime": ((0, 1, 0.75), (0, 1, 0.65), [0.0089865247, 0.0506783751, 0.0606435691, 0.0890685332]),
    "min-infonce": ((0, 1, 0.7), (0, 1, 0.7), [2.6138557, 2.85027488, 2.92927877, 3.02261158]),
    "min-entropy": ((1, 0, 0.6), (0, 1, 0.2), [1.73975119, 1.74435836, 1.85653529, 1.77500592]),
    "min-lidar": ((0, 2, 0.55), (0, 2, 0.75), [1.80536857, 2.03163018, 1.97498625, 1.98598965]),
    "max-curvature": ((0, 1, 1.0), (0, 1, 1.0), [2.0939081, 2.03767713, 2.0157643, 2.00017748]),
}
_METRIC = {
    "min-dime": "dime",
    "min-infonce": "infonce",
    "min-entropy": "dataset_entropy",
    "min-lidar": "lidar",
    "max-curvature": "curvature",
}


@pytest.fixture(scope="module")
def folder(make_model: Callable[..., Path]) -> Path:
    """A Llama of three blocks whose weights depend on numpy alone."""
    folder = make_model("llama")
    (path,) = folder.glob("*.safetensors")
    rng = np.random.default_rng(0)
    weights = {
        name: torch.from_numpy(0.15 * rng.standard_normal(weight.shape, dtype=np.float32) + float("norm" in name))
        for name, weight in sorted(load_file(path).items())
    }
    save_file(weights, path, metadata={"format": "pt"})
    return folder


def test_the_metrics_by_default(folder: Path) -> None:
    found = profile_layers(folder, _TEXTS, dtype="float64")
    assert list(found.values) == list(_CURVES)
    for metric, curve in _CURVES.items():
        np.testing.assert_allclose(found.values[metric], curve, rtol=1e-6, err_msg=metric)


@pytest.mark.parametrize("final_norm", [None, False, True], ids=["default", "raw", "normed"])
@pytest.mark.parametrize("criterion", _SELECTIONS)
def test_a_criterion(folder: Path, criterion: str, final_norm: bool | None) -> None:
    raw, normed, normed_curve = _SELECTIONS[criterion]
    found = select_layer(folder, _TEXTS, criterion, n_resamples=20, final_norm=final_norm, dtype="float64")
    assert (found.layer, found.runner_up, found.stability) == (normed if final_norm else raw)
    expected = normed_curve if final_norm else _CURVES[_METRIC[criterion]]
    assert found.values is not None
    np.testing.assert_allclose(found.values, expected, rtol=1e-6)
