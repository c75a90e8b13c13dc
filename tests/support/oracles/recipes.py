"""Small sweeps over recipes, and a plain oracle of their scores."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
from mteb.abstasks.abstask import AbsTask
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta

from leaderboard import Leaderboard, run_sweep
from leaderboard.scoring.columns import texts_in
from midlayer_embed import LayerwiseEncoder
from support.tiny_tasks import TinyClassification, TinySTS

TEMPLATES = (None, "echo", 'Say "{text}":\n')
TRANSFORMS = ("none", "standardize", "whiten", "remove:1")
RECIPE = ["template", "transform", "fitted_on"]


def sweep(model: Any, results: Path, tasks: Any = None, **options: Any) -> Leaderboard:
    keywords = {"metrics": "none", "layers": [0, 2, -1], "show_progress": False, **options}
    return run_sweep(model, tasks or [TinySTS(), TinyClassification()], results, **keywords)


def rows_of(board: Leaderboard) -> list[Any]:
    columns = ["task", "layer", *RECIPE, "main_score"]
    return board.scores.select(columns).sort(columns[:-1], nulls_last=True).rows()


def assert_same(rows: list[Any], expected: list[Any]) -> None:
    assert [row[:-1] for row in rows] == [row[:-1] for row in expected]
    assert [row[-1] for row in rows] == pytest.approx([row[-1] for row in expected], abs=1e-6)


def plain_transform(name: str, X: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A transform by its formula, in float64."""
    X = X.astype(np.float64)
    mean = X.mean(axis=0)
    values, directions = np.linalg.eigh((X - mean).T @ (X - mean) / len(X))
    if name == "standardize":
        return lambda x: (x - mean) / X.std(axis=0)
    if name.startswith("remove"):
        top = directions[:, -int(name[-1]) :]
        return lambda x: (x - mean) - (x - mean) @ top @ top.T
    ridge = float(name.partition(":")[2] or 10)
    return lambda x: (x - mean) @ directions / np.sqrt(values + ridge * values.mean())


class Oracle(AbsEncoder):
    """A layer of an encoder with a plain transform."""

    mteb_model_meta = ModelMeta.create_empty({"name": "tests/oracle", "revision": "1"})

    def __init__(self, encoder: LayerwiseEncoder, layer: int, transform: str, fitted_on: list[str]) -> None:
        self._encode = lambda texts: encoder.encode(list(texts), layers=[layer])[:, 0]
        self._map = (lambda x: x) if transform == "none" else plain_transform(transform, self._encode(fitted_on))

    def encode(self, inputs: Any, **_: Any) -> np.ndarray:
        return self._map(self._encode(texts_in(inputs))).astype(np.float32)


def oracle_score(task: AbsTask, model: Any) -> float:
    options: dict[str, Any] = {"cache": None, "show_progress_bar": False, "co2_tracker": False}
    (result,) = mteb.evaluate(model, task, **options).task_results
    return float(result.get_score())
