"""Tables of tasks and layers without holes."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.analysis.grid import without_holes


def _cells(rows: list[str]) -> pl.DataFrame:
    """A task a row, a layer a column, # for a cell that is there."""
    cells = [("m", f"T{i}", k, 1.0) for i, row in enumerate(rows) for k, has in enumerate(row) if has == "#"]
    return pl.DataFrame(cells, schema=["model", "task", "layer", "score"], orient="row")


def _left(rows: list[str]) -> tuple[list[str], list[int]]:
    found = without_holes(_cells(rows), ["model"])
    tasks, layers = sorted(set(found["task"])), sorted(set(found["layer"]))
    assert found.height == len(tasks) * len(layers)
    return tasks, layers


@pytest.mark.parametrize(
    ("rows", "tasks", "layers"),
    [
        (["###", "###"], ["T0", "T1"], [0, 1, 2]),
        ([".###", ".###", ".###", "####"], ["T0", "T1", "T2", "T3"], [1, 2, 3]),  # a layer that has no score on most
        (["####", "####", "####", "#..."], ["T0", "T1", "T2"], [0, 1, 2, 3]),  # a task that is not finished
        ([".##", "###", "##."], ["T0", "T1"], [1, 2]),  # of a tie the layer, and the lower one; then a task
        ([".#", "##"], ["T0", "T1"], [1]),
    ],
)
def test_what_misses_most_is_left_out_first(rows: list[str], tasks: list[str], layers: list[int]) -> None:
    assert _left(rows) == (tasks, layers)


@given(st.lists(st.text("#.", min_size=4, max_size=4), min_size=1, max_size=4))
def test_nothing_is_left_out_without_need_and_no_hole_stays(rows: list[str]) -> None:
    has = np.array([[cell == "#" for cell in row] for row in rows])
    has = has[has.any(axis=1)][:, has.any(axis=0)]  # tasks and layers that are nowhere are none
    tasks, layers = _left(rows)
    if has.all():
        assert (len(tasks), len(layers)) == has.shape
    assert bool(tasks) == bool(has.size)


def test_each_group_is_a_table_of_its_own() -> None:
    both = pl.concat([_cells(["##", "##"]), _cells(["#.", "##"]).with_columns(model=pl.lit("n"))])
    found = without_holes(both, ["model"])
    assert found.filter(model="m").height == 4 and found.filter(model="n").height == 2
