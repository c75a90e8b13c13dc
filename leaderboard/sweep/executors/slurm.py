"""Workers as an array of SLURM jobs, through submitit.

A job starts the worker's process and waits for it. Warned before its time is up or it is preempted, it stops the worker
in order, so that its claims are free, and goes back into the queue.
"""

import logging
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from leaderboard.sweep.executors.process import Process, stop_all, wait_for
from leaderboard.sweep.executors.protocol import LOST, Worker
from midlayer_embed.errors import InputError

logger = logging.getLogger(__name__)

# SLURM, or processes that submitit starts on this machine, to try the same without SLURM.
CLUSTERS = ("slurm", "local")
# What jobs get unless it is said otherwise: submitit's own would be five minutes.
DAY = 24 * 60
# How often a job comes back whose time was up.
TIMEOUTS = 100
# Seconds that a job leaves to a worker that it was warned about; SLURM's warning comes 90 seconds before the end.
_ORDERLY = 75
# Seconds after SIGTERM in which the job is requeued or killed.
_AFTER_TERM = 180
# Exit codes of a command that was stopped from outside: by SIGHUP, SIGINT or SIGTERM.
_STOPPED = (129, 130, 143)
# Seconds between two questions to SLURM.
_ASK_EVERY = 10


class SlurmExecutor:
    """An array of jobs.

    Args:
        files: Folder for submitit's own files, which every node has to reach; a new folder is made in it.
        options: Options of sbatch, such as {"partition": "gpu", "mem": "16GB"}, and submitit's own.
        cpus: Cores of each job; None: what the cluster gives.
        gpus: GPUs of each job; None: what the cluster gives.
    """

    name = "slurm"

    def __init__(
        self, files: Path, options: Mapping[str, str] | None = None, cpus: int | None = None, gpus: int | None = None
    ) -> None:
        given = {"time": str(DAY), "job-name": "midlayer", **_dashed(options or {})}
        self._cluster = given.pop("cluster", CLUSTERS[0])
        self._files, self._job = files, ""
        self.detached = self._cluster == "slurm"
        if cpus is not None:
            given["cpus-per-task"] = str(cpus)
        if gpus is not None:
            given["gpus-per-node"] = str(gpus)
        self._parameters = _parameters(given)

    def describe(self, workers: Sequence[Worker]) -> str:
        """The script for sbatch, with the workers of the array as comments."""
        from submitit.slurm.slurm import _make_sbatch_string

        listed = "\n".join(f"# {number}: {worker.line()}" for number, worker in enumerate(workers))
        folder = self._files / ".slurm-NEW"
        many = {"map_count": len(workers)} if len(workers) > 1 else {}
        command = f"{shlex.quote(sys.executable)} -u -m submitit.core._submit {shlex.quote(str(folder))}"
        script: str = _make_sbatch_string(command=command, folder=folder, **many, **self._parameters)
        return f"{script}\n# what the jobs run\n{listed}"

    def start(self, workers: Sequence[Worker]) -> list["_JobHandle"]:
        """Submits the jobs.

        Raises:
            InputError: (a ValueError) sbatch refuses them; the message is its own.
        """
        import submitit

        self._files.mkdir(parents=True, exist_ok=True)
        # In a folder that only we can write to: submitit unpickles what it finds there.
        folder = tempfile.mkdtemp(prefix=".slurm-", dir=self._files)
        if self._cluster == "slurm":
            executor = submitit.SlurmExecutor(folder, max_num_timeout=TIMEOUTS)
            executor.update_parameters(**self._parameters)
        else:
            executor = submitit.LocalExecutor(folder, max_num_timeout=TIMEOUTS)
            executor.update_parameters(timeout_min=self._parameters["time"])
        try:
            with redirect_stderr(StringIO()):  # submitit prints what sbatch says before it raises it
                jobs = executor.map_array(_Job(), [worker.as_dict() for worker in workers])
        except submitit.core.utils.FailedJobError as error:
            shutil.rmtree(folder)
            raise InputError(f"slurm: {_of_sbatch(str(error))}") from error
        self._job = str(jobs[0].job_id).partition("_")[0]
        watch = _Queue(self._job) if self._cluster == "slurm" else None
        return [_JobHandle(job, watch) for job in jobs]

    def said(self) -> str:
        """The number of the job."""
        return f"SLURM job {self._job}" if self.detached else ""

    def close(self) -> None:
        """Jobs go on without us."""


