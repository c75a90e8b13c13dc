"""A task that makes its own data says so by an attribute, whoever wrote it."""

import json
from pathlib import Path
from typing import Any

import pytest
from mteb.abstasks.abstask import AbsTask
from support.tiny_tasks import TinySTS

from leaderboard.scoring.columns import Columns
from leaderboard.scoring.score import prepared
from leaderboard.tasks.benchmarks import get_benchmark
from leaderboard.tasks.mirror import available_size, dataset_folder
from leaderboard.tasks.prefetch import MANIFEST, prefetch
from midlayer_embed.errors import InputError


@pytest.fixture
def own_task() -> AbsTask:
    """A task that makes its own data, and adds to the scores."""

    class Own(TinySTS):  # type: ignore[misc, valid-type]
        makes_its_own_data = True

        def evaluate(self, *args: Any, **kwargs: Any) -> Any:
            return {name: {**scores, "own": 1} for name, scores in super().evaluate(*args, **kwargs).items()}

    return Own()


def test_it_needs_no_dataset(own_task: AbsTask, tmp_path: Path) -> None:
    assert dataset_folder(tmp_path, own_task) is None
    assert available_size(own_task, tmp_path) == available_size(own_task, None) == 0
    prefetch([own_task, *get_benchmark("starter").tasks], tmp_path, show_progress=False)
    assert not (tmp_path / MANIFEST).exists() or json.loads((tmp_path / MANIFEST).read_text()) == {"datasets": {}}
    with pytest.raises(InputError):
        dataset_folder(tmp_path, TinySTS())


def test_it_may_add_to_the_scores_and_is_scored_fast_all_the_same(own_task: AbsTask) -> None:
    class NotOwn(type(own_task)):  # type: ignore[misc]
        makes_its_own_data = False

    starters = [get_benchmark(name).tasks[-1] for name in ("starter", "starter-vision")]
    for task, is_fast in ((own_task, True), *((task, True) for task in starters), (NotOwn(), False)):
        task.load_data()
        with prepared(task):
            tables: Any = task.dataset
            assert isinstance(tables["test"], Columns) is is_fast
