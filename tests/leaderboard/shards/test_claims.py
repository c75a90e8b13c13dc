import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from leaderboard.shards import claims
from leaderboard.shards.claims import DEAD, FAILED, FINISHED, OTHER, RUNNING, STOPPED, WAITING, Claim, ClaimLost, Crew
from leaderboard.shards.shard import Shard, shards_of_sweep
from leaderboard.shards.workers import Worker, read_workers
from leaderboard.storage.local import LocalStorage

_SHARD = Shard("org/model", "main", "", "STS12", None, 3.5, "this")
_OTHER = replace(_SHARD, task="STS13")


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "results")


def _taken(crew: Crew, shard: Shard = _SHARD) -> Claim:
    claim = crew.take(shard)
    assert isinstance(claim, Claim)
    return claim


def _of_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """All processes that are looked at from now on are on other machines."""
    monkeypatch.setattr("midlayer_embed.sharing.life.this_place", lambda: "another machine")


def _silent(storage: LocalStorage, crew: Crew, seconds: float) -> None:
    """As if a worker had given no sign of life for so long."""
    at = storage.modified(crew.me.file)
    assert at is not None
    os.utime(storage.root / crew.me.file, (at - seconds, at - seconds))


def test_one_of_several_has_a_shard_until_it_ends(storage: LocalStorage) -> None:
    with Crew(storage, [_SHARD, _OTHER]) as first, Crew(storage) as second:
        assert second.states([_SHARD]) == {_SHARD: WAITING}
        claim = _taken(first)
        assert second.take(_SHARD) == RUNNING
        assert second.states([_SHARD, _OTHER]) == {_SHARD: RUNNING, _OTHER: WAITING}
        claim.finish({"encoding": 1.0}, 4)
        assert second.take(_SHARD) == FINISHED
        assert second.states([_SHARD]) == {_SHARD: FINISHED}
    record = json.loads(storage.read(f"{_SHARD.folder}/0001.json") or b"")
    assert record["state"] == FINISHED and record["n_results"] == 4 and record["seconds"]["encoding"] == 1.0
    assert record["worker"] == first.me.id
    (sweep,) = storage.paths("sweeps")
    assert shards_of_sweep(storage.read(sweep) or b"") == [_SHARD, _OTHER]


def test_who_takes_nothing_writes_nothing(storage: LocalStorage) -> None:
    with Crew(storage, [_SHARD]) as crew:
        assert crew.states([_SHARD]) == {_SHARD: WAITING} and crew.parts() == set()
    assert not storage.exists()


@pytest.mark.parametrize("ends", [lambda claim: claim.finish({}, 0), lambda claim: claim.fail(OSError("no"))])
def test_what_ended_before_a_worker_began_may_be_done_again(
    storage: LocalStorage, ends: Callable[[Claim], None]
) -> None:
    """Whether there is work left is for the results to say."""
    with Crew(storage) as first:
        ends(_taken(first))
        assert first.take(_SHARD) in (FINISHED, FAILED)
    with Crew(storage) as second:
        assert _taken(second).number == 2


def test_who_was_asked_for_something_else_does_a_shard_again(storage: LocalStorage) -> None:
    more = replace(_SHARD, asks="more")
    with Crew(storage) as first, Crew(storage) as second:
        claim = _taken(first)
        assert second.states([more]) == {more: OTHER} and second.is_running(more)
        claim.finish({}, 1)
        assert second.states([more]) == {more: OTHER} and not second.is_running(more)
        again = _taken(second, more)
        assert again.number == 2 and not again.is_fresh


def test_an_error_and_an_interrupt_are_recorded(storage: LocalStorage) -> None:
    with Crew(storage) as crew:
        with pytest.raises(ZeroDivisionError), _taken(crew):
            raise ZeroDivisionError("by nothing\nat all")
        with pytest.raises(KeyboardInterrupt), _taken(crew, _OTHER):
            raise KeyboardInterrupt
    records = [json.loads(storage.read(f"{shard.folder}/0001.json") or b"") for shard in (_SHARD, _OTHER)]
    assert [record["state"] for record in records] == [FAILED, STOPPED]
    assert [record["error"] for record in records] == ["ZeroDivisionError: by nothing", "KeyboardInterrupt"]
    log = (storage.read(f"{_SHARD.folder}/0001.log") or b"").decode()
    assert "Traceback (most recent call last):" in log and "ZeroDivisionError: by nothing\nat all" in log


_DIES = """
import os, signal, sys
from leaderboard.shards.claims import Crew
from leaderboard.shards.shard import Shard
from leaderboard.storage.local import LocalStorage
crew = Crew(LocalStorage(sys.argv[1])).__enter__()
crew.take(Shard(*eval(sys.argv[2])))
print("taken", flush=True)
signal.pause()
"""


