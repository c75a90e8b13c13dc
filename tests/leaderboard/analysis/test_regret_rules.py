"""Rules of a table of regrets that go by no single metric: when they are compared, what they cost, what is said."""

from math import nan
from typing import Any

import polars as pl
import pytest
from support.web.boards import board_of, scores_of

from leaderboard import Leaderboard
from leaderboard.analysis.regret import notes, regret
from leaderboard.analysis.rules import Known
from leaderboard.results.schemas import METRICS_SCHEMA

_RETRIEVAL = ("half_retrieval", "drop_retrieval")


def _board(curves: dict[tuple[str, str], list[float]], metrics: dict[str, list[float]] | None = None) -> Leaderboard:
    """Scores in points by model and task, and metrics that are the same for all of them."""
    rows = [
        (model, "main", layer, layer / (len(curve) - 1), task, task[:1], value / 100)
        for (model, task), curve in curves.items()
        for layer, value in enumerate(curve)
    ]
    values = [
        (model, "main", task, metric, "raw", layer, value)
        for model, task in curves
        for metric, curve in (metrics or {}).items()
        for layer, value in enumerate(curve)
    ]
    return Leaderboard(scores_of(rows), pl.DataFrame(values, schema=METRICS_SCHEMA, orient="row"))


def _rows(table: pl.DataFrame, reading: str = "model") -> dict[str, dict[str, Any]]:
    return {row["criterion"]: row for row in table.filter(reading=reading).to_dicts()}


def _of(board: Leaderboard, known: Known, **how: Any) -> pl.DataFrame:
    return regret(board.scores, board.metrics, known=known, **how)


_FIVE = [0.0, 10, 20, 30, 50]
# The products are 0.05, 0.45, 0.72, 0.16, 0.02: halves alone take layer 1.
_METRICS = {"half_retrieval": [0.5, 0.9, 0.8, 0.2, 0.1], "drop_retrieval": [0.1, 0.5, 0.9, 0.8, 0.2]}


def test_half_and_drop_takes_the_highest_geometric_mean() -> None:
    found = _rows(_board({("m", "A"): _FIVE}, _METRICS).regret())["half-and-drop"]
    assert found["regret"] == pytest.approx(30) and found["worst_layer"] == 2
    assert (found["texts"], found["passes"], found["labels"]) == (True, 4, "none")


def test_half_and_drop_takes_the_lower_layer_of_a_tie() -> None:
    metrics = {"half_retrieval": [0.1, 0.2, 0.4], "drop_retrieval": [0.1, 0.4, 0.2]}
    found = _rows(_board({("m", "A"): [0.0, 1, 10]}, metrics).regret())["half-and-drop"]
    assert found["worst_layer"] == 1


@pytest.mark.parametrize(
    ("known", "takes", "layer", "cost"),
    [
        (Known(), "half-and-drop", 2, (True, 4, "none")),
        (Known(n_texts={("m", "main", "A"): 200}), "half-and-drop", 2, (True, 4, "none")),
        (Known(n_texts={("m", "main", "A"): 199}), "depth:0.8", 3, (False, 0, "none")),
        (
            Known(published={("m", "main"): 1}, n_texts={("m", "main", "A"): 199}),
            "published",
            1,
            (False, 0, "published"),
        ),
        (Known(published={("m", "main"): 1}, sentence_transformers=[("m", "main")]), "last", 4, (False, 0, "none")),
    ],
)
def test_auto_takes_what_select_takes(known: Known, takes: str, layer: int, cost: tuple[Any, ...]) -> None:
    board = _board({("m", "A"): [0.0, 0, 0, 0, 0.1][::-1]}, _METRICS)
    table = _of(board, known)
    found = _rows(table)["auto"]
    assert (found["choice"], found["worst_layer"]) == (takes, layer)
    assert (found["texts"], found["passes"], found["labels"]) == cost
    assert f"auto takes {takes}" in notes(table)
    assert ("published" in " ".join(notes(table))) == bool(known.published)


def test_auto_without_the_metrics_is_auto_without_texts() -> None:
    board = _board({("m", "A"): _FIVE, ("n", "A"): _FIVE}, {"dime": _FIVE})
    found = _rows(_of(board, Known(sentence_transformers=[("n", "main")])))["auto"]
    assert found["choice"] == "depth:0.8, last" and found["regret"] == pytest.approx((20 + 0) / 2)


