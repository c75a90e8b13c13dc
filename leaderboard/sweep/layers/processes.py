"""Scores layers of one task, in this process or in several processes of this machine. Scoring itself is in `scoring`.

Every process has its own copy of the task; all of them map the vectors of one store from the disk.
"""

import atexit
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from pathlib import Path

import joblib
from mteb.abstasks.abstask import AbsTask

from leaderboard.quiet import calm_libraries
from leaderboard.scoring.prompts import TaskPrompts
from leaderboard.scoring.score import prepared
from leaderboard.sweep.layers.layer_job import LayerJob, Scored, portions, score_layer
from leaderboard.sweep.store import VectorStore
from leaderboard.tasks.items import Item
from midlayer_embed.errors import InputError
from midlayer_embed.ground.workers import safe_imports


def scored_layers(
    task: AbsTask,
    store: VectorStore,
    layers: Sequence[LayerJob],
    fill: Callable[[Sequence[Item]], None],
    jobs: int = 1,
    prompts: TaskPrompts | None = None,
) -> Generator[Scored, None, None]:
    """Scores layers, and yields each result as soon as it is computed, or those of a layer together.

    Args:
        task: The task, loaded.
        store: Pooled vectors of its texts.
        layers: What to score of each layer.
        fill: Encodes texts that are not in the store yet; used if `jobs` is 1.
        jobs: Number of processes; 1 scores in this process.
        prompts: The prompts of the model; None for none.

    Yields:
        The results, in any order.
    """
    parts = portions(layers, jobs)
    if jobs == 1 or len(parts) == 1:
        with prepared(task):
            for job in layers:
                yield from score_layer(task, store, job, fill, prompts)
        return
    if not parts:
        return
    folder = store.publish()
    n_jobs = min(jobs, len(parts))
    with safe_imports(), joblib.parallel_config(backend="loky", n_jobs=n_jobs, inner_max_num_threads=1):
        results = joblib.Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="all")(
            joblib.delayed(_score_here)(folder, task, job, prompts) for job in parts
        )
        try:
            for scored in results:
                yield from scored
        finally:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # joblib warns of tasks that an interrupt cancels
                results.close()


class _Worker:
    """What a worker process keeps from one layer to the next: the prepared task and the store."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._context = ExitStack()

    def prepare(self, folder: Path, task: AbsTask) -> tuple[AbsTask, VectorStore]:
        """The prepared task and the store in `folder`; a task prepared for another folder is released."""
        if folder != self._folder:
            self.close()
            self._context.enter_context(calm_libraries())
            self._context.enter_context(prepared(task))
            self._task, self._store, self._folder = task, VectorStore.published(folder), folder
        return self._task, self._store

    def close(self) -> None:
        """Releases the task and the store."""
        self._context.close()
        self._context, self._folder = ExitStack(), None


# One per process, and global: a loky worker receives a function and its arguments with each call, and keeps neither. An
# object of the submitting process cannot hold the prepared task for it.
_WORKER = _Worker()
atexit.register(_WORKER.close)  # before the interpreter unloads the modules that `prepared` restores


def _score_here(folder: Path, task: AbsTask, job: LayerJob, prompts: TaskPrompts | None) -> list[Scored]:
    task, store = _WORKER.prepare(folder, task)
    return list(score_layer(task, store, job, _refuse_missing(store), prompts))


def _refuse_missing(store: VectorStore) -> Callable[[Sequence[Item]], None]:
    def check(texts: Sequence[Item]) -> None:
        if missing := store.missing(texts):
            raise InputError(
                f"the task asks for {len(missing)} texts that were not collected before scoring; such a task can only "
                "be scored with jobs=1"
            )

    return check
