"""What is done in a results folder, read while others write."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.folders.written import Written, ended, files_of

from leaderboard.shards.claims import Crew
from leaderboard.shards.progress import Progress, read_progress
from leaderboard.shards.shard import Shard
from leaderboard.storage.local import LocalStorage
from leaderboard.storage.opening import open_storage


@pytest.fixture
def folder(tmp_path: Path) -> Written:
    return Written(tmp_path / "results")


def _progress(folder: Written) -> Progress:
    before = files_of(folder.root)
    found = read_progress(open_storage(folder.root))
    assert files_of(folder.root) == before
    return found


def _counts(progress: Progress) -> tuple[int, int, int, int, int]:
    return progress.done, progress.running, progress.waiting, progress.failed, progress.dead


def _beat(path: Path, seconds_ago: float) -> None:
    then = time.time() - seconds_ago
    os.utime(path, (then, then))


def test_every_state_is_told_with_who_and_how_long(folder: Written) -> None:
    _beat(folder.worker("w1"), 4)
    _beat(folder.worker("gone"), 500)
    folder.worker("done", ended=True)
    folder.shard("A", ended(seconds=20))
    folder.shard("B", ended("failed", error="no memory"), "w1")
    folder.shard("C", "gone")
    folder.shard("D")
    folder.shard("E", ended("lost"), ended("stopped"), template="echo")
    folder.shard("F", ended(), ended("failed", error="OSError: no disk"))
    folder.shard("G", "done")
    folder.shard("H", "nobody")
    _beat(folder.root / "shards/org__m/main/default/B/0002.claim", 30)
    progress = _progress(folder)
    assert _counts(progress) == (1, 1, 2, 1, 3)
    by_task = {shard.task: shard for shard in progress.shards}
    assert (by_task["A"].model, by_task["A"].cost, by_task["A"].seconds, by_task["A"].host) == (
        "org/m",
        10,
        20,
        "host-1",
    )
    assert by_task["B"].worker == "w1" and by_task["B"].tries == 2 and by_task["B"].error is None
    assert by_task["B"].beat == pytest.approx(4, abs=2) and by_task["B"].seconds == pytest.approx(30, abs=2)
    assert by_task["B"].log == "shards/org__m/main/default/B/0002.log"
    assert by_task["C"].beat == pytest.approx(500, abs=2)
    assert by_task["E"].template == "echo" and by_task["E"].state == "waiting"
    assert by_task["F"].error == "OSError: no disk" and by_task["F"].log == "shards/org__m/main/default/F/0002.log"
    assert list(progress.workers) == ["w1"]
    assert not progress.is_complete


def test_a_crew_and_its_claims_are_told_as_they_are(folder: Written) -> None:
    """The records are those that workers write, not only those of these tests."""
    shards = [Shard("org/m", "main", "", task, None, 2.0) for task in "ABC"]
    with Crew(open_storage(folder.root), shards, "1/2") as crew:
        first, second = (crew.take(shard) for shard in shards[:2])
        assert not isinstance(first, str)
        assert not isinstance(second, str)
        first.finish({"encoding": 1.0}, 4)
        progress = _progress(folder)
        assert _counts(progress) == (1, 1, 1, 0, 0)
        assert list(progress.workers) == [crew.me.id]
        with pytest.raises(ValueError, match="odd"), second:
            raise ValueError("odd")
    progress = _progress(folder)
    assert _counts(progress) == (1, 0, 1, 1, 0)
    (failed,) = progress.of("failed")
    assert failed.error == "ValueError: odd" and failed.host == crew.me.host
    assert progress.workers == {}


def _eta(folder: Written) -> float | None:
    return _progress(folder).eta


def test_the_time_left_is_the_cost_left_by_the_speed_so_far_and_the_live_workers(folder: Written) -> None:
    folder.shard("A", ended(seconds=20), cost=10)  # half a unit a second
    folder.shard("B", cost=10)
    assert _eta(folder) is None
    assert _progress(folder).line().endswith("1 waiting; no live worker")
    folder.worker("w1")
    assert _eta(folder) == pytest.approx(20, abs=1)
    folder.worker("w2")  # has nothing to do
    assert _eta(folder) == pytest.approx(20, abs=1)
    folder.shard("C", cost=30)
    assert _eta(folder) == pytest.approx(60, abs=1)  # the largest one
    folder.shard("D", cost=40)
    assert _eta(folder) == pytest.approx(80, abs=1)  # 80 units by two workers
    running = folder.shard("D", "w1", cost=40)
    _beat(folder.root / running / "0001.claim", 40)  # half of it is done
    assert _eta(folder) == pytest.approx(60, abs=1)
    _beat(folder.root / running / "0001.claim", 4000)  # more than was expected: it may end any moment
    assert _eta(folder) == pytest.approx(60, abs=1)
    folder.shard("E", ended("failed"), cost=1000)  # waits for a person
    assert _eta(folder) == pytest.approx(60, abs=1)


def test_without_a_finished_shard_nobody_knows_the_time(folder: Written) -> None:
    folder.worker()
    folder.shard("A", "w1")
    assert _eta(folder) is None
    assert _progress(folder).line() == "0 of 1 shard finished (0% of the work), 1 running; 1 live worker"


def test_all_is_done(folder: Written) -> None:
    folder.shard("A", ended())
    folder.shard("B", ended("failed"), ended(), cost=30)
    progress = _progress(folder)
    assert progress.is_complete and progress.eta == 0
    assert progress.line() == "2 of 2 shards finished (100% of the work)"
    assert progress.lines() == [progress.line()]
    assert len(progress.lines(every=True)) == 5


def test_shards_without_a_cost_are_counted(folder: Written) -> None:
    folder.shard("A", ended(), cost=0)
    folder.shard("B", cost=0)
    folder.worker()
    assert _progress(folder).line().startswith("1 of 2 shards finished (50% of the work), 1 waiting")


def test_the_table_names_what_failed_and_where_its_log_is(folder: Written) -> None:
    folder.worker()
    folder.shard("A", ended(seconds=75))
    folder.shard("B", "w1", template="echo")
    folder.shard("C", ended("failed", error="no memory"), model="org/n")
    lines = _progress(folder).lines()
    text = "\n".join(lines)
    assert lines[0].startswith("1 of 3 shards finished (33% of the work), 1 running, 1 failed; 1 live worker; about ")
    assert [line.split() for line in lines if line.startswith("org/")][:2] == [
        ["org/m", "main", "1", "1"],
        ["org/n", "main", "1"],
    ]
    assert f"org/n on C: no memory\n  log: {folder.root}/shards/org__n/main/default/C/0001.log" in text
    assert any(line.split()[:5] == ["running", "org/m", "B", "echo", "1"] for line in lines)
    assert not any(line.split()[:1] == ["finished"] for line in lines)
    assert all(line == line.rstrip() for line in lines)


def test_folders_without_shards_say_what_is_there(folder: Written) -> None:
    assert _progress(folder).line() == "no shards and no results yet"
    assert not _progress(folder).is_complete
    folder.result("A", 0)
    folder.result("A", 1)
    folder.result("B", 1, model="org/n")
    folder.put("results/org__o/r/C.json", {})
    progress = _progress(folder)
    assert progress.line() == "no shards; 4 results of 3 models on 3 tasks from runs that kept no record of shards"
    assert progress.lines() == [progress.line()]
    assert progress.is_complete


@pytest.mark.parametrize("torn", [b"", b'{"state": "fini', b"[]", b"\xff", b'{"state": 3, "seconds": []}', b"null"])
def test_torn_and_foreign_files_hide_nothing_else(folder: Written, torn: bytes) -> None:
    folder.worker()
    folder.shard("A", ended())
    for path in (
        "shards/org__m/main/default/B/shard.json",
        "workers/w2.json",
        "sweeps/x.json",
        "shards/x.json",
        "shards/a/b/c/d/shard.json",
    ):
        folder.put(path, torn)
    folder.shard("C", ended())
    for kind in ("json", "claim"):
        folder.put(f"shards/org__m/main/default/C/0001.{kind}", torn)
    folder.put(f"{folder.shard('D', 'w1')}/0001.claim", torn)
    folder.put(f"{folder.shard('E')}/note.txt", torn)
    folder.put(
        "shards/org__m/main/default/F/shard.json",
        Shard("org/m", "main", "", "F", None, 1).to_json().replace(b"1", b"[]"),
    )
    folder.put(
        f"{folder.shard('G', ended())}/0001.json", {"state": "finished", "seconds": {"all": "long"}, "error": [1]}
    )
    states = {shard.task: shard.state for shard in _progress(folder).shards}
    assert states == {"A": "finished", "C": "waiting", "D": "dead", "E": "waiting", "G": "finished"}


def test_files_that_vanish_while_it_is_read_are_left_out(folder: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.worker()
    folder.shard("A", ended())
    folder.shard("B", "w1")
    whole = LocalStorage(folder.root)
    paths = whole.paths()

    class Vanishing(LocalStorage):
        gone = ""

        def paths(self, under: str = "") -> list[str]:
            return [path for path in paths if path.startswith(under)]

    for gone in paths:
        content = (folder.root / gone).read_bytes()
        (folder.root / gone).unlink()
        assert len(read_progress(Vanishing(folder.root)).shards) == 2 - gone.endswith("shard.json")
        folder.put(gone, content)


def test_a_thousand_shards_take_one_listing_and_a_read_each(folder: Written) -> None:
    folder.worker()
    for number in range(30):
        folder.shard(f"T{number}", *[ended("stopped")] * 3, ended())

    read: list[str] = []
    listed: list[str] = []

    class Counting(LocalStorage):
        def paths(self, under: str = "") -> list[str]:
            listed.append(under)
            return super().paths(under)

        def read(self, path: str) -> bytes | None:
            read.append(path)
            return super().read(path)

    assert read_progress(Counting(folder.root)).done == 30
    assert len(read) == 2 * 30 + 1
    assert listed.count("") == 1


def test_a_clock_that_is_ahead_does_not_kill_workers(folder: Written) -> None:
    """The clock of a file server may differ from that of this machine."""
    _beat(folder.worker("w1"), -300)
    _beat(folder.worker("w2"), -290)
    _beat(folder.worker("w3"), 0)
    assert set(_progress(folder).workers) == {"w1", "w2"}


def test_the_dictionary_is_plain_json(folder: Written) -> None:
    folder.worker()
    folder.shard("A", "w1")
    told: dict[str, Any] = json.loads(json.dumps(_progress(folder).to_dict(), allow_nan=False))
    assert told["running"] == 1 and told["shards"][0]["state"] == "running" and not told["complete"]
    assert told["eta_seconds"] is None
    assert replace(_progress(folder), name="x").to_dict()["folder"] == "x"
