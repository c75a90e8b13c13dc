"""The corpus of the paper in a folder of datasets: only what is read of it, from a stand-in of the hub."""

import io
import os
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants
from support.forks import run_code
from support.tiny_mirror import write_readme

from leaderboard.cli.program import main
from leaderboard.tasks.benchmarks import _pinned_task
from leaderboard.tasks.prefetch import DatasetsFailed, check, prefetch
from midlayer_embed.errors import InputError
from midlayer_embed.texts.corpora import dataset_texts
from midlayer_embed.texts.names import ON_HUB


@pytest.fixture
def hub(stand_in_hub: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """WikiText, with more splits and configurations than are read by default."""
    wikitext = ON_HUB["wikitext"]
    configs = {
        name: {split: f"{name}/{split}-*" for split in ("test", "validation", "train")}
        for name in ("wikitext-2-raw-v1", wikitext.config)
    }
    with tempfile.TemporaryDirectory() as folder:
        write_readme(Path(folder), configs)
        files = {".gitattributes": b"*.parquet lfs", "README.md": Path(folder, "README.md").read_bytes()}
    for name, splits in configs.items():
        content = io.BytesIO()
        pq.write_table(pa.table({"text": [" = Mills = \n", f" The mill of {name} . \n", ""]}), content)
        for split in splits:
            files |= {f"{name}/{split}-0000{n}-of-00002.parquet": content.getvalue() for n in range(2)}
    stand_in_hub.datasets[wikitext.dataset, wikitext.revision] = files
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    return stand_in_hub


def _served(hub: Any, *beginnings: str) -> dict[str, bytes]:
    (files,) = hub.datasets.values()
    return {path: content for path, content in files.items() if path.startswith(beginnings)}


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "leaderboard.tasks.prefetch"]


@pytest.mark.process
def test_the_test_split_of_wikitext_is_fetched_and_read_without_the_hub(
    hub: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    served = _served(hub, "README.md", "wikitext-103-raw-v1/test-")
    data = tmp_path / "data"
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    code = "import sys; from leaderboard.cli.program import main; sys.exit(main())"
    run_code(code, "prefetch", "--dataset", "wikitext", "--data-dir", data, "--quiet", env=environment)
    folder = data / "Salesforce/wikitext"
    assert _files(folder) == served
    assert sorted(hub.fetched()) == sorted(served)
    hub.asked.clear()
    run_code(code, "prefetch", "--dataset", "wikitext", "--data-dir", data, "--check", "--quiet", env=environment)
    assert dataset_texts("wikitext", data_dir=data) == ["The mill of wikitext-103-raw-v1 .", ""] * 2
    assert hub.asked == []
    with pytest.raises(InputError, match=r"^split: .* has no split 'validation': there are no files .*; it has test$"):
        dataset_texts("wikitext", data_dir=data, split="validation")

    # Other files of the repository do no harm, but one that would be read does.
    (folder / "wikitext-2-raw-v1").mkdir()
    (folder / "wikitext-2-raw-v1/test-00000-of-00001.parquet").write_bytes(b"a copy by hand")
    check([], data, corpora=["wikitext"])
    (folder / "wikitext-103-raw-v1/test-of-mine.parquet").write_bytes(b"not of the hub")
    assert main(["prefetch", "--dataset", "wikitext", "--data-dir", str(data), "--check"]) == 1
    assert "holds files that are not in revision b08601e" in capsys.readouterr().err
    (folder / "wikitext-103-raw-v1/test-of-mine.parquet").unlink()
    (folder / "README.md").write_text("mine")
    with pytest.raises(DatasetsFailed):
        check([], data, corpora=["wikitext"])
    assert _errors(caplog)[-1] == "Salesforce/wikitext failed: README.md is damaged"
    prefetch([], data, corpora=["wikitext"], endpoint=hub.url, show_progress=False)
    assert hub.fetched() == ["README.md"]


def test_a_task_of_the_same_dataset_wants_all_of_it(hub: Any, tmp_path: Path) -> None:
    wikitext = ON_HUB["wikitext"]
    pin = {"dataset": wikitext.dataset, "revision": wikitext.revision, "subset": "default", "split": "test"}
    task = _pinned_task(name="STS13", **pin)
    prefetch([], tmp_path, corpora=["wikitext"], endpoint=hub.url, show_progress=False)
    with pytest.raises(DatasetsFailed):  # some of it is not all of it
        check([task], tmp_path)
    prefetch([task], tmp_path, corpora=["wikitext"], endpoint=hub.url, show_progress=False)
    everything = _served(hub, "README.md", "wikitext-")
    assert _files(tmp_path / wikitext.dataset) == everything
    assert sorted(hub.fetched()) == sorted(everything)  # what was there is not asked for again
    check([task], tmp_path, corpora=["wikitext"])
    check([], tmp_path, corpora=["wikitext"])


def test_corpora_and_tasks_are_fetched_by_one_command(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(
        "leaderboard.tasks.prefetch.prefetch",
        lambda tasks, folder, corpora, **_: asked.append(([task.metadata.name for task in tasks], corpora)),
    )
    for words in (["--dataset", "wikitext"], ["--dataset", "wikitext", "--tasks", "STS13"], ["--tasks", "STS13"]):
        assert main(["prefetch", *words, "--data-dir", str(tmp_path)]) == 0
    assert main(["prefetch", "--dataset", "wikitext", "--benchmark", "paper", "--data-dir", str(tmp_path)]) == 0
    assert main(["prefetch", "--data-dir", str(tmp_path)]) == 0
    assert asked[:3] == [([], ["wikitext"]), (["STS13"], ["wikitext"]), (["STS13"], [])]
    assert [(len(tasks), corpora) for tasks, corpora in asked[3:]] == [(32, ["wikitext"]), (32, [])]
