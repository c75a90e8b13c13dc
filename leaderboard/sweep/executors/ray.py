"""Workers as tasks of Ray. A task starts the worker's process, waits for it and returns its exit code, nothing else."""

import os
import signal
import socket
import threading
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from leaderboard.sweep.executors.process import run_worker
from leaderboard.sweep.executors.protocol import LOST, RESTARTS, Worker
from midlayer_embed.errors import InputError
from midlayer_embed.ground.failures import reason_of

# Where `ray.init` looks for a cluster, too.
ADDRESS = "RAY_ADDRESS"
# Seconds in which a cluster has to answer.
_ANSWER_WITHIN = 10


class RayExecutor:
    """Tasks of a Ray cluster.

    Args:
        address: Of the cluster, such as "auto" or "ray://host:10001"; None: what RAY_ADDRESS says, or a cluster of this
            machine, which ends with us.
        cpus: Cores of each worker; None: 1.
        gpus: GPUs of each worker, also a part of one, such as 0.5; None: 1 if the cluster has any.
    """

    name = "ray"
    detached = False

    def __init__(self, address: str | None = None, cpus: int | None = None, gpus: float | None = None) -> None:
        self._address = address or os.environ.get(ADDRESS) or None
        self._cpus, self._gpus = cpus or 1, gpus
        self._started = False

    def describe(self, workers: Sequence[Worker]) -> str:
        """The cluster, the options of the tasks, and the command lines."""
        cluster = "a cluster of this machine" if self._address is None else f"the cluster at {self._address}"
        gpus = "1 if the cluster has GPUs, else 0" if self._gpus is None else self._gpus
        options = ", ".join(f"{name}={value}" for name, value in {**self._options(0), "num_gpus": gpus}.items())
        return "\n".join([f"# {cluster}; tasks with {options}", *(worker.line() for worker in workers)])

    def start(self, workers: Sequence[Worker]) -> list["_Task"]:
        """Starts a task for each worker; tasks wait for free resources.

        Raises:
            InputError: (a ValueError) there is no cluster at the address, or this machine has too few GPUs or cores.
        """
        import ray

        if not ray.is_initialized():
            self._connect(len(workers))
        gpus = self._gpus
        resources = ray.cluster_resources()
        if gpus is None:
            gpus = 1 if resources.get("GPU") else 0
        if self._address is None and gpus > resources.get("GPU", 0):
            raise InputError(f"gpus: this machine has {resources.get('GPU', 0):g} for Ray, got {gpus:g}")
        task = ray.remote(**self._options(gpus))(_run)
        return [_Task(task.options(name=f"worker {worker.name}").remote(worker.as_dict())) for worker in workers]

    def said(self) -> str:
        """The cluster."""
        import ray

        nodes = sum(node["Alive"] for node in ray.nodes())
        return f"Ray cluster {ray.get_runtime_context().gcs_address}, {nodes} node{'s' * (nodes != 1)}"

    def close(self) -> None:
        """Leaves the cluster, or ends it if it is ours."""
        if self._started:
            import ray

            ray.shutdown()

    def _options(self, gpus: float) -> dict[str, Any]:
        """Each task has a process of its own, so that memory comes back; a lost one starts again, on any node."""
        return {
            "num_cpus": self._cpus,
            "num_gpus": gpus,
            "max_retries": RESTARTS,
            "max_calls": 1,
            "scheduling_strategy": "SPREAD",
        }

    def _connect(self, n_workers: int) -> None:
        import ray

        if self._address is not None:
            _check_answers(self._address)
        # All workers of this machine's own cluster run at a time, however many cores there are.
        own = {"num_cpus": n_workers * self._cpus, "include_dashboard": False} if self._address is None else {}
        before = signal.getsignal(signal.SIGTERM)
        try:
            # "local": a cluster of our own, though others of this machine may have started one here
            ray.init(address=self._address or "local", log_to_driver=False, logging_level="ERROR", **own)
        except (ConnectionError, RuntimeError, ValueError) as error:
            where = "on this machine" if self._address is None else f"at {self._address}"
            raise InputError(f"address: no Ray cluster {where}: {reason_of(error)}") from error
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)  # Ray's own ends with another exit code
        self._started = True


def _check_answers(address: str) -> None:
    """Tries an address before Ray does, which takes minutes to give up.

    Raises:
        InputError: (a ValueError) nobody answers there.
    """
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if parts.scheme not in ("", "ray") or address in ("auto", "local"):
        return  # such as a hosted cluster: Ray knows
    if host is None or port is None:
        raise InputError(f'address: expected "auto", HOST:PORT or ray://HOST:PORT, got {address!r}')
    try:
        socket.create_connection((host, port), timeout=_ANSWER_WITHIN).close()
    except OSError as error:
        raise InputError(f"address: no Ray cluster at {address}: {reason_of(error)}") from error


class _Task:
    """A task of Ray."""

    def __init__(self, reference: Any) -> None:
        self._reference = reference
        self._code: int | None = None

    def poll(self) -> int | None:
        """The exit code of the worker; `LOST` if its task was stopped, or lost more often than Ray retries."""
        import ray

        if self._code is None and ray.wait([self._reference], timeout=0)[0]:
            try:
                self._code = ray.get(self._reference)["exit_code"]
            except ray.exceptions.RayError:
                self._code = LOST
        return self._code

    def stop(self) -> None:
        """Interrupts the task, which stops the worker in order."""
        self._cancel(force=False)

    def kill(self) -> None:
        """Ends the task's process. Its worker ends by itself, since nobody holds its stdin."""
        self._cancel(force=True)

    def _cancel(self, force: bool) -> None:
        import ray

        if self.poll() is None:
            ray.cancel(self._reference, force=force)


def _run(worker: dict[str, Any]) -> dict[str, Any]:
    """What Ray runs. Its arguments and what it returns are strings and numbers."""
    given = Worker.from_dict(worker)
    return {"worker": given.name, "exit_code": run_worker(given)}
