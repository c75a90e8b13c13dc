import json
from collections.abc import Callable
from math import nan
from pathlib import Path
from statistics import mean
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.web.boards import scores_of

from leaderboard import Leaderboard, load_tables
from leaderboard.analysis.schemes import SCHEMES, Tasks, notes
from leaderboard.results.schemas import METRICS_SCHEMA
from midlayer_embed.selection.criteria import CRITERIA

_L = 4
_TASKS = ["A", "B", "C"]
Scores = dict[tuple[str, str, int], float]
Metrics = dict[tuple[str, str, str, int], float]


def _board(scores: Scores, metrics: Metrics) -> Leaderboard:
    score_rows = [(model, "r", layer, layer / _L, task, "STS", value) for (model, task, layer), value in scores.items()]
    metric_rows = [(model, "r", task, name, "raw", layer, v) for (model, task, name, layer), v in metrics.items()]
    return Leaderboard(
        scores_of(score_rows),
        pl.DataFrame(metric_rows, schema=METRICS_SCHEMA, orient="row"),
    )


def _row(
    scores: dict[tuple[str, int], float], metrics: dict[tuple[str, str, int], float], **how: Any
) -> dict[str, Any]:
    board = _board({("m", *k): v for k, v in scores.items()}, {("m", *k): v for k, v in metrics.items()})
    return board.schemes(**how).row(0, named=True)


# --- the plain way ---------------------------------------------------------------------------------------------------


def _best(scores: Scores, model: str, tasks: set[str], complete_only: bool) -> tuple[float, int] | None:
    found: tuple[float, int] | None = None
    for layer in range(_L + 1):
        values = [scores[model, task, layer] for task in sorted(tasks) if (model, task, layer) in scores]
        if not values or (complete_only and len(values) < len(tasks)):
            continue
        if found is None or mean(values) > found[0]:
            found = (mean(values), layer)
    return found


def _picked(scores: Scores, metrics: Metrics, model: str) -> dict[str, dict[str, float]]:
    """For each scheme but the best layer, its score of each task that it has."""
    layers = {task: [layer for layer in range(_L + 1) if (model, task, layer) in scores] for task in _TASKS}
    layers = {task: found for task, found in layers.items() if found}
    last = max(max(found) for found in layers.values())  # but the middle is where the depths say
    fixed = {"last": last, "middle": 2, "depth_0_7": 3} if last else {"last": 0, "middle": 0, "depth_0_7": 1}
    picked: dict[str, dict[str, float]] = {
        scheme: {task: scores[model, task, layer] for task in layers if (model, task, layer) in scores}
        for scheme, layer in fixed.items()
    }
    picked["random_layer"] = {t: mean(scores[model, t, layer] for layer in found) for t, found in layers.items()}
    picked["oracle"] = {t: max(scores[model, t, layer] for layer in found) for t, found in layers.items()}
    for criterion, (metric, end) in CRITERIA.items():
        here: dict[str, float] = {}
        for task, found in layers.items():
            chosen = None
            for layer in found:
                value = metrics.get((model, task, metric, layer))
                if value is None:
                    continue
                if chosen is None or (value < chosen[0] if end == "min" else value > chosen[0]):
                    chosen = (value, layer)
            if chosen is not None:
                here[task] = scores[model, task, chosen[1]]
        picked[criterion.replace("-", "_")] = here
    return picked


def _of_all_schemes(scores: Scores, metrics: Metrics, model: str) -> set[str]:
    return set.intersection(*(set(found) for found in _picked(scores, metrics, model).values() if found))


def _plain(scores: Scores, metrics: Metrics, model: str, tasks: str, complete_only: bool) -> dict[str, Any]:
    of_model = {task for name, task, _ in scores if name == model}
    picked = _picked(scores, metrics, model)
    if tasks == "common":
        own = [_of_all_schemes(scores, metrics, name) for name in {name for name, _, _ in scores}]
        of_model = set.intersection(*own) or _of_all_schemes(scores, metrics, model)
        picked = {scheme: {t: v for t, v in found.items() if t in of_model} for scheme, found in picked.items()}
    best = _best(scores, model, of_model, complete_only)
    row: dict[str, Any] = {"n_tasks": len(of_model), "best": None, "best_layer": None, "n_best": 0}
    if best is not None:
        row["best"], row["best_layer"] = best
        row["n_best"] = sum((model, task, best[1]) in scores for task in of_model)
    for scheme, found in picked.items():
        row[scheme] = mean(found[task] for task in sorted(found)) if found else None
        row[f"n_{scheme}"] = len(found)
        of_same = _best(scores, model, set(found), complete_only)
        row[f"regret_{scheme}"] = None if of_same is None else of_same[0] - row[scheme]
    return row


def _in_points(name: str, value: Any) -> Any:
    is_score = value is not None and not name.startswith("n_") and name != "best_layer"
    return pytest.approx(100 * value, abs=1e-9) if is_score else value


