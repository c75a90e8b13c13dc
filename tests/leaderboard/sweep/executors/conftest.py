"""Stand-ins of a worker, and waiting for what processes do."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from leaderboard.sweep.executors.protocol import Worker

# Notes what it gets and what becomes of it, and sleeps if it is told to, until it is stopped.
_STAND_IN = """
import os, signal, sys, time
def note(what):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(f"{os.getpid()} {what}\\n")
def stopped(*_):
    note("stopped")
    sys.exit(143)
signal.signal(signal.SIGTERM, stopped)
note(" ".join(sys.argv[1:]))
print("said by the worker")
if "sleep" in sys.argv:
    time.sleep(60)
note("ended")
sys.exit(int(sys.argv[-1]) if sys.argv[-1].isdecimal() else 0)
"""


class StandIn:
    """Workers that note what happens to them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "notes.txt"
        (folder / "stand_in.py").write_text(_STAND_IN)

    def worker(self, *arguments: str, name: str = "1-of-1") -> Worker:
        paths = os.pathsep.join([str(self.folder), os.environ.get("PYTHONPATH", "")])
        environment = {"NOTES": str(self.file), "PYTHONPATH": paths}
        log = str(self.folder / "logs" / f"{name}.log")
        return Worker(name, arguments, log, str(self.folder), environment, module="stand_in")

    def notes(self) -> list[tuple[int, str]]:
        """The process and what it noted."""
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        return [(int(line.split(" ")[0]), line.partition(" ")[2]) for line in lines]

    def pids(self, what: str) -> list[int]:
        return [pid for pid, noted in self.notes() if noted == what]


@pytest.fixture
def stand_in(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path)


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """Waits until something is true."""

    def wait(what: Callable[[], object], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.05)

    return wait
