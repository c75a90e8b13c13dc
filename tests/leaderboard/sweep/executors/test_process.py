import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leaderboard.sweep.executors.process import Process, run_worker, stop_all, wait_for
from leaderboard.sweep.executors.protocol import RESTARTS

pytestmark = pytest.mark.process
Until = Callable[..., None]


def _is_gone(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" in status.read_text()


def test_a_worker_gets_its_arguments_and_its_output_is_in_its_log(stand_in: Any) -> None:
    worker = stand_in.worker("a b", "--shard", "1/1", "3")
    assert run_worker(worker) == 3
    assert [noted for _, noted in stand_in.notes()] == ["a b --shard 1/1 3", "ended"]
    header, *said = Path(worker.log).read_text().splitlines()
    assert header.startswith("--- ") and header.endswith("midlayer-leaderboard 'a b' --shard 1/1 3")
    assert said == ["said by the worker"]
    run_worker(worker)
    assert Path(worker.log).read_text().count("said by the worker") == 2  # the log of the first is kept


def test_a_worker_that_is_killed_starts_again_so_many_times(stand_in: Any, until: Until) -> None:
    process = Process(stand_in.worker("sleep"))
    for number in range(RESTARTS + 1):
        until(lambda n=number: process.poll() is None and len(stand_in.pids("sleep")) == n + 1)
        os.kill(stand_in.pids("sleep")[-1], signal.SIGKILL)
    until(lambda: process.poll() is not None)
    assert process.poll() == -signal.SIGKILL
    assert stand_in.pids("ended") == stand_in.pids("stopped") == []


def test_a_worker_that_ends_by_itself_does_not_start_again(stand_in: Any) -> None:
    process = Process(stand_in.worker("1"))
    assert [wait_for(process), process.poll()] == [1, 1]
    assert len(stand_in.pids("1")) == 1


def test_a_worker_is_stopped_in_order(stand_in: Any, until: Until) -> None:
    process = Process(stand_in.worker("sleep"))
    until(lambda: stand_in.pids("sleep"))
    stop_all([process])
    assert process.poll() == 143
    assert stand_in.pids("stopped") == stand_in.pids("sleep")


def test_an_interrupt_of_who_waits_stops_the_worker(stand_in: Any, until: Until) -> None:
    def interrupt() -> None:
        until(lambda: stand_in.pids("sleep"))
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run_worker(stand_in.worker("sleep"))
    assert stand_in.pids("stopped") == stand_in.pids("sleep")


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_ends_in_order_with_who_started_it(stand_in: Any, until: Until, end: int) -> None:
    code = (
        "import json, sys\n"
        "from leaderboard.sweep.executors.process import run_worker\n"
        "from leaderboard.sweep.executors.protocol import Worker\n"
        "run_worker(Worker(**json.loads(sys.argv[1])))"
    )

    given = json.dumps(stand_in.worker("sleep").as_dict())
    with subprocess.Popen([sys.executable, "-c", code, given]) as parent:
        until(lambda: stand_in.pids("sleep"))
        parent.send_signal(end)
    until(lambda: stand_in.pids("stopped") == stand_in.pids("sleep"))
    until(lambda: _is_gone(stand_in.pids("sleep")[0]))


def test_a_worker_is_deaf_to_the_signal_that_submitit_waits_for(stand_in: Any, until: Until) -> None:
    process = Process(stand_in.worker("sleep"))
    os.kill(process.pid, signal.SIGUSR2)  # before it has begun
    until(lambda: stand_in.pids("sleep"))
    os.kill(process.pid, signal.SIGUSR2)
    os.kill(process.pid, signal.SIGTERM)
    assert wait_for(process) == 143
    assert signal.SIGUSR2 not in signal.pthread_sigmask(signal.SIG_BLOCK, [])  # we are not