def test_proxy_goes_by_other_tasks_and_no_row_is_judged_on_them() -> None:
    curves = {("m", "A"): _FIVE, ("m", "B"): [50.0, 40, 30, 20, 10], ("m", "P"): [0.0, 9, 0, 0, 99]}
    table = _of(_board(curves, {"dime": _FIVE}), Known(proxies=["P"]))
    found = _rows(table)["proxy"]
    assert set(table["n_tasks"]) == {2} and set(table["of_tasks"]) == {3}
    assert found["regret"] == pytest.approx(0) and found["worst_layer"] is not None
    assert _rows(table, "type")["proxy"]["regret"] == pytest.approx((0 + 40) / 2)
    assert (found["texts"], found["passes"], found["labels"]) == (False, 0, "other tasks")
    assert any("starter tasks" in note and "nor is any other row" in note for note in notes(table))
    own = _rows(_of(_board(curves, {"dime": _FIVE}), Known(proxies=["P"]), tasks="available"), "task")
    assert (own["proxy"]["n"], own["last"]["n"], own["min-dime"]["n"]) == (2, 3, 3)


def test_a_model_lacks_proxy_unless_all_of_its_tasks_were_scored() -> None:
    curves = {("m", "A"): _FIVE, ("m", "P"): _FIVE}
    assert "proxy" not in set(_of(_board(curves), Known(proxies=["P", "Q"]))["criterion"])


def test_rules_that_know_some_models_leave_the_others_in_the_table() -> None:
    board = _board({("m", "A"): _FIVE, ("n", "A"): _FIVE[::-1]}, {"dime": _FIVE})
    known = Known(published={("m", "main"): 3})
    table = _of(board, known)
    assert _rows(table)["published"]["n"] == 0 and _rows(table)["last"]["n_models"] == 2
    assert any(note.startswith("published knows only some of these models") for note in notes(table))
    assert not any("share no task" in note or "of 2 models" in note for note in notes(table))
    named = _of(board, known, criteria=["published", "min-dime"])
    assert {row["n_models"] for row in _rows(named).values()} == {1}
    assert _rows(named)["published"]["regret"] == pytest.approx(20)
    both = _of(board, Known(published={("m", "main"): 3, ("n", "main"): 3}))
    assert _rows(both)["published"]["n_models"] == 2
    assert any(note.startswith("published scores are of the tasks of the paper") for note in notes(both))


def test_it_is_said_where_last_is_not_the_last_layer() -> None:
    whole = _board({("m", "A"): _FIVE}, {"dime": _FIVE}).regret()
    assert not any(note.startswith(("last is", "first is")) for note in notes(whole))
    assert _rows(whole)["last"]["choice"] is None
    cut = _board({("m", "A"): [nan, 10, 20, 30, nan], ("n", "A"): _FIVE}, {"dime": _FIVE}).regret()
    assert "last is not the last layer where that has no score, but layer 3 of 4 of m" in notes(cut)
    assert "first is not the first layer where that has no score, but layer 1 of 4 of m" in notes(cut)
    many = _board({(f"m{k}", "A"): [*_FIVE, nan] for k in range(6)}).regret()
    assert _rows(many)["last"]["choice"].endswith("layer 4 of 5 of m3 and 2 more")


def test_a_task_without_the_last_layer_is_said_though_the_mean_leaves_it_out() -> None:
    """One layer a model is judged on A and B, which have the last layer; one layer a task on C, too."""
    curves = {("m", "A"): _FIVE, ("m", "B"): _FIVE, ("m", "C"): [10.0, 20, nan, nan, nan]}
    table = _board(curves).regret()
    assert _rows(table, "task")["last"]["choice"] == "layer 1 of 4 of m"
    assert any(note.startswith("last is not the last layer") for note in notes(table))


def test_the_tables_of_a_report_have_the_regrets(tmp_path: Any) -> None:
    board = board_of(["a", "b"], ["A", "B"], 5, ("dime", *_RETRIEVAL))
    board.to_csv(tmp_path / "csv", seed=3)
    board.to_parquet(tmp_path / "parquet", seed=3, tasks="available")
    whole, of_types = board.regret(seed=3), board.regret(per_type=True, seed=3)
    assert pl.read_parquet(tmp_path / "parquet" / "regret.parquet").equals(whole)
    assert pl.read_parquet(tmp_path / "parquet" / "regret_types.parquet").equals(of_types)
    read = pl.read_csv(tmp_path / "csv" / "regret.csv")
    assert read.columns == whole.columns and read["regret"].to_list() == pytest.approx(whole["regret"].to_list())
    assert pl.read_csv(tmp_path / "csv" / "regret_types.csv").columns == of_types.columns
