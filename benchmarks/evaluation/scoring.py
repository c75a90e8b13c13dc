"""Time of scoring a layer with mteb alone, over the sweep's scoring, on the same vectors. Checks that scores are equal.

    python -m benchmarks.evaluation.scoring [--layers 3] [--data-dir FOLDER]

Runs one starter task of each type; with a folder of datasets (`--data-dir` of midlayer-leaderboard), also a part of the
real tasks that it holds. Vectors are random with 576 dimensions, like those of the starter model. The fastest layer
counts; loading and encoding are not included.
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
from datasets import Dataset
from mteb.abstasks.abstask import AbsTask
from mteb.models.model_meta import ModelMeta
from mteb.results import TaskResult
from mteb.types import EncodeKwargs

from benchmarks.bench import Row, build_parser, describe_machine, report_rows
from leaderboard.scoring.score import ENCODE_KWARGS, prepared, score
from leaderboard.sweep.layers.layer_view import LayerView
from leaderboard.sweep.store import VectorStore
from leaderboard.tasks.benchmarks import get_task
from leaderboard.tasks.mirror import dataset_folder, is_available, reading_from
from leaderboard.tasks.starter import STARTER_TASKS

DIM = 576
TOLERANCE = 1e-9
TARGET = 2.0
# Number of rows to keep: mteb alone takes minutes per layer on all rows.
REAL_TASKS = {"AmazonCounterfactualClassification": 200, "TwitterURLCorpus": 2000, "STSBenchmark": 1379}


class RandomVectors:
    """Fills a store with random vectors instead of those of a model."""

    def __init__(self, store: VectorStore) -> None:
        self._store = store

    def fill(self, texts: list[str]) -> None:
        """Add vectors for the texts that are not in the store yet."""
        missing = self._store.missing(texts)
        if missing:
            rows, segment = self._store.grow(missing)
            rng = np.random.default_rng(rows.start)
            for layer in range(len(self._store.layers)):
                segment[layer] = rng.standard_normal((len(missing), DIM), dtype=np.float32)


def silence_mteb() -> None:
    """Hide mteb's warnings and the progress bars of the datasets library."""
    warnings.simplefilter("ignore")
    logging.getLogger("mteb").setLevel(logging.ERROR)
    datasets.disable_progress_bars()


def load_starter_tasks() -> list[AbsTask]:
    """Load one task of each type."""
    tasks: list[AbsTask] = [kind() for kind in STARTER_TASKS]
    for task in tasks:
        task.load_data()
    return tasks


def score_with_mteb(task: AbsTask, model: LayerView) -> TaskResult:
    """Score with mteb alone."""
    task.rng_state, task.np_rng = random.Random(task.seed), np.random.default_rng(task.seed)
    kwargs = EncodeKwargs(**ENCODE_KWARGS)
    evaluated = mteb.evaluate(model, task, cache=None, encode_kwargs=kwargs, show_progress_bar=False, co2_tracker=False)
    return evaluated.task_results[0]


def difference(one: Any, other: Any) -> float:
    """Largest difference between numbers at the same position; infinite if the structures differ."""
    if isinstance(one, dict) and isinstance(other, dict) and list(one) == list(other):
        return max((difference(one[name], other[name]) for name in one), default=0.0)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return max((difference(*pair) for pair in zip(one, other, strict=True)), default=0.0)
    if isinstance(one, float) and isinstance(other, float):
        return 0.0 if math.isnan(one) and math.isnan(other) else abs(one - other)
    return 0.0 if one == other else math.inf


def load_real_task(name: str, n_rows: int, data_dir: Path) -> AbsTask:
    """Load a real task with at most `n_rows` rows of its test split."""
    task = get_task(name)
    folder = dataset_folder(data_dir, task)
    assert folder is not None
    with reading_from(folder, task):
        task.load_data()
    data: Any = task.dataset
    splits = data if "test" in data else data[task.hf_subsets[0]]
    rows = splits["test"]
    if len(rows) == 1:  # lists of all pairs in a single row
        rows = Dataset.from_dict(rows[0])
    splits["test"] = rows.select(range(min(n_rows, len(rows))))
    return task


def measure(task: AbsTask, n_layers: int) -> tuple[float, float, float]:
    """Seconds per layer with mteb and with ours (fastest layer), and the largest difference of their scores."""
    meta = ModelMeta.create_empty({"name": "benchmarks/random", "revision": "1"})
    with tempfile.TemporaryDirectory() as folder, VectorStore(Path(folder), range(n_layers), DIM) as store:
        filler: Any = RandomVectors(store)
        views = [LayerView(layer, store, filler.fill, meta) for layer in range(n_layers)]
        score(task, views[0])  # fills the store
        plain_seconds, plain = [], []
        for view in views:
            start = time.perf_counter()
            plain.append(score_with_mteb(task, view))
            plain_seconds.append(time.perf_counter() - start)
        our_seconds, ours = [], []
        with prepared(task):
            for view in views:
                start = time.perf_counter()
                ours.append(score(task, view))
                our_seconds.append(time.perf_counter() - start)
    largest = max(difference(dict(one.scores), dict(other.scores)) for one, other in zip(plain, ours, strict=True))
    return min(plain_seconds), min(our_seconds), largest


def main() -> None:
    """Print one line per task."""
    parser = build_parser(__doc__)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--data-dir", type=Path)
    arguments = parser.parse_args()
    silence_mteb()
    tasks = load_starter_tasks()
    if arguments.data_dir is not None:
        data_dir = arguments.data_dir.absolute()
        tasks += [
            load_real_task(name, n, data_dir)
            for name, n in REAL_TASKS.items()
            if is_available(get_task(name), data_dir)
        ]
    print(describe_machine())
    print(f"{DIM} dimensions, {arguments.layers} layers")
    print(f"{'':<36} {'mteb':>10} {'ours':>10} {'times':>7}   largest")
    print(f"{'':<36} {'ms a layer':>10} {'ms a layer':>10} {'faster':>7}   difference")
    total = np.zeros(2)
    for task in tasks:
        plain, ours, largest = measure(task, arguments.layers)
        total += plain, ours
        name = task.metadata.name
        print(f"{name:<36} {1e3 * plain:>10.0f} {1e3 * ours:>10.0f} {plain / ours:>7.1f}   {largest:.0e}", flush=True)
        if not largest <= TOLERANCE:
            sys.exit(f"{name}: scores differ by {largest:.1e}, more than {TOLERANCE:.0e}")
    print(f"{'sum':<36} {1e3 * total[0]:>10.0f} {1e3 * total[1]:>10.0f} {total[0] / total[1]:>7.1f}")
    report_rows(
        [Row("scoring of a layer", "mteb alone on the same vectors", total[0] / total[1], TARGET)], arguments.rows
    )


if __name__ == "__main__":
    main()
