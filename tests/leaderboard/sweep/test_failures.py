"""Whatever fails, in whichever step of one task: that task is told in one line, and every other task is finished."""

import logging
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict
from support.tiny_tasks import TinyClustering, TinySTS
from transformers import AutoTokenizer

from leaderboard import TasksFailed, load_results, run_sweep
from leaderboard.cli.program import main
from leaderboard.results.files.folder import ResultsFolder
from leaderboard.sweep.measuring import TaskMetrics
from leaderboard.sweep.task import TaskSweep
from leaderboard.sweep.template_sweep import TemplateSweep

_sweep = partial(run_sweep, show_progress=False, metrics=["dataset_entropy"], layers=[1, 2])


def _failing_for_one(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, is_meant: Callable[..., bool]) -> None:
    real = getattr(owner, name)

    def fail_or_do(*args: Any, **kwargs: Any) -> Any:
        if is_meant(*args, **kwargs):
            raise LookupError("what nobody\nforesaw")
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, fail_or_do)


_STEPS: list[tuple[type, str]] = [
    (TaskSweep, "find_data"),
    (TaskSweep, "plan"),
    (TemplateSweep, "_is_scored"),
    (TemplateSweep, "_groups"),
    (TemplateSweep, "_text_pass"),
    (TemplateSweep, "_score"),
    (TaskMetrics, "measure"),
]


@pytest.mark.parametrize(("owner", "step"), _STEPS, ids=[step for _, step in _STEPS])
def test_no_step_of_a_task_ends_the_sweep(
    llama_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    owner: type,
    step: str,
) -> None:
    _failing_for_one(monkeypatch, owner, step, lambda of_task, *_, **__: of_task.name == "TinyClustering")
    with pytest.raises(TasksFailed, match="^1 of 2 tasks failed: TinyClustering$"):
        _sweep(llama_folder, [TinyClustering(), TinySTS()], tmp_path)
    (message,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert message == "TinyClustering failed: LookupError: what nobody"
    assert load_results(tmp_path).scores.filter(task="TinySTS")["layer"].to_list() == [1, 2]
    monkeypatch.undo()
    assert _sweep(llama_folder, [TinyClustering(), TinySTS()], tmp_path).scores.height == 4


def test_a_result_that_cannot_be_saved_ends_its_task_only(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _failing_for_one(
        monkeypatch, ResultsFolder, "save_result", lambda _, result, *__: result.task_name == "TinyClustering"
    )
    with pytest.raises(TasksFailed) as failed:
        _sweep(llama_folder, [TinyClustering(), TinySTS()], tmp_path)
    assert failed.value.leaderboard.scores["task"].unique().to_list() == ["TinySTS"]


class _Spelt(TinySTS):
    """A task of which one text spells out a token that the model has no embedding for."""

    metadata = TinySTS.metadata.model_copy(update={"name": "Spelt"})

    def make(self) -> DatasetDict:
        rows = super().make()["test"].to_dict()
        rows["sentence1"][3] = "an <image> in a text"
        return DatasetDict({"test": Dataset.from_dict(rows)})


def test_a_text_that_the_model_cannot_take_ends_its_task_only(
    llama_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The speed of the model is measured on texts of all tasks."""
    folder = Path(shutil.copytree(llama_folder, tmp_path / "model"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokenizer.save_pretrained(folder)
    with caplog.at_level(logging.INFO), pytest.raises(TasksFailed, match="^1 of 2 tasks failed: Spelt$"):
        _sweep(folder, [_Spelt(), TinySTS()], tmp_path / "results")
    (message,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert message.startswith("Spelt failed: texts: a text holds the token '<image>', number 400")
    assert load_results(tmp_path / "results").scores["task"].to_list() == ["TinySTS", "TinySTS"]
    (speed,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert speed.startswith("the plan has no times, since the speed cannot be measured: texts: a text holds")
    assert any("plan: 2 tasks; about 0 s" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("bert", {"max_seq_length": 129}, "max_seq_length: this bert model has 128 positions, got 129"),
        ("bert", {"max_seq_length": 1}, "max_seq_length: the tokenizer adds 2 tokens to every text, got 1"),
    ],
)
def test_what_a_model_cannot_do_is_told_before_anything_is_done(
    tiny_model: Callable[[str], Path], tmp_path: Path, name: str, options: dict[str, Any], message: str
) -> None:
    task = TinySTS()
    with pytest.raises(ValueError, match=f"^{message}$"):
        _sweep(tiny_model(name), [task], tmp_path / "results", **options)
    assert not task.data_loaded
    assert list(tmp_path.iterdir()) == []


def test_on_the_command_line_it_is_one_line_and_exit_2(
    tiny_folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(tiny_folders["bert"], tmp_path / "model"))
    run = ["run", str(folder), "--tasks", "StarterSTS", "--results", str(tmp_path / "results")]
    assert main([*run, "--max-seq-length", "129"]) == 2
    assert "has 128 positions, got 129" in capsys.readouterr().err
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["zzz"])
    tokenizer.save_pretrained(folder)
    assert main(run) == 2
    said = capsys.readouterr().err.strip()
    assert "has 401 tokens, up to 'zzz', but the model has embeddings for 400" in said
    assert len(said.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
