import polars as pl

from leaderboard.analysis.task_sets import task_sets
from leaderboard.analysis.variants import Variant


def test_models_are_apart_by_the_tasks_that_they_have_a_score_of() -> None:
    rows = [
        ("b", "main", "T1", 0.5),
        ("a", "main", "T2", 0.5),
        ("a", "main", "T1", 0.5),
        ("c", "main", "T1", 0.5),
        ("c", "main", "T2", float("nan")),  # no score, so this is no task of c
        ("b", "old", "T2", None),
    ]
    scores = pl.DataFrame(rows, schema=["model", "revision", "task", "main_score"], orient="row")
    assert list(task_sets(scores).items()) == [
        (("T1", "T2"), [Variant("a", "main")]),
        (("T1",), [Variant("b", "main"), Variant("c", "main")]),
        ((), [Variant("b", "old")]),
    ]
