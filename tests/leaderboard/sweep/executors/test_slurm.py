"""Through submitit: on this machine without SLURM, and on a SLURM cluster of one node where SLURM is installed."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leaderboard.sweep.executors.follow import follow
from leaderboard.sweep.executors.slurm import SlurmExecutor, parse_minutes
from midlayer_embed.errors import InputError

Until = Callable[..., None]
_EXAMPLES = Path(__file__).parents[4] / "examples" / "cluster"


@pytest.fixture
def submitit() -> None:
    pytest.importorskip("submitit")


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("text", ["", "x", "1:2:3:4", "-5", "1-", "1-x", "0", "0:00"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(InputError, match="slurm: expected a time"):
        parse_minutes(text)


@pytest.mark.parametrize(
    ("text", "minutes"), [("1", 1), ("90:00", 90), ("0:30", 1), ("24:00:00", 1440), ("7-0", 10080), ("0-0:01:30", 2)]
)
def test_times_are_read_as_sbatch_reads_them(text: str, minutes: int) -> None:
    assert parse_minutes(text) == minutes


@pytest.mark.usefixtures("submitit")
def test_the_script_has_what_is_asked_for_and_nothing_is_written(stand_in: Any, tmp_path: Path) -> None:
    options = {"partition": "gpu", "mem": "16GB", "hint": "nomultithread", "mail_user": "a@b.c"}
    executor = SlurmExecutor(tmp_path / "new", options, cpus=4, gpus=1)
    script = executor.describe([stand_in.worker("a b", str(number)) for number in range(3)])
    lines = script.splitlines()
    for expected in (
        *("--array=0-2%3", "--partition=gpu", "--mem=16GB", "--hint=nomultithread", "--mail-user=a@b.c"),
        *("--cpus-per-task=4", "--gpus-per-node=1", "--requeue", "--time=1440", "--job-name=midlayer"),
    ):
        assert f"#SBATCH {expected}" in lines
    assert next(line for line in lines if line.startswith("srun")).count("--cpus-per-task=4") == 1
    assert lines[-1].startswith("# 2: ") and lines[-1].endswith("midlayer-leaderboard 'a b' 2")
    assert not (tmp_path / "new").exists()


@pytest.mark.process
@pytest.mark.usefixtures("submitit")
def test_without_slurm_the_same_jobs_are_processes(stand_in: Any, tmp_path: Path, until: Until) -> None:
    executor = SlurmExecutor(tmp_path / "files", {"cluster": "local"})
    assert not executor.detached
    assert follow(executor, [stand_in.worker(code) for code in ("0", "1", "2")], lambda: None) == [0, 1, 2]


@pytest.mark.process
@pytest.mark.usefixtures("submitit")
def test_a_job_that_is_killed_starts_again_and_its_worker_ends_in_order(
    stand_in: Any, tmp_path: Path, until: Until
) -> None:
    def kill_the_job() -> None:
        until(lambda: stand_in.pids("sleep"))
        os.kill(_parent(stand_in.pids("sleep")[0]), signal.SIGKILL)
        until(lambda: len(stand_in.pids("sleep")) == 2)
        os.kill(stand_in.pids("sleep")[1], signal.SIGKILL)  # and the worker alone
        until(lambda: len(stand_in.pids("sleep")) == 3)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=kill_the_job).start()
    with pytest.raises(KeyboardInterrupt):
        follow(SlurmExecutor(tmp_path / "files", {"cluster": "local"}), [stand_in.worker("sleep")], lambda: None)
    first, _, third = stand_in.pids("sleep")
    until(lambda: stand_in.pids("stopped") == [first, third])


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.usefixtures("submitit")
class TestOnACluster:
    def test_sbatch_takes_the_script(self, slurm: Path, stand_in: Any, tmp_path: Path) -> None:
        for n_workers in (1, 3):
            executor = SlurmExecutor(tmp_path, {"partition": "main", "time": "2-0", "mem": "500M"}, cpus=2)
            script = tmp_path / "script.sh"
            script.write_text(executor.describe([stand_in.worker("0")] * n_workers))
            done = subprocess.run(["sbatch", "--test-only", str(script)], capture_output=True, text=True)
            assert done.returncode == 0 and "to start at" in done.stderr, done.stderr

    def test_jobs_are_followed_to_their_ends(self, slurm: Path, stand_in: Any, tmp_path: Path) -> None:
        executor = SlurmExecutor(tmp_path / "files")
        assert executor.detached
        assert follow(executor, [stand_in.worker(code) for code in ("0", "1", "2")], lambda: None) == [0, 1, 2]
        assert executor.said().startswith("SLURM job ")

    @pytest.mark.parametrize("how", ["warned", "preempted", "requeued"])
    def test_a_job_that_has_to_leave_stops_its_worker_in_order_and_comes_back(
        self, how: str, slurm: Path, stand_in: Any, tmp_path: Path, until: Until
    ) -> None:
        executor = SlurmExecutor(tmp_path / "files")
        names = ["1-of-2", "2-of-2"]
        handles = executor.start([stand_in.worker("sleep", name, name=name) for name in names])
        until(lambda: len(stand_in.notes()) == 2)
        job = f"{executor.said().split()[-1]}_1"
        if how == "preempted":  # as SLURM does it
            _said("scancel", "--signal=TERM", job)
        _said(*(("scontrol", "requeue", job) if how == "requeued" else ("scancel", "--signal=USR2", job)))
        until(lambda: stand_in.pids("stopped") == stand_in.pids("sleep 2-of-2")[:1])
        assert handles[1].poll() is None
        until(lambda: len(stand_in.pids("sleep 2-of-2")) == 2)
        assert len(stand_in.pids("sleep 1-of-2")) == 1  # the other one was left alone
        for handle in handles:
            handle.stop()
        until(lambda: len(stand_in.pids("stopped")) == 3)

    def test_the_example_without_an_engine_gives_back_and_comes_back(
        self, slurm: Path, stand_in: Any, tmp_path: Path, until: Until, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        command = tmp_path / "bin" / "midlayer-leaderboard"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m stand_in "$@" sleep\n')
        command.chmod(0o755)
        for name, value in stand_in.worker().environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PATH", os.pathsep.join([str(command.parent), os.environ["PATH"]]))
        script = str(_EXAMPLES / "slurm_array.sh")
        options = ["--parsable", "--array=1-2", "--cpus-per-task=1", f"--output={tmp_path}/%a.log"]
        job = _said("sbatch", *options, script, "a model", "--limit", "3").strip()
        until(lambda: len(stand_in.pids("run a model --limit 3 --shard auto sleep")) == 2)
        _said("scancel", "--batch", "--signal=USR1", f"{job}_1")
        until(lambda: len(stand_in.pids("stopped")) == 1)
        until(lambda: len(stand_in.pids("run a model --limit 3 --shard auto sleep")) == 3)
        _said("scancel", job)
        until(lambda: len(stand_in.pids("stopped")) == 3)

    def test_a_job_that_is_cancelled_is_lost(self, slurm: Path, stand_in: Any, tmp_path: Path, until: Until) -> None:
        executor = SlurmExecutor(tmp_path / "files")
        (handle,) = executor.start([stand_in.worker("sleep")])
        until(lambda: stand_in.pids("sleep"))
        assert handle.poll() is None
        _said("scancel", executor.said().split()[-1])
        until(lambda: handle.poll() is not None)
        assert handle.poll() == -1000

    def test_what_sbatch_says_is_told_in_one_line(
        self, slurm: Path, stand_in: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        for options, message in (
            ({"partition": "nowhere"}, "slurm: sbatch: .*Invalid partition"),
            ({"colour": "red"}, "slurm: sbatch: .*colour"),
        ):
            with pytest.raises(InputError, match=message) as told:
                SlurmExecutor(tmp_path / "files", options).start([stand_in.worker("0")])
            assert "\n" not in str(told.value)
        assert capfd.readouterr().err == ""
        assert list((tmp_path / "files").iterdir()) == []


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
