import pytest

from leaderboard.sweep.executors import local
from leaderboard.sweep.executors.local import LocalExecutor
from leaderboard.sweep.executors.protocol import Worker


def _workers(n: int) -> list[Worker]:
    return [Worker(f"{i}-of-{n}", ("run", "a model", "--shard", f"{i}/{n}"), "a.log", ".") for i in range(1, n + 1)]


def test_workers_divide_the_cores_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "n_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    lines = LocalExecutor().describe(_workers(3)).splitlines()
    assert lines[1] == "OMP_NUM_THREADS=2 midlayer-leaderboard run 'a model' --shard 2/3"
    assert LocalExecutor().describe(_workers(9)).startswith("OMP_NUM_THREADS=1 ")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert LocalExecutor().describe(_workers(3)).startswith("midlayer-leaderboard ")


def test_each_worker_has_one_device_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    lines = LocalExecutor(["4", "GPU-a"]).describe(_workers(3)).splitlines()
    assert [line.split()[0] for line in lines] == [f"CUDA_VISIBLE_DEVICES={name}" for name in ("4", "GPU-a", "4")]
