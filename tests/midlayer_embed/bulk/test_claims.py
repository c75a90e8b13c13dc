"""Claims to folders: one owner at a time, and what is left by the dead is taken up."""

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest
from support.forks import Fork

from midlayer_embed.bulk import claims
from midlayer_embed.bulk.claims import Claim
from midlayer_embed.sharing.life import EXPIRY

_HOLDS = """
import sys, time
from pathlib import Path
from midlayer_embed.bulk.claims import Claim
assert Claim(Path(sys.argv[1])).take() is None
print("taken", flush=True)
time.sleep(60)
"""

# Takes the folder and gives it back again and again; in between it alone may add to the file.
_HAMMERS = """
import os, sys, time
from pathlib import Path
from midlayer_embed.bulk.claims import Claim
folder, done = Path(sys.argv[1]), 0
while done < 20:
    claim = Claim(folder)
    if claim.take() is not None:
        time.sleep(0.001)
        continue
    os.mkdir(folder.parent / "inside")  # fails if another process is inside
    with open(folder.parent / "log", "a") as log:
        log.write(sys.argv[2])
    os.rmdir(folder.parent / "inside")
    claim.release()
    done += 1
"""


def _claim_of(folder: Path, **changes: str) -> Path:
    """A claim as another process left it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "0001.claim"
    path.write_text(json.dumps({**claims._this_process(), **changes}))
    return path


@pytest.mark.process
def test_a_process_that_is_killed_leaves_its_folder_to_the_next(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    fork = Fork([sys.executable, "-c", _HOLDS, str(tmp_path / "folder")], stdout=writing)
    os.close(writing)
    with os.fdopen(reading) as said:
        assert said.readline() == "taken\n"
        claim = Claim(tmp_path / "folder")
        assert str(claim.take()).startswith(f"process {fork.pid} on ")
        os.kill(fork.pid, signal.SIGKILL)
        fork.wait(30)
    assert claim.take() is None
    assert [path.name for path in (tmp_path / "folder").iterdir() if path.suffix == ".claim"].count("0002.claim") == 1


@pytest.mark.process
def test_processes_that_hammer_a_folder_are_in_it_one_at_a_time(tmp_path: Path) -> None:
    forks = [Fork([sys.executable, "-c", _HAMMERS, str(tmp_path / "folder"), name]) for name in "abcd"]
    assert [fork.wait(120) for fork in forks] == [0] * 4
    assert Counter((tmp_path / "log").read_text()) == dict.fromkeys("abcd", 20)


@pytest.mark.parametrize(("age", "is_dead"), [(0, False), (EXPIRY - 30, False), (EXPIRY + 30, True)])
def test_a_process_of_another_machine_is_dead_when_it_gives_no_sign_of_life(
    tmp_path: Path, age: int, is_dead: bool
) -> None:
    path = _claim_of(tmp_path / "folder", host="node7", place="node7 of yesterday")
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))
    claim = Claim(tmp_path / "folder")
    owner = claim.take()
    assert (owner is None) is is_dead
    assert is_dead or owner == f"process {os.getpid()} on node7"
    claim.release()


def test_the_number_of_a_process_that_was_given_again_is_another_process(tmp_path: Path) -> None:
    _claim_of(tmp_path / "folder", process=f"{os.getpid()} 1")
    assert Claim(tmp_path / "folder").owner() is None


def test_a_claim_that_is_being_written_counts(tmp_path: Path) -> None:
    _claim_of(tmp_path / "folder").write_text("")
    assert Claim(tmp_path / "folder").take() == "process  on another machine"


def test_a_folder_that_is_removed_can_be_taken(tmp_path: Path) -> None:
    claim = Claim(tmp_path / "a" / "folder")
    assert claim.owner() is None
    assert claim.take() is None
    assert claim.is_held
    (tmp_path / "a" / "folder" / "0001.claim").unlink()
    (tmp_path / "a" / "folder").rmdir()
    assert Claim(tmp_path / "a" / "folder").take() is None
    claim.release()


def test_the_living_touch_their_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT", 0.01)
    claim = Claim(tmp_path / "folder")
    assert claim.take() is None
    path = tmp_path / "folder" / "0001.claim"
    os.utime(path, (0, 0))
    for _ in range(1000):
        if path.stat().st_mtime:
            break
        claims.threading.Event().wait(0.01)
    assert path.stat().st_mtime > 0
    claim.release()
    assert not path.exists()
