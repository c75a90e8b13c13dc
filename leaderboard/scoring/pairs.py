"""Evaluates pair classification tasks in blocks, replacing mteb's `AbsTaskPairClassification._evaluate_subset`.

Each distinct text is encoded once. Pairs are compared block by block with mteb's own row-wise operations. Does not
compute scores from the similarities.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mteb._create_dataloaders import create_dataloader
from mteb.abstasks.pair_classification import AbsTaskPairClassification
from mteb.models import EncoderProtocol
from mteb.similarity_functions import compute_pairwise_similarity
from mteb.types import PromptType
from sklearn.metrics.pairwise import paired_cosine_distances, paired_euclidean_distances, paired_manhattan_distances

from leaderboard.scoring.columns import Columns

# Pairs per block: about ten MB of vectors.
_BLOCK_PAIRS = 2048


@dataclass(frozen=True)
class _Side:
    """The first or the second texts of all pairs."""

    texts: list[str]  # distinct
    indices: np.ndarray  # index of each pair's text in `texts`, (n_pairs,)
    prompt_type: PromptType | None

    @classmethod
    def of(cls, texts: Sequence[str], prompt_type: PromptType | None) -> "_Side":
        found: dict[str, int] = {}
        indices = [found.setdefault(text, len(found)) for text in texts]
        return cls(list(found), np.array(indices), prompt_type)


class Pairs:
    """Replacement for the `_evaluate_subset` of a pair classification task; deduplicates the texts of a split once.

    Args:
        task: The pair classification task.
    """

    def __init__(self, task: AbsTaskPairClassification) -> None:
        self._task = task
        self._mteb_evaluate: Callable[..., Any] = task._evaluate_subset
        self._splits: dict[tuple[str, str], tuple[_Side, _Side, np.ndarray]] = {}

    @staticmethod
    def supports(task: AbsTaskPairClassification) -> bool:
        """Whether the task compares texts, with one column for each side of a pair."""
        columns = (task.input1_column_name, task.input2_column_name)
        return task.metadata.modalities == ["text"] and all(isinstance(name, str) for name in columns)

    def __call__(self, model: Any, data_split: Any, **kwargs: Any) -> Any:
        """Same as `AbsTaskPairClassification._evaluate_subset`."""
        if kwargs.get("prediction_folder") or not isinstance(model, EncoderProtocol):
            return self._mteb_evaluate(model, data_split, **kwargs)
        key = kwargs["hf_subset"], kwargs["hf_split"]
        if key not in self._splits:
            self._splits[key] = self._prepare(data_split)
        *sides, labels = self._splits[key]
        one, other = (self._encode(model, side, kwargs) for side in sides)
        indices = [side.indices for side in sides]
        blocks = [
            _compare(
                model, one[indices[0][start : start + _BLOCK_PAIRS]], other[indices[1][start : start + _BLOCK_PAIRS]]
            )
            for start in range(0, len(labels), _BLOCK_PAIRS)
        ]
        similarities: Any = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
        return self._task._compute_metrics(similarities, labels)  # type: ignore[arg-type]

    def _prepare(self, data_split: Any) -> tuple[_Side, _Side, np.ndarray]:
        task: Any = self._task
        # Older datasets store the lists of all pairs in a single row.
        table = Columns.from_dict(data_split[0]) if len(data_split) == 1 else data_split
        return (
            _Side.of(table[task.input1_column_name], task.input1_prompt_type),
            _Side.of(table[task.input2_column_name], task.input2_prompt_type),
            np.asarray(table[task.label_column_name], dtype=np.int64),
        )

    def _encode(self, model: EncoderProtocol, side: _Side, kwargs: Mapping[str, Any]) -> np.ndarray:
        metadata, encode_kwargs = self._task.metadata, kwargs["encode_kwargs"]
        table: Any = Columns.from_dict({"text": side.texts})
        vectors = model.encode(
            create_dataloader(table, task_metadata=metadata, input_column="text", **encode_kwargs),
            task_metadata=metadata,
            hf_split=kwargs["hf_split"],
            hf_subset=kwargs["hf_subset"],
            prompt_type=side.prompt_type,
            **encode_kwargs,
        )
        return np.asarray(vectors)


def _compare(model: EncoderProtocol, one: np.ndarray, other: np.ndarray) -> dict[str, np.ndarray]:
    """Same similarities and distances as mteb's PairClassificationEvaluator for pairs of vectors, each (n,)."""
    similarities = {
        "cosine_scores": 1 - paired_cosine_distances(one, other),
        "manhattan_distances": paired_manhattan_distances(one, other),
        "euclidean_distances": paired_euclidean_distances(one, other),
        "similarity_scores": np.asarray(compute_pairwise_similarity(model, one, other)),
        # Row by row like mteb: a batched product differs in the last bit of a sum.
        "dot_scores": np.array([np.dot(*pair) for pair in zip(one, other, strict=True)]),
    }
    return {name: values.astype(np.float64) for name, values in similarities.items()}
