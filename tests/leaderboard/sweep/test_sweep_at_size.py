"""A sweep in pieces: plans, layers in groups, processes, parts of tasks, metrics added later, disks that are full."""

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from mteb.abstasks.abstask import AbsTask
from support.forks import Fork
from support.scoring import strings_in_data
from support.tiny_tasks import TinyPairClassification, TinySTS, tiny_tasks

from leaderboard import Leaderboard, load_results, run_sweep
from leaderboard.cli.program import main
from leaderboard.scoring.score import prepared
from leaderboard.scoring.texts import collect_texts
from leaderboard.sweep.plan import Plan
from leaderboard.tasks.benchmarks import get_task
from midlayer_embed import LayerwiseEncoder, profile_layers
from midlayer_embed.forward.layerwise import LayerwiseEncoder as LayerwiseEncoderClass
from midlayer_embed.terms import METRIC_TABLE, METRICS

Tasks = Callable[[], list[AbsTask]]


class _Watched:
    """A sweep whose plan and forward passes are noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[int] = []
        self.tokens = 0
        self.plan: Plan | None = None
        start = LayerwiseEncoderClass._started

        def watched(encoder: LayerwiseEncoderClass, batch: Any, wanted: Any) -> Any:
            self.rows.append(len(batch.rows))
            self.tokens += batch.units
            return start(encoder, batch, wanted)

        monkeypatch.setattr(LayerwiseEncoderClass, "_started", watched)

    def __call__(self, *args: Any, **kwargs: Any) -> Leaderboard:
        return run_sweep(*args, show_progress=False, on_plan=self._planned, **kwargs)

    def _planned(self, plan: Plan) -> bool:
        self.plan, self.tokens = plan, 0  # what was encoded to make the plan does not count
        self.rows.clear()
        return True


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> _Watched:
    return _Watched(monkeypatch)


def test_metrics_are_those_of_a_profile_of_the_evaluated_texts(
    llama_folder: Path, tmp_path: Path, watched: _Watched
) -> None:
    task = tiny_tasks()[0]  # has training texts
    board = watched(llama_folder, [task], tmp_path, seed=3, metric_texts=20)
    task = tiny_tasks()[0]
    task.load_data()
    texts = collect_texts(task)
    assert set(texts.evaluated) == set(task.dataset["test"]["text"]) < set(texts.all)  # type: ignore[index]
    n_views = 20 * 20  # augmented ones, halves, copies with dropped words
    assert sum(watched.rows) <= len(texts.all) + n_views + 2 * 20  # the texts once, for scores and metrics together
    encoder = LayerwiseEncoder(llama_folder)
    encoded = [name for name in METRICS if METRIC_TABLE[name].encoded]
    others = [name for name in METRICS if name not in encoded]
    raw = profile_layers(encoder, texts.evaluated, others, max_texts=20, final_norm=False, seed=3)
    as_encoded = profile_layers(encoder, texts.evaluated, encoded, max_texts=20, seed=3)
    profiles = pl.concat([raw.to_frame(), as_encoded.to_frame()])
    expected = profiles.select("layer", "metric", "normalization", "value").sort(pl.all())
    found = board.metrics.select("layer", "metric", "normalization", "value").sort(pl.all())
    assert found.select("layer", "metric", "normalization").equals(expected.select("layer", "metric", "normalization"))
    np.testing.assert_allclose(found["value"], expected["value"], rtol=2e-4)
    assert {"infonce", "lidar", "dime", "curvature"} < set(found["metric"])


def test_texts_are_found_without_a_model() -> None:
    for task in tiny_tasks():
        task.load_data()
        expected = strings_in_data(task)
        with prepared(task):
            found = collect_texts(task)
        assert len(found.all) == len(set(found.all))
        assert set(found.evaluated) <= set(found.all) <= expected, task.metadata.name


@pytest.mark.slow
def test_layers_that_do_not_fit_go_in_groups_and_the_plan_says_so(
    llama_folder: Path, tmp_path: Path, watched: _Watched
) -> None:
    whole = watched(llama_folder, tiny_tasks(), tmp_path / "whole", metrics=["dataset_entropy"])
    rows, tokens = sum(watched.rows), watched.tokens
    assert watched.plan is not None
    assert [len(task.groups) for task in watched.plan.tasks] == [1] * 6
    assert sum(task.n_texts for task in watched.plan.tasks) == rows
    assert sum(task.score_tokens for task in watched.plan.tasks) == pytest.approx(tokens, rel=0.01)
    # Two of four layers of the largest task fit, of 32 dimensions and 4 bytes each.
    largest = max(task.n_texts for task in watched.plan.tasks)
    budget = 2 * largest * 32 * 4 + 100
    parts = watched(llama_folder, tiny_tasks(), tmp_path / "parts", metrics=["dataset_entropy"], store_budget=budget)
    assert parts.scores.equals(whole.scores)
    np.testing.assert_allclose(parts.metrics["value"], whole.metrics["value"], rtol=1e-5)
    plans = watched.plan.tasks
    assert max(len(task.groups) for task in plans) == 2
    assert sum(watched.rows) == sum(task.n_texts * len(task.groups) for task in plans)
    assert watched.tokens == pytest.approx(sum(task.score_tokens for task in plans), rel=0.01)
    assert all(task.disk <= budget for task in plans)


def test_a_budget_below_one_layer_is_told_of(
    llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", str(llama_folder), "--tasks", "StarterSTS", "--results", str(tmp_path), "--metrics", "none"]
    assert main([*arguments, "--store-budget", "1KB", "--quiet"]) == 1
    assert "one layer takes 22,272 bytes on the disk, more than the budget of 1,000" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.process
def test_processes_find_the_same_scores(llama_folder: Path, tmp_path: Path) -> None:
    one = run_sweep(llama_folder, tiny_tasks(), tmp_path / "1", metrics="none", show_progress=False)
    two = run_sweep(llama_folder, tiny_tasks(), tmp_path / "2", metrics="none", jobs=2, show_progress=False)
    assert two.scores.equals(one.scores)
    paths = sorted(path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("Tiny*.json"))
    assert len(paths) == 24
    for path in paths:
        found, expected = (json.loads((tmp_path / run / path).read_text())["scores"] for run in ("2", "1"))
        assert found == expected


def test_half_precision_is_another_experiment_and_moves_scores_little(llama_folder: Path, tmp_path: Path) -> None:
    run_sweep(llama_folder, tiny_tasks()[-1:], tmp_path, metrics="none", show_progress=False)
    board = run_sweep(
        llama_folder, tiny_tasks()[-1:], tmp_path, metrics="none", store_dtype="float16", show_progress=False
    )
    assert [name for name, _ in board.models()] == ["local/tiny-llama", "local/tiny-llama (store_dtype=float16)"]
    full, half = (board.layer_table(name) for name, _ in board.models())
    assert np.abs(full["TinySTS"] - half["TinySTS"]).max() < 0.5


def test_a_part_of_a_task_is_never_taken_for_the_whole(
    llama_folder: Path, tmp_path: Path, watched: _Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = ["StarterSTS", "StarterClassification"]
    watched(llama_folder, tasks, tmp_path, layers=[1], limit=10, metrics=["dataset_entropy"])
    part = sum(watched.rows)
    board = watched(llama_folder, tasks, tmp_path, layers=[1], metrics=["dataset_entropy"])
    assert part < 180 < sum(watched.rows)
    assert [name for name, _ in board.models()] == ["local/tiny-llama", "local/tiny-llama (limit=10)"]
    assert board.scores["main_score"].n_unique() == 4
    assert board.metrics.filter(normalization="raw")["value"].n_unique() == 4
    loaded = load_results(tmp_path)
    assert loaded.scores.equals(board.scores)
    arguments = ["run", str(llama_folder), "--tasks", *tasks, "--layers", "1", "--limit", "10", "--quiet"]
    assert main([*arguments, "--metrics", "dataset_entropy", "--results", str(tmp_path)]) == 0  # is finished
    assert "limit=10" in capsys.readouterr().out
    task = get_task("StarterSTS")
    task.load_data()
    with pytest.raises(ValueError, match="are loaded already and would be changed"):
        run_sweep(llama_folder, [task], tmp_path / "r", limit=10)


def test_a_plan_alone_leaves_nothing_behind(
    llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    assert main(["run", str(llama_folder), "--tasks", "StarterSTS", "--results", str(results), "--plan"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "task",
        "texts",
        "layers",
        "passes",
        "tokens",
        "for",
        "metrics",
        "scores",
        "disk",
        "about",
    ]
    assert lines[1].split()[:4] == ["StarterSTS", "174", "4", "1"]
    assert lines[2].startswith("plan: 1 tasks; about ")
    assert not results.exists()


def test_metrics_that_are_added_later_cost_their_own_passes_alone(
    llama_folder: Path, tmp_path: Path, watched: _Watched
) -> None:
    first = watched(llama_folder, [TinySTS()], tmp_path, metrics=["dataset_entropy", "curvature"])
    texts = sum(watched.rows)
    board = watched(llama_folder, [TinySTS()], tmp_path, metrics=["dataset_entropy", "curvature", "infonce"])
    assert sum(watched.rows) <= 2 * texts
    assert watched.plan is not None and watched.plan.tasks[0].score_tokens == 0
    assert watched.plan.tasks[0].metric_tokens == pytest.approx(watched.tokens, rel=0.3)
    assert board.scores.equals(first.scores)
    old = board.metrics.filter(pl.col("metric") != "infonce")
    assert old.equals(first.metrics)
    assert set(board.metrics["metric"]) == {"dataset_entropy", "curvature", "infonce"}
    watched(llama_folder, [TinySTS()], tmp_path, metrics=["infonce", "curvature"])
    assert watched.plan.tasks[0].task == "TinySTS"  # of the run before: nothing was left to plan


@pytest.mark.slow
def test_a_full_disk_ends_in_one_line_and_a_folder_that_is_gone_on_with(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", str(llama_folder), "--tasks", "StarterSTS", "StarterPairClassification", "--metrics", "none"]
    arguments += ["--quiet", "--results", str(tmp_path)]
    replace, left = os.replace, [2]

    def until_full(source: Any, target: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", until_full)
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.strip().splitlines()
    assert line.startswith("midlayer-leaderboard: the disk is full: [Errno 28] No space left on device")
    monkeypatch.undo()
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("Starter*.json")}
    assert len(finished) == 2
    assert main(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    whole = run_sweep(
        llama_folder, ["StarterSTS", "StarterPairClassification"], tmp_path / "w", metrics="none", show_progress=False
    )
    assert load_results(tmp_path).scores.equals(whole.scores)


@pytest.mark.slow
@pytest.mark.process
def test_two_runs_on_one_folder_do_not_lose_each_others_results(llama_folder: Path, tmp_path: Path) -> None:
    code = """
import sys
from leaderboard import run_sweep
from support import tiny_tasks
model, results, metric, *tasks = sys.argv[1:]
run_sweep(model, [getattr(tiny_tasks, name)() for name in tasks], results, metrics=[metric], show_progress=False)
"""
    command = [sys.executable, "-c", code, str(llama_folder), str(tmp_path / "both")]
    runs = [
        Fork([*command, "curvature", "TinySTS", "TinyPairClassification"]),
        Fork([*command, "dataset_entropy", "TinyPairClassification", "TinySTS"]),
    ]
    assert [run.wait(300) for run in runs] == [0, 0]
    alone = run_sweep(
        llama_folder,
        [TinySTS(), TinyPairClassification()],
        tmp_path / "alone",
        metrics=["curvature", "dataset_entropy"],
        show_progress=False,
    )
    both = load_results(tmp_path / "both")
    assert both.scores.sort(pl.all()).equals(alone.scores.sort(pl.all()))
    key = ["task", "metric", "normalization", "layer"]
    found, expected = (board.metrics.sort(key) for board in (both, alone))
    assert found.select(key).equals(expected.select(key))
    np.testing.assert_allclose(found["value"], expected["value"], rtol=1e-5)
