"""A run that is finished, given again: it shows its tables at once, unless something that it stood on has changed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support import forks

from leaderboard.cli.program import main
from leaderboard.storage.local import LocalStorage
from leaderboard.sweep.receipts import Receipt, receipt_of


def _write(path: Path, text: str = "{}") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Stands for the folder of a model."""
    _write(tmp_path / "model" / "config.json")
    return tmp_path / "model"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    _write(tmp_path / "r" / "results/a__b/1/experiments/layer_1/T.json")
    _write(tmp_path / "r" / "metrics/a__b/1/T.parquet")
    return tmp_path / "r"


def _receipt(results: Path, model: Path, file: str = "train", **asked: object) -> Receipt:
    found = receipt_of(LocalStorage(results), [str(model)], [file], {"seed": 0, **asked})
    assert found is not None
    return found


def _touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


_CHANGES: dict[str, Callable[[Path, Path], None]] = {
    "a result": lambda results, _: _touch(next(results.glob("results/**/T.json"))),
    "another result": lambda results, _: _write(results / "results/c__d/1/experiments/layer_1/T.json"),
    "metrics": lambda results, _: next(results.glob("metrics/**/T.parquet")).unlink(),
    "the model": lambda _, model: _write(model / "config.json", "{ }"),
    "an adapter beside the model": lambda _, model: _write(model / "adapter_config.json"),
}


@pytest.mark.parametrize("change", _CHANGES.values(), ids=_CHANGES)
def test_a_receipt_holds_until_something_changes(
    results: Path, model: Path, change: Callable[[Path, Path], None]
) -> None:
    assert not _receipt(results, model).holds
    _receipt(results, model).write()
    (results / "leaderboard.md").write_text("tables are made of results")
    assert _receipt(results, model).holds
    change(results, model)
    assert not _receipt(results, model).holds


def test_a_receipt_is_of_one_command_one_installation_and_one_file_of_texts(
    results: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("one")
    _receipt(results, model, str(texts)).write()
    assert _receipt(results, model, str(texts)).holds
    assert not _receipt(results, model, str(texts), seed=1).holds
    assert not _receipt(results, model).holds
    packages = tmp_path / "site-packages"
    (packages / "torch-1.0.dist-info").mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(packages))
        assert not _receipt(results, model, str(texts)).holds
    texts.write_text("two")
    assert not _receipt(results, model, str(texts)).holds


def test_void_receipts_are_deleted(results: Path, model: Path) -> None:
    _receipt(results, model, seed=1).write()
    _receipt(results, model, seed=2).write()
    assert _receipt(results, model, seed=1).holds
    _CHANGES["a result"](results, model)
    _receipt(results, model, seed=3).write()
    assert [path.name for path in (results / ".finished").iterdir()] == [_receipt(results, model, seed=3).key]


def test_a_model_on_the_hub_has_no_receipt(results: Path) -> None:
    assert receipt_of(LocalStorage(results), ["org/name"], [], {}) is None


_RUN = ["--tasks", "StarterSTS", "--layers", "0,-1", "--metrics", "dataset_entropy", "--limit", "20", "--quiet"]


def test_a_finished_run_shows_the_same_tables_without_a_sweep(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["run", str(llama_folder), *_RUN, "--results", str(tmp_path / "r")]
    assert main(run) == 0
    printed, table = capsys.readouterr().out, tmp_path / "r" / "scores.parquet"
    written = table.stat().st_mtime_ns

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("there is nothing left to do")

    with monkeypatch.context() as patch:
        patch.setattr("leaderboard.sweep.run.run_sweep", fail)
        assert main([*run, "--jobs", "2"]) == 0
        assert capsys.readouterr().out == printed
        assert table.stat().st_mtime_ns == written
        for other in (["--seed", "1"], ["--overwrite"], ["--shard", "1/1"]):
            assert main([*run, *other]) == 1
    next((tmp_path / "r").glob("results/*/*/experiments/layer_0*/StarterSTS.json")).unlink()
    assert main(run) == 0
    assert capsys.readouterr().out.endswith(printed)


@pytest.mark.process
def test_what_is_finished_is_shown_without_torch_and_mteb(llama_folder: Path, tmp_path: Path) -> None:
    run = ["run", str(llama_folder), *_RUN, "--results", str(tmp_path / "r")]
    assert main(run) == 0
    blocked = "import sys\nfor name in ('torch', 'mteb', 'datasets', 'sklearn'): sys.modules[name] = None\n"
    code = f"{blocked}from leaderboard.cli import main\nsys.exit(main(sys.argv[1:]))"
    forks.run_code(code, *run)
    report = ["report", str(tmp_path / "r"), "--html", str(tmp_path / "page.html"), "--figures", str(tmp_path / "f")]
    forks.run_code(code, *report)
    assert "StarterSTS" in (tmp_path / "page.html").read_text()
