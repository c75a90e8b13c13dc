"""The prompt that mteb puts in front of a sentence-transformers model's texts, for a task and a kind of text.

mteb and sentence-transformers decide together: by names of tasks, types of tasks and kinds of texts among the model's
prompts, then by the prompts that `encode_query` and `encode_document` look for, then by the default prompt. They are
asked instead of imitated, with a model that only notes the prompt it is given.
"""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from mteb.models import SentenceTransformerEncoderWrapper
from sentence_transformers import SentenceTransformer
from torch.utils.data import DataLoader

from midlayer_embed.ground.quiet import log_level
from midlayer_embed.models.sentence_transformers_config import OwnConfig
from midlayer_embed.texts.tokens import prompted

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.types import PromptType


@dataclass
class TaskPrompts:
    """The prompts of a model, by task and kind of text.

    Args:
        own: What the model says about itself.

    Example:
        >>> TaskPrompts(OwnConfig()).prompt_for(None, None)
        ''
    """

    own: OwnConfig
    _found: dict[tuple[str, str | None], str] = field(default_factory=dict)

    def prompt_for(self, task_metadata: "TaskMetadata", prompt_type: "PromptType | None") -> str:
        """The prompt in front of the texts of a task; "" for none."""
        if not any(self.own.prompts.values()):
            return ""
        key = task_metadata.name, None if prompt_type is None else prompt_type.value
        if key not in self._found:
            with warnings.catch_warnings(), log_level(logging.ERROR, "mteb", "sentence_transformers"):
                warnings.simplefilter("ignore")  # about prompts for tasks that mteb does not know
                self._found[key] = _asked(self.own, task_metadata, prompt_type)
        return self._found[key]

    def prompted(
        self, items: Sequence[Any], task_metadata: "TaskMetadata", prompt_type: "PromptType | None"
    ) -> list[Any]:
        """The texts of a task under their prompt; pictures have none."""
        if list(task_metadata.modalities) == ["image"]:
            return list(items)
        prompt = self.prompt_for(task_metadata, prompt_type)
        return [prompted(prompt, text) for text in items]

    def used(self, task: str) -> dict[str, str] | None:
        """The prompts that the texts of a task had so far, by kind of text ("text" if it has no kind); None if none."""
        found = {kind or "text": prompt for (name, kind), prompt in self._found.items() if name == task and prompt}
        return found or None


def _asked(own: OwnConfig, task_metadata: "TaskMetadata", prompt_type: "PromptType | None") -> str:
    listener = _Listener(modules=[torch.nn.Identity()], device="cpu", prompts=dict(own.prompts))
    listener.default_prompt_name = own.default_prompt_name
    inputs: Any = DataLoader(Dataset.from_dict({"text": ["a text"]}).with_format("torch"))
    SentenceTransformerEncoderWrapper(listener).encode(
        inputs, task_metadata=task_metadata, hf_split="", hf_subset="", prompt_type=prompt_type
    )
    return listener.prompt


class _Listener(SentenceTransformer):
    """Notes the prompt of `encode`; its vectors are zeros."""

    prompt = ""

    def _inference(self, inputs: list[Any], **kwargs: Any) -> torch.Tensor:
        self.prompt = kwargs["prompt"] or ""
        return torch.zeros((len(inputs), 1))
