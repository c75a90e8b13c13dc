import logging
import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from leaderboard.sweep.executors.follow import exit_code_of, follow
from leaderboard.sweep.executors.local import LocalExecutor
from leaderboard.sweep.executors.protocol import LOST, RESTARTS, Worker

Until = Callable[..., None]
_WORKERS = [Worker(f"{i}-of-3", (), f"{i}.log", ".") for i in (1, 2, 3)]


class _Losing:
    """An engine whose second worker is lost so many times."""

    name, detached = "losing", False

    def __init__(self, times: int) -> None:
        self.left = times
        self.started: list[str] = []

    def said(self) -> str:
        return "an engine"

    def start(self, workers: Sequence[Worker]) -> list["_Ended"]:
        self.started += [worker.name for worker in workers]
        ends = []
        for worker in workers:
            is_lost = worker.name == "2-of-3" and self.left > 0
            self.left -= is_lost
            ends.append(_Ended(LOST if is_lost else 0))
        return ends


class _Ended:
    def __init__(self, code: int) -> None:
        self.code = code

    def poll(self) -> int:
        return self.code

    def stop(self) -> None:
        raise AssertionError("it has ended")


@pytest.mark.parametrize("times", [0, 2, RESTARTS, RESTARTS + 1])
def test_a_worker_that_an_engine_loses_starts_again_so_many_times(times: int, caplog: Any) -> None:
    engine = _Losing(times)
    with caplog.at_level(logging.WARNING, "leaderboard"):
        codes = follow(engine, _WORKERS, lambda: None)  # type: ignore[arg-type]
    assert codes == [0, LOST if times > RESTARTS else 0, 0]
    assert engine.started == [worker.name for worker in _WORKERS] + ["2-of-3"] * min(times, RESTARTS)
    assert caplog.text.count("worker 2-of-3 is lost") == min(times, RESTARTS)


@pytest.mark.parametrize(
    ("codes", "code", "said"),
    [
        ([0, 0, 0], 0, []),
        ([0, 1, 0], 1, ["worker 2-of-3 ended with 1: 2.log"]),
        ([2, 2, 2], 2, [f"worker {i}-of-3 ended with 2: {i}.log" for i in (1, 2, 3)]),
        ([2, 0, 0], 1, ["worker 1-of-3 ended with 2: 1.log"]),
        ([0, 0, -9], 1, ["worker 3-of-3 was killed by signal 9: 3.log"]),
        ([LOST, 0, 0], 1, ["worker 1-of-3 was lost: 1.log"]),
    ],
)
def test_the_exit_code_is_that_of_run(codes: list[int], code: int, said: list[str], caplog: Any) -> None:
    assert exit_code_of(codes, _WORKERS) == code
    assert [record.getMessage() for record in caplog.records] == said


@pytest.mark.process
def test_processes_of_this_machine_are_followed_to_their_ends(stand_in: Any) -> None:
    workers = [stand_in.worker(str(code), name=f"{code}-of-3") for code in (0, 1, 2)]
    assert follow(LocalExecutor(), workers, lambda: None) == [0, 1, 2]


@pytest.mark.process
def test_an_interrupt_stops_all_workers_in_order(stand_in: Any, until: Until) -> None:
    workers = [stand_in.worker("sleep", name=f"{number}-of-3") for number in (1, 2, 3)]

    def interrupt() -> None:
        until(lambda: len(stand_in.pids("sleep")) == 3)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        follow(LocalExecutor(), workers, lambda: None)
    assert sorted(stand_in.pids("stopped")) == sorted(stand_in.pids("sleep"))


def test_a_mistake_that_workers_notice_is_told(tmp_path: Path, caplog: Any) -> None:
    log = tmp_path / "a.log"
    log.write_text("--- run\nmidlayer-leaderboard: model: there is no such\n")
    assert exit_code_of([2], [Worker("1-of-1", (), str(log), ".")]) == 2
    assert caplog.messages == [f"worker 1-of-1 ended with 2: {log} (midlayer-leaderboard: model: there is no such)"]
