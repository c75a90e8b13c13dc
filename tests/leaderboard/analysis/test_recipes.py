"""Recipes beside the plain last layer: against a plain Python oracle, and what must never be said of them."""

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.web.boards import scores_of

from leaderboard import Leaderboard
from leaderboard.analysis import recipes as module
from leaderboard.analysis.schemes import notes
from leaderboard.results.schemas import METRICS_SCHEMA

_L = 2
Cells = dict[tuple[str, str | None, str | None, str | None, str, int], float | None]


def _board(cells: Cells) -> Leaderboard:
    """Scores by (model, template, transform, fitted_on, task, layer); the type of a task is its first letter."""
    rows = [
        (model, "r", layer, layer / _L, task, task[0], score, *recipe)
        for (model, *recipe, task, layer), score in cells.items()
    ]
    return Leaderboard(scores_of(rows), pl.DataFrame(schema=METRICS_SCHEMA))


def _recipe(scores: dict[str, list[float | None]], *recipe: str | None, model: str = "m") -> Cells:
    """The scores of the layers 0, 1, 2 of each task with a recipe: template, transform, fitted_on."""
    template, transform, fitted_on = (*recipe, None, None, None)[:3]
    return {
        (model, template, transform, fitted_on, task, layer): score
        for task, of_layers in scores.items()
        for layer, score in enumerate(of_layers)
    }


def _rows(board: Leaderboard, **options: Any) -> list[dict[str, Any]]:
    return board.recipes(**options).to_dicts()


def test_each_recipe_has_its_best_layer_and_its_gain_over_the_plain_last_layer() -> None:
    plain = _recipe({"A": [0.1, 0.5, 0.3], "B": [0.2, 0.4, 0.2]})
    echo = _recipe({"A": [0.1, 0.2, 0.7], "B": [0.2, 0.2, 0.5]}, "echo")
    first, second = _rows(_board(plain | echo))
    assert (first["template"], first["pooling"], first["best_layer"], first["is_best"]) == (
        "echo",
        "weightedmean",
        2,
        True,
    )
    assert (first["best"], first["last"], first["baseline"], first["gain"]) == pytest.approx((60, 60, 25, 35))
    assert (second["template"], second["pooling"], second["best_layer"], second["is_best"]) == (None, "mean", 1, False)
    assert (second["best"], second["last"], second["baseline"], second["gain"]) == pytest.approx((45, 25, 25, 20))


def test_a_transform_that_saw_the_evaluated_texts_is_marked_and_never_best() -> None:
    plain = _recipe({"A": [0.1, 0.5, 0.3]})
    seen = _recipe({"A": [0.9, 0.9, 0.9]}, None, "whiten:10", "task")
    rows = _rows(_board(plain | seen))
    assert [(row["fitted_on"], row["transductive"], row["is_best"]) for row in rows] == [
        (None, False, True),
        ("task", True, False),
    ]
    only = _rows(_board(seen))
    assert [(row["transductive"], row["is_best"]) for row in only] == [(True, False)]


@pytest.mark.parametrize("fitted_on", ["train", "corpus:wiki.txt"])
def test_a_transform_that_did_not_see_them_can_be_best(fitted_on: str) -> None:
    plain = _recipe({"A": [0.1, 0.5, 0.3]})
    rows = _rows(_board(plain | _recipe({"A": [0.9, 0.8, 0.7]}, None, "whiten:10", fitted_on)))
    assert (rows[0]["fitted_on"], rows[0]["transductive"], rows[0]["is_best"]) == (fitted_on, False, True)


def test_without_plain_layers_the_baseline_is_missing_and_said_to_be() -> None:
    board = _board(_recipe({"A": [0.1, 0.5, 0.3]}, "echo"))
    (row,) = _rows(board)
    assert (row["baseline"], row["gain"], row["is_best"], row["last"]) == (None, None, True, pytest.approx(30))
    (said,) = module.notes(module.compared(board.recipes()))
    assert said.startswith("the baseline is missing: the plain last layer of m has no score for these tasks")


