"""A folder of datasets, filled from a stand-in of the hub: whole, checked, and gone on with where it stopped."""

import gzip
import io
import json
import os
import signal
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants
from support.forks import Fork, run_code
from tqdm import tqdm

from leaderboard.cli.program import main
from leaderboard.tasks.benchmarks import _pinned_task, get_task, resolve_tasks
from leaderboard.tasks.mirror import is_available
from leaderboard.tasks.prefetch import MANIFEST, DatasetsFailed, check, prefetch
from midlayer_embed.errors import InputError

_TASKS = ["STSBenchmark", "AmazonCounterfactualClassification"]
_STS, _COUNTERFACTUAL = "mteb/stsbenchmark-sts", "mteb/amazon_counterfactual"
_STS_FILE, _TEST_FILE, _TRAIN_FILE = (
    "test.jsonl.gz",
    "en/test-00000-of-00001.parquet",
    "en/train-00000-of-00001.parquet",
)
_TEXTS = [f"The {noun} {verb} slowly." for noun in ("matrix", "signal", "tree") for verb in ("turns", "grows", "ends")]


def _parquet(columns: dict[str, list[Any]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def _revision(name: str) -> str:
    return str(get_task(name).metadata.revision)


@pytest.fixture
def hub(stand_in_hub: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two datasets, one of gzipped JSONL and one of Parquet with a README.md that names its configuration."""
    rows = [{"sentence1": text, "sentence2": _TEXTS[-i], "score": float(i % 5)} for i, text in enumerate(_TEXTS)]
    jsonl = gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode(), mtime=0)
    stand_in_hub.datasets[_STS, _revision("STSBenchmark")] = {".gitattributes": b"*.gz lfs", _STS_FILE: jsonl}
    labelled: dict[str, list[Any]] = {
        "text": _TEXTS * 4,
        "label": [0, 1, 1] * 12,
        "label_text": ["no", "yes", "yes"] * 12,
    }
    readme = "---\nconfigs:\n- config_name: en\n  data_files:\n  - split: train\n    path: en/train-*\n"
    stand_in_hub.datasets[_COUNTERFACTUAL, _revision("AmazonCounterfactualClassification")] = {
        "README.md": f"{readme}  - split: test\n    path: en/test-*\n---\n".encode(),
        _TRAIN_FILE: _parquet(labelled),
        _TEST_FILE: _parquet({name: values[9:27] for name, values in labelled.items()}),
    }
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    return stand_in_hub


def _prefetch(hub: Any, folder: Path, tasks: Any = _TASKS) -> None:
    prefetch(resolve_tasks(tasks), folder, endpoint=hub.url, show_progress=False)


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "leaderboard.tasks.prefetch"]


@pytest.mark.process
def test_the_folder_is_what_the_hub_has_and_a_sweep_reads_it_without_one(
    hub: Any, llama_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "data"
    with caplog.at_level("INFO", "leaderboard.tasks.prefetch"):
        _prefetch(hub, folder, [*_TASKS, "StarterSTS"])
    found = _files(folder)
    manifest = json.loads(found.pop(MANIFEST))["datasets"]
    served = {
        f"{name}/{path}": content
        for (name, _), files in hub.datasets.items()
        for path, content in files.items()
        if path != ".gitattributes"
    }
    assert found == served
    assert manifest[_STS]["revision"] == _revision("STSBenchmark")
    assert set(manifest[_COUNTERFACTUAL]["files"]) == {"README.md", _TRAIN_FILE, _TEST_FILE}
    size = sum(map(len, served.values()))
    assert f"downloading {size / 1000:.1f} kB of 2 datasets into {folder} (" in caplog.text
    assert all(is_available(get_task(name), folder) for name in _TASKS)

    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    before = len(hub.asked)
    command = ["run", str(llama_folder), "--tasks", *_TASKS, "--layers", "1", "--data-dir", str(folder)]
    code = "import sys; from leaderboard.cli.program import main; sys.exit(main())"
    run_code(code, *command, "--results", tmp_path / "r", "--quiet", env=environment)
    assert len(list((tmp_path / "r").rglob("layer_1/*.json"))) == 2 + 1  # and the model's card
    assert len(hub.asked) == before


def test_progress_counts_every_byte_once(
    hub: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("midlayer_embed.ground.progress._LINE_EVERY", 0)
    prefetch(resolve_tasks(_TASKS), tmp_path, endpoint=hub.url)
    size = sum(len(content) for path, content in _files(tmp_path).items() if path != MANIFEST)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    shown = tqdm.format_sizeof(size)
    assert f"100% {shown}/{shown} B, " in last


def test_what_is_finished_is_not_asked_for_again(hub: Any, tmp_path: Path) -> None:
    _prefetch(hub, tmp_path, ["STSBenchmark"])
    hub.asked.clear()
    _prefetch(hub, tmp_path)
    assert not [line for line in hub.asked if _STS in line]
    hub.asked.clear()
    before = _files(tmp_path)
    _prefetch(hub, tmp_path)
    assert hub.asked == []
    (tmp_path / MANIFEST).unlink()  # without the note the hub is asked what it has, and the files are those
    _prefetch(hub, tmp_path)
    assert hub.fetched() == []
    assert _files(tmp_path) == before


def test_a_connection_that_breaks_is_one_dataset_and_is_made_up_for(
    hub: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _prefetch(hub, tmp_path / "whole")
    hub.asked.clear()
    hub.broken[_TEST_FILE] = 100
    with pytest.raises(DatasetsFailed, match=f"^1 of 2 datasets failed: {_COUNTERFACTUAL}$") as failed:
        _prefetch(hub, tmp_path / "data")
    assert list(failed.value.failures) == [_COUNTERFACTUAL]
    (error,) = _errors(caplog)
    assert error.startswith(f"{_COUNTERFACTUAL} failed: ") and len(error.splitlines()) == 1
    assert (tmp_path / "data" / _STS / _STS_FILE).exists()
    assert not (tmp_path / "data" / _COUNTERFACTUAL / _TEST_FILE).exists()
    assert _COUNTERFACTUAL not in (tmp_path / "data" / MANIFEST).read_text()
    hub.broken.clear()
    hub.asked.clear()
    _prefetch(hub, tmp_path / "data")
    assert hub.fetched() == [_TEST_FILE]
    assert _files(tmp_path / "data") == {
        **_files(tmp_path / "whole"),
        MANIFEST: (tmp_path / "data" / MANIFEST).read_bytes(),
    }
    check(resolve_tasks(_TASKS), tmp_path / "data")


@pytest.mark.process
def test_a_killed_run_is_gone_on_with(hub: Any, tmp_path: Path) -> None:
    _prefetch(hub, tmp_path / "whole")
    hub.broken[_TEST_FILE], hub.stalls = 100, True
    hub.stalled.clear()
    hub.asked.clear()
    code = "import sys; from leaderboard.cli.program import main; sys.exit(main())"
    command = ["prefetch", "--tasks", *_TASKS, "--data-dir", str(tmp_path / "data")]
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    run = Fork([sys.executable, "-c", code, *command], env=environment)
    try:
        assert hub.stalled.wait(120)
    finally:
        run.kill()
    assert run.wait() == -signal.SIGKILL
    hub.released.set()
    assert sorted(path.name for path in (tmp_path / "data" / _COUNTERFACTUAL).rglob("*.incomplete"))
    hub.broken.clear()
    _prefetch(hub, tmp_path / "data")
    assert _files(tmp_path / "data") == _files(tmp_path / "whole")
    assert hub.fetched().count(_STS_FILE) == 1


@pytest.mark.parametrize(("dataset", "file"), [(_STS, _STS_FILE), (_COUNTERFACTUAL, "README.md")])
def test_a_damaged_file_is_named_and_fetched_again(
    hub: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, dataset: str, file: str
) -> None:
    _prefetch(hub, tmp_path)
    whole = _files(tmp_path)
    path = tmp_path / dataset / file
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # as long as it was
    with pytest.raises(DatasetsFailed, match=f"^1 of 2 datasets failed: {dataset}$"):
        check(resolve_tasks(_TASKS), tmp_path)
    assert _errors(caplog) == [f"{dataset} failed: {file} is damaged"]
    caplog.clear()
    hub.asked.clear()
    _prefetch(hub, tmp_path)
    assert _errors(caplog) == [f"{dataset}: {file} differs from the hub's file, downloading it again"]
    assert hub.fetched() == [file]
    assert _files(tmp_path) == whole
    path.unlink()
    caplog.clear()
    with pytest.raises(DatasetsFailed):
        check(resolve_tasks(_TASKS), tmp_path)
    assert _errors(caplog) == [f"{dataset} failed: {file} is missing"]


def test_a_file_that_comes_otherwise_than_listed_is_not_kept(
    hub: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = hub._listed
    content = hub.datasets[_STS, _revision("STSBenchmark")][_STS_FILE]
    monkeypatch.setattr(hub, "_listed", lambda path, found: listed(path, found[::-1] if found == content else found))
    with pytest.raises(DatasetsFailed, match=f"^1 of 2 datasets failed: {_STS}$"):
        _prefetch(hub, tmp_path)
    assert _errors(caplog) == [f"{_STS} failed: {_STS_FILE} does not have the size or hash that the hub lists"]
    assert not (tmp_path / _STS / _STS_FILE).exists()


def test_two_tasks_of_one_dataset_fetch_it_once_and_two_revisions_are_not_mixed(
    hub: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pin = {"dataset": _STS, "subset": "default", "split": "test"}
    other = "1" * 40
    same = [_pinned_task(name=name, revision=_revision("STSBenchmark"), **pin) for name in ("STSBenchmark", "STS13")]
    _prefetch(hub, tmp_path, same)
    assert hub.fetched() == [_STS_FILE]
    hub.datasets[_STS, other] = {"test.parquet": b"of another revision"}
    changed = _pinned_task(name="STS13", revision=other, **pin)
    before = _files(tmp_path)
    for tasks, said in (
        (
            [same[0], changed],
            f"one revision of each dataset in a folder, got {_revision('STSBenchmark')} for STSBenchmark, "
            f"{other} for STS13",
        ),
        ([changed], f"holds revision {_revision('STSBenchmark')}, expected {other}"),
    ):
        for is_check in (False, True):
            caplog.clear()
            with pytest.raises(DatasetsFailed):
                check(tasks, tmp_path) if is_check else _prefetch(hub, tmp_path, tasks)
            (error,) = _errors(caplog)
            assert said in error
    (tmp_path / MANIFEST).unlink()  # a run that was killed has noted nothing
    caplog.clear()
    with pytest.raises(DatasetsFailed):
        _prefetch(hub, tmp_path, [changed])
    assert f"holds files that are not in revision {other}: {_STS_FILE}" in _errors(caplog)[0]
    assert {**_files(tmp_path), MANIFEST: before[MANIFEST]} == before


def test_one_line_for_each_way_to_fail_and_the_others_go_on(
    hub: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    del hub.datasets[_COUNTERFACTUAL, _revision("AmazonCounterfactualClassification")]
    hub.datasets["mteb/sts13-sts", "2" * 40] = {}
    hub.datasets["mteb/biosses-sts", _revision("BIOSSES")] = {"test.parquet": b"data"}
    (tmp_path / "mteb/biosses-sts").parent.mkdir()
    (tmp_path / "mteb/biosses-sts").write_text("a file, where a folder has to be")
    with pytest.raises(DatasetsFailed, match="^3 of 4 datasets failed: "):
        _prefetch(hub, tmp_path, [*_TASKS, "STS13", "BIOSSES"])
    said = dict(line.split(" failed: ") for line in _errors(caplog))
    assert said[_COUNTERFACTUAL] == "no such dataset on the hub, or it is private"
    assert said["mteb/sts13-sts"] == "no such revision on the hub"
    assert str(tmp_path / "mteb/biosses-sts") in said["mteb/biosses-sts"]
    assert all(len(line.splitlines()) == 1 for line in said.values())
    assert (tmp_path / _STS / _STS_FILE).exists()

    caplog.clear()
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("leaderboard.tasks.prefetch.shutil.disk_usage", lambda _: usage(10))
    with pytest.raises(DatasetsFailed, match=f"^1 of 1 datasets failed: {_STS}$"):
        _prefetch(hub, tmp_path / "other", ["STSBenchmark"])
    assert "needed, 10 bytes free" in _errors(caplog)[-1]


def test_a_hub_that_is_not_reached_is_one_line_a_dataset(
    hub: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub.server.server_close()
    with pytest.raises(DatasetsFailed, match="^2 of 2 datasets failed: "):
        _prefetch(hub, tmp_path)
    first, second = _errors(caplog)
    for line in (first, second):
        assert "failed: the hub could not be reached or returned an error: " in line and len(line.splitlines()) == 1
    assert _files(tmp_path) == {}


def test_offline_mode_is_honoured(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _prefetch(hub, tmp_path, ["STSBenchmark"])
    hub.asked.clear()
    for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(variable, "1")
        with pytest.raises(InputError, match=f"^the hub is needed to fetch {_COUNTERFACTUAL}, but {variable} is set$"):
            _prefetch(hub, tmp_path)
        _prefetch(hub, tmp_path, ["STSBenchmark", "StarterSTS"])  # is there
        monkeypatch.delenv(variable)
    assert hub.asked == []


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = str(tmp_path / "data")
    assert main(["prefetch", "--tasks", "STS13", "--data-dir", folder]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "midlayer-leaderboard: the hub is needed to fetch mteb/sts13-sts, but HF_HUB_OFFLINE is set"
    assert main(["prefetch", "--benchmark", "starter", "--data-dir", folder, "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["prefetch", "--tasks", "STS13", "--data-dir", folder, "--check"]) == 1
    told, summed_up = capsys.readouterr().err.splitlines()
    assert told.startswith("midlayer-leaderboard: mteb/sts13-sts failed: not downloaded completely: ")
    assert summed_up.startswith("midlayer-leaderboard: 1 of 1 datasets failed: mteb/sts13-sts; ")
    assert main(["prefetch", "--check", "--data-dir", str(tmp_path / "nowhere")]) == 2
    capsys.readouterr()
    Path(folder, MANIFEST).write_text("{}garbage")
    assert main(["prefetch", "--tasks", "STS13", "--data-dir", folder]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{MANIFEST} is not a file that prefetch wrote" in line
    assert main(["prefetch", "--tasks", "STS13", "--data-dir", str(Path(folder, MANIFEST))]) == 2
    assert "cannot create the folder" in capsys.readouterr().err
