"""Workers as processes of this machine, one a GPU if there are several."""

import os
from collections.abc import Sequence
from dataclasses import replace

from leaderboard.sweep.executors.process import Process
from leaderboard.sweep.executors.protocol import Worker
from midlayer_embed.sharing.devices import THREADS, VISIBLE, n_cores


class LocalExecutor:
    """Processes of this machine. Unless it is said otherwise, they divide its cores.

    Args:
        devices: What CUDA_VISIBLE_DEVICES is for a worker, in turn; none: as it is here.
    """

    name = "local"
    detached = False

    def __init__(self, devices: Sequence[str] = ()) -> None:
        self._devices = devices

    def describe(self, workers: Sequence[Worker]) -> str:
        """The command lines."""
        return "\n".join(worker.line() for worker in self._placed(workers))

    def start(self, workers: Sequence[Worker]) -> list[Process]:
        """Starts the workers."""
        return [Process(worker) for worker in self._placed(workers)]

    def said(self) -> str:
        """Nothing."""
        return ""

    def close(self) -> None:
        """Nothing is left."""

    def _placed(self, workers: Sequence[Worker]) -> list[Worker]:
        """The workers, each with its device and threads."""
        placed = []
        for number, worker in enumerate(workers):
            environment = {**worker.environment}
            if self._devices:
                environment[VISIBLE] = self._devices[number % len(self._devices)]
            if THREADS not in {**os.environ, **environment}:
                environment[THREADS] = str(max(1, n_cores() // len(workers)))
            placed.append(replace(worker, environment=environment))
        return placed
