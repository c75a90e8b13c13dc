"""Stand-ins of a worker, a SLURM cluster of one node on this machine, and waiting for what processes do."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
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


# A job that is requeued runs again when its credentials have expired: after two minutes, if nothing else is said.
_SLURM = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1
KillWait=5
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory, until: Callable[..., None]) -> Iterator[Path]:
    """A running SLURM cluster; the fixture is its configuration, which is also in SLURM_CONF."""
    sbin = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])
    programs = {name: shutil.which(name, path=sbin) for name in ("munged", "slurmctld", "slurmd", "sbatch", "srun")}
    if missing := [name for name, path in programs.items() if path is None]:
        pytest.skip(f"SLURM is not installed: there is no {missing[0]}")
    folder = tmp_path_factory.mktemp("slurm")
    for made in (folder, folder / "state", folder / "spool"):
        made.mkdir(exist_ok=True, mode=0o755)
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    host = socket.gethostname().partition(".")[0]
    configuration = folder / "slurm.conf"
    configuration.write_text(_SLURM.format(host=host, user=getpass.getuser(), folder=folder, ports=ports))
    key = folder / "munge.key"
    key.touch(0o600)
    key.write_bytes(os.urandom(1024))
    munge = ["--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={key}"]
    munge += [f"--{name}={folder}/munge.{name}" for name in ("pid-file", "log-file", "seed-file")]
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("SLURM_CONF", str(configuration))

        def start(name: str, *arguments: str) -> None:
            log = stack.enter_context(open(folder / f"{name}.out", "wb"))
            command = [str(programs[name]), *arguments]
            daemon = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
            stack.callback(daemon.wait, 30)
            stack.callback(daemon.terminate)

        start("munged", *munge)
        until((folder / "munge.socket").exists)
        start("slurmctld", "-D", "-f", str(configuration))
        start("slurmd", "-D", "-f", str(configuration), "-N", host)

        def is_idle() -> bool:
            return " idle " in subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True).stdout

        until(is_idle)
        try:
            yield configuration
        finally:
            subprocess.run(["scancel", "--user", getpass.getuser()], check=False)
            until(is_idle)
