"""Compares what is known of a shard beforehand, its sizes and its cost, with what a sweep finds.

    python -m benchmarks.evaluation.shard_costs [DATA_DIR] [--model starter] [--layers 1 3] [--tasks NAME ...] [--sizes]

For the starter tasks, and those of the paper's tasks that a folder of datasets holds: texts and tokens as
`leaderboard.shards.sizes` estimates them and as the plan of a sweep counts them, and the seconds of scoring a layer as
`leaderboard.shards.costs` estimates them and as measured on one core. With --sizes, nothing is scored.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import mteb
from mteb.abstasks.abstask import AbsTask

from benchmarks.bench import describe_machine
from benchmarks.evaluation.scoring import silence_mteb
from leaderboard.shards.costs import seconds_a_score
from leaderboard.shards.sizes import ModelSize, task_sizes
from leaderboard.sweep.plan import Plan
from leaderboard.sweep.run import run_sweep
from leaderboard.tasks.benchmarks import resolve_tasks
from leaderboard.tasks.mirror import is_available
from midlayer_embed.models.checkpoint import find_checkpoint


def sweep(
    model: str, tasks: Sequence[AbsTask], layers: Sequence[int], data_dir: Path | None, results: Path, *, is_dry: bool
) -> Plan:
    """Sweeps layers, or only plans to; returns the plan."""
    plans: list[Plan] = []

    def keep(plan: Plan) -> bool:
        plans.append(plan)
        return not is_dry

    options = {"layers": layers, "metrics": "none", "data_dir": data_dir, "show_progress": False}
    run_sweep(model, tasks, results, on_plan=keep, **options)  # type: ignore[arg-type]
    return plans[0]


def seconds_of(results: Path, task: str) -> float:
    """Mean seconds of scoring a layer, from its result files."""
    found = [mteb.TaskResult.from_disk(path) for path in results.rglob(f"{task}.json")]
    return sum(result.evaluation_time or 0.0 for result in found) / len(found)


def main() -> None:
    """Print one line per task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir", type=Path, nargs="?", metavar="DATA_DIR")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--tasks", nargs="+", metavar="NAME", help="default: all that there are")
    parser.add_argument("--sizes", action="store_true", help="score nothing")
    arguments = parser.parse_args()
    silence_mteb()
    tasks = resolve_tasks("starter")
    if arguments.data_dir is not None:
        tasks += [task for task in resolve_tasks("paper") if is_available(task, arguments.data_dir)]
    tasks = [task for task in tasks if not arguments.tasks or task.metadata.name in arguments.tasks]
    width = ModelSize.of(find_checkpoint(arguments.model)).width
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder)
        plan = sweep(arguments.model, tasks, arguments.layers, arguments.data_dir, results, is_dry=arguments.sizes)
        counted = {found.task: found for found in plan.tasks}
        print(describe_machine())
        print(f"{arguments.model}, {width} dimensions, layers {', '.join(map(str, arguments.layers))}")
        print(f"{'':<36}{'texts':>17} {'':>7}{'tokens':>21} {'':>7}{'s a layer':>17}")
        print(f"{'':<36}{'estimate':>9}{'counted':>8} {'ratio':>7}{'estimate':>11}{'counted':>10} {'ratio':>7}", end="")
        print(f"{'estimate':>9}{'measured':>9}")
        for task in tasks:
            name = str(task.metadata.name)
            sizes = task_sizes(task)
            encoded = sizes.evaluated + sizes.others
            n_texts, n_tokens = counted[name].n_texts, counted[name].score_tokens
            texts = f"{encoded.number:>9.0f}{n_texts:>8} {encoded.number / n_texts:>7.2f}"
            tokens = f"{encoded.tokens():>11.0f}{n_tokens:>10} {encoded.tokens() / n_tokens:>7.2f}"
            seconds = (
                "" if arguments.sizes else f"{seconds_a_score(sizes, width):>9.2f}{seconds_of(results, name):>9.2f}"
            )
            print(f"{name:<36}{texts}{tokens}{seconds}", flush=True)


if __name__ == "__main__":
    main()
