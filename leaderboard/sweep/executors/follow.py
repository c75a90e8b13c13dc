"""Stays with workers until they have ended: shows how far the sweep is, and starts again what an engine has lost."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from leaderboard.sweep.executors.process import LOOK_EVERY, stop_all
from leaderboard.sweep.executors.protocol import LOST, RESTARTS, Executor, Handle, Worker

logger = logging.getLogger(__name__)

# Exit code of `run` for a mistake in its arguments.
_MISTAKE = 2
# Seconds between two looks at the results folder.
_SHOW_EVERY = 5


def follow(executor: Executor, workers: Sequence[Worker], show: Callable[[], None]) -> list[int]:
    """Starts workers and waits for their ends. An interrupt stops all of them in order.

    Args:
        executor: Who runs them.
        workers: The workers.
        show: Shows how far the sweep is; called every few seconds.

    Returns:
        The exit codes of the workers, negative for those that were killed or lost too often.

    Raises:
        InputError: (a ValueError) the engine does not take them.
    """
    handles: list[Handle] = []
    restarts = [RESTARTS] * len(workers)
    shown = time.monotonic()
    try:
        handles += executor.start(workers)
        if said := executor.said():
            logger.info(said)
        while True:
            codes = [handle.poll() for handle in handles]
            for number, code in enumerate(codes):
                if code == LOST and restarts[number]:
                    restarts[number] -= 1
                    logger.warning("worker %s is lost; it starts again", workers[number].name)
                    (handles[number],) = executor.start([workers[number]])
                    codes[number] = None
            ended = [code for code in codes if code is not None]
            if len(ended) == len(codes):
                return ended
            if time.monotonic() - shown >= _SHOW_EVERY:
                show()
                shown = time.monotonic()
            time.sleep(LOOK_EVERY)
    finally:
        stop_all([handle for handle in handles if handle.poll() is None])


def exit_code_of(codes: Sequence[int], workers: Sequence[Worker]) -> int:
    """The exit code of all workers together, as `run` would have it; says which did not end well.

    Returns:
        0 if all are 0; 2 if every worker ended with that, for a mistake in their arguments; else 1.
    """
    for code, worker in zip(codes, workers, strict=True):
        if code:
            how = f"ended with {code}" if code > 0 else "was lost" if code == LOST else f"was killed by signal {-code}"
            why = f" ({said})" if code == _MISTAKE and (said := _last_line(worker.log)) else ""
            logger.error("worker %s %s: %s%s", worker.name, how, worker.log, why)
    return 0 if not any(codes) else _MISTAKE if set(codes) == {_MISTAKE} else 1


def _last_line(log: str) -> str:
    """What a worker said last; empty if its log is on another machine."""
    try:
        lines = Path(log).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line for line in reversed(lines) if line.strip()), "")
