"""The table of regrets: against plain loops on tables with holes, what it says, and the paper's own numbers."""

from itertools import product
from math import nan
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.oracles.plain_regrets import (
    KINDS,
    LABELS,
    MEASURED,
    TYPES,
    L,
    Metrics,
    Scores,
    Which,
    expected_regrets,
)
from support.web.boards import board_of, scores_of

from leaderboard import Leaderboard, load_tables
from leaderboard.analysis.regret import notes, regret
from leaderboard.analysis.rules import RULES, Known
from leaderboard.models.labels import with_base
from leaderboard.results.schemas import METRICS_SCHEMA
from midlayer_embed.errors import InputError
from midlayer_embed.selection.criteria import CRITERIA
from midlayer_embed.terms import METRIC_TABLE


def _board(scores: Scores, metrics: Metrics) -> Leaderboard:
    rows = [
        (one.model, one.revision, layer, layer / L, task, KINDS[task], value, one.template, None, None)
        for (one, task, layer), value in scores.items()
    ]
    values = [
        (model, revision, task, name, "raw", layer, value)
        for (model, revision, task, name, layer), value in metrics.items()
    ]
    return Leaderboard(scores_of(rows), pl.DataFrame(values, schema=METRICS_SCHEMA, orient="row"))


# Multiples of 36, so that means over up to three tasks, types, ... are exact, and hence so are ties.
_numbers = st.integers(-8, 64).map(lambda k: k * 36 / 4096)
_values = st.integers(0, 9).flatmap(lambda k: _numbers if k else st.just(nan))
_which = st.builds(Which, st.sampled_from(LABELS), st.sampled_from(["r", "s"]), st.sampled_from([None, "eol"]))
_curve = st.lists(_values, min_size=L + 1, max_size=L + 1)
_scores = st.dictionaries(
    _which, st.dictionaries(st.sampled_from(list(TYPES)), _curve, min_size=1), min_size=1, max_size=4
)
_holes = st.sets(st.tuples(st.sampled_from(list(TYPES)), st.integers(0, L)), max_size=3)


