"""The cost of a shard is the same on every machine."""

from typing import Any

import mteb
import pytest

from leaderboard.shards.costs import shard_cost, shard_seconds
from leaderboard.shards.sizes import ModelSize, TaskSizes, task_sizes
from leaderboard.tasks.benchmarks import get_task
from midlayer_embed.terms import METRICS

PYTHIA = ModelSize(24, 1024, 3.02e8)


def cost(sizes: TaskSizes, **options: Any) -> float:
    return shard_cost(sizes, PYTHIA, **{"n_layers": 25, **options})


def sizes_of(name: str) -> TaskSizes:
    return task_sizes(get_task(name))


def test_a_cost_has_three_digits_and_no_machine_in_it() -> None:
    assert cost(sizes_of("STSBenchmark"), metrics=METRICS) == cost(sizes_of("STSBenchmark"), metrics=METRICS)
    found = cost(sizes_of("ArxivClusteringS2S"))
    assert float(f"{found:.3g}") == found


def test_more_of_anything_costs_more() -> None:
    sizes = sizes_of("STSBenchmark")
    plain = cost(sizes)
    assert cost(sizes, n_layers=50) > plain
    assert cost(sizes, n_transforms=2) > plain
    assert cost(sizes, metrics=["dime"]) > plain
    assert cost(sizes, metrics=["dime", "lidar"]) > cost(sizes, metrics=["dime"])
    assert cost(sizes, metrics=["dime"], metric_texts=100) < cost(sizes, metrics=["dime"])
    assert cost(sizes, limit=100) < plain
    assert shard_cost(sizes, ModelSize(32, 4096, 6.4e9), n_layers=25) > plain


def test_views_are_encoded_for_metrics() -> None:
    sizes = sizes_of("STSBenchmark")
    encoding = {
        name: shard_seconds(sizes, PYTHIA, n_layers=25, metrics=names)[0]
        for name, names in {"none": (), "tokens": ("curvature",), "two": ("dime",), "all": METRICS}.items()
    }
    assert encoding["none"] == encoding["tokens"] < encoding["two"] < encoding["all"]


@pytest.mark.parametrize("kind", ["Classification", "Clustering", "Retrieval", "Summarization", "ImageClassification"])
def test_costs_of_other_tasks_are_finite(kind: str) -> None:
    for task in mteb.get_tasks(task_types=[kind], languages=["eng"])[:20]:
        sizes = task_sizes(task)
        assert 0 < sizes.evaluated.number < 1e8, task.metadata.name
        assert 0 < cost(sizes, metrics=METRICS) < 1e8, task.metadata.name
