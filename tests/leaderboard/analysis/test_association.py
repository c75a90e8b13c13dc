from math import nan
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.web.boards import scores_of

from leaderboard import Leaderboard, load_tables
from leaderboard.analysis.association import distance_correlation
from leaderboard.results.schemas import METRICS_SCHEMA


def _board(scores: dict[tuple[str, int], float], values: dict[tuple[str, int], float]) -> Leaderboard:
    score_rows = [("m", "main", layer, layer / 4, task, "STS", value) for (task, layer), value in scores.items()]
    metric_rows = [("m", "main", task, "dime", "raw", layer, value) for (task, layer), value in values.items()]
    return Leaderboard(
        scores_of(score_rows),
        pl.DataFrame(metric_rows, schema=METRICS_SCHEMA, orient="row"),
    )


def _plain_distance_correlation(x: list[float], y: list[float]) -> float:
    """Sums over pairs, as the definition is written."""
    n = len(x)

    def centred(values: list[float]) -> list[list[float]]:
        distance = [[abs(p - q) for q in values] for p in values]
        row = [sum(line) / n for line in distance]
        grand = sum(row) / n
        return [[distance[i][j] - row[i] - row[j] + grand for j in range(n)] for i in range(n)]

    a, b = centred(x), centred(y)

    def covariance(p: list[list[float]], q: list[list[float]]) -> float:
        return sum(p[i][j] * q[i][j] for i in range(n) for j in range(n)) / n**2

    return float((covariance(a, b) / (covariance(a, a) * covariance(b, b)) ** 0.5) ** 0.5)


_numbers = st.integers(-50, 50).map(float)


@given(st.lists(st.tuples(_numbers, _numbers), min_size=2, max_size=12))
@settings(deadline=None)
def test_distance_correlation_is_the_sum_over_pairs(pairs: list[tuple[float, float]]) -> None:
    x, y = ([pair[side] for pair in pairs] for side in (0, 1))
    found = distance_correlation(np.array(x), np.array(y))
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(_plain_distance_correlation(x, y), abs=1e-6)
        assert -1e-9 <= found <= 1 + 1e-9


def test_distance_correlation_is_1_of_a_line_and_sees_a_parabola() -> None:
    x = np.linspace(-1, 1, 41)
    assert distance_correlation(x, 3 - 2 * x) == pytest.approx(1)
    assert distance_correlation(x, x**2) > 0.4 > abs(np.corrcoef(x, x**2)[0, 1])


def test_a_row_a_metric_over_the_layers_that_miss_nothing() -> None:
    scores = {(task, layer): 0.1 * layer for task in "AB" for layer in range(4)} | {("A", 4): 0.0}
    board = _board(scores, {("A", layer): -(layer**2.0) for layer in range(5)})
    row = board.associations("m").to_dicts()[0]
    assert (row["metric"], row["n_layers"], row["n_tasks"]) == ("dime", 4, 1)  # layer 4 has no score of B
    assert row["spearman"] == row["kendall"] == pytest.approx(-1)
    assert -1 < row["pearson"] < -0.9


def test_the_metric_is_averaged_over_its_tasks_and_the_score_over_all() -> None:
    scores = {("A", 0): 0.0, ("A", 1): 0.1, ("A", 2): 0.2, ("B", 0): 0.9, ("B", 1): 0.5, ("B", 2): 0.1}
    board = _board(scores, {("A", 0): 1.0, ("A", 1): 2.0, ("A", 2): 3.0})
    assert board.associations("m")["spearman"].item() == pytest.approx(-1)  # A alone would give 1
    per_task = board.associations("m", per_task=True)
    assert per_task.select("metric", "task", "n_layers", "n_tasks").rows() == [("dime", "A", 3, 1)]
    assert per_task["spearman"].item() == pytest.approx(1)


def test_what_cannot_be_correlated_is_null() -> None:
    scores = {("A", 0): 0.1, ("A", 1): 0.2, ("A", 2): nan}
    equal = _board(scores, {("A", layer): 1.0 for layer in range(3)}).associations("m").to_dicts()[0]
    assert (equal["spearman"], equal["dcor"], equal["n_layers"], equal["n_tasks"]) == (None, None, 2, 1)
    elsewhere = _board(scores, {("A", 3): 1.0}).associations("m").to_dicts()[0]
    assert (elsewhere["pearson"], elsewhere["n_layers"], elsewhere["n_tasks"]) == (None, 0, 1)
    assert _board(scores, {}).associations("m").is_empty()
    with pytest.raises(ValueError, match=r"expected one of m \(main\); got model='m', revision='step1'"):
        _board(scores, {}).associations("m", "step1")


@pytest.mark.parametrize(
    ("name", "dcor", "spearman"),
    [
        (
            "scores_as_published",
            {"dime": 0.865, "dataset_entropy": 0.807, "curvature": 0.852, "infonce": 0.849, "lidar": 0.757},
            -0.588,
        ),
        (
            "scores",
            {"dime": 0.895, "dataset_entropy": 0.865, "curvature": 0.877, "infonce": 0.880, "lidar": 0.817},
            -0.620,
        ),
    ],
)
def test_the_papers_associations(paper_folder: Path, name: str, dcor: dict[str, float], spearman: float) -> None:
    board = load_tables(paper_folder / f"{name}.csv.gz", paper_folder / "metrics.csv.gz")
    found = {row["metric"]: row for row in board.associations("Pythia-410m").to_dicts()}
    assert {metric: found[metric]["dcor"] for metric in dcor} == pytest.approx(dcor, abs=0.002)
    assert found["dime"]["spearman"] == pytest.approx(spearman, abs=0.002)
    assert {row["n_layers"] for row in found.values()} == {25}
    per_task = board.associations("Pythia-410m", per_task=True)
    assert per_task.filter(metric="dime").height == found["dime"]["n_tasks"] == 29
