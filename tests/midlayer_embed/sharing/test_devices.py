from typing import Any

import pytest

from midlayer_embed.errors import InputError
from midlayer_embed.sharing.devices import parse_devices


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
        ("0,1", "cuda", 'devices: expected "all" or distinct numbers'),
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
