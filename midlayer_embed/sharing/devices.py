"""The GPUs and cores of this machine that processes share, without importing torch."""

import os
import shutil
import subprocess

from midlayer_embed.errors import InputError

# What says which GPUs a process sees, and how many threads it may use.
VISIBLE, THREADS = "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"


def parse_devices(text: str) -> list[str]:
    """What CUDA_VISIBLE_DEVICES has to be for each of the named devices alone.

    Args:
        text: "all", or numbers with commas between them. They count the devices that are visible to this process: if
            CUDA_VISIBLE_DEVICES is "4,5", device 1 is 5.

    Raises:
        InputError: (a ValueError) neither of both, or no such device.
    """
    wanted = None if text == "all" else [part.strip().removeprefix("cuda:") for part in text.split(",")]
    if wanted is not None and (not all(part.isdecimal() for part in wanted) or len({*wanted}) < len(wanted)):
        raise InputError(f'devices: expected "all" or distinct numbers such as 0,1, got {text!r}')
    found = _visible()
    if not found:
        raise InputError(f"devices: no NVIDIA GPU is visible on this machine, got {text!r}")
    numbers = range(len(found)) if wanted is None else [int(part) for part in wanted]
    if too_high := [number for number in numbers if number >= len(found)]:
        raise InputError(f"devices: expected some of 0..{len(found) - 1}, got {', '.join(map(str, too_high))}")
    return [found[number] for number in numbers]


def _visible() -> list[str]:
    if (listed := os.environ.get(VISIBLE)) is not None:
        names = [name.strip() for name in listed.split(",")]
        # as CUDA does: what comes after a device that there cannot be is not visible
        end = next((i for i, name in enumerate(names) if name in ("", "-1", "NoDevFiles")), len(names))
        return names[:end]
    if (program := shutil.which("nvidia-smi")) is None:
        return []
    command = [program, "--query-gpu=index", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return (
        [line.strip() for line in done.stdout.splitlines() if line.strip().isdecimal()] if not done.returncode else []
    )


def n_cores() -> int:
    """Cores that this process may use: in a container or a job, fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