@pytest.mark.process
def test_a_shard_of_a_killed_process_is_taken_up_at_once(storage: LocalStorage) -> None:
    values = repr(("org/model", "main", "", "STS12", None, 3.5, "this"))
    process = subprocess.Popen([sys.executable, "-c", _DIES, str(storage.root), values], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"taken\n"
    with Crew(storage) as crew:
        assert crew.take(_SHARD) == RUNNING
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        process.stdout.close()
        assert crew.states([_SHARD]) == {_SHARD: DEAD}
        claim = _taken(crew)
        assert claim.number == 2 and not claim.is_fresh
        claim.finish({}, 0)
        assert crew.states([_SHARD]) == {_SHARD: FINISHED}


def test_of_several_who_see_that_a_worker_has_died_one_has_its_shard(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Crew(storage, expiry=40) as dead:
        _taken(dead)
        with Crew(storage, expiry=40) as first, Crew(storage, expiry=40) as second:
            _of_another_machine(monkeypatch)
            assert first.take(_SHARD) == RUNNING
            _silent(storage, dead, 30)
            assert first.take(_SHARD) == RUNNING and first.is_uncertain(_SHARD)
            _silent(storage, dead, 15)
            assert first.states([_SHARD]) == {_SHARD: DEAD} and not first.is_running(_SHARD)
            assert _taken(first).number == 2
            assert second.take(_SHARD) == RUNNING


def test_a_worker_that_was_taken_for_dead_writes_nothing_more(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Crew(storage, expiry=1) as slow:
        monkeypatch.setattr(slow, "_show_life", lambda: None)
        claim = _taken(slow)
        claim.check()
        _of_another_machine(monkeypatch)
        _silent(storage, slow, 2)
        with Crew(storage) as other:
            _taken(other).finish({}, 3)
            end = time.monotonic() + 30
            while not claim.is_lost and time.monotonic() < end:
                time.sleep(0.05)
        with pytest.raises(ClaimLost, match=r"^org/model: STS12 was taken up by another worker"), claim:
            claim.check()
    states = [json.loads(storage.read(f"{_SHARD.folder}/{number:04}.json") or b"")["state"] for number in (1, 2)]
    assert states == [claims.LOST, FINISHED]


def test_of_processes_that_create_a_claim_at_the_same_time_one_gets_it(storage: LocalStorage) -> None:
    crews = [Crew(storage).__enter__() for _ in range(8)]
    taken = [crew.take(_SHARD) for crew in crews]
    assert [isinstance(claim, Claim) for claim in taken] == [True] + 7 * [False]
    for crew in crews:
        crew.__exit__(None, None, None)


def test_a_claim_that_cannot_be_read_belongs_to_nobody(storage: LocalStorage) -> None:
    storage.write(f"{_SHARD.folder}/0001.claim", b"{")
    with Crew(storage) as crew:
        assert crew.states([_SHARD]) == {_SHARD: DEAD}
        assert _taken(crew).number == 2
    storage.write(f"{_SHARD.folder}/0002.json", b"not json")
    with Crew(storage) as crew:
        assert crew.states([_SHARD]) == {_SHARD: STOPPED}


def test_workers_are_known_to_each_other_and_an_end_is_told(storage: LocalStorage) -> None:
    with Crew(storage, part="2/3") as crew:
        _taken(crew).finish({}, 0)
        assert Crew(storage).parts() == {"2/3"}
        assert read_workers(storage) == {crew.me.id: crew.me}
        assert storage.read(crew.me.end) is None
    assert storage.read(crew.me.end) is not None
    storage.write("workers/torn.json", b"{")
    assert list(read_workers(storage)) == [crew.me.id]


def test_a_worker_is_no_other_process_of_the_same_number() -> None:
    here = Worker.here("1/1", 60)
    assert here.exists is True
    assert replace(here, process=f"{os.getpid()} 1").exists is (not Path("/proc").exists())
    assert replace(here, machine="elsewhere").exists is None


def test_the_log_of_a_shard_is_beside_its_claim(storage: LocalStorage) -> None:
    logger = logging.getLogger("leaderboard.sweep")
    with Crew(storage) as crew:
        with _taken(crew) as claim:
            logger.warning("of the first")
            claim.write_log()
            assert b"of the first" in (storage.read(f"{_SHARD.folder}/0001.log") or b"")
            logger.warning("of it, too")
        logger.warning("of nobody")
        with _taken(crew, _OTHER):
            logger.warning("of the second")
    lines = [(storage.read(f"{shard.folder}/0001.log") or b"").decode().splitlines() for shard in (_SHARD, _OTHER)]
    said = [[line.split(" ", 3)[-1] for line in some] for some in lines]
    begun = f"try 1, begun by {crew.me.id}, part 1/1"
    assert said[0] == [f"org/model: STS12: {begun}", "of the first", "of it, too", "finished: all 0.0 s"]
    assert said[1] == [f"org/model: STS13: {begun}", "of the second", "finished: all 0.0 s"]


def test_a_shard_is_read_as_it_was_written() -> None:
    shard = replace(_SHARD, template="echo", variant="template_echo")
    assert Shard.from_json(shard.to_json()) == shard
    assert shard.folder == "shards/org__model/main/template_echo/STS12"
    with pytest.raises(ValueError, match="no shard"):
        Shard.from_json(b'{"model": "a"}')
