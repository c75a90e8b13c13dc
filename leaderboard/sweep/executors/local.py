"""Layers of one task scored by several processes, which read the vectors from one store. How is `scoring`'s business.

Every process has the task to itself; the vectors are mapped from the disk, not copied.
"""

import atexit
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import joblib
from mteb.abstasks.abstask import AbsTask
from mteb.models.model_meta import ModelMeta
from mteb.results import TaskResult

from leaderboard.quiet import calm_libraries
from leaderboard.scoring.score import prepared, score
from leaderboard.sweep.layer_view import LayerView
from leaderboard.sweep.store import VectorStore
from midlayer_embed.errors import InputError
from midlayer_embed.ground.checks import check_int


def check_jobs(jobs: int) -> int:
    """The number of processes, if it is one.

    Raises:
        InputError: (a ValueError) not an int of at least 1.
    """
    return check_int("jobs", jobs, 1)


def scored_layers(
    task: AbsTask,
    store: VectorStore,
    metas: Mapping[int, ModelMeta],
    fill: Callable[[Sequence[str]], None],
    jobs: int = 1,
) -> Iterator[tuple[int, TaskResult]]:
    """Scores layers of a store; each is there for the caller as soon as it is scored.

    Args:
        task: The task, its data loaded.
        store: Its texts' vectors.
        metas: Of each layer that is to be scored.
        fill: Encodes texts that the store misses.
        jobs: Processes; 1 for none but this one.

    Yields:
        (layer, result), in any order.
    """
    if jobs == 1 or len(metas) == 1:
        with prepared(task):
            for layer, meta in metas.items():
                yield layer, score(task, LayerView(layer, store, fill, meta))
        return
    folder = store.publish()
    with joblib.parallel_config(backend="loky", n_jobs=min(jobs, len(metas)), inner_max_num_threads=1):
        yield from joblib.Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="all")(
            joblib.delayed(_score_here)(folder, task, layer, meta) for layer, meta in metas.items()
        )


class _Held:
    """What a process keeps from one layer to the next: the task, ready to be scored, and the store."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._context = ExitStack()

    def task(self, folder: Path, task: AbsTask) -> tuple[AbsTask, VectorStore]:
        """The task and the store in `folder`; those of another one go."""
        if folder != self._folder:
            self.close()
            self._context.enter_context(calm_libraries())
            self._context.enter_context(prepared(task))
            self._task, self._store, self._folder = task, VectorStore.published(folder), folder
        return self._task, self._store

    def close(self) -> None:
        """Lets go of what is held."""
        self._context.close()
        self._context, self._folder = ExitStack(), None


_HELD = _Held()
atexit.register(_HELD.close)  # at the very end there are no modules left to restore


def _score_here(folder: Path, task: AbsTask, layer: int, meta: ModelMeta) -> tuple[int, TaskResult]:
    task, store = _HELD.task(folder, task)
    return layer, score(task, LayerView(layer, store, _refuse_unless_there(store), meta))


def _refuse_unless_there(store: VectorStore) -> Callable[[Sequence[str]], None]:
    def check(texts: Sequence[str]) -> None:
        if missing := store.missing(texts):
            raise InputError(
                f"the task asks for {len(missing)} texts that it did not ask for at first; expected one job for it"
            )

    return check