@pytest.mark.slow
@given(_scores, _holes, st.lists(_curve, min_size=1, max_size=9), st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_tables_with_holes_give_the_regrets_of_plain_loops(
    tables: dict[Which, dict[str, list[float]]], holes: set[tuple[str, int]], curves: list[list[float]], skip: int
) -> None:
    scores = {
        (which, task, layer): value
        for which, of_which in tables.items()
        for task, curve in of_which.items()
        for layer, value in enumerate(curve)
        if (task, layer) not in holes
    }
    keys = product(LABELS, ["r", "s"], TYPES, MEASURED)
    metrics = {
        (*key, layer): value
        for place, key in enumerate(keys)
        if not skip or place % 10 != skip  # some tasks lack a metric
        for layer, value in enumerate(curves[place % len(curves)])
    }
    found = _board(scores, metrics).regret()
    names = [name for name in RULES if name in set(found["criterion"])]
    _compare(found, expected_regrets(scores, metrics, names))


def _compare(found: pl.DataFrame, expected: dict[tuple[str, str], dict[str, Any]]) -> None:
    for row in found.iter_rows(named=True):
        none = {"regret": None, "worst": None, "n_models": 0, "n": 0}
        of_row = expected.pop((row["reading"], row["criterion"]), none)
        approximately = {
            key: value if value is None else pytest.approx(value, abs=1e-9) for key, value in of_row.items()
        }
        assert {name: row[name] for name in of_row} == approximately, (row["reading"], row["criterion"])
    assert expected == {}


_keys = st.sampled_from(list(product(LABELS, ["r", "s"])))
_known = st.builds(
    Known,
    published=st.dictionaries(_keys, st.integers(0, L)),
    sentence_transformers=st.sets(_keys, max_size=2),
    n_texts=st.dictionaries(
        st.tuples(st.sampled_from(LABELS), st.sampled_from(["r", "s"]), st.sampled_from(list(KINDS))),
        st.sampled_from([90, 120, 200]),
    ),
    proxies=st.sampled_from([(), ("P",), ("P", "Q")]),
)
_whole_curve = st.lists(st.one_of(_numbers, _numbers, _numbers, _values), min_size=L + 1, max_size=L + 1)
_some_tasks = st.fixed_dictionaries({}, optional=dict.fromkeys(KINDS, _whole_curve))
_all_tasks = st.fixed_dictionaries(dict.fromkeys(KINDS, _whole_curve))
_of_tasks = st.dictionaries(_which, _some_tasks | _all_tasks, min_size=2, max_size=4)
_named = st.sets(st.sampled_from(["min-dime", "half-and-drop", "auto", "proxy", "published"]), min_size=1)


@pytest.mark.slow
@given(_of_tasks, _holes, st.lists(_whole_curve, min_size=1, max_size=9), st.integers(0, 19), _known, _named)
@settings(max_examples=100, deadline=None)
def test_rules_that_are_no_single_metric_give_the_regrets_of_plain_loops(
    tables: dict[Which, dict[str, list[float]]],
    holes: set[tuple[str, int]],
    curves: list[list[float]],
    skip: int,
    known: Known,
    names: set[str],
) -> None:
    scores = {
        (which, task, layer): value
        for which, of_which in tables.items()
        for task, curve in of_which.items()
        for layer, value in enumerate(curve)
        if (task, layer) not in holes
    }
    keys = product(LABELS, ["r", "s"], KINDS, ("dime", "half_retrieval", "drop_retrieval"))
    metrics = {
        (*key, layer): abs(value)
        for place, key in enumerate(keys)
        if not skip or place % 20 != skip
        for layer, value in enumerate(curves[place % len(curves)])
    }
    board, asked = _board(scores, metrics), [name for name in RULES if name in names]
    expected = {name: expected_regrets(scores, metrics, [name], known) for name in asked}
    unknown = [name for name in asked if not expected[name]]
    if unknown:
        with pytest.raises(InputError, match=f"criteria: ({'|'.join(unknown)}) "):
            regret(with_base(board.scores), board.metrics, asked, known=known)
        return
    found = regret(with_base(board.scores), board.metrics, asked, known=known)
    _compare(found, expected_regrets(scores, metrics, asked, known))
    own = regret(with_base(board.scores), board.metrics, asked, "available", known=known)
    for name in asked:
        of_rule = {key: value for key, value in expected[name].items() if key[1] == name}
        _compare(own.filter(criterion=name), of_rule)


# --- what the numbers are --------------------------------------------------------------------------------------------


def _regrets(frame: pl.DataFrame, reading: str = "model") -> dict[str, float]:
    return dict(frame.filter(reading=reading).select("criterion", "regret").iter_rows())


def _one(curves: dict[str, list[float]], dime: dict[str, list[float]], model: str = "m") -> tuple[Scores, Metrics]:
    which = Which(model, "r", None)
    scores = {(which, task, layer): v / 100 for task, curve in curves.items() for layer, v in enumerate(curve)}
    metrics = {(model, "r", task, "dime", layer): v for task, curve in dime.items() for layer, v in enumerate(curve)}
    return scores, metrics


def _joined(*models: tuple[Scores, Metrics]) -> Leaderboard:
    scores, metrics = ({key: v for one in models for key, v in one[place].items()} for place in (0, 1))
    return _board(scores, metrics)


_CURVES = {"A": [10.0, 30, 20, 20, 20], "B": [30.0, 30, 40, 20, 20], "C": [0.0, 0, 5, 50, 10]}
_DIME = {"A": [0.0, 9, 9, 9, 9], "B": [9.0, 9, 0, 9, 9], "C": [9.0, 9, 9, 0, 9]}


def test_one_layer_a_task_is_judged_task_by_task() -> None:
    found = _board(*_one(_CURVES, _DIME)).regret()
    assert _regrets(found, "task")["min-dime"] == pytest.approx(mean([20, 0, 0]))
    assert _regrets(found, "task")["last"] == pytest.approx(mean([10, 20, 40]))
    assert _regrets(found, "task")["random"] == pytest.approx(mean([10, 12, 37]))


def test_one_layer_a_model_is_judged_on_the_mean_over_types_of_tasks() -> None:
    found = _board(*_one(_CURVES, _DIME)).regret()
    # STS: 20, 30, 30, 20, 20; with Clustering: 10, 15, 17.5, 35, 15. Of DiME: 9/2 + 9, 18, 9/2 + 9, 9, 18, halved.
    assert _regrets(found)["min-dime"] == pytest.approx(0)
    assert _regrets(found)["first"] == pytest.approx(25) and _regrets(found)["depth:0.8"] == pytest.approx(0)
    assert _regrets(found, "type")["min-dime"] == pytest.approx(mean([10, 0]))
    of_types = _board(*_one(_CURVES, _DIME)).regret(per_type=True).filter(reading="type", criterion="first")
    assert dict(of_types.select("task_type", "regret").iter_rows()) == {"STS": 10, "Clustering": 50}


def test_the_worst_says_where() -> None:
    board = _joined(_one(_CURVES, _DIME), _one({"A": [50.0, 51, 52, 53, 90]}, {"A": [0.0] * 5}, "n"))
    row = board.regret().filter(reading="task", criterion="first").row(0, named=True)
    assert row["worst"] == pytest.approx(50)
    assert (row["worst_model"], row["worst_revision"], row["worst_on"]) == ("m", "r", "C")
    assert (row["worst_layer"], row["worst_best_layer"]) == (0, 3)


def test_every_model_weighs_the_same_whatever_its_revisions_recipes_and_tasks() -> None:
    one = Which("m", "r", None)
    others = [one._replace(revision="s"), one._replace(template="eol"), one._replace(model="m (pooling_mode=cls)")]
    scores: Scores = {(which, "A", k): k / 10 for which in (one, *others) for k in (0, L)}
    scores |= {(Which("n", "r", None), task, k): 0.1 for task in TYPES for k in (0, L)}
    found = _board(scores, {}).regret().filter(reading="task", criterion="first").row(0, named=True)
    assert found["regret"] == pytest.approx(mean([40, 0])) and found["n_models"] == 2
    assert (found["n"], found["n_tasks"]) == (7, 3)


def test_what_is_tuned_has_not_seen_the_model_that_it_is_judged_on() -> None:
    """Each model is best where the other is worst, so that a depth that saw both would do better."""
    up, down = [0.0, 10, 20, 30, 50], [40.0, 30, 20, 10, 0]
    found = _joined(_one({"A": up}, {}, "m"), _one({"A": down}, {}, "n")).regret()
    tuned = found.filter(reading="model", criterion="tuned-depth").row(0, named=True)
    assert tuned["regret"] == pytest.approx(mean([50, 40])) and tuned["choice"] == "0.90"
    with_dime = _joined(_one({"A": up}, {"A": [0.0, 1, 1, 1, 1]}, "m"), _one({"A": up}, {"A": [1.0, 1, 1, 1, 0]}, "n"))
    assert "tuned-criterion" not in _regrets(with_dime.regret())  # of one criterion there is no best


def test_the_interval_is_over_models_and_one_model_has_none() -> None:
    boards = [_one({"A": [0.0, 1, 2, 3, float(4 + n)]}, {}, f"m{n}") for n in range(5)]
    found = _joined(*boards).regret(seed=3).filter(reading="task", criterion="first").row(0, named=True)
    drawn = np.random.default_rng(3).multinomial(5, [0.2] * 5, 1000) @ np.arange(4, 9) / 5
    assert [found["low"], found["high"]] == pytest.approx(np.percentile(drawn, [2.5, 97.5]).tolist())
    alone = _board(*boards[0]).regret()
    assert alone["low"].null_count() == alone["high"].null_count() == alone.height
    assert not {"tuned-depth", "tuned-criterion"} & set(alone["criterion"])
    assert any("one model" in note for note in notes(alone))


def test_criteria_are_compared_over_what_all_of_them_have() -> None:
    scores, metrics = _one(_CURVES, _DIME)
    metrics |= {("m", "r", "A", "curvature", layer): float(layer) for layer in range(L + 1)}
    board = _joined((scores, metrics), _one({"A": [0.0, 90, 0, 0, 0]}, {}, "n"))
    found = board.regret()
    assert set(found["n_tasks"]) == {1} and set(found["n_models"]) == {1}
    assert set(found["of_tasks"]) == {3} and set(found["of_models"]) == {2}
    assert any("1 of 2 models" in note for note in notes(found))
    one = board.regret(criteria=["min-dime"])
    assert set(one["n_tasks"]) == {3} and "max-curvature" not in set(one["criterion"])
    own = board.regret(tasks="available").filter(reading="task")
    counts = {name: (models, n) for name, models, n in own.select("criterion", "n_models", "n").iter_rows()}
    assert counts["min-dime"] == (1, 3) and counts["max-curvature"] == (1, 1) and counts["last"] == (2, 4)
    assert "tuned-criterion" not in counts and any("do not compare" in note for note in notes(own))


def test_criteria_that_share_no_task_have_no_number_and_it_is_said() -> None:
    scores, metrics = _one(_CURVES, {"A": _DIME["A"]})
    metrics |= {("m", "r", "B", "curvature", layer): float(layer) for layer in range(L + 1)}
    found = _board(scores, metrics).regret()
    assert found["regret"].null_count() == found.height and set(found["n"]) == {0}
    assert {"min-dime", "max-curvature", "last", "random"} <= set(found["criterion"])
    assert any("share no task" in note for note in notes(found))


def test_a_task_with_one_layer_is_no_choice() -> None:
    scores, _ = _one({"A": [10.0]}, {})
    assert set(_board(scores, {}).regret()["n"]) == {0}
    assert Leaderboard.empty().regret()["n"].sum() == 0


def test_a_layer_without_a_score_on_some_tasks_is_left_out_rather_than_the_tasks() -> None:
    curves = {"A": [nan, 30, 20, 20, 20], "B": [nan, 30, 40, 20, 20], "C": [99.0, 0, 5, 50, 10]}
    row = _board(*_one(curves, _DIME)).regret().filter(reading="model", criterion="best").row(0, named=True)
    assert row["n_tasks"] == 3 and row["worst_best_layer"] == 3


def test_a_metric_is_averaged_over_the_same_tasks_at_every_layer() -> None:
    """Layer 1 lacks the metric of C, where it is high everywhere: over A and B alone it would be the lowest."""
    dime = {"A": [1.0, 1, 1, 1, 0], "B": [1.0, 1, 1, 1, 0], "C": [9.0, nan, 9, 9, 9]}
    row = _board(*_one(_CURVES, dime)).regret().filter(reading="model", criterion="min-dime").row(0, named=True)
    assert row["worst_layer"] == 4


@pytest.mark.parametrize(("end", "layer"), [("min", 0), ("max", 4), (2.2, 2)])
def test_a_criterion_takes_its_end_of_the_curve(monkeypatch: pytest.MonkeyPatch, end: Any, layer: int) -> None:
    monkeypatch.setitem(CRITERIA, "min-dime", ("dime", end))
    curves = {"A": [0.0, 1, 2, 3, 4]}
    board = _board(*_one({"A": [9.0, 9, 9, 9, 10]} if layer != 4 else {"A": [10.0, 9, 9, 9, 9]}, curves))
    for reading in ("model", "task"):
        row = board.regret().filter(reading=reading, criterion="min-dime").row(0, named=True)
        assert row["worst_layer"] == layer
    assert board.schemes()["regret_min_dime"].item() == pytest.approx(1)


def test_a_regret_on_types_is_that_on_their_mean_and_what_the_best_single_layer_loses() -> None:
    board = board_of(["a", "b", "c"], ["A", "B", "C", "D"], 6, ("dime", "curvature"))
    kinds = board.scores.with_columns(task_type=pl.when(pl.col("task") == "A").then(pl.lit("X")).otherwise("task_type"))
    found = Leaderboard(kinds, board.metrics).regret()
    on_types, on_mean = _regrets(found, "type"), _regrets(found)
    for criterion, value in on_mean.items():
        assert on_types[criterion] - on_types["best"] == pytest.approx(value)


def test_what_each_costs_is_said() -> None:
    found = board_of(["a", "b"], ["A"], 4, ("dime", "lidar", "curvature")).regret()
    costs = {name: tuple(of) for name, *of in found.select("criterion", "texts", "passes", "labels").iter_rows()}
    assert costs["min-dime"] == (True, METRIC_TABLE["dime"].n_views, "none")
    assert costs["max-curvature"] == (True, 1, "none") and costs["min-lidar"][1] == METRIC_TABLE["lidar"].n_views
    assert costs["last"] == costs["random"] == (False, 0, "none")
    assert costs["tuned-depth"] == (False, 0, "other models") and costs["tuned-criterion"][2] == "other models"
    assert costs["best"] == (True, 1, "own")
    assert costs["auto"] == (False, 0, "none")  # no metrics of halves and drops: a depth


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"criteria": ["min-foo"]}, "criteria: expected some of min-dime"),
        ({"criteria": []}, "criteria: expected some of"),
        ({"criteria": ["min-lidar"]}, "criteria: min-lidar goes by the metric lidar, which no task with scores has"),
        ({"tasks": "some"}, "tasks: expected one of available, common, got 'some'"),
        ({"model": "x"}, "model: expected one of m (r); got model='x'"),
    ],
)
def test_mistakes_are_told(how: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        _board(*_one(_CURVES, _DIME)).regret(**how)
    assert message in str(error.value)


def test_the_order_of_the_rows_does_not_matter() -> None:
    board = board_of(["a", "b", "c"], ["A", "B"], 5, ("dime", "curvature"))
    shuffled = Leaderboard(*(frame.sample(fraction=1, shuffle=True, seed=1) for frame in (board.scores, board.metrics)))
    assert shuffled.regret().equals(board.regret())


# --- the paper's tables ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def papers(paper_folder: Path) -> Leaderboard:
    board = load_tables(paper_folder / "scores.csv.gz", paper_folder / "metrics.csv.gz")
    return board.only(revision="main")


def test_a_depth_of_0_8_loses_less_on_the_papers_models_than_any_of_its_criteria(papers: Leaderboard) -> None:
    found = papers.regret()
    assert set(found["n_models"]) == {8} and set(found["n_tasks"]) == {29}
    shown = {
        "depth:0.8": 1.07,
        "min-dime": 1.26,
        "last": 2.01,
        "min-entropy": 2.14,
        "random": 2.66,
        "min-infonce": 2.76,
    }
    assert {name: round(_regrets(found)[name], 2) for name in shown} == shown
    of_criteria = [value for name, value in _regrets(found).items() if name in CRITERIA]
    assert min(of_criteria) > _regrets(found)["depth:0.8"]


def test_the_papers_scores_are_those_of_the_schemes(papers: Leaderboard) -> None:
    """One layer a task: the regret of a criterion is the oracle's score minus its own, over the same tasks."""
    pythia = papers.only("Pythia-410m")
    row = pythia.schemes(tasks="common").row(0, named=True)
    found = _regrets(pythia.regret(), "task")
    for criterion in ("min-dime", "min-infonce", "min-entropy", "min-lidar", "max-curvature"):
        assert found[criterion] == pytest.approx(row["oracle"] - row[criterion.replace("-", "_")])
    assert found["last"] == pytest.approx(row["oracle"] - row["last"])