class _Job:
    """What submitit pickles, and runs: without a state of its own until it is called."""

    def __init__(self) -> None:
        self._process: Process | None = None

    def __call__(self, worker: dict[str, Any]) -> dict[str, Any]:
        given = Worker.from_dict(worker)
        self._process = Process(given)
        try:
            code = wait_for(self._process)
        finally:
            stop_all([self._process], _ORDERLY)
        if code in _STOPPED:
            # Preemption begins with a SIGTERM for all processes. A job that ended now would count as finished.
            time.sleep(_AFTER_TERM)
        return {"worker": given.name, "exit_code": code}

    def checkpoint(self, worker: dict[str, Any]) -> Any:
        """Called before the job goes back into the queue: stops the worker in order. What it did is in the folder."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            stop_all([self._process], _ORDERLY)
        return DelayedSubmission(_Job(), worker)


class _JobHandle:
    """A job of an array."""

    def __init__(self, job: Any, queue: "_Queue | None") -> None:
        self._job, self._queue = job, queue
        self._code: int | None = None

    def poll(self) -> int | None:
        """The exit code of the worker; `LOST` if its job was cancelled, or is gone without a result."""
        if self._code is None and self._is_over():
            self._code = self._result() if self._job.paths.result_pickle.exists() else LOST
        return self._code

    def stop(self) -> None:
        """Cancels the job: SLURM sends a SIGTERM first."""
        self._job.cancel(check=False)

    def kill(self) -> None:
        """Cancels the job."""
        self._job.cancel(check=False)

    def _is_over(self) -> bool:
        if self._queue is None:
            return bool(self._job.done())
        return self._job.paths.result_pickle.exists() or not self._queue.has(self._job.job_id)

    def _result(self) -> int:
        import submitit

        try:
            return int(self._job.result()["exit_code"])
        except submitit.core.utils.FailedJobError as error:
            logger.warning("job %s failed: %s", self._job.job_id, str(error).splitlines()[-1])
            return LOST


class _Queue:
    """What SLURM still has of an array. squeue is asked, since sacct needs a database that small clusters lack."""

    def __init__(self, job: str) -> None:
        self._job, self._asked = job, -float(_ASK_EVERY)
        self._listed: set[str] | None = None

    def has(self, job_id: str) -> bool:
        """Whether a job waits or runs, as far as is known."""
        if time.monotonic() - self._asked >= _ASK_EVERY:
            self._asked = time.monotonic()
            command = ["squeue", "--noheader", "--array", "--format=%i", f"--jobs={self._job}"]
            done = subprocess.run(command, capture_output=True, text=True)
            # SLURM forgets a job some minutes after its end. If it does not answer at all, nothing has changed.
            if not done.returncode or "Invalid job id" in done.stderr:
                self._listed = set(done.stdout.split())
        return self._listed is None or job_id in self._listed


def _dashed(options: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in options.items()}


def _parameters(options: Mapping[str, str]) -> dict[str, Any]:
    """Submitit's parameters for options of sbatch; it hands on what it does not know."""
    own: dict[str, Any] = {}
    others: dict[str, Any] = {}
    known = {
        *("job_name", "partition", "nodes", "cpus_per_task", "cpus_per_gpu", "gpus_per_node", "gpus_per_task", "qos"),
        *("mem", "mem_per_gpu", "mem_per_cpu", "signal_delay_s", "comment", "constraint", "exclude", "account", "gres"),
        *("mail_type", "mail_user", "nodelist", "dependency", "exclusive", "array_parallelism", "wckey"),
    }
    for name, value in options.items():
        parameter = name.replace("-", "_")
        if parameter == "time":
            own["time"] = parse_minutes(value)
        elif parameter == "setup":
            own["setup"] = [value]
        elif parameter in known:
            own[parameter] = int(value) if value.isdecimal() and parameter != "mem" else value
        else:
            others[name] = value
    if "cpus_per_task" in own:  # which srun does not take from its job
        own["srun_args"] = [f"--cpus-per-task={own['cpus_per_task']}"]
    # A job whose node fails goes back into the queue. submitit would name itself to the accounting.
    return {"wckey": None, **own, "additional_parameters": {"requeue": True, **others}}


def parse_minutes(text: str) -> int:
    """The minutes of a time as sbatch reads it.

    Raises:
        InputError: (a ValueError) it is none.

    Example:
        >>> [parse_minutes(text) for text in ("90", "1:30:00", "2-12", "1-00:30")]
        [90, 90, 3600, 1470]
    """
    days, dash, clock = text.partition("-") if "-" in text else ("0", "", text)
    parts = clock.split(":")
    if not days.isdecimal() or not all(part.isdecimal() for part in parts) or len(parts) > 3:
        raise InputError(f"slurm: expected a time such as 90, 12:00:00 or 2-12:00, got {text!r}")
    numbers = [int(part) for part in parts]
    if dash:  # days-hours[:minutes[:seconds]]
        hours, minutes, seconds = [*numbers, 0, 0][:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:  # minutes[:seconds]
        hours, (minutes, seconds) = 0, [*numbers, 0][:2]
    total = (int(days) * 24 + hours) * 60 + minutes + (seconds > 0)
    if total < 1:
        raise InputError(f"slurm: expected a time of at least a minute, got {text!r}")
    return total


def _of_sbatch(said: str) -> str:
    r"""What sbatch says is wrong, in one line.

    Example:
        >>> _of_sbatch("sbatch: error: no such partition\nsbatch: error: Batch job submission failed")
        'sbatch: Batch job submission failed'
    """
    lines = [line.removeprefix("sbatch: ") for line in said.splitlines() if line.strip()] or ["it failed"]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return f"sbatch: {errors[-1] if errors else lines[0]}"
