"""Whole sweeps of two models by three workers, of which one is killed half-way: nothing is lost or done twice."""

import json
import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from leaderboard import load_results
from leaderboard.cli import main

pytestmark = [pytest.mark.process, pytest.mark.slow]
Until = Callable[..., None]
_TASKS = ("StarterSTS", "StarterClustering", "StarterPairClassification", "StarterClassification")
_OPTIONS = ("--layers", "0,1,-1", "--limit", "40", "--metrics", "dataset_entropy", "--metric-texts", "20")
_KEYS = ["model", "revision", "task", "layer"]


@pytest.fixture(scope="module")
def models(tiny_folders: Any, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [str(tiny_folders["llama"]), str(tiny_folders["bert"])]


def _arguments(models: list[str], results: Path) -> list[str]:
    return [*models, "--tasks", *_TASKS, *_OPTIONS, "--results", str(results), "--quiet"]


@pytest.fixture(scope="module")
def whole(models: list[str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tables of one process."""
    results = tmp_path_factory.mktemp("whole")
    assert main(["run", *_arguments(models, results)]) == 0
    return load_results(results)


@pytest.fixture(params=["local", "ray", "submitit", "slurm"])
def engine(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    if request.param == "local":
        yield ["--engine", "local"]
    elif request.param == "slurm":
        pytest.importorskip("submitit")
        request.getfixturevalue("slurm")
        yield ["--engine", "slurm", "--follow"]
    elif request.param == "submitit":
        pytest.importorskip("submitit")
        yield ["--engine", "slurm", "--slurm", "cluster=local"]
    else:
        pytest.importorskip("ray")
        yield ["--engine", "ray"]


def _running(results: Path) -> list[dict[str, Any]]:
    """The workers that have a shard now."""
    claims = [path for path in results.glob("shards/**/*.claim") if not path.with_suffix(".json").exists()]
    names = [json.loads(path.read_text())["worker"] for path in claims]
    return [json.loads((results / "workers" / f"{name}.json").read_text()) for name in names]


def _variable(pid: int, name: str) -> str:
    variables = dict(entry.split("=", 1) for entry in Path(f"/proc/{pid}/environ").read_text().split("\0") if entry)
    return variables[name]


@pytest.mark.parametrize("who", ["worker", "its parent"])
def test_three_workers_of_which_one_is_killed_give_the_tables_of_one_process(
    engine: list[str], who: str, models: list[str], whole: Any, tmp_path: Path, until: Until
) -> None:
    if who == "its parent" and engine[1] == "local":
        pytest.skip("its parent is submit")
    results = tmp_path / "results"
    killed: list[int] = []

    def kill_one() -> None:
        until(lambda: results.exists() and _running(results), 120)
        pid = int(_running(results)[0]["process"].split()[0])
        if who == "its parent" and "--follow" in engine:  # as SLURM does to a job that has to leave
            job = "_".join(_variable(pid, f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
            subprocess.run(["scancel", "--signal=USR2", job], check=True)
            killed.append(pid)
            return
        if who == "its parent":
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    killing = threading.Thread(target=kill_one)
    killing.start()
    assert main(["submit", *_arguments(models, results), "--workers", "3", *engine]) == 0
    killing.join()
    assert len(killed) == 1

    board = load_results(results)
    for found, expected, value in ((board.scores, whole.scores, "main_score"), (board.metrics, whole.metrics, "value")):
        keys = [name for name in found.columns if name != value and name in (*_KEYS, "metric", "normalization")]
        assert found.select(keys).is_duplicated().any() is False
        both = expected.join(found, on=keys, suffix="_found", nulls_equal=True)
        assert both.height == expected.height == found.height
        np.testing.assert_allclose(both[f"{value}_found"], both[value], rtol=0, atol=1e-9)
    assert isinstance(board.scores, pl.DataFrame)

    ends = [(path.parent, json.loads(path.read_text())) for path in results.glob("shards/**/0*.json")]
    finished = Counter(folder for folder, end in ends if end["state"] == "finished")
    assert len(finished) == len(models) * len(_TASKS)
    assert set(finished.values()) == {1}
    again = list(results.glob("shards/**/0002.claim"))
    assert again, "the shard of the worker that was killed was done again"
    assert {"1-of-3.log", "2-of-3.log", "3-of-3.log"} <= {path.name for path in (results / "workers").iterdir()}
