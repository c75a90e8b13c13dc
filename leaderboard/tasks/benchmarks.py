"""Finds benchmarks and tasks by name. Loading their data is done elsewhere."""

import os
from collections.abc import Iterable
from typing import Any

import mteb
import mteb.tasks
from mteb.abstasks.abstask import AbsTask
from mteb.benchmarks.benchmark import Benchmark

from leaderboard.tasks.images.starter import STARTER_TASKS as STARTER_IMAGE_TASKS
from leaderboard.tasks.names import (
    OTHER_COLUMNS,
    STARTER_BENCHMARK,
    STARTER_VISION_BENCHMARK,
    check_benchmark,
    no_such_task,
)
from leaderboard.tasks.pins import PINS, make_benchmark
from leaderboard.tasks.starter import STARTER_TASKS
from midlayer_embed.errors import InputError, InputTypeError

# Bytes; file systems allow 255 for a name, and a file that is being written has a longer one than the task.
_LONGEST_NAME = 200
# The tasks that build their own data, by benchmark.
_OWN_DATA = {STARTER_BENCHMARK: STARTER_TASKS, STARTER_VISION_BENCHMARK: STARTER_IMAGE_TASKS}


def get_benchmark(name: str) -> Benchmark:
    """One of our benchmarks by name. Every call creates new task objects.

    Args:
        name: "starter": five offline tasks built from docstrings, for a first look, not part of MTEB. "paper": the 32
            English MTEB tasks of the paper, on the test split, with datasets and revisions pinned in
            `configs/benchmarks/paper.yaml`. "paper-fast": the same tasks, but the six clustering tasks are replaced by
            the ones that supersede them in mteb. "starter-vision": three offline tasks on images. "vision" and
            "vision-large": a small and a large set of mteb's image tasks, pinned in `configs/benchmarks/vision.yaml`.

    Raises:
        InputError: (a ValueError) no such benchmark.

    Example:
        >>> len(get_benchmark("starter").tasks), len(get_benchmark("paper").tasks)
        (5, 32)
    """
    check_benchmark(name)
    if name in _OWN_DATA:
        return make_benchmark(name, tuple(task() for task in _OWN_DATA[name]))
    return make_benchmark(name, tuple(_pinned_task(**pin) for pin in PINS[name].values()))


def _pinned_task(name: str, dataset: str, revision: str, subset: str, split: str) -> AbsTask:
    """A new mteb task with the dataset and revision that we pin, instead of those in the installed mteb."""
    task = mteb.get_task(name)
    pinned = {"path": dataset, "revision": revision}
    if pinned.items() - task.metadata.dataset.items():
        # On a new class: mteb deletes the metadata of a single object when it unloads the data.
        metadata = task.metadata.model_copy(update={"dataset": {**task.metadata.dataset, **pinned}})
        task = type(type(task).__name__, (type(task),), {"metadata": metadata})()
    return task.filter_eval_splits([split]).filter_languages(None, hf_subsets=[subset])


def get_task(name: str) -> AbsTask:
    """A new task by name: a starter task, a task of the paper with its pins, or any other task of mteb.

    Tasks of MTEB(eng, v1) are restricted to the subsets and splits of that benchmark.

    Raises:
        InputError: (a ValueError) no such task; the message suggests similar names.
    """
    starters = [task for tasks in _OWN_DATA.values() for task in tasks]
    for task in starters:
        if task.metadata.name == name:
            return task()
    # Names are read from the classes: `mteb.get_tasks` would create a thousand task objects.
    classes = [item for item in vars(mteb.tasks).values() if isinstance(item, type) and issubclass(item, AbsTask)]
    names = [task.metadata.name for task in (*starters, *classes)]
    if name not in names:
        raise no_such_task(name, names)
    for pins in PINS.values():
        if name in pins:
            return _pinned_task(**pins[name])
    for known in mteb.get_benchmark("MTEB(eng, v1)").tasks:
        if known.metadata.name == name:  # a copy: mteb shares this object between callers
            return mteb.get_task(name, hf_subsets=known.hf_subsets, eval_splits=known.eval_splits)
    return mteb.get_task(name)


def n_samples(task: AbsTask) -> int | None:
    """Number of samples in the evaluated subsets and splits, from mteb's statistics; None if mteb has none.

    Samples are rows, pairs, sentences of all sets, or queries and documents.

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
    """The tasks of a benchmark, given as object or name, or of a list of tasks and task names.

    Raises:
        InputError: (a ValueError) an unknown name, no task at all, a task that is there twice, or a name that no file
            can have.
        InputTypeError: (a ValueError and a TypeError) an item is neither a name nor a task.
    """
    if isinstance(benchmark_or_tasks, str):
        return list(get_benchmark(benchmark_or_tasks).tasks)
    if isinstance(benchmark_or_tasks, Benchmark):
        benchmark_or_tasks = benchmark_or_tasks.tasks
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
    for name in names:
        if (
            name in ("", ".", "..")
            or not {"/", os.sep, "\0"}.isdisjoint(name)
            or len(os.fsencode(name)) > _LONGEST_NAME
        ):
            raise InputError(
                f"tasks: results are stored under the names of their tasks, and no file can be named {name!r}"
            )
        if name in OTHER_COLUMNS:
            raise InputError(f"tasks: tables have a column {name!r} that is no task; expected another name of the task")
    return tasks
