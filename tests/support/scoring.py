"""What shows whether tasks are scored as by mteb: an encoder without a model, and comparisons."""

import math
import random
from typing import Any

import mteb
import numpy as np
import pytest
from datasets import Dataset
from mteb.abstasks.abstask import AbsTask
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta
from mteb.results import TaskResult
from mteb.types import EncodeKwargs
from threadpoolctl import threadpool_info

from leaderboard.scoring.encode_kwargs import ENCODE_KWARGS
from leaderboard.scoring.score import prepared, score

_WIDTH = 24


class VectorsOfWords(AbsEncoder):
    """A text's vector is the mean of random vectors of its words: near for texts that share words."""

    mteb_model_meta: ModelMeta

    def __init__(self, seed: int = 0) -> None:
        self.mteb_model_meta = ModelMeta.create_empty({"name": "tests/words", "revision": "1"})
        self.seed = seed
        self.known: dict[str, np.ndarray] = {}
        self.threads: list[int] = []
        self.n_encoded: list[int] = []

    def encode(self, inputs: Any, **kwargs: Any) -> np.ndarray:
        self.threads += [pool["num_threads"] for pool in threadpool_info()]
        texts = [text for batch in inputs for text in batch["text"]]
        self.n_encoded.append(len(texts))
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> np.ndarray:
        if text not in self.known:
            words = [
                np.random.default_rng([self.seed, *word.encode()]).normal(size=_WIDTH) for word in text.split()[:12]
            ]
            self.known[text] = np.asarray(np.mean(words or [np.ones(_WIDTH)], axis=0), dtype=np.float32)
        return self.known[text]


def _mteb_score(task: AbsTask, model: VectorsOfWords) -> TaskResult:
    """What mteb alone makes of the task."""
    task.rng_state, task.np_rng = random.Random(task.seed), np.random.default_rng(task.seed)
    kwargs = EncodeKwargs(**ENCODE_KWARGS)
    evaluated = mteb.evaluate(model, task, cache=None, encode_kwargs=kwargs, show_progress_bar=False, co2_tracker=False)
    return evaluated.task_results[0]


def assert_same(found: Any, expected: Any, where: str = "") -> None:
    """Equal in structure; numbers to 1e-9."""
    if isinstance(expected, dict):
        assert list(found) == list(expected), where
        for name in expected:
            assert_same(found[name], expected[name], f"{where}/{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same(one, other, f"{where}/{number}")
    elif isinstance(expected, float) and not math.isnan(expected):
        assert found == pytest.approx(expected, abs=1e-9, rel=0), where
    elif isinstance(expected, float):
        assert math.isnan(found), where
    else:
        assert found == expected, where


def assert_scored_as_by_mteb(task: AbsTask) -> None:
    """Two layers within one `prepared`, each beside mteb's own evaluation outside of it, on the same vectors."""
    models = [VectorsOfWords(seed) for seed in (0, 1)]
    with prepared(task):
        found = [score(task, model) for model in models]
    for model, result in zip(models, found, strict=True):
        expected = _mteb_score(task, model)
        assert expected.scores
        assert_same(result.scores, expected.scores)
    main_scores = [result.get_score() for result in found]
    assert main_scores[0] != main_scores[1]


def strings_in_data(task: AbsTask) -> set[str]:
    """All texts of a loaded tiny task, found the plain way: every string in its data that has a space."""
    return _texts_in(dict(task.dataset))


def _texts_in(value: Any) -> set[str]:
    if isinstance(value, str):
        return {value} if " " in value else set()
    if isinstance(value, dict):
        return set().union(*map(_texts_in, value.values()))
    if isinstance(value, Dataset):
        return _texts_in([list(row.values()) for row in value])
    if isinstance(value, list):
        return set().union(*map(_texts_in, value))
    return set()
