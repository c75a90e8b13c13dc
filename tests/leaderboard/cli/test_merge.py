"""midlayer-leaderboard merge: what it prints and writes, and its exit code."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.folders.written import Written, files_of

from leaderboard.cli.program import main

RESULT = "results/org__m/main/experiments/layer_0/A.json"


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Written, Written]:
    monkeypatch.chdir(tmp_path)
    return Written(tmp_path / "a"), Written(tmp_path / "b")


def test_a_dry_run_says_what_the_merge_then_does(
    two: tuple[Written, Written], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    a, b = two
    a.result("A")
    a.result("B", 1)
    b.result("C")
    b.metrics({0: 1.0})
    a.metrics({1: 1.0})
    assert main(["merge", "a", "b", "--into", "all", "--dry-run", "--quiet"]) == 0
    dry = capsys.readouterr().out
    assert not (tmp_path / "all").exists()
    assert main(["merge", "a", "b", "--into", "all", "--quiet"]) == 0
    done = capsys.readouterr().out
    assert dry.replace("would be ", "") == done
    assert done.splitlines() == [
        "4 files, 2 of them results copied from a",
        "  org/m at revision main: A, B",
        "1 file, 1 of them results copied from b",
        "  org/m at revision main: C",
        "3 files joined or derived: metrics, run settings",
    ]
    whole = files_of(tmp_path / "all")
    assert main(["merge", "a", "b", "--into", "all", "--quiet"]) == 0
    assert capsys.readouterr().out == "8 files, 3 of them results in all already\n"
    assert files_of(tmp_path / "all") == whole


def test_every_conflict_is_a_line_and_the_exit_code_is_1(
    two: tuple[Written, Written], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for folder, score in zip(two, (0.1, 0.2), strict=True):
        folder.result("A", score=score)
        folder.result("B", score=score)
        folder.result("C", layer=int(10 * score))
    assert main(["merge", "a", "b", "--into", "all", "--quiet"]) == 1
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == f"conflict: {RESULT}: a has main_score 0.1, b has 0.2"
    assert [line.startswith("conflict: ") for line in lines].count(True) == 2
    assert lines[-1] == "nothing was written: 2 conflicts"
    assert said.err == ""
    assert main(["merge", "a", "b", "--into", "all", "--quiet", "--json", "--dry-run"]) == 1
    assert [one.split(":")[0] for one in json.loads(capsys.readouterr().out)["conflicts"]] == [
        RESULT,
        RESULT.replace("A.json", "B.json"),
    ]
    assert not (tmp_path / "all").exists()


def test_nothing_slow_is_imported(fresh_answers: dict[str, Any]) -> None:
    assert fresh_answers["merge"] == {"code": 0, "loaded": []}