_values = st.integers(-8, 64).map(lambda k: k / 64)  # sums of these are exact, hence so are ties
_cells = st.tuples(st.sampled_from(["m", "n"]), st.sampled_from(_TASKS), st.integers(0, _L))
_measured = st.tuples(
    st.sampled_from(["m", "n"]),
    st.sampled_from(_TASKS),
    st.sampled_from([metric for metric, _ in CRITERIA.values()]),
    st.integers(0, _L),
)


@given(
    st.dictionaries(_cells, _values, min_size=1, max_size=30),
    st.dictionaries(_measured, _values, max_size=60),
    st.sampled_from(["available", "common"]),
    st.booleans(),
)
@settings(max_examples=75, deadline=None)
def test_tables_with_holes_are_compared_as_in_plain_loops(
    scores: Scores, metrics: Metrics, tasks: Tasks, complete_only: bool
) -> None:
    found = _board(scores, metrics).schemes(tasks=tasks, complete_only=complete_only)
    assert set(found["model"]) == {model for model, _, _ in scores}
    for row in found.iter_rows(named=True):
        expected = _plain(scores, metrics, row["model"], tasks, complete_only)
        assert {name: row[name] for name in expected} == {k: _in_points(k, v) for k, v in expected.items()}
        assert row["tasks"] == tasks


# --- what the numbers are --------------------------------------------------------------------------------------------


def test_the_columns_are_those_of_the_design() -> None:
    columns = _board({("m", "A", 0): 0.5}, {}).schemes().columns
    assert columns[:6] == ["model", "revision", "tasks", "n_tasks", "best", "best_layer"]
    assert tuple(columns[4:5] + columns[6 : 5 + len(SCHEMES)]) == SCHEMES
    for criterion in CRITERIA:
        assert {criterion.replace("-", "_"), f"n_{criterion.replace('-', '_')}"} <= set(columns)


def test_the_best_layer_may_miss_tasks_unless_told_otherwise() -> None:
    scores = {("A", 0): 0.5, ("B", 0): 0.3, ("A", 2): 0.9, ("A", 4): 0.5, ("B", 4): 0.25}
    row = _row(scores, {})
    assert (row["best"], row["best_layer"], row["n_best"], row["n_tasks"]) == (pytest.approx(90), 2, 1, 2)
    row = _row(scores, {}, complete_only=True)
    assert (row["best"], row["best_layer"], row["n_best"]) == (pytest.approx(40), 0, 2)
    assert row["regret_last"] == pytest.approx(2.5)


def test_where_no_layer_is_complete_there_is_no_best_of_them() -> None:
    row = _row({("A", 0): 0.5, ("B", 4): 0.3}, {}, complete_only=True)
    assert (row["best"], row["best_layer"], row["best_low"], row["n_best"]) == (None, None, None, 0)
    assert row["oracle"] == pytest.approx(40)


def test_a_score_that_is_no_number_is_missing() -> None:
    row = _row({("A", 0): 0.5, ("A", 2): nan, ("A", 4): 0.25}, {("A", "dime", 0): nan, ("A", "dime", 4): 0.5})
    assert (row["best"], row["best_layer"], row["middle"], row["n_middle"]) == (pytest.approx(50), 0, None, 0)
    assert (row["min_dime"], row["regret_min_dime"]) == (pytest.approx(25), pytest.approx(25))


def test_a_layer_tried_without_a_score_is_not_best_by_the_tasks_it_has() -> None:
    scores = {("A", 0): 0.9, ("B", 0): nan, ("A", 2): 0.5, ("B", 2): 0.5, ("A", 4): 0.25}
    row = _row(scores, {})
    assert (row["best"], row["best_layer"], row["n_best"]) == (pytest.approx(50), 2, 2)
    assert row["random_layer"] == pytest.approx((55 + 50) / 2)  # of A over three layers, of B over one
    # A task that no layer has a score on is no task.
    row = _row({("A", 0): 0.9, ("B", 0): nan, ("A", 4): 0.5, ("B", 4): nan}, {})
    assert (row["best_layer"], row["n_tasks"]) == (0, 1)


def test_common_tasks_are_those_of_all_models() -> None:
    own = {"m": "ABC", "n": "CD"}
    of_task = {"A": 1 / 8, "B": 2 / 8, "C": 3 / 8, "D": 4 / 8}
    cells = [(model, task, layer) for model in own for task in own[model] for layer in (0, 4)]
    scores = {(model, task, layer): of_task[task] + layer / 64 for model, task, layer in cells}
    board = _board(scores, {})
    table = board.schemes(tasks="common")
    assert table.select("model", "n_tasks", "n_best", "n_shared").rows() == [("m", 1, 1, 1), ("n", 1, 1, 1)]
    assert table["best"].to_list() == pytest.approx([100 * (3 / 8 + 4 / 64)] * 2)
    assert notes(table) == []
    assert board.schemes("m", tasks="common")["n_tasks"].to_list() == [3]
    available = board.schemes()
    assert available.select("n_tasks", "n_shared").rows() == [(3, 1), (2, 1)]
    (said,) = notes(available)
    assert said.startswith("the models have different tasks, and share 1 of them: ")
    assert notes(board.schemes("m")) == []


