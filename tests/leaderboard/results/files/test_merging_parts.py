"""Three machines that share no disk, each with its part of the shards: merged, they are one run of one process."""

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from support.folders.written import files_of
from support.tiny_tasks import TINY_TASKS

from leaderboard import load_results, merge_results, run_sweep
from leaderboard.shards.progress import read_progress
from leaderboard.storage.opening import open_storage

_OPTIONS: dict[str, Any] = {
    "layers": [0, -1],
    "metrics": ["dataset_entropy", "curvature"],
    "templates": (None, "echo"),
    "show_progress": False,
}
# What a clock says, not the model.
_OF_THE_MOMENT = ("date", "evaluation_time", "evaluation_phases")


def _run(model: Path, folder: Path, shard: str | None = None) -> None:
    run_sweep(model, [task() for task in TINY_TASKS[-3:]], folder, shard=shard, **_OPTIONS)


@pytest.fixture(scope="module")
def machines(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """The folder of one process, and those of three parts."""
    root = tmp_path_factory.mktemp("machines")
    _run(llama_folder, root / "whole")
    parts = [root / f"part-{index}" for index in (1, 2, 3)]
    for index, folder in enumerate(parts, start=1):
        _run(llama_folder, folder, f"{index}/3")
    return root / "whole", parts


def _of_results(folder: Path) -> dict[str, Path]:
    paths = [path for part in ("results", "metrics") for path in (folder / part).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path for path in sorted(paths)}


def _close(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_close, one, other))
    if isinstance(one, float):
        return math.isclose(one, other, rel_tol=0, abs_tol=1e-9) or (math.isnan(one) and math.isnan(other))
    return bool(one == other)


def _same_files(whole: Path, merged: Path) -> None:
    expected, found = _of_results(whole), _of_results(merged)
    assert list(found) == list(expected)
    for path, file in found.items():
        if path.endswith(".parquet"):
            assert_frame_equal(pl.read_parquet(file), pl.read_parquet(expected[path]), abs_tol=1e-9, rel_tol=0)
        elif path.endswith(("/model_meta.json", "/run_settings.jsonl")):
            assert file.read_bytes() == expected[path].read_bytes(), path
        else:
            one, other = (json.loads(some.read_bytes()) for some in (file, expected[path]))
            for key in _OF_THE_MOMENT:
                del one[key], other[key]
            assert _close(one, other), path


def test_the_merged_parts_are_the_run_of_one_process(machines: tuple[Path, Sequence[Path]], tmp_path: Path) -> None:
    whole, parts = machines
    before = [files_of(part) for part in parts]
    assert all(not read_progress(open_storage(part)).is_complete for part in parts)
    report = merge_results(parts, tmp_path / "merged", show_progress=False)
    assert not report.conflicts and not report.left_out
    assert [files_of(part) for part in parts] == before
    _same_files(whole, tmp_path / "merged")
    expected, found = load_results(whole), load_results(tmp_path / "merged")
    for table in ("scores", "metrics", "paper_scores"):
        assert_frame_equal(
            getattr(found, table), getattr(expected, table), abs_tol=1e-9, rel_tol=0, check_row_order=False
        )
    progress = read_progress(open_storage(tmp_path / "merged"))
    assert progress.line() == "6 of 6 shards finished (100% of the work)"
    assert {shard.tries for shard in progress.shards} == {1}


def test_a_run_in_the_merged_folder_has_nothing_to_do(
    machines: tuple[Path, Sequence[Path]], llama_folder: Path, tmp_path: Path
) -> None:
    merge_results(machines[1], tmp_path / "merged", show_progress=False)
    before = files_of(tmp_path / "merged")
    _run(llama_folder, tmp_path / "merged")
    assert files_of(tmp_path / "merged") == before


def test_a_run_finishes_what_parts_have_left(
    machines: tuple[Path, Sequence[Path]], llama_folder: Path, tmp_path: Path
) -> None:
    """One machine of three is gone."""
    whole, parts = machines
    merge_results(parts[:2], tmp_path / "merged", show_progress=False)
    before = read_progress(open_storage(tmp_path / "merged"))
    assert 0 < before.done < 6 and before.waiting == 6 - before.done and not before.workers
    _run(llama_folder, tmp_path / "merged")
    _same_files(whole, tmp_path / "merged")
    assert read_progress(open_storage(tmp_path / "merged")).is_complete


def test_metrics_of_layers_that_were_measured_apart_are_those_of_one_run(llama_folder: Path, tmp_path: Path) -> None:
    options = {**_OPTIONS, "templates": None}
    task = [TINY_TASKS[-1]()]
    for name, layers in (("a", [0]), ("b", [-1]), ("whole", [0, -1])):
        run_sweep(llama_folder, task, tmp_path / name, **{**options, "layers": layers})
    merge_results([tmp_path / "a", tmp_path / "b"], tmp_path / "merged", show_progress=False)
    _same_files(tmp_path / "whole", tmp_path / "merged")
    (file,) = (tmp_path / "merged" / "metrics").rglob("*.parquet")
    written = io.BytesIO()
    pl.read_parquet(file).write_parquet(written)
    assert file.read_bytes() == written.getvalue()
