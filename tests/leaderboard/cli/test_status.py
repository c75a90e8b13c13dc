"""midlayer-leaderboard status: what it prints, as text and as JSON, and its exit code."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.folders.written import Written, ended, files_of

from leaderboard.cli.program import main


@pytest.fixture
def folder(tmp_path: Path) -> Written:
    return Written(tmp_path / "results")


def test_text_and_json_say_the_same(folder: Written, capsys: pytest.CaptureFixture[str]) -> None:
    folder.worker()
    folder.shard("A", ended())
    folder.shard("B", "w1")
    folder.shard("C", ended("failed", error="no memory"))
    before = files_of(folder.root)
    assert main(["status", str(folder.root)]) == 1
    text = capsys.readouterr().out
    assert text.startswith("1 of 3 shards finished (33% of the work), 1 running, 1 failed; 1 live worker; about ")
    assert f"org/m on C: no memory\n  log: {folder.root}/shards/org__m/main/default/C/0001.log\n" in text
    assert main(["status", str(folder.root), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["done"], told["running"], told["failed"], told["complete"]) == (1, 1, 1, False)
    assert [shard["task"] for shard in told["shards"]] == ["A", "B", "C"]
    assert files_of(folder.root) == before


def test_the_exit_code_is_0_once_everything_is_finished(folder: Written, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(folder.root)]) == 1
    assert capsys.readouterr().out == "no shards and no results yet\n"
    folder.shard("A")
    assert main(["status", str(folder.root)]) == 1
    folder.shard("A", ended())
    capsys.readouterr()
    assert main(["status", str(folder.root), "--all"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 of 1 shard finished (100% of the work)"
    assert lines[-1].split()[:3] == ["finished", "org/m", "A"]


def test_an_older_folder_says_what_is_there(folder: Written, capsys: pytest.CaptureFixture[str]) -> None:
    folder.result()
    assert main(["status", str(folder.root)]) == 0
    said = "no shards; 1 result of 1 model on 1 task from runs that kept no record of shards\n"
    assert capsys.readouterr().out == said


def test_nothing_slow_is_imported(fresh_answers: dict[str, Any]) -> None:
    assert fresh_answers["status"] == {"code": 0, "loaded": []}