def test_recipes_with_another_pooling_are_recipes_of_the_same_model() -> None:
    pooled = "m (dtype=float16, pooling_mode=lasttoken)"
    board = _board(
        _recipe({"A": [0.1, 0.5, 0.3]}, model="m (dtype=float16)")
        | _recipe({"A": [0.1, 0.2, 0.8]}, "eol", model=pooled)
        | _recipe({"A": [0.1, 0.2, 0.4]}, model=pooled)
    )
    rows = _rows(board)
    assert {row["model"] for row in rows} == {"m (dtype=float16)"}
    assert [(row["template"], row["pooling"], row["label"] == pooled) for row in rows] == [
        ("eol", "lasttoken", True),
        (None, "mean", False),
        (None, "lasttoken", True),
    ]
    assert [row["gain"] for row in rows] == pytest.approx([50, 20, 10])  # over the plain mean, not the plain last token
    assert board.recipes(pooled).equals(board.recipes("m (dtype=float16)"))


def test_a_model_without_plain_mean_pooling_is_compared_with_its_plain_layers() -> None:
    board = _board(
        _recipe({"A": [0.1, 0.5, 0.3]}, model="m (pooling_mode=cls)") | _recipe({"A": [0.1, 0.2, 0.8]}, "echo")
    )
    assert [(row["pooling"], row["gain"]) for row in _rows(board)] == [
        ("weightedmean", pytest.approx(50)),
        ("cls", pytest.approx(20)),
    ]


def test_a_gain_is_over_the_baseline_on_the_same_tasks() -> None:
    plain = _recipe({"A": [0.1, 0.2, 0.3], "B": [0.5, 0.6, 0.7]})
    train = _recipe({"B": [0.5, 0.8, 0.7]}, None, "standardize", "train")
    board = _board(plain | train)
    whole, part = _rows(board)
    assert (whole["n_tasks"], whole["baseline"], whole["is_best"]) == (2, pytest.approx(50), True)
    assert (part["n_tasks"], part["baseline"], part["is_best"]) == (1, pytest.approx(70), False)
    assert part["gain"] == pytest.approx(10)
    assert any(said.startswith("the recipes have different tasks") for said in module.notes(board.recipes()))
    shared = board.recipes(tasks="common")
    assert shared["n_tasks"].to_list() == [1, 1]
    assert shared["best"].to_list() == pytest.approx([80, 70])
    assert (shared["transform"][0], shared["is_best"].to_list()) == ("standardize", [True, False])
    assert module.notes(shared) == []


def test_a_baseline_that_lacks_a_task_of_the_recipe_is_no_baseline() -> None:
    board = _board(_recipe({"A": [0.1, 0.2, 0.3]}) | _recipe({"A": [0.1, 0.2, 0.3], "B": [0.1, 0.2, 0.3]}, "echo"))
    assert [(row["template"], row["baseline"] is None) for row in _rows(board)] == [("echo", True), (None, False)]


def test_recipes_that_share_no_task_are_each_over_their_own() -> None:
    """A sweep fits on the other split of a task where there is one, and else on the task's own texts."""
    board = _board(
        _recipe({"A": [0.1, 0.2, 0.3]}, None, "center", "train")
        | _recipe({"B": [0.1, 0.2, 0.3]}, None, "center", "task")
    )
    for tasks in ("available", "common"):
        assert [row["n_tasks"] for row in _rows(board, tasks=tasks)] == [1, 1]
    said = notes(board.schemes(tasks="common"))
    assert said[0].startswith("the recipes share no task; each mean is over the common tasks of its recipe")


