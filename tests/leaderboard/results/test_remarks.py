"""What is found beside the scores of layers, told in one line each: results of mteb itself, scores of other data."""

import json
import logging
import shutil
from pathlib import Path

import polars as pl
import pytest
from mteb.models.model_meta import ModelMeta
from mteb.results import TaskResult
from support.tiny_tasks import TinySTS

from leaderboard import load_results, run_sweep
from leaderboard.cli import main
from leaderboard.results.files.folder import ResultsFolder
from leaderboard.results.schemas import METRICS_FILE_SCHEMA


@pytest.fixture(scope="module")
def results(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of two layers of the tiny Llama."""
    folder = tmp_path_factory.mktemp("results")
    run_sweep(llama_folder, TinySTS(), folder, layers=[1, 3], metrics="none", show_progress=False)
    return folder


def _add_results_of_mteb(folder: Path, tasks: list[str], experiment: dict[str, int] | None = None) -> Path:
    """Results as `mteb.evaluate` writes them."""
    meta = ModelMeta.create_empty({"name": "org/plain", "revision": "abc", "experiment_kwargs": experiment})
    results = ResultsFolder(folder)
    with results.storage.scratch() as scratch:
        for name in tasks:
            entry = {"main_score": 0.5, "hf_subset": "default", "languages": ["eng-Latn"]}
            result = TaskResult(
                task_name=name,
                dataset_revision="1",
                mteb_version="2.0.0",
                scores={"test": [entry]},
                evaluation_time=1.0,
            )
            results.save_result(result, meta, scratch)
    return folder


def test_results_of_mteb_beside_those_of_a_sweep_are_passed_over_and_told(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _add_results_of_mteb(Path(shutil.copytree(results, tmp_path / "r")), ["A", "B", "C"])
    _add_results_of_mteb(folder, ["D"], {"layer": 2})  # of a layer, but by nobody knows what depth
    assert main(["report", str(folder), "--json"]) == 0
    captured = capsys.readouterr()
    assert [row["model"] for row in json.loads(captured.out)["schemes"]] == ["local/tiny-llama"]
    assert captured.err.splitlines() == [
        "midlayer-leaderboard: 3 results of org/plain without a layer were passed over: no sweep wrote them",
        "midlayer-leaderboard: 1 result of org/plain of single layers was passed over: no sweep wrote it",
    ]


@pytest.mark.parametrize("command", ["report", "card"])
def test_a_folder_with_nothing_else_is_a_mistake_that_says_what_is_there_and_what_is_expected(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _add_results_of_mteb(tmp_path / "r", ["A"])
    out = ["--out", str(tmp_path / "README.md")] if command == "card" else []
    assert main([command, str(folder), *out]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "contains no scores of layers: 1 result of org/plain without a layer" in error
    assert (
        "; expected results/<model>/<revision>/experiments/layer_<k>/<task>.json, as midlayer-leaderboard run" in error
    )


def test_an_empty_folder_says_what_is_expected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "contains no scores of layers; expected results/<model>/" in capsys.readouterr().err


def test_scores_of_different_data_are_told(
    results: Path, llama_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    folder = Path(shutil.copytree(results, tmp_path / "r"))
    load_results(folder)
    assert caplog.messages == []
    (path,) = folder.glob("results/*/*/experiments/layer_1/TinySTS.json")
    path.write_text(path.read_text().replace('"dataset_revision": "1"', '"dataset_revision": "2"'))
    load_results(folder)
    (said,) = caplog.messages
    assert said.startswith(
        "TinySTS was scored on different data, so its scores are not comparable: tests/tiny at revision"
    )
    assert "revision 2, default test (local/tiny-llama: layer 1)" in said
    assert "revision 1, default test (local/tiny-llama: layer 3)" in said


def test_scores_of_a_part_beside_complete_ones_are_told(
    results: Path, llama_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(shutil.copytree(results, tmp_path / "r"))
    run_sweep(llama_folder, TinySTS(), folder, layers=[3], limit=20, metrics="none", show_progress=False)
    (said,) = [message for message in caplog.messages if "different data" in message]
    assert "default test, 20 items of each split (local/tiny-llama (limit=20): layer 3)" in said


def test_many_models_of_the_same_data_do_not_hide_the_one_of_others(
    results: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(shutil.copytree(results, tmp_path / "r"))
    (first,) = folder.glob("results/local__tiny-llama")
    for name in "abcdef":
        for path in Path(shutil.copytree(first, first.with_name(f"org__{name}"))).rglob("*.json"):
            text = path.read_text().replace("local/tiny-llama", f"org/{name}")
            path.write_text(text.replace('"dataset_revision": "1"', '"dataset_revision": "2"') if name == "f" else text)
    load_results(folder)
    (said,) = caplog.messages
    assert "revision 2, default test (org/f: layers 1, 3)" in said
    assert said.count("revision 1, default test") == 1


def _of_layer_1(folder: Path, name: str) -> Path:
    return next(folder.glob(f"results/*/*/experiments/layer_1/{name}"))


_FOREIGN = {
    "empty": b"",
    "cut": b'{"task_name": ',
    "a list": b"[]",
    "null": b"null",
    "a number": b"3",
    "no text": b"\xff\xfe\x00",
    "another object": b'{"a": 1}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("kind", _FOREIGN)
@pytest.mark.parametrize("name", ["TinySTS.json", "model_meta.json"])
def test_a_file_that_cannot_be_read_is_told_and_hides_no_other(
    results: Path, tmp_path: Path, name: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(shutil.copytree(results, tmp_path / "r"))
    spoilt = _of_layer_1(folder, name)
    spoilt.write_bytes(_FOREIGN[kind])
    assert load_results(folder).scores["layer"].to_list() == [3]
    assert [f"{spoilt} cannot be read and is left out: " in line for line in caplog.messages] == [True]


@pytest.mark.parametrize("name", ["TinySTS.json", "model_meta.json"])
def test_a_folder_in_place_of_a_file_counts_as_no_file(results: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(results, tmp_path / "r"))
    spoilt = _of_layer_1(folder, name)
    spoilt.unlink()
    spoilt.mkdir()
    assert load_results(folder).scores["layer"].to_list() == [3]


@pytest.mark.parametrize("provenance", [None, 3, [], {}, {"layer": 1}, {"layer": "1", "n_blocks": 3}])
def test_a_provenance_that_no_sweep_wrote_is_passed_over(results: Path, tmp_path: Path, provenance: object) -> None:
    folder = Path(shutil.copytree(results, tmp_path / "r"))
    spoilt = _of_layer_1(folder, "TinySTS.json")
    found = json.loads(spoilt.read_text())
    found["scores"]["test"][0]["provenance"] = provenance
    spoilt.write_text(json.dumps(found))
    board = load_results(folder)
    assert board.scores["layer"].to_list() == [3]
    assert "1 result of local/tiny-llama of single layers was passed over: no sweep wrote it" in board.remarks


def test_results_of_a_layer_without_the_meta_of_its_model_are_told(
    results: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(shutil.copytree(results, tmp_path / "r"))
    _of_layer_1(folder, "model_meta.json").unlink()
    assert load_results(folder).scores["layer"].to_list() == [3]
    assert "layer_1 lacks model_meta.json, so its results are left out: 1" in caplog.text


@pytest.mark.parametrize("rows", [{"a": [1]}, {"value": ["x"]}])
def test_metrics_that_are_not_ours_are_told(
    results: Path, tmp_path: Path, rows: dict[str, list[object]], caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(shutil.copytree(results, tmp_path / "r"))
    other = folder / "metrics" / "other.parquet"
    other.parent.mkdir(exist_ok=True)
    ours = {name: ["x"] for name in METRICS_FILE_SCHEMA}
    pl.DataFrame(rows if "a" in rows else {**ours, **rows}).write_parquet(other)
    assert load_results(folder).metrics.is_empty()
    assert f"{other} cannot be read and is left out: " in caplog.text
