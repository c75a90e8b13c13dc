"""What a second core gives to the scoring of all layers: two processes against one, on the same vectors in a store.

    python benchmarks/scoring_jobs.py [--layers 31] [--jobs 2]

By the very function of the sweep, over the starter tasks. The vectors are random, of 576 dimensions, as those of the
starter model, and in the store before the clock runs. A sweep's processes stay for the next task, unless they wait for
it more than five minutes: what their start takes is measured apart, and named. The scores are asserted to be equal.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench import Row, hand_in, in_turns, machine, parser, timed
from mteb.abstasks.abstask import AbsTask
from mteb.models.model_meta import ModelMeta
from scoring import DIM, TOLERANCE, RandomVectors, difference, loaded_starter_tasks, silence_mteb

from leaderboard.scoring.score import score
from leaderboard.sweep.executors.local import scored_layers
from leaderboard.sweep.layer_view import LayerView
from leaderboard.sweep.store import VectorStore

REACH = 1.7
ROUNDS = 2
META = ModelMeta.create_empty({"name": "benchmarks/random", "revision": "1"})


class FilledStore:
    """A task whose vectors are all in a store.

    Args:
        task: The task, its data loaded.
        store: An empty store.
    """

    def __init__(self, task: AbsTask, store: VectorStore) -> None:
        filler: Any = RandomVectors(store)
        self._task, self._store, self._fill = task, store, filler.fill
        score(task, LayerView(0, store, filler.fill, META))

    def scores(self, layers: range, jobs: int) -> dict[int, dict[str, Any]]:
        """Of each of the layers."""
        metas = dict.fromkeys(layers, META)
        return {
            layer: dict(result.scores)
            for layer, result in scored_layers(self._task, self._store, metas, self._fill, jobs)
        }


@contextmanager
def filled(task: AbsTask, n_layers: int) -> Iterator[FilledStore]:
    """The task with its vectors, which go with the block."""
    with tempfile.TemporaryDirectory() as folder, VectorStore(Path(folder), range(n_layers), DIM) as store:
        yield FilledStore(task, store)


def main() -> None:
    """Prints a line a task, and the sum."""
    arguments_of = parser(__doc__)
    arguments_of.add_argument("--layers", type=int, default=31)
    arguments_of.add_argument("--jobs", type=int, default=2)
    arguments = arguments_of.parse_args()
    print(machine())
    silence_mteb()
    tasks, layers, jobs = loaded_starter_tasks(), range(arguments.layers), arguments.jobs
    with filled(tasks[-1], jobs) as few:
        (starting, _), (started, _) = (timed(lambda: few.scores(range(jobs), jobs)) for _ in range(2))
    start = starting.seconds - started.seconds
    print(f"{DIM} dimensions, {len(layers)} layers; start of {jobs} processes: {start:.1f} s")
    print(f"{'':<36} {'1 process':>12} {f'{jobs} processes':>12} {'times':>7}")
    sums = {1: 0.0, jobs: 0.0}
    for task in tasks:
        with filled(task, len(layers)) as store:
            best = in_turns(ROUNDS, {n: partial(store.scores, layers, n) for n in sums})
        seconds = {n: timing.seconds for n, (timing, _) in best.items()}
        found = {n: given for n, (_, given) in best.items()}
        name = task.metadata.name
        print(
            f"{name:<36} {seconds[1]:>10.1f} s {seconds[jobs]:>10.1f} s {seconds[1] / seconds[jobs]:>7.2f}", flush=True
        )
        apart = max(difference(found[1][layer], found[jobs][layer]) for layer in layers)
        if apart > TOLERANCE:
            sys.exit(f"{name}: scores differ by {apart:.1e}, more than {TOLERANCE:.0e}")
        sums = {n: total + seconds[n] for n, total in sums.items()}
    print(f"{'sum':<36} {sums[1]:>10.1f} s {sums[jobs]:>10.1f} s {sums[1] / sums[jobs]:>7.2f}")
    ratio, with_start = sums[1] / sums[jobs], sums[1] / (sums[jobs] + start)
    beside = f"{with_start:.3g}x with the start of the processes, once for the five tasks"
    hand_in(
        [Row(f"scoring of {len(layers)} layers on {jobs} cores", "1 core", ratio, REACH, beside=beside)],
        arguments.rows,
    )


if __name__ == "__main__":
    main()