def test_models_that_share_no_task_are_compared_each_over_its_own_and_it_is_said() -> None:
    board = _board({("m", "A", 0): 0.5, ("m", "A", 4): 0.5, ("m", "B", 4): 0.25, ("n", "C", 0): 0.1}, {})
    table = board.schemes(tasks="common")
    assert table.select("n_tasks", "n_shared").rows() == [(2, 0), (1, 0)]
    said = "the models share no task; each mean is over the common tasks of its model: do not compare their means"
    assert notes(table) == [said, "last is the highest layer that ran: layer 0 of n"]
    assert notes(board.schemes())[0] == "the models share no task: do not compare their means"
    assert f"T{said[1:]}." in board.to_markdown(tasks="common")


def test_as_many_tasks_are_not_the_same_tasks() -> None:
    cells = [("m", "A"), ("m", "B"), ("n", "B"), ("n", "C")]
    (said,) = notes(_board({(model, task, 4): 0.5 for model, task in cells}, {}).schemes())
    assert "share 1 of them" in said


def test_only_raw_metrics_count() -> None:
    board = _board({("m", "A", 0): 0.5}, {("m", "A", "dime", 0): 0.5})
    other = Leaderboard(board.scores, board.metrics.with_columns(normalization=pl.lit("logD")))
    assert (board.schemes()["n_min_dime"].item(), other.schemes()["n_min_dime"].item()) == (1, 0)


def test_models_and_revisions_are_kept_apart_and_chosen() -> None:
    one = _board({("m", "A", 0): 0.5, ("n", "A", 0): 0.1}, {})
    both = Leaderboard(pl.concat([one.scores, one.scores.with_columns(revision=pl.lit("s"))]), one.metrics)
    assert both.schemes().select("model", "revision").rows() == [("m", "r"), ("n", "r"), ("m", "s"), ("n", "s")]
    assert both.schemes("n")["best"].to_list() == pytest.approx([10, 10])
    assert both.schemes("m", "s").height == 1
    with pytest.raises(ValueError, match=r"expected one of m \(r\), n \(r\), .*; got model='x', revision=None"):
        both.schemes("x")
    with pytest.raises(ValueError, match="^tasks: expected one of available, common, got 'all'$"):
        both.schemes(tasks="all")  # type: ignore[arg-type]


def test_nothing_measured_nothing_compared() -> None:
    empty = Leaderboard.empty().schemes()
    assert empty.is_empty()
    assert empty.columns == _board({("m", "A", 0): 0.5}, {}).schemes().columns


# --- intervals -------------------------------------------------------------------------------------------------------


def test_intervals_hold_the_mean_are_of_the_seed_and_do_not_depend_on_the_order_of_rows() -> None:
    scores = {("m", f"T{i}", layer): (7 * i % 19 + layer) / 32 for i in range(20) for layer in (0, 4)}
    board = _board(scores, {})
    found = board.schemes()
    for scheme in ("best", "last", "random_layer", "oracle"):
        low, high = found[f"{scheme}_low"].item(), found[f"{scheme}_high"].item()
        assert low < found[scheme].item() < high
    assert board.schemes().equals(found)
    assert not board.schemes(seed=1).equals(found)
    turned = Leaderboard(board.scores.reverse(), board.metrics).schemes()
    assert turned.select(pl.selectors.numeric()).equals(found.select(pl.selectors.numeric()))


def test_an_interval_is_as_wide_as_the_means_error_says() -> None:
    values = [((37 * i) % 100) / 100 for i in range(100)]  # each hundredth once
    row = _row({(f"T{i}", 0): value for i, value in enumerate(values)}, {})
    error = 100 * (sum((v - mean(values)) ** 2 for v in values) / len(values)) ** 0.5 / len(values) ** 0.5
    assert row["last_high"] - row["last_low"] == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_of_one_task_the_interval_is_its_score() -> None:
    row = _row({("A", 0): 0.5}, {})
    assert (row["last_low"], row["last_high"]) == (pytest.approx(50), pytest.approx(50))


# --- the paper -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(paper_folder: Path) -> Callable[[str], Leaderboard]:
    return lambda name: load_tables(paper_folder / f"{name}.csv.gz", paper_folder / "metrics.csv.gz")


@pytest.mark.parametrize("name", ["scores", "scores_as_published"])
def test_the_papers_table_2(paper_folder: Path, published: Callable[[str], Leaderboard], name: str) -> None:
    board = published(name)
    for tasks in ("available", "common"):
        any_layer = board.schemes(tasks=tasks)
        complete = board.schemes(tasks=tasks, complete_only=True)
        for model, expected in json.loads((paper_folder / "expected_table2.json").read_text()).items():
            row, of_complete = (
                table.filter(model=model, revision="main").to_dicts()[0] for table in (any_layer, complete)
            )
            found = row | {f"{column}_complete_only": of_complete[column] for column in ("best", "best_layer")}
            numbers = expected[name][tasks]
            assert {column: found[column] for column in numbers} == pytest.approx(numbers, abs=1e-3)


def test_computations_on_tables_import_no_torch(fresh_answers: dict[str, Any]) -> None:
    assert fresh_answers["computations on tables"] == ["polars"]
