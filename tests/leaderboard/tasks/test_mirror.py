"""Datasets out of a folder laid out as on the hub: real mteb task classes on a small folder made here."""

import json
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from datasets import load
from huggingface_hub import constants
from rich.filesize import decimal
from support.tiny_mirror import STS_FOLDER, sts_rows, write_mirror, write_parquet, write_sts

from leaderboard import TasksFailed, get_benchmark, run_sweep
from leaderboard.cli.program import main
from leaderboard.tasks.benchmarks import get_task
from leaderboard.tasks.mirror import (
    available_size,
    dataset_folder,
    folder_sha256,
    is_available,
    reading_from,
)
from leaderboard.tasks.names import check_data_dir

_TASKS = ["STSBenchmark", "AmazonCounterfactualClassification", "STS17", "AskUbuntuDupQuestions"]


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """The small folder of datasets."""
    write_mirror(tmp_path / "mirror")
    return tmp_path / "mirror"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the datasets library prepares goes with the test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Hosts that anybody looked up or connected to; none of them is reached."""
    asked: list[object] = []

    def refuse(*arguments: object, **_: object) -> None:
        asked.append(arguments[:2])
        raise OSError("no network in this test")

    # With offline mode of its client the hub would not be asked whatever we do.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return asked


def test_tasks_of_every_way_of_loading_read_the_folder_and_their_metadata_stay(
    mirror: Path, connections: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    rows = {}
    for name in _TASKS:
        task = get_task(name)
        metadata = type(task).metadata
        folder = dataset_folder(mirror, task)
        assert folder == mirror / metadata.dataset["path"]
        with reading_from(folder, task):
            assert type(task).metadata is metadata
            task.load_data()
        assert task.metadata is metadata
        assert "metadata" not in vars(task)
        assert metadata.dataset["path"].startswith("mteb/")
        rows[name] = task.dataset
    assert rows["STSBenchmark"]["test"].to_list() == sts_rows()
    assert set(rows["AmazonCounterfactualClassification"]) == {"en"}
    assert len(rows["AmazonCounterfactualClassification"]["en"]["train"]) == 32
    assert set(rows["STS17"]) == {"en-en"}
    assert len(rows["STS17"]["en-en"]["test"]) == 8
    reranking = rows["AskUbuntuDupQuestions"]["default"]["test"]
    assert list(reranking["corpus"]["id"]) == ["d0", "d1", "d2"]
    assert reranking["relevant_docs"] == {"q0": {"d0": 1}, "q1": {"d2": 1}}
    assert reranking["top_ranked"] == {"q0": ["d0", "d1"], "q1": ["d1", "d2"]}
    assert connections == []


def test_metadata_of_a_task_alone_come_back_too(mirror: Path) -> None:
    task = get_task("STSBenchmark")
    own = task.metadata.model_copy(update={"description": "mine"})
    task.metadata = own
    with pytest.raises(KeyError), reading_from(mirror / STS_FOLDER, task):
        raise KeyError("while loading")
    assert task.metadata is own


def test_a_sweep_from_a_folder_is_a_sweep_of_the_task_loaded_by_hand(
    llama_folder: Path, mirror: Path, tmp_path: Path, connections: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    shared = [get_task(name) for name in _TASKS]
    # A working directory that has a dataset of the same name, which the datasets library would take instead.
    write_sts(tmp_path / "here" / STS_FOLDER, shift=1)
    monkeypatch.chdir(tmp_path / "here")
    board = run_sweep(
        llama_folder, shared, tmp_path / "a", layers=[1, 2], data_dir=mirror, show_progress=False, metrics="none"
    )
    assert connections == []
    for task in shared:
        assert not task.data_loaded and task.dataset is None
        assert task.metadata is type(task).metadata

    by_hand = []
    for name in _TASKS:
        task = get_task(name)
        path = str(mirror / task.metadata.dataset["path"])
        task.metadata = task.metadata.model_copy(update={"dataset": {**task.metadata.dataset, "path": path}})
        task.load_data()
        by_hand.append(task)
    plain = run_sweep(llama_folder, by_hand, tmp_path / "b", layers=[1, 2], show_progress=False, metrics="none")
    assert board.scores.sort("task", "layer").equals(plain.scores.sort("task", "layer"))
    assert board.scores.height == 4 * 2

    for name in _TASKS:
        (path,) = (tmp_path / "a/results").rglob(f"layer_2/{name}.json")
        result = json.loads(path.read_text())
        metadata = get_task(name).metadata
        assert result["dataset_revision"] == metadata.dataset["revision"]
        (entry,) = result["scores"]["test"]
        assert entry["provenance"]["dataset"] == metadata.dataset["path"]
        assert entry["provenance"]["dataset_files_sha256"] == folder_sha256(mirror / metadata.dataset["path"])
        assert str(tmp_path) not in path.read_text()


def test_loaded_tasks_and_those_that_make_their_data_do_without(
    llama_folder: Path, tmp_path: Path, mirror: Path
) -> None:
    (tmp_path / "empty").mkdir()
    loaded = get_task("STSBenchmark")
    with reading_from(mirror / STS_FOLDER, loaded):
        loaded.load_data()
    data = loaded.dataset
    tasks = [loaded, "StarterSTS"]
    board = run_sweep(
        llama_folder,
        tasks,
        tmp_path / "r",
        layers=[1],
        data_dir=tmp_path / "empty",
        show_progress=False,
        metrics="none",
    )
    assert board.scores["task"].to_list() == ["STSBenchmark", "StarterSTS"]
    assert loaded.data_loaded and loaded.dataset is data


def test_what_is_missing_is_told_first_and_made_up_for_later(
    llama_folder: Path, mirror: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = ["STS17", "STS13", "STSBenchmark", "BIOSSES"]
    (mirror / "mteb/biosses-sts").mkdir()
    (mirror / "mteb/biosses-sts/README.md").write_text("data to come")
    with pytest.raises(TasksFailed, match=r"^2 of 4 tasks failed: STS13, BIOSSES$") as failed:
        run_sweep(
            llama_folder, tasks, tmp_path / "r", layers=[0, -1], data_dir=mirror, show_progress=False, metrics="none"
        )
    sts13, biosses = (record.getMessage() for record in caplog.records if record.levelname == "ERROR")
    missing = mirror / "mteb/sts13-sts"
    assert sts13 == f"STS13 failed: dataset mteb/sts13-sts not found: there is no folder '{missing}'"
    assert "'" + str(mirror / "mteb/biosses-sts") + "' holds no data" in biosses
    assert sorted(failed.value.leaderboard.scores["task"].unique()) == ["STS17", "STSBenchmark"]

    write_sts(missing)
    write_sts(mirror / "mteb/biosses-sts")
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "r/results").rglob("STS*.json")}
    board = run_sweep(
        llama_folder, tasks, tmp_path / "r", layers=[0, -1], data_dir=mirror, show_progress=False, metrics="none"
    )
    assert sorted(board.scores["task"].unique()) == sorted(tasks)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    # A finished sweep needs neither data nor model.
    monkeypatch.setattr("leaderboard.sweep.model.OnePassEncoder.from_checkpoint", _must_not_run)
    shutil.rmtree(mirror / "mteb")
    again = run_sweep(
        llama_folder, tasks, tmp_path / "r", layers=[0, -1], data_dir=mirror, show_progress=False, metrics="none"
    )
    assert again.scores.equals(board.scores)


def test_where_nothing_can_run_no_model_is_loaded_and_nothing_written(
    llama_folder: Path, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leaderboard.sweep.model.OnePassEncoder.from_checkpoint", _must_not_run)
    with pytest.raises(TasksFailed, match=r"^1 of 1 tasks failed: STS13$") as failed:
        run_sweep(llama_folder, ["STS13"], tmp_path / "r", data_dir=mirror, show_progress=False, metrics="none")
    assert failed.value.leaderboard.scores.is_empty()
    assert list(failed.value.failures) == ["STS13"]
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda folder: _rename_split(folder), r"have no split 'test' of subset 'default'; expected one, got train$"),
        (
            lambda folder: (folder / "test.jsonl.gz").write_bytes(b"torn"),
            r"cannot be loaded from '.*stsbenchmark-sts': ",
        ),
        (
            lambda folder: write_parquet(folder / "test.parquet", {"sentence1": ["a"]}),
            "dataset: expected a column 'score', got sentence1$",
        ),
    ],
)
def test_data_that_cannot_be_used_are_one_line(
    llama_folder: Path,
    mirror: Path,
    tmp_path: Path,
    harm: Callable[[Path], None],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    harm(mirror / STS_FOLDER)
    with pytest.raises(TasksFailed) as failed:
        run_sweep(
            llama_folder,
            ["STSBenchmark"],
            tmp_path / "r",
            layers=[0],
            data_dir=mirror,
            show_progress=False,
            metrics="none",
        )
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.getMessage().startswith("STSBenchmark failed: ")
    assert len(record.getMessage().splitlines()) == 1
    assert re.search(reason, record.getMessage()), record.getMessage()
    assert failed.value.leaderboard.scores.is_empty()


def _rename_split(folder: Path) -> None:
    (folder / "test.jsonl.gz").rename(folder / "train.jsonl.gz")


@pytest.mark.parametrize("name", ["STS13", "AmazonCounterfactualClassification", "AskUbuntuDupQuestions"])
def test_offline_without_a_folder_no_host_is_asked_and_the_others_go_on(
    llama_folder: Path,
    tmp_path: Path,
    connections: list[object],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)  # what either environment variable sets
    with pytest.raises(TasksFailed, match=f"^1 of 2 tasks failed: {name}$") as failed:
        run_sweep(llama_folder, [name, "StarterSTS"], tmp_path / "r", layers=[0], metrics="none", show_progress=False)
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.getMessage().startswith(f"{name} failed: its data cannot be loaded here: ")
    assert f"'{get_task(name).metadata.dataset['path']}'" in record.getMessage()
    assert len(record.getMessage().splitlines()) == 1
    assert failed.value.leaderboard.scores["task"].to_list() == ["StarterSTS"]
    assert connections == []


def test_what_is_at_hand(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_available(get_task("STSBenchmark"), mirror)
    assert not is_available(get_task("STS13"), mirror)
    assert is_available(get_task("StarterSTS"), mirror) and is_available(get_task("StarterSTS"), None)
    # The cache of the datasets library, as its own offline loader finds it.
    task = get_task("MTOPDomainClassification")
    assert not is_available(task, None)
    revision = task.metadata.dataset["revision"]
    prepared = tmp_path / "cache/mteb___mtop_domain_classification/en/0.0.0" / revision
    prepared.mkdir(parents=True)
    (prepared / "dataset_info.json").write_text("{}")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    assert load.CachedDatasetModuleFactory(task.metadata.dataset["path"]).get_module() is not None
    assert is_available(task, None)
    (prepared / "test.arrow").write_bytes(b"12345")
    assert available_size(task, None) == len(b"{}12345")
    prepared.rename(prepared.with_name("another-revision"))
    assert not is_available(task, None)


def test_a_hash_of_what_a_folder_holds(mirror: Path) -> None:
    folder = mirror / STS_FOLDER
    first = folder_sha256(folder)
    (folder / "README.md").write_text("words only")
    (folder / ".cache").mkdir()
    (folder / ".cache/lock").write_text("")
    assert folder_sha256(folder) == first
    (folder / "test.jsonl.gz").rename(folder / "train.jsonl.gz")
    assert folder_sha256(folder) != first


def test_no_data_dir_is_a_mistake(llama_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^data_dir: there is no folder '.*nowhere'$"):
        run_sweep(llama_folder, ["STS13"], tmp_path / "r", data_dir=tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []
    assert check_data_dir(tmp_path) == tmp_path


def test_the_command_goes_on_and_exits_1(
    llama_folder: Path, mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "run",
        str(llama_folder),
        "--quiet",
        "--metrics",
        "none",
        "--layers",
        "0,-1",
        "--results",
        str(tmp_path / "r"),
    ]
    assert main([*arguments, "--tasks", "STS13", "STSBenchmark", "--data-dir", str(mirror)]) == 1
    captured = capsys.readouterr()
    assert "best layer" in captured.out
    told, summed_up = captured.err.splitlines()
    assert told.startswith("midlayer-leaderboard: STS13 failed: dataset mteb/sts13-sts not found: ")
    assert summed_up == ("midlayer-leaderboard: 1 of 2 tasks failed: STS13; run the same command again to retry them")
    assert main([*arguments, "--tasks", "STSBenchmark", "--data-dir", str(mirror)]) == 0
    capsys.readouterr()
    assert main([*arguments, "--tasks", "STSBenchmark", "--data-dir", str(tmp_path / "nowhere")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1


def test_the_command_lists_tasks(mirror: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "--data-dir", str(mirror)]) == 0
    head, *rows, total = capsys.readouterr().out.splitlines()
    assert head.split() == ["task", "type", "dataset", "revision", "subset", "split", "samples", "size", "data"]
    assert [row.split()[0] for row in rows] == [task.metadata.name for task in get_benchmark("paper").tasks]
    found = {row.split()[0]: row.split(maxsplit=8)[1:] for row in rows}
    assert found["STS17"] == [
        "STS",
        "mteb/sts17-crosslingual-sts",
        "faeb762787bd10488a50c8b5be4a3b82e411949c",
        "en-en",
        "test",
        "250",
        decimal((mirror / "mteb/sts17-crosslingual-sts/data/test-00000-of-00001.parquet").stat().st_size, separator=""),
        "available",
    ]
    assert found["STS13"][-3:] == ["1500", "-", "missing"]
    assert total == "4 of 32 available"
    assert main(["tasks", "--benchmark", "paper-fast", "--data-dir", str(mirror)]) == 0
    assert "\nRedditClustering.v2 " in capsys.readouterr().out
    assert main(["tasks", "--tasks", "StarterSTS"]) == 0
    _, row, total = capsys.readouterr().out.splitlines()
    assert row.split()[-3:] == ["-", "-", "available"]
    assert total == "1 of 1 available"
    assert main(["tasks", "--data-dir", "/no/such/folder"]) == 2


def _must_not_run(*_args: object, **_kwargs: object) -> None:
    raise AssertionError("must not run")
