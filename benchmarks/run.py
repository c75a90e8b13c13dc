"""Runs all benchmarks, each in its own process, and writes RESULTS.md. Called by `make bench`.

    python -m benchmarks.run [PROGRAM ...] [--results FILE]

With names of programs, only these are run; what the others gave when they last ran is read from RESULTS.json, beside
RESULTS.md. Every section says when it was measured, and on what machine.

The processes are forks of this one, which imports the libraries once and computes nothing. A program returns its rows
in a file (`bench.report_rows`) and prints everything else to stdout. If a program fails, for example because vectors or
scores are not equal, it is listed at the end and nothing is written. A figure that does not reach its target is part of
the table, with its reason.
"""

import argparse
import importlib
import json
import os
import runpy
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import NoReturn

from benchmarks.bench import Row, load_rows
from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.ground.markdown import escaped, table

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("RESULTS.md")
LIBRARIES = (
    "leaderboard.sweep.run",
    "midlayer_embed.bulk.encode_file",
    "midlayer_embed.encoder.sentence_transformer",
    "midlayer_embed.selection.profile",
)
# Modules with their arguments, in the order of the table.
PROGRAMS: tuple[tuple[str, ...], ...] = (
    ("benchmarks.evaluation.sweep", "--every", "30"),
    ("benchmarks.encoding.all_layers_pass", "--texts", "48"),
    ("benchmarks.encoding.sites", "--texts", "48"),
    ("benchmarks.encoding.encode_at_a_layer", "--texts", "200"),
    ("benchmarks.encoding.shards", "--texts", "2000"),
    ("benchmarks.encoding.matrix_work", "--texts", "32"),
    ("benchmarks.metrics.layer_metrics",),
    ("benchmarks.metrics.profile_layers", "--texts", "10"),
    ("benchmarks.experiments.prompt_grid", "--texts", "16"),
    ("benchmarks.probes.attention_layers", "--images", "96"),
    ("benchmarks.evaluation.scoring_jobs",),
    ("benchmarks.evaluation.workers",),
    ("benchmarks.evaluation.whole_leaderboard",),
    ("benchmarks.encoding.cold_start", "--starts", "1"),
    ("benchmarks.serving.quality_and_cost", "--texts", "128"),
    ("benchmarks.encoding.growth", "--texts", "32", "--lines", "40000"),
    ("benchmarks.evaluation.scoring",),
    ("benchmarks.encoding.truncated_load", "--stored", "float32"),
)


@dataclass(frozen=True)
class Outcome:
    """Result of running one program.

    Attributes:
        command: Module of the program, and its arguments.
        seconds: Running time.
        printed: Output on stdout.
        rows: Rows of the results table.
        failed: Whether the program ended with an error.
        date: The day it ran.
    """

    command: tuple[str, ...]
    seconds: float
    printed: str
    rows: list[Row]
    failed: bool
    date: str = ""

    @property
    def name(self) -> str:
        """The module."""
        return self.command[0]


def kept_outcomes(results: Path) -> dict[str, Outcome]:
    """What programs gave when they last ran, by their names."""
    file = results.with_suffix(".json")
    if not file.exists():
        return {}
    kept = [
        Outcome(**{**each, "command": tuple(each["command"]), "rows": [Row(**row) for row in each["rows"]]})
        for each in json.loads(file.read_text(encoding="utf-8"))
    ]
    return {outcome.name: outcome for outcome in kept}


def write_results(outcomes: Sequence[Outcome], results: Path) -> None:
    """Write RESULTS.md, and what it is made of beside it."""
    with atomic_file(results.with_suffix(".json")) as partial:
        partial.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n", encoding="utf-8")
    with atomic_file(results) as partial:
        partial.write_text(format_results(outcomes), encoding="utf-8")


def run(command: tuple[str, ...]) -> Outcome:
    """Run a program; its output is passed on line by line."""
    print(f"\n{' '.join(command)}", flush=True)
    start = time.perf_counter()
    handle, rows = tempfile.mkstemp()  # not a context manager, which the fork would exit as well
    os.close(handle)
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        _run_module(command, rows, writer)
    os.close(writer)
    lines = []
    with os.fdopen(reader, encoding="utf-8") as output:
        for line in output:
            line = line.replace(f"{ROOT}{os.sep}", "")  # where the checkout is, is nobody's business
            print(line, end="", flush=True)
            lines.append(line)
    failed = os.waitpid(process, 0)[1] != 0
    loaded = load_rows(Path(rows))
    os.unlink(rows)
    date = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    return Outcome(command, time.perf_counter() - start, "".join(lines), loaded, failed, date)


def _run_module(command: tuple[str, ...], rows: str, stdout: int) -> NoReturn:
    """Run a program in this process like `python -m`, and exit."""
    os.dup2(stdout, 1)  # also for its child processes
    sys.stdout = os.fdopen(stdout, "w", encoding="utf-8", buffering=1)
    sys.argv = [*command, "--rows", rows]
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    sys.exit()


def format_results(outcomes: Sequence[Outcome]) -> str:
    """The text of RESULTS.md."""
    rows = [row for outcome in outcomes for row in outcome.rows]
    header = ["what", "reference", "target", "measured", "reached"]
    cells = [
        [row.what, row.reference, row.target_text, row.measured_text, "yes" if row.reached else "no"] for row in rows
    ]
    total = _format_minutes(sum(outcome.seconds for outcome in outcomes))
    parts = [
        "# Benchmarks",
        f"Written by `make bench`; do not edit. {total} in total; each section says when and on what it was measured.",
        table([header, *([escaped(cell) for cell in line] for line in cells)]),
    ]
    if missed := [row for row in rows if not row.reached]:
        parts += [
            "## Not reached",
            "\n".join(
                f"- {escaped(row.what)}: {escaped(row.measured_text)}, {escaped(row.target_text)}"
                + (f". {row.reason}" if row.reason else "; see the output below")
                for row in missed
            ),
        ]
    for outcome in outcomes:
        parts += [
            f"## {' '.join(outcome.command)} ({outcome.date}, {_format_minutes(outcome.seconds)})",
            f"```\n{outcome.printed.strip()}\n```",
        ]
    return "\n\n".join(parts) + "\n"


def _format_minutes(seconds: float) -> str:
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


def main() -> None:
    """Run all programs, or some."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [command[0] for command in PROGRAMS]
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help="modules to run (default: all)")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    arguments = parser.parse_args()
    if unknown := sorted({*arguments.programs} - {*names}):
        parser.error(f"PROGRAM: expected some of {', '.join(names)}; got {unknown[0]}")
    os.environ["HF_HUB_OFFLINE"] = "1"  # programs must not use the network
    for library in LIBRARIES:
        importlib.import_module(library)
    found = kept_outcomes(arguments.results) if arguments.programs else {}
    for command in PROGRAMS:
        if not arguments.programs or command[0] in arguments.programs:
            found[command[0]] = run(command)
    outcomes = [found[name] for name in names if name in found]
    if failed := [" ".join(outcome.command) for outcome in outcomes if outcome.failed]:
        sys.exit(f"{arguments.results} is not written, because programs failed: {', '.join(failed)}")
    write_results(outcomes, arguments.results)
    print(f"\n{arguments.results}")


if __name__ == "__main__":
    main()
