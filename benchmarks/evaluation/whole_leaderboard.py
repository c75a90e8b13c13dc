"""`make leaderboard` as a user gives it, from an empty results folder, and once more when everything is finished.

    python -m benchmarks.evaluation.whole_leaderboard [--rows FILE]

The environment (`make setup`) is there before the clock starts. Checks that the second run prints the same tables and
leaves results, page, card and pictures alone. It takes some four minutes.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.bench import Row, build_parser, describe_machine, report_rows

ROOT = Path(__file__).parents[2]


def leaderboard(results: Path) -> tuple[float, float, str]:
    """Runs the command; returns seconds, CPU seconds of all its processes, and what it printed."""
    before, start = _cpu_seconds(), time.perf_counter()
    command = ["make", "--no-print-directory", "leaderboard", f"RESULTS={results}"]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return time.perf_counter() - start, _cpu_seconds() - before, done.stdout


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Run the benchmark."""
    arguments = build_parser(__doc__).parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    print(describe_machine(), flush=True)
    subprocess.run(["make", "--silent", "setup"], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "starter"
        first, first_cpu, printed = leaderboard(results)
        print(f"everything: {first:.1f} s, {first_cpu:.1f} CPU s", flush=True)
        written = {path: path.stat().st_mtime_ns for path in results.rglob("*") if path.is_file()}
        second, second_cpu, again = leaderboard(results)
        print(f"once more: {second:.1f} s, {second_cpu:.1f} CPU s", flush=True)
        # The first run prints schemes and associations besides, when it makes page and card.
        if missing := [line for line in again.splitlines() if line not in printed.splitlines()]:
            sys.exit(f"the second run prints other lines: {missing[:3]}")
        if changed := [path for path, when in written.items() if path.stat().st_mtime_ns != when]:
            sys.exit(f"the second run writes again: {', '.join(str(path.relative_to(results)) for path in changed)}")
    rows = [
        Row("make leaderboard", "-", first, 240, at_least=False, unit=" s", note=f"{first_cpu:.4g} CPU s"),
        Row("make leaderboard, finished", "-", second, 15, at_least=False, unit=" s", note=f"{second_cpu:.4g} CPU s"),
    ]
    report_rows(rows, arguments.rows)


if __name__ == "__main__":
    main()
