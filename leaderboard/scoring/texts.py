"""Collects the texts that mteb encodes for a task, by running its evaluation without a model. Does not encode them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from mteb.abstasks.abstask import AbsTask
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta

from leaderboard.scoring.columns import texts_in
from leaderboard.scoring.prompts import TaskPrompts
from leaderboard.scoring.score import score
from midlayer_embed.models.sentence_transformers_config import OwnConfig
from midlayer_embed.texts.tokens import Text, prompted

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.types import BatchedInput, EncodeKwargs, PromptType
    from torch.utils.data import DataLoader
    from typing_extensions import Unpack


@dataclass(frozen=True)
class TaskTexts:
    """The distinct texts of a task, in the order in which mteb first encodes them.

    Attributes:
        all: All texts that are encoded for a score, in any split, under their prompts.
        evaluated: Texts of the evaluation splits, all columns, without prompts; training texts are left out.
        evaluated_prompted: The same texts under their prompts.
    """

    all: list[Text]
    evaluated: list[str]
    evaluated_prompted: list[Text]


def collect_texts(task: AbsTask, prompts: TaskPrompts | None = None) -> TaskTexts:
    """Run mteb's evaluation with an encoder that records its inputs.

    Args:
        task: Task whose data are loaded. Faster inside `leaderboard.scoring.score.prepared(task)`.
        prompts: The prompts of the model; None for none.
    """
    recorder = _Recorder(task.eval_splits, prompts or TaskPrompts(OwnConfig()))
    score(task, recorder)
    return TaskTexts(list(recorder.all), list(recorder.evaluated), list(recorder.evaluated_prompted))


class _Recorder(AbsEncoder):
    """Records the texts it is asked to encode; returns the same one-dimensional vector for each."""

    mteb_model_meta: ModelMeta

    def __init__(self, eval_splits: Sequence[str], prompts: TaskPrompts) -> None:
        self.mteb_model_meta = ModelMeta.create_empty({"name": "midlayer-embed/recorder", "revision": "1"})
        self.all: dict[Text, None] = {}
        self.evaluated: dict[str, None] = {}
        self.evaluated_prompted: dict[Text, None] = {}
        self._eval_splits = eval_splits
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
        """Record the texts; returns ones, float32 (n_texts, 1)."""
        texts = texts_in(inputs)
        prompt = self._prompts.prompt_for(task_metadata, prompt_type)
        under_prompt = dict.fromkeys(prompted(prompt, text) for text in texts)
        self.all |= under_prompt
        if hf_split in self._eval_splits:
            self.evaluated |= dict.fromkeys(texts)
            self.evaluated_prompted |= under_prompt
        return np.ones((len(texts), 1), dtype=np.float32)
