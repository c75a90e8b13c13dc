"""Which texts a task has encoded, found out by mteb's own evaluation without a model. Not for: encoding them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from mteb.abstasks.abstask import AbsTask
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta

from leaderboard.scoring.columns import texts_in
from leaderboard.scoring.score import score

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.types import BatchedInput, EncodeKwargs, PromptType
    from torch.utils.data import DataLoader
    from typing_extensions import Unpack


@dataclass(frozen=True)
class TaskTexts:
    """The distinct texts of a task, in the order in which mteb asks for them first.

    Attributes:
        all: Those that a score needs, of whatever split.
        evaluated: Those of the splits that are evaluated, all columns of them; training texts are left out.
    """

    all: list[str]
    evaluated: list[str]


def texts_of(task: AbsTask) -> TaskTexts:
    """Asks mteb for a score and listens.

    Args:
        task: A task whose data are loaded. Faster within `scoring.prepared(task)`.
    """
    listener = _Listener(task.eval_splits)
    score(task, listener)
    return TaskTexts(list(listener.all), list(listener.evaluated))


class _Listener(AbsEncoder):
    """Gives every text the same vector of one dimension, and notes what it was asked for."""

    mteb_model_meta: ModelMeta

    def __init__(self, eval_splits: Sequence[str]) -> None:
        self.mteb_model_meta = ModelMeta.create_empty({"name": "midlayer-embed/listener", "revision": "1"})
        self.all: dict[str, None] = {}
        self.evaluated: dict[str, None] = {}
        self._eval_splits = eval_splits

    def encode(
        self,
        inputs: "DataLoader[BatchedInput]",
        *,
        task_metadata: "TaskMetadata",
        hf_split: str,
        hf_subset: str,
        prompt_type: "PromptType | None" = None,
        **kwargs: "Unpack[EncodeKwargs]",
    ) -> np.ndarray:
        """Ones, float32 (n_texts, 1)."""
        texts = texts_in(inputs)
        self.all |= dict.fromkeys(texts)
        if hf_split in self._eval_splits:
            self.evaluated |= dict.fromkeys(texts)
        return np.ones((len(texts), 1), dtype=np.float32)
