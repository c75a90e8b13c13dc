"""A worker as a process. Every engine starts its workers so; what differs is who does it, and on which machine."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from leaderboard.sweep.executors.protocol import RESTARTS, Handle, Worker
from midlayer_embed.ground.workers import absolute_python_path
from midlayer_embed.sharing.attached import GRACE

logger = logging.getLogger(__name__)

# Seconds between two looks at a process.
LOOK_EVERY = 0.2


class Process:
    """A running worker. It starts again if a signal kills it, such as that of a machine without memory.

    Args:
        worker: The worker.

    Attributes:
        pid: Its process.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._restarts = RESTARTS
        self._stopped = False
        self._start()

    def _start(self) -> None:
        worker = self.worker
        Path(worker.log).parent.mkdir(parents=True, exist_ok=True)
        ours = {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", "PYTHONPATH": absolute_python_path()}
        with open(worker.log, "ab") as log, _without_user_signal():
            log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {worker.line()}\n".encode())
            log.flush()
            self._child = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.attached", worker.module, *worker.arguments],
                stdin=subprocess.PIPE,  # never written to: it closes when we end
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **ours, **worker.environment},
                cwd=worker.folder if os.path.isdir(worker.folder) else None,
                start_new_session=True,  # Ctrl-C is for us; we stop the workers
            )
        self.pid = self._child.pid

    def poll(self) -> int | None:
        """The exit code, negative if a signal has killed the worker for good; None while it runs."""
        code = self._child.poll()
        if code is None or code >= 0 or self._stopped or not self._restarts:
            return code
        self._restarts -= 1
        logger.warning("worker %s was killed by %s; it starts again", self.worker.name, _signal(-code))
        self._start()
        return None

    def stop(self) -> None:
        """Tells the worker to end in order; does not wait for it."""
        self._stopped = True
        if self._child.poll() is None:
            self._child.terminate()

    def kill(self) -> None:
        """Ends the worker at once."""
        self._stopped = True
        if self._child.poll() is None:
            self._child.kill()


def run_worker(worker: Worker) -> int:
    """Runs a worker to its end, and stops it in order if we are interrupted. Returns its exit code."""
    process = Process(worker)
    try:
        return wait_for(process)
    finally:
        stop_all([process])


def wait_for(process: Process) -> int:
    """Waits for the end of a worker. Returns its exit code."""
    while (code := process.poll()) is None:
        time.sleep(LOOK_EVERY)
    return code


def stop_all(handles: Sequence[Handle], grace: float = GRACE) -> None:
    """Stops workers in order, and kills those that still run after `grace` seconds, or if we are interrupted again."""
    for handle in handles:
        handle.stop()
    deadline = time.monotonic() + grace
    try:
        while any(handle.poll() is None for handle in handles) and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY)
    finally:
        for handle in handles:
            if handle.poll() is None:
                handle.kill()


@contextmanager
def _without_user_signal() -> Iterator[None]:
    """Within the block, started processes are deaf to SIGUSR2, with which SLURM warns all processes of a job at once.

    Only the one that submitit has started knows what to do about it.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
