"""What scoring a layer costs by mteb alone and by the sweep, on the same vectors, in one run; scores asserted equal.

    python benchmarks/scoring.py [--layers 3] [--data-dir FOLDER]

One starter task of each type; with a folder of datasets (`--data-dir`, as of midlayer-leaderboard), a part of a real
task of each type that it holds as well. The vectors are random, of 576 dimensions, as those of the starter model. Of
all layers the quickest counts, and nothing is loaded or encoded in it.
"""

import logging
import math
import random
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import datasets
import mteb
import numpy as np
from bench import Row, hand_in, machine, parser
from datasets import Dataset
from mteb.abstasks.abstask import AbsTask
from mteb.models.model_meta import ModelMeta
from mteb.results import TaskResult
from mteb.types import EncodeKwargs

from leaderboard.scoring.score import ENCODE_KWARGS, prepared, score
from leaderboard.sweep.layer_view import LayerView
from leaderboard.sweep.store import VectorStore
from leaderboard.tasks.benchmarks import get_task
from leaderboard.tasks.mirror import dataset_folder, is_available, reading_from
from leaderboard.tasks.starter import STARTER_TASKS

DIM = 576
TOLERANCE = 1e-9
REACH = 2.0
# Of these, rows enough to tell: mteb alone takes minutes a layer on all of them.
REAL_TASKS = {"AmazonCounterfactualClassification": 200, "TwitterURLCorpus": 2000, "STSBenchmark": 1379}


class RandomVectors:
    """Fills a store with random vectors, in place of a model."""

    def __init__(self, store: VectorStore) -> None:
        self._store = store

    def fill(self, texts: list[str]) -> None:
        """Sees to it that the store holds all of `texts`."""
        missing = self._store.missing(texts)
        if missing:
            rows, segment = self._store.grow(missing)
            rng = np.random.default_rng(rows.start)
            for layer in range(len(self._store.layers)):
                segment[layer] = rng.standard_normal((len(missing), DIM), dtype=np.float32)


def silence_mteb() -> None:
    """Neither its warnings nor the datasets' bars."""
    warnings.simplefilter("ignore")
    logging.getLogger("mteb").setLevel(logging.ERROR)
    datasets.disable_progress_bars()


def loaded_starter_tasks() -> list[AbsTask]:
    """One of each type, their data read."""
    tasks: list[AbsTask] = [kind() for kind in STARTER_TASKS]
    for task in tasks:
        task.load_data()
    return tasks


def by_mteb(task: AbsTask, model: LayerView) -> TaskResult:
    """What mteb does on its own."""
    task.rng_state, task.np_rng = random.Random(task.seed), np.random.default_rng(task.seed)
    kwargs = EncodeKwargs(**ENCODE_KWARGS)
    evaluated = mteb.evaluate(model, task, cache=None, encode_kwargs=kwargs, show_progress_bar=False, co2_tracker=False)
    return evaluated.task_results[0]


def difference(one: Any, other: Any) -> float:
    """The largest difference of two numbers at the same place; infinite where the structure differs."""
    if isinstance(one, dict) and isinstance(other, dict) and list(one) == list(other):
        return max((difference(one[name], other[name]) for name in one), default=0.0)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return max((difference(*pair) for pair in zip(one, other, strict=True)), default=0.0)
    if isinstance(one, float) and isinstance(other, float):
        return 0.0 if math.isnan(one) and math.isnan(other) else abs(one - other)
    return 0.0 if one == other else math.inf


def load(name: str, n_rows: int, data_dir: Path) -> AbsTask:
    """A real task, its test split cut to some rows."""
    task = get_task(name)
    folder = dataset_folder(data_dir, task)
    assert folder is not None
    with reading_from(folder, task):
        task.load_data()
    data: Any = task.dataset
    splits = data if "test" in data else data[task.hf_subsets[0]]
    rows = splits["test"]
    if len(rows) == 1:  # lists in a single row
        rows = Dataset.from_dict(rows[0])
    splits["test"] = rows.select(range(min(n_rows, len(rows))))
    return task


def measure(task: AbsTask, n_layers: int) -> tuple[float, float, float]:
    """Seconds a layer of mteb and of ours, the least of the layers, and the largest difference of their scores."""
    meta = ModelMeta.create_empty({"name": "benchmarks/random", "revision": "1"})
    with tempfile.TemporaryDirectory() as folder, VectorStore(Path(folder), range(n_layers), DIM) as store:
        filler: Any = RandomVectors(store)
        views = [LayerView(layer, store, filler.fill, meta) for layer in range(n_layers)]
        score(task, views[0])  # fills the store
        plain_seconds, plain = [], []
        for view in views:
            start = time.perf_counter()
            plain.append(by_mteb(task, view))
            plain_seconds.append(time.perf_counter() - start)
        our_seconds, ours = [], []
        with prepared(task):
            for view in views:
                start = time.perf_counter()
                ours.append(score(task, view))
                our_seconds.append(time.perf_counter() - start)
    apart = max(difference(dict(one.scores), dict(other.scores)) for one, other in zip(plain, ours, strict=True))
    return min(plain_seconds), min(our_seconds), apart


def main() -> None:
    """Prints a line a task."""
    arguments_of = parser(__doc__)
    arguments_of.add_argument("--layers", type=int, default=3)
    arguments_of.add_argument("--data-dir", type=Path)
    arguments = arguments_of.parse_args()
    silence_mteb()
    tasks = loaded_starter_tasks()
    if arguments.data_dir is not None:
        data_dir = arguments.data_dir.absolute()
        tasks += [load(name, n, data_dir) for name, n in REAL_TASKS.items() if is_available(get_task(name), data_dir)]
    print(machine())
    print(f"{DIM} dimensions, {arguments.layers} layers")
    print(f"{'':<36} {'mteb':>10} {'ours':>10} {'times':>7}   largest")
    print(f"{'':<36} {'ms a layer':>10} {'ms a layer':>10} {'faster':>7}   difference")
    total = np.zeros(2)
    for task in tasks:
        plain, ours, apart = measure(task, arguments.layers)
        total += plain, ours
        name = task.metadata.name
        print(f"{name:<36} {1e3 * plain:>10.0f} {1e3 * ours:>10.0f} {plain / ours:>7.1f}   {apart:.0e}", flush=True)
        if not apart <= TOLERANCE:
            sys.exit(f"{name}: scores differ by {apart:.1e}, more than {TOLERANCE:.0e}")
    print(f"{'sum':<36} {1e3 * total[0]:>10.0f} {1e3 * total[1]:>10.0f} {total[0] / total[1]:>7.1f}")
    hand_in([Row("scoring of a layer", "mteb alone on the same vectors", total[0] / total[1], REACH)], arguments.rows)


if __name__ == "__main__":
    main()
