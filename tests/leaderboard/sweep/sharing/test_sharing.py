"""Several processes share a results folder: nothing is done twice, nothing is lost, whoever is killed."""

import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from support.forks import Fork
from support.tiny_tasks import TINY_TASKS, TinyPairClassification, TinySTS

from leaderboard import Leaderboard, load_results, run_sweep
from leaderboard.shards.claims import Claim, Crew
from leaderboard.shards.shard import Shard, shards_of_sweep
from leaderboard.shards.split import split
from leaderboard.sweep.run import TasksFailed
from leaderboard.sweep.task import TaskSweep
from midlayer_embed.errors import InputError

_OPTIONS: dict[str, Any] = {"layers": [0, -1], "metrics": ["curvature"], "show_progress": False}
_RUN = f"""
import sys
from leaderboard import run_sweep
from support.tiny_tasks import TINY_TASKS
models, results, shard = sys.argv[1].split(","), sys.argv[2], sys.argv[3] or None
run_sweep(models, [task() for task in TINY_TASKS], results, shard=shard, **{_OPTIONS!r})
"""
# Stops for ever when it is about to save its so many-th result.
_STOPS = (
    """
import signal, sys, time
from leaderboard.results.files.folder import ResultsFolder
save, left = ResultsFolder.save_result, int(sys.argv[4])
def stop(*arguments):
    global left
    if left == 0:
        print("about to save", flush=True)
        signal.pause()
    left -= 1
    save(*arguments)
ResultsFolder.save_result = stop
"""
    + _RUN
)


@pytest.fixture(scope="module")
def models(tiny_model: Callable[[str], Path]) -> list[Path]:
    return [tiny_model("llama"), tiny_model("bert")]


@pytest.fixture(scope="module")
def alone(models: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Leaderboard:
    """What one process gives."""
    return run_sweep(models, [task() for task in TINY_TASKS], tmp_path_factory.mktemp("alone"), **_OPTIONS)


def _start(code: str, models: list[Path], results: Path, shard: str = "", *arguments: str) -> Fork:
    return Fork([sys.executable, "-c", code, ",".join(map(str, models)), str(results), shard, *arguments])


def _records(results: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in (results / "shards").rglob("[0-9]*.json")]


def assert_same(board: Leaderboard, expected: Leaderboard) -> None:
    for one, other, value in (
        (board.scores, expected.scores, "main_score"),
        (board.metrics, expected.metrics, "value"),
    ):
        key = [name for name in one.columns if name not in (value, "depth")]
        one, other = one.sort(key), other.sort(key)
        assert one.select(key).equals(other.select(key))
        np.testing.assert_allclose(one[value], other[value], rtol=0, atol=1e-9 if value == "main_score" else 1e-5)


def assert_each_shard_was_finished_once(results: Path, n_models: int = 2) -> None:
    records = (results / "shards").rglob("[0-9]*.json")
    finished = Counter(path.parent for path in records if json.loads(path.read_text())["state"] == "finished")
    assert len(finished) == n_models * len(TINY_TASKS) and set(finished.values()) == {1}


@pytest.mark.process
@pytest.mark.parametrize(
    "shards", [["1/3", "2/3", "3/3"], pytest.param(["", ""], marks=pytest.mark.slow)], ids=["parts", "all"]
)
def test_processes_on_one_folder_share_the_work(
    models: list[Path], alone: Leaderboard, tmp_path: Path, shards: list[str]
) -> None:
    runs = [_start(_RUN, models, tmp_path / "both", shard) for shard in shards]
    assert [run.wait(300) for run in runs] == [0] * len(shards)
    assert_same(load_results(tmp_path / "both"), alone)
    assert_each_shard_was_finished_once(tmp_path / "both")
    assert sum(record["n_results"] for record in _records(tmp_path / "both")) == alone.scores.height
    settings = list((tmp_path / "both").rglob("run_settings.jsonl"))
    assert len(settings) == len(models) * 2
    for path in settings:
        assert sorted(json.loads(line)["task"] for line in path.read_text().splitlines()) == sorted(
            task.metadata.name for task in TINY_TASKS
        )


@pytest.mark.process
@pytest.mark.parametrize(
    "shards", [["1/3", "2/3", "3/3"], pytest.param(["", "", ""], marks=pytest.mark.slow)], ids=["parts", "all"]
)
def test_what_a_killed_process_had_begun_is_done_by_the_others(
    models: list[Path], alone: Leaderboard, tmp_path: Path, shards: list[str]
) -> None:
    results = tmp_path / "killed"
    killed = _start(_STOPS, models, results, shards[0], "3")
    end = time.monotonic() + 120
    while len(list(results.rglob("experiments/*/Tiny*.json"))) < 3 and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.2)
    before = {path: path.stat().st_mtime_ns for path in results.rglob("experiments/*/Tiny*.json")}
    assert len(before) == 3
    runs = [_start(_RUN, models, results, shard) for shard in shards[1:]]
    killed.kill()
    assert killed.wait(60) == -signal.SIGKILL
    assert [run.wait(300) for run in runs] == [0, 0]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert_same(load_results(results), alone)
    assert_each_shard_was_finished_once(results)
    # The killed one has finished a shard of two results, and saved one of the next.
    assert sum(record["n_results"] for record in _records(results)) == alone.scores.height - 1


