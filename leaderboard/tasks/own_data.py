"""Base of tasks that build their own data instead of reading a dataset of the Hub or of a folder."""

import hashlib
import json
from abc import abstractmethod
from importlib import import_module
from typing import Any

from datasets import Dataset, DatasetDict
from mteb.abstasks.abstask import AbsTask

# The names that starter tasks give their data, which are not on the Hub.
STARTER_DATASET = "midlayer-embed/starter"
STARTER_VISION_DATASET = "midlayer-embed/starter-vision"
STARTER_DATASETS = (STARTER_DATASET, STARTER_VISION_DATASET)


class OwnDataTask(AbsTask):
    """Loads data without files, and adds the hash of the data to every score.

    A subclass names an mteb task type as its second base. It may override `evaluate`, but only to add entries.
    """

    makes_its_own_data = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Lets `mteb.get_task` find the task: mteb looks up the task of a result by its name."""
        super().__init_subclass__(**kwargs)
        if "metadata" in vars(cls):
            import_module("mteb.get_tasks")._TASKS_REGISTRY[cls.metadata.name] = cls

    @classmethod
    @abstractmethod
    def content_json(cls) -> str:
        """Canonical JSON of the data: for each split its columns. It is cheap to call twice."""

    @classmethod
    def content(cls) -> dict[str, Any]:
        """Splits, inputs and labels as plain JSON values; a new copy for each call."""
        content: dict[str, Any] = json.loads(cls.content_json())
        return content

    @classmethod
    def content_sha256(cls) -> str:
        """SHA-256 of the data: equal hashes mean the same inputs, order and labels."""
        return hashlib.sha256(cls.content_json().encode()).hexdigest()

    def load_data(self, num_proc: int | None = None, *, timer: Any = None, **kwargs: Any) -> None:
        """Build the data from the installed packages, unless they are loaded already."""
        if self.data_loaded:
            return
        self.dataset = self._to_dataset(self.content())
        self.data_loaded = True

    def _to_dataset(self, content: dict[str, Any]) -> Any:
        return DatasetDict({split: Dataset.from_dict(columns) for split, columns in content.items()})

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Evaluate like mteb, and add `content_sha256` to the scores of each subset."""
        evaluated = super().evaluate(*args, **kwargs)
        return {subset: {**scores, "content_sha256": self.content_sha256()} for subset, scores in evaluated.items()}
