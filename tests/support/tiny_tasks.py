"""Tiny tasks of the types of the paper, in memory: loading them takes no time and no hub."""

import itertools
import random
from typing import Any

from datasets import Dataset, DatasetDict
from mteb.abstasks import (
    AbsTaskClassification,
    AbsTaskClustering,
    AbsTaskClusteringLegacy,
    AbsTaskPairClassification,
    AbsTaskRetrieval,
    AbsTaskSTS,
)
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.task_metadata import TaskMetadata

_NOUNS = ["matrix", "signal", "cluster", "tree", "kernel", "mesh", "graph", "filter", "image", "sample"]
_VERBS = ["factors", "smooths", "splits", "draws", "solves", "fits", "counts", "sorts", "rotates", "merges"]
_ENDS = ["slowly", "at random", "in place", "without a copy", "twice", "as long as it takes", "for every row"]


def _sentences(seed: int, n: int) -> list[str]:
    """Distinct sentences, and no two of the same words: at layer 0, which knows no order, they would be exact ties."""
    rng = random.Random(seed)
    found: dict[tuple[str, ...], str] = {}
    while len(found) < n:
        text = f"The {rng.choice(_NOUNS)} {rng.choice(_VERBS)} the {rng.choice(_NOUNS)} {rng.choice(_ENDS)}."
        found.setdefault(tuple(sorted(text.lower().split())), text)
    return list(found.values())


def _metadata(name: str, task_type: str, main_score: str) -> TaskMetadata:
    return TaskMetadata(
        name=name,
        description="A tiny task for tests.",
        reference=None,
        dataset={"path": "tests/tiny", "revision": "1"},
        type=task_type,
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=main_score,
        date=("2026-01-01", "2026-01-01"),
        domains=["Programming"],
        task_subtypes=[],
        license="apache-2.0",
        annotations_creators="derived",
        dialect=[],
        sample_creation="created",
        bibtex_citation="",
    )


class _InMemory:
    """Data made on `load_data`; counts how often that was."""

    loads = 0

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        if not self.data_loaded:  # type: ignore[has-type]
            type(self).loads += 1
            self.dataset = self.make()  # type: ignore[attr-defined]
            self.data_loaded = True


class TinyClassification(_InMemory, AbsTaskClassification):
    metadata = _metadata("TinyClassification", "Classification", "accuracy")
    samples_per_label = 6
    n_experiments = 3

    def make(self) -> DatasetDict:
        texts = _sentences(1, 60)
        labels = [_NOUNS.index(text.split()[1]) % 3 for text in texts]
        halves = {"train": slice(0, 30), "test": slice(20, 60)}  # ten texts are in both
        return DatasetDict({k: Dataset.from_dict({"text": texts[s], "label": labels[s]}) for k, s in halves.items()})


class TinyClustering(_InMemory, AbsTaskClusteringLegacy):
    metadata = _metadata("TinyClustering", "Clustering", "v_measure")

    def make(self) -> DatasetDict:
        texts = _sentences(2, 40)
        labels = [_NOUNS.index(text.split()[1]) % 4 for text in texts]
        sets = {"sentences": [texts[:30], texts[10:]], "labels": [labels[:30], labels[10:]]}
        return DatasetDict({"test": Dataset.from_dict(sets)})


class TinyFastClustering(_InMemory, AbsTaskClustering):
    """Its evaluation draws from the task's own random state."""

    metadata = _metadata("TinyFastClustering", "Clustering", "v_measure")
    max_document_to_embed = 30
    n_clusters = 3
    max_fraction_of_documents_to_embed = None

    def make(self) -> DatasetDict:
        texts = _sentences(3, 40)
        labels = [_NOUNS.index(text.split()[1]) % 4 for text in texts]
        return DatasetDict({"test": Dataset.from_dict({"sentences": texts, "labels": labels})})


class TinyPairClassification(_InMemory, AbsTaskPairClassification):
    metadata = _metadata("TinyPairClassification", "PairClassification", "max_ap")

    def make(self) -> DatasetDict:
        texts = _sentences(4, 50)
        pairs = list(itertools.pairwise(texts))
        columns = {
            "sentence1": [a for a, _ in pairs],
            "sentence2": [b for _, b in pairs],
            "labels": [int(a.split()[1] < b.split()[1]) for a, b in pairs],
        }
        return DatasetDict({"test": Dataset.from_dict(columns)})


class TinyReranking(_InMemory, AbsTaskRetrieval):
    metadata = _metadata("TinyReranking", "Reranking", "map_at_1000")

    def make(self) -> dict[str, dict[str, dict[str, Any]]]:
        texts = _sentences(5, 48)
        queries, documents = texts[:8], texts[8:]
        ranked = {f"q{i}": [f"d{(i * 5 + j) % 40}" for j in range(10)] for i in range(8)}
        split = {
            "queries": Dataset.from_dict({"id": list(ranked), "text": queries}),
            "corpus": Dataset.from_dict({"id": [f"d{i}" for i in range(40)], "text": documents, "title": [""] * 40}),
            "relevant_docs": {q: {d: int(n < 3) for n, d in enumerate(docs)} for q, docs in ranked.items()},
            "top_ranked": ranked,
        }
        return {"default": {"test": split}}


class TinySTS(_InMemory, AbsTaskSTS):
    metadata = _metadata("TinySTS", "STS", "cosine_spearman")

    def make(self) -> DatasetDict:
        texts = _sentences(6, 60)
        scores = [float(len(set(a.split()) & set(b.split()))) for a, b in zip(texts[:30], texts[30:], strict=True)]
        return DatasetDict(
            {"test": Dataset.from_dict({"sentence1": texts[:30], "sentence2": texts[30:], "score": scores})}
        )


TINY_TASKS: list[type[AbsTask]] = [
    TinyClassification,
    TinyClustering,
    TinyFastClustering,
    TinyPairClassification,
    TinyReranking,
    TinySTS,
]


def tiny_tasks() -> list[AbsTask]:
    """A fresh set of tasks of all types, none of them loaded."""
    return [task() for task in TINY_TASKS]


def renamed(task: type[AbsTask], name: str) -> AbsTask:
    """A task of the same data under another name, such as that of one that mteb knows."""
    metadata = task.metadata.model_copy(update={"name": name})
    return type(task.__name__, (task,), {"metadata": metadata})()
