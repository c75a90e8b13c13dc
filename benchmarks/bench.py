"""What the benchmarks share: the machine in a line, rows for the table of results, clocks, memory, processes.

What is measured, and against what, is each program's own; plain forward passes are `forward_pass`'s.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
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
    """One figure of the table.

    Attributes:
        what: What was measured.
        against: The reference of a ratio; "-" where the figure is none.
        figure: What came out.
        reach: What it shall be.
        at_least: Whether it shall be that or more; else that or less.
        unit: "x" for a ratio, " s" or "%".
        beside: What else was seen, such as the same ratio of CPU seconds.
        reason: Why it is out of reach, where it is.
    """

    what: str
    against: str
    figure: float
    reach: float
    at_least: bool = True
    unit: str = "x"
    beside: str = ""
    reason: str = ""

    @property
    def reached(self) -> bool:
        """Whether the figure is what it shall be."""
        return self.figure >= self.reach if self.at_least else self.figure <= self.reach

    @property
    def shall(self) -> str:
        """The reach in words."""
        return f"at {'least' if self.at_least else 'most'} {self.reach:g}{self.unit}"

    @property
    def measured(self) -> str:
        """The figure in words, and what stands beside it."""
        return f"{self.figure:.4g}{self.unit}" + (f" ({self.beside})" if self.beside else "")

    def line(self) -> str:
        """All of it, for a terminal."""
        against = "" if self.against == "-" else f" over {self.against}"
        return f"{self.what}{against}: {self.measured}, {self.shall}: {'reached' if self.reached else 'not reached'}"


def parser(description: str) -> argparse.ArgumentParser:
    """Of a program's arguments; the first line of its docstring describes it, and its rows may go to a file."""
    made = argparse.ArgumentParser(description=description.splitlines()[0])
    made.add_argument("--rows", type=Path, metavar="FILE", help="append the rows of the table to it, as JSON lines")
    return made


def hand_in(rows: Sequence[Row], target: Path | None) -> None:
    """Prints rows; the runner, which gives a file, makes its table of them."""
    for row in rows:
        print(row.line(), flush=True)
    if target is not None:
        with target.open("a", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(asdict(row))}\n" for row in rows)


def handed_in(target: Path) -> list[Row]:
    """The rows in a file; none where it is missing."""
    if not target.exists():
        return []
    return [Row(**json.loads(line)) for line in target.read_text(encoding="utf-8").splitlines()]


def machine() -> str:
    """Processor, cores, threads and versions, in a line."""
    import torch

    versions = [f"{name} {version(name)}" for name in _PACKAGES]
    return (
        f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads; "
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )


def _processor() -> str:
    """What the kernel calls it; elsewhere than on Linux, the kind of machine."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


class Timing(NamedTuple):
    """What something took."""

    seconds: float
    cpu_seconds: float  # of all threads of the process, which a busy machine disturbs less

    def over(self, other: "Timing") -> tuple[float, float]:
        """How many times the other one, in both kinds of seconds."""
        return self.seconds / other.seconds, self.cpu_seconds / other.cpu_seconds


def timed(work: Callable[[], T]) -> tuple[Timing, T]:
    """Does it once: what it took, and what it gave."""
    start, cpu_start = time.perf_counter(), time.process_time()
    given = work()
    return Timing(time.perf_counter() - start, time.process_time() - cpu_start), given


def in_turns(rounds: int, works: Mapping[K, Callable[[], T]]) -> dict[K, tuple[Timing, T]]:
    """Each several times, one after the other, so that all meet the same disturbances: the best, and what it gave."""
    turns = [{name: timed(work) for name, work in works.items()} for _ in range(rounds)]
    return {
        name: (Timing(*map(min, zip(*(turn[name][0] for turn in turns), strict=True))), turns[-1][name][1])
        for name in works
    }


def cpu_ratio(ratio: float) -> str:
    """What stands beside a ratio of seconds."""
    return f"{ratio:.4g}x in CPU seconds"


def memory_mb(key: str) -> float:
    """Of this process (Linux only). VmRSS: resident now; VmHWM: the highest since `forget_peak`."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[key].split()[0]) / 1024


def forget_peak() -> None:
    """The kernel counts the peak anew from here."""
    Path("/proc/self/clear_refs").write_text("5")


def in_a_process_of_its_own(work: Callable[..., T], *arguments: Any) -> T:
    """What a function gives in a fork of this process: the libraries are there already, and its memory is its own.

    To be called before anything is computed: the threads that compute do not live on in a fork.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        return pool.submit(work, *arguments).result()
