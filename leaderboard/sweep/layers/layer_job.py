"""Scores one layer of a task under each of its transforms, all fitted on the same sums and read from one store."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mteb.abstasks.abstask import AbsTask
from mteb.models.model_meta import ModelMeta
from mteb.results import TaskResult

from leaderboard.scoring.prompts import TaskPrompts
from leaderboard.scoring.score import score
from leaderboard.sweep.layers.layer_view import LayerView
from leaderboard.sweep.layers.vector_map import EQUAL, VectorMap, all_equal, threads_for
from leaderboard.sweep.store import VectorStore
from leaderboard.tasks.items import Item
from midlayer_embed.errors import InputError
from midlayer_embed.forward.after_pooling import AfterPooling
from midlayer_embed.recipes.names import needs_covariance
from midlayer_embed.recipes.transform import Moments, Transform

# Rows that are read at a time.
_BLOCK = 4096


@dataclass(frozen=True)
class FitRows:
    """The vectors that the transforms of a layer are fitted on.

    Attributes:
        rows: Their rows in a store.
        refused: Why nothing can be fitted to this layer; None if it can.
        folder: Folder of a published store; None for the store that is scored.
    """

    rows: np.ndarray
    refused: str | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class LayerJob:
    """What is scored of one layer.

    Attributes:
        layer: The layer.
        metas: mteb's ModelMeta of each result, by the name of its transform; None for the vectors as they are.
        n_scored: Number of texts of the task; their rows come first in the store.
        after: The model's own modules after pooling; None for none.
        fit: What transforms are fitted on; None if there are no transforms.
    """

    layer: int
    metas: Mapping[str | None, ModelMeta]
    n_scored: int
    after: AfterPooling | None = None
    fit: FitRows | None = None


class Scored(NamedTuple):
    """One result: its layer and transform, and the scores, or the reason why there are none."""

    layer: int
    transform: str | None
    result: TaskResult | None
    no_score: str | None


def portions(jobs: Sequence[LayerJob], n: int) -> list[LayerJob]:
    """The jobs, or parts of them by transform if there are fewer than `n`."""
    if not 0 < len(jobs) < n:
        return list(jobs)
    parts = -(-n // len(jobs))
    return [
        replace(job, metas={name: job.metas[name] for name in list(job.metas)[part::parts]})
        for job in jobs
        for part in range(min(parts, len(job.metas)))
    ]


def score_layer(
    task: AbsTask,
    store: VectorStore,
    job: LayerJob,
    fill: Callable[[Sequence[Item]], None],
    prompts: TaskPrompts | None = None,
) -> Iterator[Scored]:
    """Scores a layer under each transform. A transform that cannot be fitted has no score; the others go on.

    Args:
        task: The task, loaded.
        store: Pooled vectors of its texts.
        job: The layer and the transforms.
        fill: Encodes texts that are not in the store yet.
        prompts: The prompts of the model; None for none.
    """
    if job.n_scored and all_equal(_blocks(store, job.layer, np.arange(job.n_scored))):
        yield from (Scored(job.layer, transform, None, EQUAL) for transform in job.metas)
        return
    fitting = Fitting(store, job)
    for transform, meta in job.metas.items():
        try:
            fitted = None if transform is None else fitting.fit(transform)
        except InputError as error:
            yield Scored(job.layer, transform, None, str(error).partition(": ")[2] or str(error))
            continue
        vector_map = VectorMap(fitted, job.after)
        result = score(task, LayerView(job.layer, store, fill, meta, prompts, vector_map))
        no_score = vector_map.no_score
        yield Scored(job.layer, transform, None if no_score else result, no_score)


@dataclass
class Fitting:
    """Fits transforms to one layer; its vectors are read and summed once."""

    store: VectorStore
    job: LayerJob
    _moments: Moments | None = field(default=None, init=False)

    def fit(self, transform: str) -> Transform:
        """The transform of this layer.

        Raises:
            InputError: (a ValueError) it cannot be fitted; the message says why.
        """
        fit = self.job.fit
        assert fit is not None
        if self.job.after is not None:
            self.job.after.check_takes_transform()
        if fit.refused is not None:
            raise InputError(f"transform: {fit.refused}")
        with threads_for(self.store.dim):
            return self._fitted(transform, fit)

    def _fitted(self, transform: str, fit: FitRows) -> Transform:
        if self._moments is None:
            store = self.store if fit.folder is None else VectorStore.published(fit.folder)
            full = any(needs_covariance(name) for name in self.job.metas if name is not None)
            self._moments = Moments(1, store.dim, full=full)
            for block in _blocks(store, self.job.layer, fit.rows):
                self._moments.add(block[:, None])
        return self._moments.fit(transform, warn=False).of_layer(0)


def _blocks(store: VectorStore, layer: int, rows: np.ndarray) -> Iterator[np.ndarray]:
    return (store.vectors(layer, rows[start : start + _BLOCK]) for start in range(0, len(rows), _BLOCK))
