"""Shards are divided into parts of about the same cost, and few parts load the same model."""

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderboard.shards.costs import shard_cost
from leaderboard.shards.shard import Shard
from leaderboard.shards.sizes import ModelSize, task_sizes
from leaderboard.shards.split import split
from leaderboard.tasks.benchmarks import get_benchmark
from midlayer_embed.terms import METRICS

# Blocks, width and parameters of the blocks: all-MiniLM-L6-v2, BERT-base, and Pythia from 410M to 6.9B.
MODELS = (
    *(ModelSize(6, 384, 1.06e7), ModelSize(12, 768, 8.5e7), ModelSize(24, 1024, 3.02e8)),
    *(ModelSize(16, 2048, 8.1e8), ModelSize(32, 2560, 2.5e9), ModelSize(32, 4096, 6.4e9)),
)


def shards_of(costs: Sequence[Sequence[float]]) -> list[Shard]:
    """A shard for each cost of each model."""
    return [
        Shard(f"org/model-{number}", "main", "", f"Task{place}", None, cost)
        for number, model in enumerate(costs)
        for place, cost in enumerate(model)
    ]


@cache
def paper_shards(n_models: int) -> list[Shard]:
    """The 32 tasks of the paper under so many models, with all metrics."""
    sizes = {str(task.metadata.name): task_sizes(task) for task in get_benchmark("paper").tasks}
    return [
        Shard(
            f"org/model-{number}",
            "main",
            "",
            task,
            None,
            shard_cost(size, model, n_layers=model.n_blocks + 1, metrics=METRICS),
        )
        for number, model in ((number, MODELS[number % len(MODELS)]) for number in range(n_models))
        for task, size in sizes.items()
    ]


def costs_of(parts: list[list[Shard]]) -> list[float]:
    return [sum(shard.cost for shard in part) for part in parts]


def n_loaded(parts: list[list[Shard]]) -> int:
    return sum(len({shard.model for shard in part}) for part in parts)


COSTS = st.lists(st.lists(st.floats(0.001, 1e5), min_size=1, max_size=8), min_size=1, max_size=6)


@settings(deadline=None)
@given(COSTS, st.integers(1, 12), st.randoms(use_true_random=False))
def test_parts_hold_each_shard_once_whatever_its_place_in_the_list(
    costs: list[list[float]], n: int, rng: random.Random
) -> None:
    shards = shards_of(costs)
    parts = split(shards, n)
    assert len(parts) == n
    assert sorted(map(repr, chain(*parts))) == sorted(map(repr, shards))
    assert parts == split(rng.sample(shards, len(shards)), n)


@settings(deadline=None)
@given(COSTS, st.integers(1, 12))
def test_no_part_costs_more_than_the_mean_and_a_shard(costs: list[list[float]], n: int) -> None:
    shards = shards_of(costs)
    every = [shard.cost for shard in shards]
    assert max(costs_of(split(shards, n))) <= max(1.05 * sum(every) / n, sum(every) / n + max(every)) + 0.1


@settings(deadline=None)
@given(COSTS, st.integers(1, 12))
def test_a_part_is_empty_only_if_there_are_too_few_shards(costs: list[list[float]], n: int) -> None:
    shards = shards_of(costs)
    assert sum(map(bool, split(shards, n))) == min(n, len(shards))


@settings(deadline=None)
@given(COSTS, st.integers(1, 12))
def test_a_part_goes_model_by_model_and_starts_each_with_its_costliest_shard(costs: list[list[float]], n: int) -> None:
    for part in split(shards_of(costs), n):
        models = list(dict.fromkeys(shard.model for shard in part))
        runs = [shard.model for place, shard in enumerate(part) if not place or part[place - 1].model != shard.model]
        assert runs == models
        for model in models:
            own = [round(1000 * shard.cost) for shard in part if shard.model == model]
            assert own == sorted(own, reverse=True)


@pytest.mark.parametrize("n_models", [1, 2, 3, 6, 12, 31, 50])
def test_the_paper_s_tasks_are_balanced_within_fifteen_percent_or_bound_by_one_shard(n_models: int) -> None:
    shards = paper_shards(n_models)
    total, largest = sum(shard.cost for shard in shards), max(shard.cost for shard in shards)
    for n in range(1, 65):
        assert max(costs_of(split(shards, n))) <= max(largest, 1.15 * total / n) + 0.01, n


def test_one_model_is_balanced_up_to_the_number_of_parts_that_its_largest_task_allows() -> None:
    shards = [shard for shard in paper_shards(4) if shard.model == "org/model-2"]
    total, largest = sum(shard.cost for shard in shards), max(shard.cost for shard in shards)
    possible = [n for n in range(1, 65) if 1.15 * total / n >= largest]
    balanced = [n for n in range(1, 65) if max(costs_of(split(shards, n))) <= 1.15 * total / n]
    assert balanced == possible
    assert max(possible) >= 2


@pytest.mark.parametrize("n", [2, 5, 16, 50, 64])
def test_few_parts_share_a_model(n: int) -> None:
    assert n_loaded(split(paper_shards(50), n)) <= 50 + n


def test_equal_costs_are_parted_by_name() -> None:
    shards = shards_of([[1.0] * 4, [1.0] * 4])
    assert [[shard.model for shard in part] for part in split(shards, 2)] == [["org/model-0"] * 4, ["org/model-1"] * 4]
    assert [shard.task for shard in split(shards, 2)[0]] == ["Task0", "Task1", "Task2", "Task3"]


def test_the_last_digit_of_a_cost_changes_nothing() -> None:
    shards = paper_shards(6)
    other = [replace(shard, cost=shard.cost + 1e-9) for shard in shards]
    names = [[[(shard.model, shard.task) for shard in part] for part in split(given, 7)] for given in (shards, other)]
    assert names[0] == names[1]


def test_nothing_is_divided_into_empty_parts() -> None:
    assert split([], 3) == [[], [], []]
