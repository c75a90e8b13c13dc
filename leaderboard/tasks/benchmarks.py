"""Which tasks there are and what they are called. Loading their data is mteb's business."""

import difflib
from collections.abc import Iterable
from typing import Any

import mteb
import mteb.tasks
from mteb.abstasks.abstask import AbsTask
from mteb.benchmarks.benchmark import Benchmark

from leaderboard.config_files import read_config
from leaderboard.registry import BENCHMARKS, FAST_BENCHMARK, PAPER_BENCHMARK, STARTER_BENCHMARK, make_benchmark
from leaderboard.tasks.starter import STARTER_TASKS
from midlayer_embed.errors import InputError, InputTypeError

# What each benchmark but "starter", whose tasks make their own data, pins: for every task, by name, `_pinned_task`'s.
_PINS: dict[str, dict[str, dict[str, str]]] = {
    benchmark: {pin["name"]: pin for pin in read_config("benchmarks", benchmark)["tasks"]}
    for benchmark in (PAPER_BENCHMARK, FAST_BENCHMARK)
}
# The 32 tasks of the paper's Table 1, by name.
PAPER_TASKS: tuple[str, ...] = tuple(_PINS[PAPER_BENCHMARK])


def get_benchmark(name: str) -> Benchmark:
    """A benchmark of ours by name, with tasks of its own: what is done to them is done to nobody else's.

    Args:
        name: "starter": five offline tasks built from docstrings, a first look and not MTEB; "paper": the 32 English
            MTEB tasks of the paper, test split, datasets and revisions as `configs/benchmarks/paper.yaml` pins them;
            "paper-fast": the same, but for the six clustering tasks, which are those that supersede them in mteb.

    Raises:
        InputError: (a ValueError) no such benchmark.

    Example:
        >>> len(get_benchmark("starter").tasks), len(get_benchmark("paper").tasks)
        (5, 32)
    """
    if name not in BENCHMARKS:
        raise InputError(f"benchmark: expected one of {', '.join(BENCHMARKS)}, got {name!r}")
    if name == STARTER_BENCHMARK:
        return make_benchmark(name, tuple(task() for task in STARTER_TASKS))
    return make_benchmark(name, tuple(_pinned_task(**pin) for pin in _PINS[name].values()))


def _pinned_task(name: str, dataset: str, revision: str, subset: str, split: str) -> AbsTask:
    """A fresh task of mteb's, of the dataset and revision that we pin, whatever those of the installed mteb are."""
    task = mteb.get_task(name)
    pinned = {"path": dataset, "revision": revision}
    if pinned.items() - task.metadata.dataset.items():
        # A class of its own: mteb takes metadata that belong to one object alone away when it unloads the data.
        metadata = task.metadata.model_copy(update={"dataset": {**task.metadata.dataset, **pinned}})
        task = type(type(task).__name__, (type(task),), {"metadata": metadata})()
    return task.filter_eval_splits([split]).filter_languages(None, hf_subsets=[subset])


def get_task(name: str) -> AbsTask:
    """A fresh task by name: a starter task, one of the paper's as it is pinned, or another one of mteb's.

    Tasks of MTEB(eng, v1) are cut to its subsets and splits.

    Raises:
        InputError: (a ValueError) no such task; the message offers the nearest names.
    """
    for task in STARTER_TASKS:
        if task.metadata.name == name:
            return task()
    # The classes say their names; to ask mteb for all tasks would make a thousand of them.
    classes = [item for item in vars(mteb.tasks).values() if isinstance(item, type) and issubclass(item, AbsTask)]
    names = [task.metadata.name for task in (*STARTER_TASKS, *classes)]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise InputError(f"task: there is no task {name!r}{hint}")
    for pins in _PINS.values():
        if name in pins:
            return _pinned_task(**pins[name])
    for known in mteb.get_benchmark("MTEB(eng, v1)").tasks:
        if known.metadata.name == name:  # mteb's own object, which is everybody's: one like it
            return mteb.get_task(name, hf_subsets=known.hf_subsets, eval_splits=known.eval_splits)
    return mteb.get_task(name)


def n_samples(task: AbsTask) -> int | None:
    """How many samples a task evaluates in its subsets and splits, as mteb has counted them; None where it has not.

    Rows, pairs, sentences of all sets, or queries and documents.

    Example:
        >>> n_samples(get_task("STS17")), n_samples(get_task("StarterSTS"))
        (250, None)
    """
    counted: dict[str, Any] = dict(task.metadata.descriptive_stats or {})
    total = 0
    for split in task.eval_splits:
        for subset in task.hf_subsets:
            of_split = counted.get(split, {})
            found = of_split.get("hf_subset_descriptive_stats", {"default": of_split}).get(subset, {})
            if "num_samples" not in found:
                return None
            total += found["num_samples"]
    return total


def resolve_tasks(benchmark_or_tasks: "str | Benchmark | AbsTask | Iterable[str | AbsTask]") -> list[AbsTask]:
    """The tasks that a benchmark, its name, a task, or a list of tasks and names stand for.

    Raises:
        InputError: (a ValueError) an unknown name, no task at all, or the same task twice.
        InputTypeError: (a ValueError and a TypeError) something that is neither.
    """
    if isinstance(benchmark_or_tasks, Benchmark):
        return list(benchmark_or_tasks.tasks)
    if isinstance(benchmark_or_tasks, str):
        return list(get_benchmark(benchmark_or_tasks).tasks)
    asked = [benchmark_or_tasks] if isinstance(benchmark_or_tasks, AbsTask) else list(benchmark_or_tasks)
    tasks = []
    for item in asked:
        if not isinstance(item, (str, AbsTask)):
            raise InputTypeError(f"tasks: expected names or mteb tasks, got {type(item).__name__}")
        tasks.append(get_task(item) if isinstance(item, str) else item)
    names = [task.metadata.name for task in tasks]
    if not tasks:
        raise InputError("tasks: expected at least one task, got an empty list")
    if len(set(names)) < len(names):
        raise InputError(f"tasks: a task is named twice in {', '.join(names)}")
    return tasks