@pytest.mark.slow
def test_a_part_alone_does_its_own_shards_and_no_others(models: list[Path], alone: Leaderboard, tmp_path: Path) -> None:
    """It is not known whether the others have another folder: their results would be joined later."""
    parts: list[pl.DataFrame] = []
    for number in (1, 2, 3):
        results = tmp_path / str(number)
        board = run_sweep(models, [task() for task in TINY_TASKS], results, shard=f"{number}/3", **_OPTIONS)
        (sweep,) = results.glob("sweeps/*.json")
        own = split(shards_of_sweep(sweep.read_bytes()), 3)[number - 1]
        found = set(board.scores.select("revision", "task").iter_rows())
        assert found == {(shard.revision, shard.task) for shard in own}
        parts.append(board.scores)
    assert pl.concat(parts).height == alone.scores.height


def test_a_rerun_of_a_part_takes_up_what_was_left_in_its_folder(
    models: list[Path], alone: Leaderboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both processes were stopped; the same command for one part finishes all of them."""
    tasks = [task() for task in TINY_TASKS]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("leaderboard.results.files.folder.ResultsFolder.save_result", interrupt)
        for shard in ("1/2", "2/2"):
            with pytest.raises(KeyboardInterrupt, match="run the same command again to resume"):
                run_sweep(models, tasks, tmp_path, shard=shard, **_OPTIONS)
    assert {record["state"] for record in _records(tmp_path)} == {"stopped"}
    assert_same(run_sweep(models, tasks, tmp_path, shard="2/2", **_OPTIONS), alone)
    assert_each_shard_was_finished_once(tmp_path)


def test_a_task_of_an_array_begins_with_its_part_and_ends_with_everything(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [task() for task in TINY_TASKS]
    done: list[Shard] = []
    take = Crew.take

    def note(crew: Crew, shard: Shard) -> Claim | str:
        done.append(shard)
        return take(crew, shard)

    monkeypatch.setattr(Crew, "take", note)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    run_sweep(llama_folder, tasks, tmp_path, **_OPTIONS)
    own = split(done, 2)[1]
    assert set(done[: len(own)]) == set(own) and len(done) == len(tasks)


def test_the_failures_of_several_models_are_told_by_model(
    models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(TinySTS, "make", fail)
    tasks = [TinySTS(), TinyPairClassification()]
    with pytest.raises(TasksFailed) as failed:
        run_sweep(models, tasks, tmp_path, **_OPTIONS)
    names = [f"local/{model.name}: TinySTS" for model in models]
    assert list(failed.value.failures) == names
    assert str(failed.value) == f"2 of 4 tasks failed: {', '.join(names)}"
    assert failed.value.leaderboard.scores["task"].unique().to_list() == ["TinyPairClassification"]
    told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert told == [f"{name} failed: its data cannot be loaded here: by nothing" for name in names]
    assert Counter(record["state"] for record in _records(tmp_path)) == {"failed": 2, "finished": 2}


@pytest.mark.parametrize("step", ["find_data", "plan"])
def test_what_cannot_begin_is_tried_and_told_once(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, step: str
) -> None:
    """Also where there is no folder yet to record it in, and none is made for that."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(TaskSweep, step, fail)
    with pytest.raises(TasksFailed, match="^1 of 1 tasks failed: TinySTS$"):
        run_sweep(llama_folder, TinySTS(), tmp_path / "r", **_OPTIONS)
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
    assert not (tmp_path / "r").exists()


def test_a_model_twice_is_a_mistake(llama_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is given twice; expected different models"):
        run_sweep([llama_folder, llama_folder], [TINY_TASKS[0]()], tmp_path, **_OPTIONS)
    with pytest.raises(InputError, match="^model: expected at least one, got none$"):
        run_sweep([], [TINY_TASKS[0]()], tmp_path, **_OPTIONS)
    assert list(tmp_path.iterdir()) == []
