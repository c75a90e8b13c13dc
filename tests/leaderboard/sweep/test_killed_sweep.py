import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.forks import Fork
from support.tiny_tasks import TINY_TASKS

from leaderboard import load_results, run_sweep

_OPTIONS: dict[str, Any] = {"layers": [0, -1], "metrics": ["dataset_entropy", "curvature"], "show_progress": False}
_N_TASKS = 2

# Puts so many new files of results in place, and is killed when the next one is written but not in place yet.
_KILLED = f"""
import os, signal, sys
from leaderboard import run_sweep
from support.tiny_tasks import TINY_TASKS
left = int(sys.argv[3])
def or_die(place):
    def place_or_die(source, target):
        global left
        is_ours = str(target).startswith(tuple(os.path.join(sys.argv[2], name) for name in ("results", "metrics")))
        if is_ours and not os.path.exists(target):
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
        place(source, target)
    return place_or_die
os.replace, os.link = or_die(os.replace), or_die(os.link)
run_sweep(sys.argv[1], [task() for task in TINY_TASKS[-{_N_TASKS}:]], sys.argv[2], **{_OPTIONS})
"""


def _files(results: Path) -> list[Path]:
    folders = (results / "results", results / "metrics")
    return [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.name[0] != "."]


@pytest.mark.slow
@pytest.mark.process
def test_a_run_that_is_killed_before_every_file_that_it_finishes_gives_the_same_tables(
    llama_folder: Path, tmp_path: Path
) -> None:
    """By SIGKILL, each moment once. What is finished is never computed again: its file is never touched again."""
    tasks = [task() for task in TINY_TASKS[-_N_TASKS:]]
    whole = run_sweep(llama_folder, tasks, tmp_path / "whole", **_OPTIONS)
    assert whole.scores.height == 2 * _N_TASKS
    n_files = len(_files(tmp_path / "whole"))
    assert n_files == 2 * 2 + 2 * _N_TASKS + _N_TASKS  # two of a layer, one of a layer and task, one of a task

    results = tmp_path / "killed"
    finished: dict[Path, int] = {}
    metrics = whole.metrics.clear()
    for number in range(n_files + 1):  # nothing, then one file more each time
        command = [sys.executable, "-c", _KILLED, str(llama_folder), str(results), str(min(number, 1))]
        assert Fork(command).wait(120) == (-signal.SIGKILL if number < n_files else 0)
        assert len(_files(results)) == number
        now = {path: path.stat().st_mtime_ns for path in _files(results) if path.match("layer_*/Tiny*.json")}
        assert {path: now[path] for path in finished} == finished
        finished = now
        measured = load_results(results).metrics
        assert measured.join(metrics, on=measured.columns, how="semi").height == metrics.height  # none was lost
        metrics = measured
    board = load_results(results)
    assert board.scores.equals(whole.scores)
    keys = ["task", "metric", "normalization", "layer"]
    assert board.metrics.select(keys).equals(whole.metrics.select(keys))
    np.testing.assert_allclose(board.metrics["value"], whole.metrics["value"], rtol=1e-5)
    assert {path.name for path in results.iterdir()} == {"results", "metrics", "shards", "sweeps", "workers"}
