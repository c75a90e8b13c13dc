"""Every image task that mteb has a class for, on made-up images in the hub's layout: scores as by mteb itself."""

import random
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta
from support.vision.image_mirror import IMAGE_TASKS

from leaderboard import load_results, run_sweep
from leaderboard.scoring.encode_kwargs import ENCODE_KWARGS
from leaderboard.tasks.benchmarks import get_task
from leaderboard.tasks.mirror import dataset_folder, reading_from
from midlayer_embed import ImageLayerwiseEncoder

pytestmark = pytest.mark.usefixtures("quiet_libraries")

_LAYERS = [1, 3]


class Plain(AbsEncoder):
    """One layer as a user of mteb would write it: PIL images in, vectors out."""

    def __init__(self, encoder: ImageLayerwiseEncoder, layer: int) -> None:
        known = {"name": "tests/plain", "revision": "1", "modalities": ["image"]}
        self.mteb_model_meta = ModelMeta.create_empty(known)
        self._encoder, self._layer = encoder, layer

    def encode(self, inputs: Any, **kwargs: Any) -> np.ndarray:
        images = [image for batch in inputs for image in batch["image"]]
        return self._encoder.encode(images, layers=[self._layer])[:, 0]


def by_mteb(name: str, mirror: Path, encoder: ImageLayerwiseEncoder, layer: int) -> dict[str, Any]:
    """The scores of mteb's own evaluation."""
    task = get_task(name)
    folder = dataset_folder(mirror, task)
    assert folder is not None
    with reading_from(folder, task):
        task.load_data()
    task.rng_state, task.np_rng = random.Random(task.seed), np.random.default_rng(task.seed)
    found = mteb.evaluate(
        Plain(encoder, layer),
        task,
        cache=None,
        encode_kwargs=dict(ENCODE_KWARGS),  # type: ignore[arg-type]
        show_progress_bar=False,
        co2_tracker=False,
    )
    scores: dict[str, Any] = found.task_results[0].scores["test"][0]
    return scores


@pytest.fixture(scope="module")
def results(image_mirror: Path, tiny_image_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    options: dict[str, Any] = {"layers": _LAYERS, "data_dir": image_mirror, "metrics": "none", "show_progress": False}
    run_sweep(tiny_image_model("vit"), list(IMAGE_TASKS), folder, **options)
    return folder


@pytest.mark.parametrize("name", IMAGE_TASKS)
def test_a_sweep_scores_as_mteb_does(name: str, results: Path, image_mirror: Path, vit_folder: Path) -> None:
    from leaderboard.results.files.folder import ResultsFolder

    encoder = ImageLayerwiseEncoder(vit_folder)
    of_layer = {
        (meta.experiment_kwargs or {})["layer"]: result.scores["test"][0]
        for meta, result in ResultsFolder(results).results()
        if result.task_name == name
    }
    assert sorted(of_layer) == _LAYERS
    expected = by_mteb(name, image_mirror, encoder, _LAYERS[0])
    numbers = {key: value for key, value in expected.items() if isinstance(value, float) and not np.isnan(value)}
    assert numbers["main_score"]
    for key, value in numbers.items():
        assert of_layer[_LAYERS[0]][key] == pytest.approx(value, abs=1e-6), key


def test_the_tables_hold_every_task(results: Path) -> None:
    scores = load_results(results).scores
    assert sorted(scores["task"].unique()) == sorted(IMAGE_TASKS)
    assert scores.height == len(IMAGE_TASKS) * len(_LAYERS)
    assert scores["main_score"].null_count() == 0
