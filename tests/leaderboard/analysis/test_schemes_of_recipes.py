"""Schemes of models that were scored with recipes: plain rows stay what they are, and criteria go by plain texts."""

from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from support.web.boards import scores_of

from leaderboard import Leaderboard
from leaderboard.analysis.association import associations
from leaderboard.analysis.layer_means import score_curves
from leaderboard.analysis.schemes import notes
from leaderboard.analysis.variants import RECIPE
from leaderboard.results.schemas import METRICS_SCHEMA

_L = 4
_PLAIN, _ECHO, _WHITE = (None, None, None), ("echo", None, None), ("echo", "whiten:10", "task")


def _score(place: int, task: str, layer: int) -> float:
    return ((7 * layer + 3 * ord(task) + 11 * place) % 19) / 19


def _board(*recipes: tuple[Any, ...], tasks: str = "ABC") -> Leaderboard:
    scores = [
        ("m", "r", layer, layer / _L, task, "STS", _score(place, task, layer), *recipe)
        for place, recipe in enumerate(recipes)
        for task in tasks
        for layer in range(_L + 1)
    ]
    metrics = [
        ("m", "r", task, name, "raw", layer, ((5 * layer + ord(task) + len(name)) % 7) / 7)
        for task in tasks
        for name in ("dime", "infonce", "curvature")
        for layer in range(_L + 1)
    ]
    return Leaderboard(scores_of(scores), pl.DataFrame(metrics, schema=METRICS_SCHEMA, orient="row"))


def test_a_board_of_plain_results_has_one_row_a_model_with_three_columns_more_at_the_end() -> None:
    found = _board(_PLAIN).schemes()
    assert found.height == 1
    assert found.columns[-3:] == list(RECIPE)
    assert found.select(RECIPE).row(0) == (None, None, None)


def test_plain_rows_are_the_same_beside_recipes() -> None:
    alone, beside = _board(_PLAIN), _board(_PLAIN, _ECHO, _WHITE)
    plain = beside.schemes().filter(pl.col("template").is_null())
    assert_frame_equal(plain, alone.schemes())
    assert_frame_equal(beside.layer_table(), alone.layer_table())
    assert_frame_equal(beside.associations("m", "r"), alone.associations("m", "r"))
    assert (beside.best_layer(), beside.summary()) == (alone.best_layer(), alone.summary())


def test_there_is_a_row_for_each_recipe_and_its_scores_are_the_recipes() -> None:
    found = _board(_PLAIN, _ECHO, _WHITE).schemes()
    assert found.select(RECIPE).rows() == [_PLAIN, _ECHO, _WHITE]
    last = [sum(_score(place, task, _L) for task in "ABC") / 3 * 100 for place in range(3)]
    assert found["last"].to_list() == pytest.approx(last)


def test_criteria_pick_the_layer_by_plain_texts_and_score_the_recipe_there() -> None:
    board = _board(_PLAIN, _ECHO)
    picked = {
        task: min(range(_L + 1), key=lambda layer: (((5 * layer + ord(task) + 4) % 7) / 7, layer)) for task in "ABC"
    }
    for place, row in enumerate(board.schemes().iter_rows(named=True)):
        expected = sum(_score(place, task, layer) for task, layer in picked.items()) / 3 * 100
        assert row["min_dime"] == pytest.approx(expected)
        assert row["n_min_dime"] == 3


def test_recipes_over_different_tasks_are_not_comparable_and_common_takes_the_shared_ones() -> None:
    both, part = _board(_PLAIN, _ECHO), _board(_WHITE, tasks="BC")
    board = Leaderboard(pl.concat([both.scores, part.scores]), both.metrics)
    found = board.schemes()
    assert found.select("n_tasks", "n_shared").rows() == [(3, 2), (3, 2), (2, 2)]
    assert notes(found)[0] == (
        "the recipes have different tasks, and share 2 of them: means over different tasks are not comparable; tasks "
        "common takes the shared ones"
    )
    shared = board.schemes(tasks="common")
    assert shared["n_tasks"].to_list() == [2, 2, 2]
    assert shared["last"][0] == pytest.approx(sum(_score(0, task, _L) for task in "BC") / 2 * 100)


def test_models_are_compared_recipe_by_recipe_where_recipes_share_no_task() -> None:
    """A sweep that fits on train, or else on the task, has such recipes: no task has both."""
    on_train, on_task = ((None, "center", on) for on in ("train", "task"))
    parts = [_board(_PLAIN, tasks="ABC"), _board(on_train, tasks="A"), _board(on_task, tasks="BC")]
    other = [_board(_PLAIN, tasks="AB"), _board(on_train, tasks="A"), _board(on_task, tasks="B")]
    scores = [*(part.scores for part in parts), *(part.scores.with_columns(model=pl.lit("n")) for part in other)]
    board = Leaderboard(pl.concat(scores), parts[0].metrics.clear())
    found = board.schemes(tasks="common")
    n_tasks = {(row["model"], row["fitted_on"]): row["n_tasks"] for row in found.iter_rows(named=True)}
    assert n_tasks == {(model, on): 2 if on is None else 1 for model in "mn" for on in (None, "train", "task")}
    plain = found.filter(pl.col("transform").is_null())
    assert plain["last"].to_list() == board.plain.schemes(tasks="common")["last"].to_list()
    assert notes(found)[0] == (
        "the models and recipes share no task; each mean is over the tasks that the rows of its recipe share, or else "
        "over its own: do not compare the means of different recipes"
    )


def test_complete_only_asks_for_the_tasks_of_the_recipe_itself() -> None:
    board = _board(_PLAIN, _WHITE)
    holed = board.scores.filter(pl.col("transform").is_null() | (pl.col("task") != "A") | (pl.col("layer") == 3))
    rows = Leaderboard(holed, board.metrics).schemes(complete_only=True).to_dicts()
    assert rows[1]["best_layer"] == 3
    assert rows[0]["best_layer"] == board.best_layer()


def test_what_transductive_means_is_said_once_beside_the_numbers() -> None:
    assert [said for said in notes(_board(_PLAIN, _WHITE).schemes()) if said.startswith("transductive: ")] != []
    assert notes(_board(_PLAIN, _ECHO).schemes()) == []


def test_tables_without_the_columns_of_a_recipe_are_plain() -> None:
    """As frames are built by hand, and as earlier versions wrote them."""
    old = _board(_PLAIN).scores.drop(RECIPE)
    board = Leaderboard(old, _board(_PLAIN).metrics)
    assert_frame_equal(board.schemes(), _board(_PLAIN).schemes())
    assert_frame_equal(score_curves(old), score_curves(board.scores))
    assert associations(old, board.metrics).height == 3
