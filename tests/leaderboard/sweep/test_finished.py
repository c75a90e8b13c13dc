"""What counts as finished: a rerun never takes the results of another model, limit or data for its own."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mteb
import polars as pl
import pytest
from support.tiny_mirror import STS_FOLDER, write_mirror, write_sts
from support.tiny_tasks import TinySTS

from leaderboard import Leaderboard, load_results, run_sweep

_STOCK = "sentence_transformers.models."
_MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": f"{_STOCK}Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{_STOCK}Pooling"},
]
_sweep = partial(run_sweep, show_progress=False, metrics=["dataset_entropy"], layers=[3])


def _of(board: Leaderboard, revision: str | None = None) -> tuple[list[Any], list[Any]]:
    frames = [frame if revision is None else frame.filter(revision=revision) for frame in (board.scores, board.metrics)]
    return frames[0]["main_score"].to_list(), frames[1]["value"].to_list()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("sentence_bert_config.json", {"max_seq_length": 6}),
        ("modules.json", [*_MODULES, {"idx": 2, "name": "2", "path": "2", "type": f"{_STOCK}Normalize"}]),
        ("special_tokens_map.json", {"pad_token": "word"}),
    ],
)
def test_a_folder_that_was_changed_is_another_model(
    tiny_model: Callable[[str], Path], tmp_path: Path, file: str, content: Any
) -> None:
    folder = Path(shutil.copytree(tiny_model("bert"), tmp_path / "model"))
    (folder / "modules.json").write_text(json.dumps(_MODULES))
    first = _sweep(folder, [TinySTS()], tmp_path / "results")
    (folder / file).write_text(json.dumps(content))
    again = _sweep(folder, [TinySTS()], tmp_path / "results")
    (old,) = first.scores["revision"].unique()
    (new,) = set(again.scores["revision"]) - {old}
    assert _of(again, old) == _of(first)
    assert _of(again, new) == _of(_sweep(folder, [TinySTS()], tmp_path / "alone"))
    if file == "sentence_bert_config.json":
        assert _of(again, new) != _of(again, old)


def _told_otherwise(results: Path, key: str, value: Any) -> None:
    """Changes what the provenance of every score and metric says, and the numbers with it."""
    for path in results.rglob("Tiny*.json"):
        content = json.loads(path.read_text())
        for entry in content["scores"]["test"]:
            entry["provenance"][key] = value
            entry["main_score"] = 0.123
        path.write_text(json.dumps(content))
    for path in (results / "metrics").rglob("*.parquet"):
        frame = pl.read_parquet(path)
        rows = [json.dumps({**json.loads(row), key: value}) for row in frame["provenance"]]
        frame.with_columns(pl.Series("provenance", rows), pl.lit(0.5).alias("value")).write_parquet(path)


def test_results_of_another_limit_are_computed_again(llama_folder: Path, tmp_path: Path) -> None:
    """A limit that nobody asked for is no part of a result's name; versions of this package may differ in it."""
    first = _of(_sweep(llama_folder, [TinySTS()], tmp_path))
    _told_otherwise(tmp_path, "max_seq_length", 64)
    assert _of(load_results(tmp_path)) != first
    assert _of(_sweep(llama_folder, [TinySTS()], tmp_path)) == first


def test_results_that_do_not_say_their_limit_are_finished(llama_folder: Path, tmp_path: Path) -> None:
    _sweep(llama_folder, [TinySTS()], tmp_path)
    _told_otherwise(tmp_path, "max_seq_length", None)
    before = _of(load_results(tmp_path))
    assert _of(_sweep(llama_folder, [TinySTS()], tmp_path)) == before


def test_items_that_another_seed_drew_are_not_taken_for_those_of_this_one(llama_folder: Path, tmp_path: Path) -> None:
    scores = [_of(_sweep(llama_folder, [TinySTS()], tmp_path, limit=10, seed=seed))[0] for seed in (0, 1, 0)]
    assert scores[0] == scores[2] != scores[1]


@pytest.mark.usefixtures("quiet_libraries")
def test_data_that_were_changed_are_scored_again(llama_folder: Path, tmp_path: Path) -> None:
    """The dataset's revision is that of the task, whatever the folder holds."""
    data, results = tmp_path / "data", tmp_path / "results"
    write_mirror(data)

    def sweep(where: Path = results) -> tuple[list[Any], list[Any]]:
        task = mteb.get_task("STSBenchmark", eval_splits=["test"])
        return _of(_sweep(llama_folder, [task], where, data_dir=data))

    first = sweep()
    times = {path: path.stat().st_mtime_ns for path in results.rglob("*.json")}
    assert sweep() == first
    assert {path: path.stat().st_mtime_ns for path in results.rglob("*.json")} == times
    write_sts(data / STS_FOLDER, shift=1)
    assert sweep() == sweep(tmp_path / "alone") != first
    shutil.rmtree(data / STS_FOLDER)
    assert sweep() == sweep(results)  # finished, so its data are not needed
