"""However many files are written, schemes are compared once over each set of tasks, and resamples are drawn once."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from leaderboard import load_tables
from leaderboard.analysis import schemes as module
from leaderboard.cli import main

_TASKS = ["A", "B", "C"]
_OF_REGRETS = 2  # the page's table of regrets draws its own resamples, of models


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts bootstraps of a whole table, and draws of resamples."""
    found: Counter[str] = Counter()
    intervals, generator = module.intervals, np.random.default_rng

    def bootstrap(*args: Any, **kwargs: Any) -> Any:
        found["bootstraps"] += 1
        return intervals(*args, **kwargs)

    def draw(*args: Any, **kwargs: Any) -> Any:
        found["draws"] += 1
        return generator(*args, **kwargs)

    monkeypatch.setattr(module, "intervals", bootstrap)
    monkeypatch.setattr(np.random, "default_rng", draw)
    return found


def _tables(folder: Path, *, missing: bool) -> list[str]:
    """Arguments for table files; a metric of one task is missing where asked for."""
    rng = np.random.default_rng(0)
    scores = [("org/m", layer, task, "STS", rng.random()) for layer in range(4) for task in _TASKS]
    names = ["model", "layer", "task", "task_type", "main_score"]
    pl.DataFrame(scores, schema=names, orient="row").write_csv(folder / "s.csv")
    measured = _TASKS[1:] if missing else _TASKS
    metrics = [
        ("org/m", task, metric, "raw", layer, rng.random())
        for metric in ("dime", "infonce")
        for layer in range(4)
        for task in (measured if metric == "dime" else _TASKS)
    ]
    names = ["model", "task", "metric", "normalization", "layer", "value"]
    pl.DataFrame(metrics, schema=names, orient="row").write_csv(folder / "m.csv")
    return ["--scores", str(folder / "s.csv"), "--metrics", str(folder / "m.csv")]


@pytest.mark.parametrize("missing", [True, False], ids=["some tasks miss a metric", "every task has all"])
def test_a_page_compares_once_over_available_and_once_over_common_tasks(
    tmp_path: Path, work: Counter[str], missing: bool
) -> None:
    arguments = _tables(tmp_path, missing=missing)
    board = load_tables(arguments[1], arguments[3])
    work.clear()
    board.to_html(tmp_path / "page.html")
    # Over three tasks, and over two where one misses a metric; where none does, both tables are the same.
    assert work == (
        {"bootstraps": 2, "draws": 2 + _OF_REGRETS} if missing else {"bootstraps": 1, "draws": 1 + _OF_REGRETS}
    )


def test_a_report_with_every_file_compares_no_more_than_the_page(tmp_path: Path, work: Counter[str]) -> None:
    arguments = _tables(tmp_path, missing=True)
    out = [f"--{name}={tmp_path / name}" for name in ("parquet", "csv", "markdown", "html", "figures")]
    work.clear()
    assert main(["report", *arguments, "--tasks", "common", *out, "--quiet"]) == 0
    assert work == {"bootstraps": 2, "draws": 2 + _OF_REGRETS}


def test_what_is_computed_once_is_what_is_computed_anew(tmp_path: Path) -> None:
    for missing in (True, False):
        arguments = _tables(tmp_path, missing=missing)
        board = load_tables(arguments[1], arguments[3])
        for tasks, complete_only, seed in [("common", False, 0), ("available", False, 0), ("common", True, 3)] * 2:
            options: dict[str, Any] = {"tasks": tasks, "complete_only": complete_only, "seed": seed}
            fresh = load_tables(arguments[1], arguments[3]).schemes(**options)
            assert_frame_equal(board.schemes(**options), fresh)  # polars sums in any order
            assert set(fresh["tasks"]) == {tasks}


def test_a_table_that_is_changed_by_its_owner_does_not_change_the_next_one(tmp_path: Path) -> None:
    arguments = _tables(tmp_path, missing=True)
    board = load_tables(arguments[1], arguments[3])
    first = board.schemes()
    expected = first.clone()
    first.insert_column(0, pl.lit(1).alias("mine"))
    first[0, "best"] = -1.0
    assert board.schemes().equals(expected)
