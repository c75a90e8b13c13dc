"""Shards are divided into parts of about the same cost, and few parts load the same model."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderboard.shards.costs import shard_cost
from leaderboard.shards.sizes import ModelSize, task_sizes
from leaderboard.shards.split import split
from leaderboard.tasks.benchmarks import get_benchmark
from midlayer_embed.terms import METRICS

# Blocks, width and parameters of the blocks: all-MiniLM-L6-v2, BERT-base, and Pythia from 410M to 6.9B.
MODELS = (
    *(ModelSize(6, 384, 1.06e7), ModelSize(12, 768, 8.5e7), ModelSize(24, 1024, 3.02e8)),
    *(ModelSize(16, 2048, 8.1e8), ModelSize(32, 2560, 2.5e9), ModelSize(32, 4096, 6.4e9)),
)


@dataclass(frozen=True)
class Piece:
    """What a split looks at."""

    model: str
    revision: str
    variant: str
    task: str
    cost: float


def pieces(costs: Sequence[Sequence[float]]) -> list[Piece]:
    """A piece for each cost of each model."""
    return [
        Piece(f"org/model-{number}", "main", "plain", f"Task{place}", cost)
        for number, model in enumerate(costs)
        for place, cost in enumerate(model)
    ]


@cache
def paper_pieces(n_models: int) -> list[Piece]:
    """The 32 tasks of the paper under so many models, with all metrics."""
    sizes = {str(task.metadata.name): task_sizes(task) for task in get_benchmark("paper").tasks}
    return [
        Piece(
            f"org/model-{number}",
            "main",
            "plain",
            task,
            shard_cost(size, model, n_layers=model.n_blocks + 1, metrics=METRICS),
        )
        for number, model in ((number, MODELS[number % len(MODELS)]) for number in range(n_models))
        for task, size in sizes.items()
    ]


def costs_of(parts: list[list[Piece]]) -> list[float]:
    return [sum(piece.cost for piece in part) for part in parts]


def n_loaded(parts: list[list[Piece]]) -> int:
    return sum(len({piece.model for piece in part}) for part in parts)


COSTS = st.lists(st.lists(st.floats(0.001, 1e5), min_size=1, max_size=8), min_size=1, max_size=6)


@settings(deadline=None)
@given(COSTS, st.integers(1, 12), st.randoms(use_true_random=False))
def test_parts_hold_each_shard_once_whatever_its_place_in_the_list(
    costs: list[list[float]], n: int, rng: random.Random
) -> None:
    shards = pieces(costs)
    parts = split(shards, n)
    assert len(parts) == n
    assert sorted(map(repr, chain(*parts))) == sorted(map(repr, shards))
    assert parts == split(rng.sample(shards, len(shards)), n)


@settings(deadline=None)
@given(COSTS, st.integers(1, 12))
def test_no_part_costs_more_than_the_mean_and_a_shard(costs: list[list[float]], n: int) -> None:
    shards = pieces(costs)
    every = [piece.cost for piece in shards]
    assert max(costs_of(split(shards, n))) <= 1.05 * (sum(every) / n + max(every)) + 0.1


@settings(deadline=None)
@given(COSTS, st.integers(1, 12))
def test_a_part_is_empty_only_if_there_are_too_few_shards(costs: list[list[float]], n: int) -> None:
    shards = pieces(costs)
    assert sum(map(bool, split(shards, n))) == min(n, len(shards))


@settings(deadline=None)
@given(COSTS, st.integers(1, 12))
def test_a_part_goes_model_by_model_and_starts_each_with_its_costliest_shard(costs: list[list[float]], n: int) -> None:
    for part in split(pieces(costs), n):
        models = list(dict.fromkeys(piece.model for piece in part))
        runs = [piece.model for place, piece in enumerate(part) if not place or part[place - 1].model != piece.model]
        assert runs == models
        for model in models:
            own = [round(1000 * piece.cost) for piece in part if piece.model == model]
            assert own == sorted(own, reverse=True)


@pytest.mark.parametrize("n_models", [1, 2, 3, 6, 12, 31, 50])
def test_the_paper_s_tasks_are_balanced_within_fifteen_percent_or_bound_by_one_shard(n_models: int) -> None:
    shards = paper_pieces(n_models)
    total, largest = sum(piece.cost for piece in shards), max(piece.cost for piece in shards)
    for n in range(1, 65):
        # 1.05: where one shard is a part of its own, the others may cost 5% more.
        assert max(costs_of(split(shards, n))) <= max(1.05 * largest, 1.15 * total / n), n


def test_one_model_is_balanced_up_to_the_number_of_parts_that_its_largest_task_allows() -> None:
    shards = [piece for piece in paper_pieces(4) if piece.model == "org/model-2"]
    total, largest = sum(piece.cost for piece in shards), max(piece.cost for piece in shards)
    possible = [n for n in range(1, 65) if 1.15 * total / n >= largest]
    balanced = [n for n in range(1, 65) if max(costs_of(split(shards, n))) <= 1.15 * total / n]
    assert balanced == possible
    assert max(possible) >= 2


@pytest.mark.parametrize("n", [2, 5, 16, 50, 64])
def test_few_parts_share_a_model(n: int) -> None:
    assert n_loaded(split(paper_pieces(50), n)) <= 50 + n


def test_equal_costs_are_parted_by_name() -> None:
    shards = pieces([[1.0] * 4, [1.0] * 4])
    assert [[piece.model for piece in part] for part in split(shards, 2)] == [["org/model-0"] * 4, ["org/model-1"] * 4]
    assert [piece.task for piece in split(shards, 2)[0]] == ["Task0", "Task1", "Task2", "Task3"]


def test_the_last_digit_of_a_cost_changes_nothing() -> None:
    shards = paper_pieces(6)
    other = [Piece(*(piece.model, piece.revision, piece.variant, piece.task), piece.cost + 1e-9) for piece in shards]
    names = [[[(piece.model, piece.task) for piece in part] for part in split(given, 7)] for given in (shards, other)]
    assert names[0] == names[1]


def test_nothing_is_divided_into_empty_parts() -> None:
    assert split([], 3) == [[], [], []]