def test_each_type_of_tasks_has_its_own_best_recipe() -> None:
    plain = _recipe({"C1": [0.1, 0.5, 0.3], "S1": [0.1, 0.2, 0.1]})
    echo = _recipe({"C1": [0.1, 0.2, 0.2], "S1": [0.2, 0.2, 0.7]}, "echo")
    best = _board(plain | echo).recipes(per_type=True).filter("is_best")
    assert best.select("task_type", "template", "best_layer").rows() == [("C", None, 1), ("S", "echo", 2)]
    assert best["gain"].to_list() == pytest.approx([20, 60])


def test_a_layer_without_a_score_of_some_task_is_never_best() -> None:
    board = _board(_recipe({"A": [None, 0.2, 0.3], "B": [0.9, 0.2, float("nan")]}, "eol"))
    (row,) = _rows(board)
    assert (row["best_layer"], row["last"]) == (1, None)
    nothing = _rows(_board(_recipe({"A": [None, 0.2, None], "B": [0.9, None, None]}, "eol")))[0]
    assert (nothing["best_layer"], nothing["best"], nothing["is_best"]) == (None, None, False)


def test_a_model_of_plain_layers_only_has_nothing_to_compare() -> None:
    plain = _board(_recipe({"A": [0.1, 0.5, 0.3]}))
    assert plain.recipes().height == 1
    assert module.compared(plain.recipes()).is_empty()
    assert Leaderboard.empty().recipes().columns == plain.recipes().columns


def test_models_and_ways_that_are_not_there_are_refused() -> None:
    board = _board(_recipe({"A": [0.1, 0.5, 0.3]}, "echo"))
    with pytest.raises(ValueError, match="^model: expected one of m"):
        board.recipes("other")
    with pytest.raises(ValueError, match="^tasks: expected one of available, common"):
        board.recipes(tasks="all")  # type: ignore[arg-type]


_RECIPES: list[tuple[str | None, str | None, str | None]] = [
    (None, None, None),
    ("echo", None, None),
    (None, "whiten:10", "train"),
    (None, "whiten:10", "task"),
    ("Query: {text}", "center", "corpus:c"),
]


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.tuples(st.sampled_from(_RECIPES), st.sampled_from("AB"), st.integers(0, _L)),
                       st.one_of(st.none(), st.floats(0, 1)), min_size=1))  # fmt: skip
def test_recipes_equal_a_plain_computation(drawn: dict[tuple[Any, str, int], float | None]) -> None:
    board = _board({("m", *recipe, task, layer): score for (recipe, task, layer), score in drawn.items()})
    rows = {(row["template"], row["transform"], row["fitted_on"]): row for row in _rows(board)}
    assert set(rows) == {recipe for recipe, _, _ in drawn}
    for recipe, row in rows.items():
        found = {(t, k): s * 100 for (r, t, k), s in drawn.items() if r == recipe and s is not None}
        tasks = sorted({task for task, _ in found})
        means = {
            layer: sum(found[task, layer] for task in tasks) / len(tasks)
            for layer in range(_L + 1)
            if tasks and all((task, layer) in found for task in tasks)
        }
        plain = [drawn.get((_RECIPES[0], task, _L)) for task in tasks]
        baseline = None if not plain or None in plain else sum(score * 100 for score in plain if score) / len(plain)
        assert row["n_tasks"] == len(tasks)
        assert row["best"] == (pytest.approx(max(means.values())) if means else None)
        assert row["last"] == (pytest.approx(means[_L]) if _L in means else None)
        assert row["baseline"] == (None if baseline is None else pytest.approx(baseline))
        assert row["transductive"] is (recipe[2] == "task")
    may_win = [row for row in rows.values() if not row["transductive"]]
    most = [
        row for row in may_win if row["n_tasks"] == max(row["n_tasks"] for row in may_win) and row["best"] is not None
    ]
    winners = [row for row in rows.values() if row["is_best"]]
    assert len(winners) == bool(most)
    for winner in winners:
        assert winner["best"] == pytest.approx(max(row["best"] for row in most))
