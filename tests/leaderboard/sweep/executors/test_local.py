from typing import Any

import pytest

from leaderboard.sweep.executors import local
from leaderboard.sweep.executors.devices import parse_devices
from leaderboard.sweep.executors.local import LocalExecutor
from leaderboard.sweep.executors.protocol import Worker
from midlayer_embed.errors import InputError


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


@pytest.mark.parametrize(
    ("visible", "devices", "expected"),
    [
        ("0,1,2", "all", ["0", "1", "2"]),
        ("4,5", "1", ["5"]),
        ("4, 5", "1,0", ["5", "4"]),
        ("MIG-a,MIG-b", "all", ["MIG-a", "MIG-b"]),
        ("3,-1,5", "all", ["3"]),
    ],
)
def test_devices_count_what_is_visible(
    visible: str, devices: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert parse_devices(devices) == expected


@pytest.mark.parametrize(
    ("visible", "devices", "message"),
    [
        ("0,1", "2", r"devices: expected some of 0..1, got 2"),
        ("0,1", "0,0", 'devices: expected "all" or distinct numbers such as 0,1, got '),
        ("0,1", "0,", 'devices: expected "all" or distinct numbers'),
        ("0,1", "-1", 'devices: expected "all" or distinct numbers'),
        ("0,1", "cuda:0", 'devices: expected "all" or distinct numbers'),
        ("", "all", "devices: no NVIDIA GPU is visible on this machine, got 'all'"),
        ("-1", "0", "devices: no NVIDIA GPU is visible"),
    ],
)
def test_devices_that_are_not_there(visible: str, devices: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(InputError, match=message):
        parse_devices(devices)


def test_devices_are_asked_of_the_driver(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 0\necho 1\n")
    program.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert parse_devices("all") == ["0", "1"]
    program.write_text("#!/bin/sh\necho no devices were found\nexit 6\n")
    with pytest.raises(InputError, match="no NVIDIA GPU is visible"):
        parse_devices("all")
