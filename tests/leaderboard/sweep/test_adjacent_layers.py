"""Metrics of adjacent layers do not depend on which layers a sweep takes."""

from pathlib import Path

import pytest
from support.tiny_tasks import TinySTS

from leaderboard import run_sweep

_METRICS = ["agreement", "dataset_entropy"]


def test_a_layer_agrees_with_layers_that_are_not_swept(llama_folder: Path, tmp_path: Path) -> None:
    values = {}
    for layers in ("all", [0, -1]):
        folder = tmp_path / str(layers)
        board = run_sweep(llama_folder, TinySTS(), folder, layers=layers, metrics=_METRICS, show_progress=False)
        rows = board.metrics.filter(normalization="raw").select("metric", "layer", "value").iter_rows()
        values[str(layers)] = {(metric, layer): value for metric, layer, value in rows}
    every, some = values["all"], values["[0, -1]"]
    assert set(some) == {(metric, layer) for metric in _METRICS for layer in (0, 3)}
    assert {layer for _, layer in every} == {0, 1, 2, 3}
    assert some == pytest.approx({key: every[key] for key in some}, rel=1e-6)
