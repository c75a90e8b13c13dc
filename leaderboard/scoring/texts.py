"""Collects what mteb encodes for a task, texts or pictures, by running its evaluation without a model."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from mteb.abstasks.abstask import AbsTask
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta

from leaderboard.scoring.columns import items_in, on_images
from leaderboard.scoring.prompts import TaskPrompts
from leaderboard.scoring.score import score
from midlayer_embed.images.pictures import Picture
from midlayer_embed.models.sentence_transformers_config import OwnConfig
from midlayer_embed.texts.tokens import Text

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.types import BatchedInput, EncodeKwargs, PromptType
    from torch.utils.data import DataLoader
    from typing_extensions import Unpack


@dataclass(frozen=True)
class TaskTexts:
    """The distinct texts of a task, or its distinct pictures, in the order in which mteb first encodes them.

    Attributes:
        all: All texts that are encoded for a score, in any split, under their prompts.
        evaluated: Texts of the evaluation splits, all columns, without prompts; training texts are left out.
        evaluated_prompted: The same texts under their prompts.
    """

    all: list[Text | Picture]
    evaluated: list[str | Picture]
    evaluated_prompted: list[Text | Picture]


def collect_texts(task: AbsTask, prompts: TaskPrompts | None = None) -> TaskTexts:
    """Run mteb's evaluation with an encoder that records its inputs.

    Args:
        task: Task whose data are loaded. Faster inside `leaderboard.scoring.score.prepared(task)`.
        prompts: The prompts of the model; None for none.
    """
    recorder = _Recorder(task, prompts or TaskPrompts(OwnConfig()))
    score(task, recorder)
    return TaskTexts(list(recorder.all), list(recorder.evaluated), list(recorder.evaluated_prompted))


class _Recorder(AbsEncoder):
    """Records what it is asked to encode; returns the same one-dimensional vector for each."""

    mteb_model_meta: ModelMeta

    def __init__(self, task: AbsTask, prompts: TaskPrompts) -> None:
        modalities = ["image"] if on_images(task.metadata) else ["text"]
        overwrites = {"name": "midlayer-embed/recorder", "revision": "1", "modalities": modalities}
        self.mteb_model_meta = ModelMeta.create_empty(overwrites)
        self.all: dict[Any, None] = {}
        self.evaluated: dict[Any, None] = {}
        self.evaluated_prompted: dict[Any, None] = {}
        self._eval_splits = task.eval_splits
        self._prompts = prompts

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
        """Record the texts or pictures; returns ones, float32 (n, 1)."""
        texts = items_in(inputs, task_metadata)
        under_prompt = dict.fromkeys(self._prompts.prompted(texts, task_metadata, prompt_type))
        self.all |= under_prompt
        if hf_split in self._eval_splits:
            self.evaluated |= dict.fromkeys(texts)
            self.evaluated_prompted |= under_prompt
        return np.ones((len(texts), 1), dtype=np.float32)
