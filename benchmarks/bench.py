"""Shared parts of the benchmarks: rows of the results table, timers, memory, processes, a description of the machine.

Plain forward passes are in `encoding.forward_pass`.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

K = TypeVar("K")
T = TypeVar("T")

_PACKAGES = ("torch", "numpy", "transformers", "sentence-transformers", "mteb")


@dataclass(frozen=True)
class Row:
    """One row of the results table.

    Attributes:
        what: What was measured.
        reference: Reference of a ratio; "-" if the figure is not a ratio.
        figure: Measured value.
        target: Target value.
        at_least: Whether the target is a minimum; otherwise it is a maximum.
        unit: "x" for a ratio, " s" or "%".
        note: Additional measurement, such as the same ratio in CPU seconds.
        reason: Why the target is not reached, if it is not.
    """

    what: str
    reference: str
    figure: float
    target: float
    at_least: bool = True
    unit: str = "x"
    note: str = ""
    reason: str = ""

    @property
    def reached(self) -> bool:
        """Whether the target is reached."""
        return self.figure >= self.target if self.at_least else self.figure <= self.target

    @property
    def target_text(self) -> str:
        """The target with its unit."""
        return f"at {'least' if self.at_least else 'most'} {self.target:g}{self.unit}"

    @property
    def measured_text(self) -> str:
        """The figure with its unit and note."""
        return f"{self.figure:.4g}{self.unit}" + (f" ({self.note})" if self.note else "")

    def line(self) -> str:
        """The whole row as one line for a terminal."""
        over = "" if self.reference == "-" else f" over {self.reference}"
        result = "reached" if self.reached else "not reached"
        return f"{self.what}{over}: {self.measured_text}, {self.target_text}: {result}"


def build_parser(description: str) -> argparse.ArgumentParser:
    """Argument parser of a program, described by the first line of its docstring, with the option --rows."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--rows", type=Path, metavar="FILE", help="append the rows of the table to FILE as JSON lines")
    return parser


def report_rows(rows: Sequence[Row], target: Path | None) -> None:
    """Print rows, and append them to a file if there is one."""
    for row in rows:
        print(row.line(), flush=True)
    if target is not None:
        with target.open("a", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(asdict(row))}\n" for row in rows)


def load_rows(target: Path) -> list[Row]:
    """Load the rows of a file; an empty list if it does not exist."""
    if not target.exists():
        return []
    return [Row(**json.loads(line)) for line in target.read_text(encoding="utf-8").splitlines()]


def describe_machine() -> str:
    """Processor, cores, threads and versions in one line."""
    import torch

    versions = [f"{name} {version(name)}" for name in _PACKAGES]
    return (
        f"{_processor_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads; "
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )


def _processor_name() -> str:
    """The model name on Linux, otherwise the machine type."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


class Timing(NamedTuple):
    """Time of a call."""

    seconds: float
    cpu_seconds: float  # of all threads of the process; varies less on a busy machine

    @classmethod
    def best(cls, timings: "Iterable[Timing]") -> "Timing":
        """The smallest of each number."""
        return cls(*map(min, zip(*timings, strict=True)))

    def over(self, other: "Timing") -> tuple[float, float]:
        """Ratio to another timing, in seconds and in CPU seconds."""
        return self.seconds / other.seconds, self.cpu_seconds / other.cpu_seconds


def time_call(function: Callable[[], T]) -> tuple[Timing, T]:
    """Call a function once; returns its time and its result."""
    start, cpu_start = time.perf_counter(), time.process_time()
    result = function()
    return Timing(time.perf_counter() - start, time.process_time() - cpu_start), result


def time_in_turns(rounds: int, functions: Mapping[K, Callable[[], T]]) -> dict[K, tuple[Timing, T]]:
    """Call functions in turns, so that all see the same load; returns the best time and the last result of each."""
    turns = [{name: time_call(function) for name, function in functions.items()} for _ in range(rounds)]
    return {name: (Timing.best(turn[name][0] for turn in turns), turns[-1][name][1]) for name in functions}


def format_cpu_ratio(ratio: float) -> str:
    """Note of a row with the ratio in CPU seconds."""
    return f"{ratio:.4g}x in CPU seconds"


def memory_mb(key: str) -> float:
    """Memory of this process in MB (Linux only). VmRSS: resident now; VmHWM: peak since `reset_peak_memory`."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[key].split()[0]) / 1024


def reset_peak_memory() -> None:
    """Reset the peak of the resident memory (Linux only)."""
    Path("/proc/self/clear_refs").write_text("5")


def run_in_fork(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in a fork of this process, which shares the imported libraries but has its own memory.

    Call this before anything is computed: threads of numerical libraries do not survive a fork.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        return pool.submit(function, *arguments).result()
