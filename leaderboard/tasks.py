"""Which tasks there are and what they are called. Loading their data is mteb's business."""

import difflib
from collections.abc import Iterable

import mteb
import mteb.tasks
from mteb.abstasks.abstask import AbsTask
from mteb.benchmarks.benchmark import Benchmark

from leaderboard.starter_tasks import STARTER_TASKS
from midlayer_embed.errors import InputError, InputTypeError

STARTER_BENCHMARK = "starter"
BENCHMARKS = (STARTER_BENCHMARK,)


def get_benchmark(name: str) -> Benchmark:
    """A benchmark of ours by name.

    Args:
        name: "starter": five offline tasks built from docstrings, a first look and not MTEB.

    Raises:
        InputError: (a ValueError) no such benchmark.

    Example:
        >>> len(get_benchmark("starter").tasks)
        5
    """
    if name != STARTER_BENCHMARK:
        raise InputError(f"benchmark: expected one of {', '.join(BENCHMARKS)}, got {name!r}")
    return Benchmark(
        name=STARTER_BENCHMARK,
        tasks=tuple(task() for task in STARTER_TASKS),
        description="Five offline tasks, one of each MTEB type of the paper, from the docstrings of numpy, scipy and "
        "scikit-learn. A first look at a model's layers; not comparable with MTEB.",
        display_name="Starter",
        language_view=["eng-Latn"],
    )


def get_task(name: str) -> AbsTask:
    """A task by name: a starter task, or one of mteb's, cut to English and the test split where the paper uses it.

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
    for known in mteb.get_benchmark("MTEB(eng, v1)").tasks:
        if known.metadata.name == name:
            return known
    return mteb.get_task(name)


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
