"""Checks of the arguments of `submit`, and the executor that they name. No engine is imported here."""

import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from leaderboard.sweep.executors.local import LocalExecutor
from leaderboard.sweep.executors.protocol import ENGINES, Executor
from leaderboard.sweep.executors.ray import RayExecutor
from leaderboard.sweep.executors.slurm import CLUSTERS, SlurmExecutor
from midlayer_embed.errors import InputError
from midlayer_embed.ground.checks import check_optional_int
from midlayer_embed.sharing.devices import parse_devices

# The package of an engine; the extra that installs it has the engine's name.
_PACKAGES = {"slurm": "submitit", "ray": "ray"}


def check_workers(workers: int | None) -> None:
    """Checks a number of workers; None is one a device.

    Raises:
        InputError: (a ValueError) not an int of at least 1.
    """
    check_optional_int("workers", workers, 1)


def make_executor(
    engine: str,
    *,
    logs: Path,
    devices: str | None = None,
    cpus: int | None = None,
    gpus: str | None = None,
    slurm: Sequence[str] = (),
    address: str | None = None,
    stays: bool = False,
    dry_run: bool = False,
) -> tuple[Executor, int]:
    """The executor, and how many workers it gets if nobody says so: one a device.

    Args:
        engine: "local", "slurm" or "ray".
        logs: Folder for logs.
        devices: Of "local": "all", or numbers with commas between them.
        cpus: Cores of each worker.
        gpus: Of "slurm" and "ray": GPUs of each worker.
        slurm: Of "slurm": options of sbatch as NAME=VALUE.
        address: Of "ray": of the cluster.
        stays: Of "slurm": whether we wait for the end of the jobs.
        dry_run: Whether nothing is going to be submitted, so that sbatch need not be there.

    Raises:
        InputError: (a ValueError) the message names the argument, what came and what was expected.
    """
    if engine not in ENGINES:
        raise InputError(f"engine: expected one of {', '.join(ENGINES)}, got {engine!r}")
    _check_belongs(engine, "devices", devices, ("local",), "; --gpus N asks SLURM or Ray for GPUs")
    _check_belongs(engine, "gpus", gpus, ("slurm", "ray"), "; --devices says which GPUs of this machine to use")
    _check_belongs(engine, "slurm", slurm, ("slurm",))
    _check_belongs(engine, "address", address, ("ray",))
    _check_belongs(engine, "follow", stays or None, ("slurm",), "; with others it is always so")
    check_optional_int("cpus", cpus, 1)
    if (package := _PACKAGES.get(engine)) and find_spec(package) is None:
        raise InputError(f'engine: {engine} needs {package}; pip install "midlayer-embed[{engine}]"')
    if engine == "local":
        visible = parse_devices(devices) if devices is not None else []
        return LocalExecutor(visible), max(1, len(visible))
    if engine == "ray":
        return RayExecutor(address, cpus, _number_of("gpus", gpus)), 1
    options = _options(slurm)
    n_gpus = _number_of("gpus", gpus)
    if n_gpus is not None and n_gpus != int(n_gpus):
        raise InputError(f"gpus: SLURM gives whole GPUs, got {gpus}")
    executor = SlurmExecutor(logs, options, cpus, None if n_gpus is None else int(n_gpus))
    if executor.detached and not dry_run and (missing := [p for p in ("sbatch", "srun") if shutil.which(p) is None]):
        raise InputError(
            f"engine: there is no {missing[0]} on this machine; submit from a login node of the cluster, or see the "
            "script with --dry-run"
        )
    return executor, 1


def _check_belongs(engine: str, name: str, value: object, engines: Sequence[str], hint: str = "") -> None:
    if value not in (None, ()) and value != [] and engine not in engines:
        raise InputError(f"{name}: only --engine {' and '.join(engines)} takes it, got --engine {engine}{hint}")


def _number_of(name: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number < 1e6 or (number > 1 and number != int(number)):
        raise InputError(f"{name}: expected a whole number, or a part of one such as 0.5, got {text!r}")
    return number


def _options(slurm: Sequence[str]) -> dict[str, str]:
    options = {}
    for option in slurm:
        name, equals, value = option.partition("=")
        name = name.lstrip("-").replace("_", "-")
        if not equals or not name or not value or any(sign in option for sign in "\n\r\0"):
            raise InputError(f"slurm: expected options of sbatch such as partition=gpu, got {option!r}")
        if name in options:
            raise InputError(f"slurm: {name} is given twice")
        if name in ("array", "output", "error", "open-mode", "signal", "wrap"):
            raise InputError(f"slurm: {name} is set by submit, got {option!r}")
        options[name] = value
    if (cluster := options.get("cluster", CLUSTERS[0])) not in CLUSTERS:
        raise InputError(f"slurm: cluster: expected one of {', '.join(CLUSTERS)}, got {cluster!r}")
    return options
