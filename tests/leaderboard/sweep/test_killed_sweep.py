import random
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mteb.abstasks.abstask import AbsTask

from leaderboard import load_results, run_sweep

_OPTIONS: dict[str, Any] = {"metrics": ["dataset_entropy", "curvature"], "show_progress": False}
_KILLS = 20
_N_TASKS = 3


def _finished(results: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in results.glob("results/*/*/experiments/*/Tiny*.json")}


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_gives_the_same_tables(
    llama_folder: Path, tiny_tasks: Callable[[], list[AbsTask]], tmp_path: Path, forked: ForkServerContext
) -> None:
    """By SIGKILL at random moments. What is finished is never computed again: its file is never touched again."""

    def start(results: Path) -> Any:
        process = forked.Process(
            target=run_sweep, args=(str(llama_folder), tiny_tasks()[-_N_TASKS:], str(results)), kwargs=_OPTIONS
        )
        process.start()
        return process

    def timed(results: Path) -> float:
        began = time.monotonic()
        start(results).join()
        return time.monotonic() - began

    timed(tmp_path / "first")  # with what happens once
    longest = timed(tmp_path / "whole")
    whole = load_results(tmp_path / "whole")
    n_scores = whole.scores.height
    assert n_scores == 4 * _N_TASKS

    rng = random.Random(0)
    kills, rounds = 0, 0
    moments = set()
    while kills < _KILLS:
        results = tmp_path / f"killed-{rounds}"
        rounds += 1
        before: dict[Path, int] = {}
        metrics = whole.metrics.clear()
        while True:
            process = start(results)
            # At any time, and just after so many results as there may be.
            n_awaited = rng.randrange(n_scores)
            process.join(rng.uniform(0, longest) if rng.random() < 0.5 else 0)
            while process.is_alive() and len(_finished(results)) < n_awaited:
                time.sleep(0.001)
            process.join(rng.uniform(0, 0.05))
            was_killed = process.is_alive()
            process.kill()
            process.join()
            after = _finished(results)
            assert {path: after[path] for path in before} == before
            if results.is_dir():
                now = load_results(results).metrics
                assert now.join(metrics, on=now.columns, how="semi").height == metrics.height  # none was lost
                metrics = now
            if not was_killed:
                assert process.exitcode == 0
                break
            kills += 1
            moments.add((len(after), len(metrics)))
            before = after
        board = load_results(results)
        assert board.scores.equals(whole.scores)
        keys = ["task", "metric", "normalization", "layer"]
        assert board.metrics.select(keys).equals(whole.metrics.select(keys))
        np.testing.assert_allclose(board.metrics["value"], whole.metrics["value"], rtol=1e-5)
        assert {path.name for path in results.iterdir()} == {".lock", "results", "metrics"}
    assert len(moments) > 4, moments  # at different stages of the work
