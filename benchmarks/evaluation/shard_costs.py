"""Compares what is known of a shard beforehand, its sizes and its cost, with what a sweep finds.

    python -m benchmarks.evaluation.shard_costs [DATA_DIR] [--model starter] [--layers 1 3] [--tasks NAME ...] [--sizes]

For the starter tasks, and those of the paper's tasks that a folder of datasets holds: texts and tokens as
`leaderboard.shards.sizes` estimates them and as the plan of a sweep counts them, and the seconds of scoring a layer as
`leaderboard.shards.costs` estimates them and as measured on one core; these also for made-up queries, with as many
candidates as in MindSmallReranking. With --sizes, nothing is scored.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import mteb
import numpy as np
import torch
from mteb.abstasks.abstask import AbsTask

from benchmarks.bench import describe_machine
from benchmarks.evaluation.scoring import silence_mteb
from leaderboard.scoring.ranking import Candidates, ranking_scores
from leaderboard.shards.costs import seconds_a_score
from leaderboard.shards.sizes import Inputs, ModelSize, TaskSizes, task_sizes
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


def seconds_of_ranking(n_queries: int, n_candidates: int, n_documents: int, width: int) -> float:
    """CPU seconds of comparing queries with their candidates, and of all scores."""
    rng = np.random.default_rng(0)
    documents = {str(number): number for number in range(n_documents)}
    names = list(documents)
    rankings = [
        [names[number] for number in rng.choice(n_documents, n_candidates, replace=False)] for _ in range(n_queries)
    ]
    judgements = [{ranking[0]: 1} for ranking in rankings]
    candidates = Candidates.of(rankings, judgements, documents, (1, 3, 5, 10, 20, 100, 1000))
    queries, found = torch.randn(n_queries, width), torch.empty(n_queries * n_candidates)
    vectors, indices = torch.randn(n_documents, width), torch.from_numpy(candidates.documents)
    start = time.process_time()
    for number in range(n_queries):  # as in `leaderboard.scoring.reranking`
        some = slice(number * n_candidates, (number + 1) * n_candidates)
        torch.mm(queries[number : number + 1], vectors[indices[some]].T, out=found[some].unsqueeze(0))
    ranking_scores(candidates, found.numpy())
    return time.process_time() - start


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
    if not arguments.sizes:
        torch.set_num_threads(1)
        n_pairs = 20_000 * 41
        sizes = TaskSizes("Reranking", Inputs(), products=n_pairs, rows=n_pairs)
        ranked = seconds_of_ranking(20_000, 41, 5_277, width)
        print(f"20,000 queries, 41 candidates each: {seconds_a_score(sizes, width):.2f} s, measured {ranked:.2f} s")


if __name__ == "__main__":
    main()
