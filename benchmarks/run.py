"""Runs every benchmark, each in a process of its own, and writes RESULTS.md: what `make bench` does.

    python benchmarks/run.py [--results FILE]

The processes are forks of this one, which imports the libraries, once, and computes nothing.
A program hands its rows over in a file (`bench.hand_in`) and says the rest on stdout. One that fails, as it does where
vectors or scores are not equal, is told of at the end, and nothing is written then; a figure that is out of reach
stands in the table with its reason. Nothing is measured here.
"""

import argparse
import importlib
import os
import runpy
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import NoReturn

from bench import Row, handed_in, machine

from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.ground.markdown import escaped, table

HERE = Path(__file__).parent
LIBRARIES = (
    "leaderboard.sweep.run",
    "midlayer_embed.bulk.encode_file",
    "midlayer_embed.encoder.sentence_transformer",
    "midlayer_embed.selection.profile",
)
# In the order of the table.
PROGRAMS: tuple[tuple[str, ...], ...] = (
    ("sweep.py", "--every", "30"),
    ("all_layers_pass.py", "--texts", "48"),
    ("encode_at_a_layer.py", "--texts", "200"),
    ("matrix_work.py", "--texts", "32"),
    ("layer_metrics.py",),
    ("profile_layers.py", "--texts", "10"),
    ("scoring_jobs.py",),
    ("cold_start.py", "--starts", "1"),
    ("growth.py", "--texts", "32", "--lines", "40000"),
    ("scoring.py",),
    ("truncated_load.py", "--stored", "float32"),
)


@dataclass(frozen=True)
class Outcome:
    """What a program left behind.

    Attributes:
        command: The program and its arguments.
        seconds: How long it took.
        printed: What it said.
        rows: Its part of the table.
        failed: Whether it ended with an error.
    """

    command: tuple[str, ...]
    seconds: float
    printed: str
    rows: list[Row]
    failed: bool


def run(command: tuple[str, ...]) -> Outcome:
    """Runs a program; what it prints is passed on line by line."""
    print(f"\n{' '.join(command)}", flush=True)
    start = time.perf_counter()
    handle, rows = tempfile.mkstemp()  # no context that the fork would leave, too
    os.close(handle)
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        _become(command, rows, writer)
    os.close(writer)
    lines = []
    with os.fdopen(reader, encoding="utf-8") as said:
        for line in said:
            print(line, end="", flush=True)
            lines.append(line)
    failed = os.waitpid(process, 0)[1] != 0
    handed = handed_in(Path(rows))
    os.unlink(rows)
    return Outcome(command, time.perf_counter() - start, "".join(lines), handed, failed)


def _become(command: tuple[str, ...], rows: str, stdout: int) -> NoReturn:
    """Runs a program as if it had been called by its name, up to the end of the process."""
    os.dup2(stdout, 1)  # that of its own processes, too
    sys.stdout = os.fdopen(stdout, "w", encoding="utf-8", buffering=1)
    sys.argv = [*command, "--rows", rows]
    runpy.run_path(str(HERE / command[0]), run_name="__main__")
    sys.exit()


def results(outcomes: Sequence[Outcome], machine_line: str, date: str) -> str:
    """The text of RESULTS.md."""
    rows = [row for outcome in outcomes for row in outcome.rows]
    header = ["what", "against", "reach", "measured", "reached"]
    cells = [[row.what, row.against, row.shall, row.measured, "yes" if row.reached else "no"] for row in rows]
    total = _minutes(sum(outcome.seconds for outcome in outcomes))
    parts = [
        "# Benchmarks",
        f"Written by `make bench`; not to be edited. {date}, {total} in all, on {machine_line}.",
        table([header, *([escaped(cell) for cell in line] for line in cells)]),
    ]
    if missed := [row for row in rows if not row.reached]:
        parts += [
            "## Not reached",
            "\n".join(
                f"- {escaped(row.what)}: {escaped(row.measured)}, {escaped(row.shall)}"
                + (f". {row.reason}" if row.reason else "; what it was spent on is below")
                for row in missed
            ),
        ]
    for outcome in outcomes:
        parts += [
            f"## {' '.join(outcome.command)} ({_minutes(outcome.seconds)})",
            f"```\n{outcome.printed.strip()}\n```",
        ]
    return "\n\n".join(parts) + "\n"


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


def main() -> None:
    """Runs them all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=HERE / "RESULTS.md", metavar="FILE")
    arguments = parser.parse_args()
    date = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    os.environ["HF_HUB_OFFLINE"] = "1"  # no program asks a hub
    for library in LIBRARIES:
        importlib.import_module(library)
    outcomes = [run(command) for command in PROGRAMS]
    if failed := [" ".join(outcome.command) for outcome in outcomes if outcome.failed]:
        sys.exit(f"failed, so {arguments.results} is not written: {', '.join(failed)}")
    with atomic_file(arguments.results) as partial:
        partial.write_text(results(outcomes, machine(), date), encoding="utf-8")
    print(f"\n{arguments.results}")


if __name__ == "__main__":
    main()
