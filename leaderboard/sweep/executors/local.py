"""Scores layers of one task, in this process or in several processes of this machine. Scoring itself is in `scoring`.

Every process has its own copy of the task; all of them map the vectors of one store from the disk.
"""

import atexit
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import joblib
from mteb.abstasks.abstask import AbsTask
from mteb.models.model_meta import ModelMeta
from mteb.results import TaskResult

from leaderboard.quiet import calm_libraries
from leaderboard.scoring.prompts import TaskPrompts
from leaderboard.scoring.score import prepared, score
from leaderboard.sweep.layer_view import LayerView
from leaderboard.sweep.store import VectorStore
from midlayer_embed.errors import InputError
from midlayer_embed.forward.batching import Text
from midlayer_embed.ground.workers import safe_imports


def scored_layers(
    task: AbsTask,
    store: VectorStore,
    metas: Mapping[int, ModelMeta],
    fill: Callable[[Sequence[Text]], None],
    jobs: int = 1,
    prompts: TaskPrompts | None = None,
) -> Iterator[tuple[int, TaskResult]]:
    """Scores layers, and yields each result as soon as it is computed.

    Args:
        task: The task, loaded.
        store: Vectors of its texts.
        metas: mteb's ModelMeta of each layer to score.
        fill: Encodes texts that are not in the store yet; used if `jobs` is 1.
        jobs: Number of processes; 1 scores in this process.
        prompts: The prompts of the model; None for none.

    Yields:
        (layer, result), in any order.
    """
    if jobs == 1 or len(metas) == 1:
        with prepared(task):
            for layer, meta in metas.items():
                yield layer, score(task, LayerView(layer, store, fill, meta, prompts))
        return
    if not metas:
        return
    folder = store.publish()
    n_jobs = min(jobs, len(metas))
    with safe_imports(), joblib.parallel_config(backend="loky", n_jobs=n_jobs, inner_max_num_threads=1):
        results = joblib.Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="all")(
            joblib.delayed(_score_here)(folder, task, layer, meta, prompts) for layer, meta in metas.items()
        )
        try:
            for result in results:  # noqa: UP028 (an interrupt while a result is used has to arrive here)
                yield result
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


def _score_here(
    folder: Path, task: AbsTask, layer: int, meta: ModelMeta, prompts: TaskPrompts | None
) -> tuple[int, TaskResult]:
    task, store = _WORKER.prepare(folder, task)
    return layer, score(task, LayerView(layer, store, _refuse_missing(store), meta, prompts))


def _refuse_missing(store: VectorStore) -> Callable[[Sequence[Text]], None]:
    def check(texts: Sequence[Text]) -> None:
        if missing := store.missing(texts):
            raise InputError(
                f"the task asks for {len(missing)} texts that were not collected before scoring; such a task can only "
                "be scored with jobs=1"
            )

    return check
