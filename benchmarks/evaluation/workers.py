"""Time of one worker over that of two, on the same sweep, with one core each. Checks that the tables are equal.

    python -m benchmarks.evaluation.workers [--models starter] [--benchmark starter] [--layers all]
        [--metrics prompt_entropy dataset_entropy curvature infonce dime effective_rank] [--metric-texts 100]

A worker is a process of `midlayer-leaderboard run --shard i/n` with one thread; the time begins before the processes
start, so it includes their imports and the loading of the model, some ten seconds each. Two workers share the results
folder; who is done first helps the other. By default it is the sweep of `make leaderboard`.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from benchmarks.bench import Row, Timing, build_parser, describe_machine, report_rows
from leaderboard.board import load_results
from midlayer_embed.terms import PAPER_METRICS

TARGET = 1.6
TOLERANCE = 1e-9
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def run_workers(arguments: Sequence[str], results: Path, n: int) -> Timing:
    """Lets n workers do a sweep together: seconds until all have ended, and the CPU seconds of the one with most."""
    start = time.perf_counter()
    workers = []
    for index in range(1, n + 1):
        options = ["--results", str(results), "--shard", f"{index}/{n}", "--quiet"]
        command = [sys.executable, "-m", "leaderboard", "run", *arguments, *options]
        workers.append(subprocess.Popen(command, env={**os.environ, **_ONE_THREAD}, stdout=subprocess.DEVNULL))
    ended = [os.wait4(worker.pid, 0)[1:] for worker in workers]
    seconds = time.perf_counter() - start
    if codes := [os.waitstatus_to_exitcode(status) for status, _ in ended if status]:
        sys.exit(f"of {n} workers, some ended with exit codes {codes}")
    return Timing(seconds, max(used.ru_utime + used.ru_stime for _, used in ended))


def difference(one: pl.DataFrame, other: pl.DataFrame) -> float:
    """Largest difference of the scores of two tables with the same rows."""
    keys = [name for name in one.columns if name != "main_score"]
    both = one.join(other, on=keys, how="full", suffix="_other", nulls_equal=True, coalesce=True)
    if len(both) != len(one) or both["main_score"].has_nulls() or both["main_score_other"].has_nulls():
        sys.exit(f"one worker has {len(one)} scores, two have {len(other)}, not of the same layers and tasks")
    return float((both["main_score"] - both["main_score_other"]).abs().max() or 0.0)  # type: ignore[arg-type]


def main() -> None:
    """Measure one worker and two."""
    parser = build_parser(__doc__)
    parser.add_argument("--models", nargs="+", default=["starter"])
    parser.add_argument("--benchmark", default="starter")
    parser.add_argument("--layers", default="all")
    parser.add_argument("--metrics", nargs="+", default=[name for name in PAPER_METRICS if name != "lidar"])
    parser.add_argument("--metric-texts", default="100")
    given = parser.parse_args()
    arguments = [*given.models, "--benchmark", given.benchmark, "--layers", given.layers, "--metrics", *given.metrics]
    arguments += ["--metric-texts", given.metric_texts]
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        timings = {n: run_workers(arguments, Path(folder, str(n)), n) for n in (1, 2)}
        tables = [load_results(Path(folder, str(n))).scores for n in (1, 2)]
    for n, taken in timings.items():
        workers = "worker" if n == 1 else "workers"
        print(f"{n} {workers}: {taken.seconds:.1f} s, {taken.cpu_seconds:.1f} CPU s of the one with most")
    largest = difference(*tables)
    print(f"{len(tables[0])} scores, which differ by at most {largest:.0e}")
    if not largest <= TOLERANCE:
        sys.exit(f"scores differ by {largest:.1e}, more than {TOLERANCE:.0e}")
    ratio, of_cpu = timings[1].over(timings[2])
    row = Row("a sweep by 2 workers on 2 cores", "1 worker", ratio, TARGET, note=f"{of_cpu:.3g}x in CPU seconds")
    report_rows([row], given.rows)


if __name__ == "__main__":
    main()
