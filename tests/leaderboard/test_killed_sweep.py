import multiprocessing
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leaderboard import load_results, run_sweep

_TASKS = ["StarterSTS", "StarterPairClassification"]
_OPTIONS: dict[str, Any] = {"metrics": ["dataset_entropy", "infonce"], "metric_texts": 30, "show_progress": False}
_KILLS = 20


def _finished(results: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in results.glob("results/*/*/experiments/*/Starter*.json")}


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_gives_the_same_tables(llama_folder: Path, tmp_path: Path) -> None:
    """By SIGKILL at random moments. What is finished is never computed again: its file is never touched again."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["leaderboard.sweep"])  # imports take longer than the sweep

    def start(results: Path) -> Any:
        process = context.Process(
            target=run_sweep, args=(str(llama_folder), _TASKS, str(results)), kwargs=_OPTIONS, daemon=False
        )
        process.start()
        return process

    start(tmp_path / "first").join()  # with what happens once
    began = time.monotonic()
    start(tmp_path / "whole").join()
    longest = time.monotonic() - began
    whole = load_results(tmp_path / "whole")
    assert whole.scores.height == 8

    rng = random.Random(0)
    kills, moments, rounds = 0, set(), 0
    while kills < _KILLS:
        results = tmp_path / f"killed-{rounds}"
        rounds += 1
        before: dict[Path, int] = {}
        metrics = load_results(tmp_path / "whole").metrics.clear()
        while True:
            process = start(results)
            process.join(rng.uniform(0, longest))
            was_killed = process.is_alive()
            process.kill()
            process.join()
            after = _finished(results)
            assert {path: after[path] for path in before} == before
            if results.is_dir():
                now = load_results(results).metrics
                assert now.join(metrics, on=now.columns, how="semi").height == metrics.height  # none was lost
                metrics = now
            if not was_killed and process.exitcode == 0:
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
