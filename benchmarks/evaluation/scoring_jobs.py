"""Speed-up of scoring all layers with two processes over one, on the same vectors in a store.

    python -m benchmarks.evaluation.scoring_jobs [--layers 31] [--jobs 2]

Runs the sweep's `scored_layers` on the starter tasks. Vectors are random with 576 dimensions, like those of the starter
model, and in the store before timing starts. The processes of a sweep are kept for the next task, unless they wait for
more than five minutes; their start is measured separately and reported in the note. Checks that scores are equal.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from mteb.abstasks.abstask import AbsTask
from mteb.models.model_meta import ModelMeta

from benchmarks.bench import Row, build_parser, describe_machine, report_rows, time_call, time_in_turns
from benchmarks.evaluation.scoring import DIM, TOLERANCE, RandomVectors, difference, load_starter_tasks, silence_mteb
from leaderboard.scoring.score import score
from leaderboard.sweep.layers.layer_view import LayerView
from leaderboard.sweep.layers.processes import scored_layers
from leaderboard.sweep.store import VectorStore

TARGET = 1.7
ROUNDS = 2
META = ModelMeta.create_empty({"name": "benchmarks/random", "revision": "1"})


class FilledStore:
    """A task with all its vectors in a store.

    Args:
        task: Task whose data are loaded.
        store: Empty store.
    """

    def __init__(self, task: AbsTask, store: VectorStore) -> None:
        filler: Any = RandomVectors(store)
        self._task, self._store, self._fill = task, store, filler.fill
        score(task, LayerView(0, store, filler.fill, META))

    def scores(self, layers: range, jobs: int) -> dict[int, dict[str, Any]]:
        """Scores of each layer."""
        metas = dict.fromkeys(layers, META)
        return {
            layer: dict(result.scores)
            for layer, result in scored_layers(self._task, self._store, metas, self._fill, jobs)
        }


@contextmanager
def filled_store(task: AbsTask, n_layers: int) -> Iterator[FilledStore]:
    """Store with the vectors of the task, deleted on exit."""
    with tempfile.TemporaryDirectory() as folder, VectorStore(Path(folder), range(n_layers), DIM) as store:
        yield FilledStore(task, store)


def main() -> None:
    """Print one line per task, and the sum."""
    parser = build_parser(__doc__)
    parser.add_argument("--layers", type=int, default=31)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    print(describe_machine())
    silence_mteb()
    tasks, layers, jobs = load_starter_tasks(), range(arguments.layers), arguments.jobs
    with filled_store(tasks[-1], jobs) as store:
        (first, _), (second, _) = (time_call(lambda: store.scores(range(jobs), jobs)) for _ in range(2))
    start = first.seconds - second.seconds
    print(f"{DIM} dimensions, {len(layers)} layers; start of {jobs} processes: {start:.1f} s")
    print(f"{'':<36} {'1 process':>12} {f'{jobs} processes':>12} {'times':>7}")
    sums = {1: 0.0, jobs: 0.0}
    for task in tasks:
        with filled_store(task, len(layers)) as store:
            best = time_in_turns(ROUNDS, {n: partial(store.scores, layers, n) for n in sums})
        seconds = {n: timing.seconds for n, (timing, _) in best.items()}
        scores = {n: result for n, (_, result) in best.items()}
        name = task.metadata.name
        print(
            f"{name:<36} {seconds[1]:>10.1f} s {seconds[jobs]:>10.1f} s {seconds[1] / seconds[jobs]:>7.2f}", flush=True
        )
        largest = max(difference(scores[1][layer], scores[jobs][layer]) for layer in layers)
        if largest > TOLERANCE:
            sys.exit(f"{name}: scores differ by {largest:.1e}, more than {TOLERANCE:.0e}")
        sums = {n: total + seconds[n] for n, total in sums.items()}
    print(f"{'sum':<36} {sums[1]:>10.1f} s {sums[jobs]:>10.1f} s {sums[1] / sums[jobs]:>7.2f}")
    ratio, with_start = sums[1] / sums[jobs], sums[1] / (sums[jobs] + start)
    note = f"{with_start:.3g}x with the start of the processes, once for the five tasks"
    report_rows(
        [Row(f"scoring of {len(layers)} layers on {jobs} cores", "1 core", ratio, TARGET, note=note)],
        arguments.rows,
    )


if __name__ == "__main__":
    main()
