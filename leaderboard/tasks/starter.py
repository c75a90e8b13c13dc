"""Five small mteb tasks, one of each type in the paper, built from the docstrings of numpy, scipy and scikit-learn.

They evaluate every layer on real sentences in minutes, offline. Scores are not comparable with MTEB scores: the
texts are one genre, and change with the versions of the three packages (see the revision).
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from datasets import Dataset, DatasetDict
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.classification import AbsTaskClassification
from mteb.abstasks.clustering_legacy import AbsTaskClusteringLegacy
from mteb.abstasks.pair_classification import AbsTaskPairClassification
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata, TaskType

from leaderboard.tasks.starter_content import CLASSIFICATION_LABELS, CLUSTERING_LABELS, content_json
from midlayer_embed.texts.starter_corpus import corpus_revision

# The name that the tasks give their data, which are not on the Hub.
STARTER_DATASET = "midlayer-embed/starter"


class _StarterTask(AbsTask):
    """Base of the five tasks: loads data without files, and adds the hash of the data to every score."""

    # Such a task needs no dataset from the Hub or a folder. It may override `evaluate`, but only to add entries.
    makes_its_own_data = True

    @classmethod
    def content(cls) -> dict[str, Any]:
        """Splits, texts and labels as plain JSON values; a new copy for each call."""
        content: dict[str, Any] = json.loads(content_json(cls.metadata.type))
        return content

    @classmethod
    def content_sha256(cls) -> str:
        """SHA-256 of `content()`: equal hashes mean the same texts, order and labels."""
        return hashlib.sha256(content_json(cls.metadata.type).encode()).hexdigest()

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


def _build_metadata(task_type: TaskType, description: str, **fields: Any) -> TaskMetadata:
    shared: dict[str, Any] = {
        "reference": "https://numpydoc.readthedocs.io/en/latest/format.html",
        "dataset": {"path": STARTER_DATASET, "revision": corpus_revision()},
        "modalities": ["text"],
        "eval_splits": ["test"],
        "eval_langs": ["eng-Latn"],
        "date": ("2001-01-01", "2026-11-21"),
        "domains": ["Programming", "Written"],
        "task_subtypes": [],
        "license": "bsd-3-clause",
        "annotations_creators": "derived",
        "dialect": [],
        "sample_creation": "found",
        "bibtex_citation": "",
    }
    shared["description"] = f"Docstring summaries of the installed numpy, scipy and scikit-learn. {description}"
    return TaskMetadata(name=f"Starter{task_type}", type=task_type, **{**shared, **fields})


class StarterClassification(_StarterTask, AbsTaskClassification):
    """Predict the subpackage, one of nine, of the described function. Labels index `CLASSIFICATION_LABELS`."""

    metadata = _build_metadata(
        "Classification",
        f"Predict the subpackage: {', '.join(CLASSIFICATION_LABELS)}.",
        category="t2c",
        main_score="accuracy",
        task_subtypes=["Topic classification"],
    )


class StarterClustering(_StarterTask, AbsTaskClusteringLegacy):
    """Cluster five overlapping sets of sentences from six subpackages. Labels index `CLUSTERING_LABELS`."""

    metadata = _build_metadata(
        "Clustering",
        f"Group them by subpackage: {', '.join(CLUSTERING_LABELS)}.",
        category="t2c",
        main_score="v_measure",
        task_subtypes=["Thematic clustering"],
    )


class StarterPairClassification(_StarterTask, AbsTaskPairClassification):
    """Predict whether the "See Also" section of one docstring lists the other function, as in half of the pairs."""

    metadata = _build_metadata(
        "PairClassification",
        'Distinguish pairs linked by "See Also" from an equal number of unlinked pairs, mostly of one subpackage.',
        category="t2t",
        main_score="max_ap",
    )


class StarterReranking(_StarterTask, AbsTaskRetrieval):
    """Rank fifteen functions for a query function. Functions linked to it by "See Also" are relevant."""

    metadata = _build_metadata(
        "Reranking",
        'Rank fifteen candidates for each query. Candidates linked to it by a "See Also" section are relevant.',
        category="t2t",
        main_score="map_at_1000",
        task_subtypes=["Scientific Reranking"],
    )

    def _to_dataset(self, content: dict[str, Any]) -> Any:
        return {
            "default": {
                split: RetrievalSplitData(
                    corpus=Dataset.from_dict({"id": list(data["corpus"]), "text": list(data["corpus"].values())}),
                    queries=Dataset.from_dict({"id": list(data["queries"]), "text": list(data["queries"].values())}),
                    relevant_docs=data["relevant_docs"],
                    top_ranked=data["top_ranked"],
                )
                for split, data in content.items()
            }
        }


class StarterSTS(_StarterTask, AbsTaskSTS):
    """Score the relatedness of two functions from 0 to 4, see `starter_content`. Pairs in numpy never have grade 3."""

    min_score = 0
    max_score = 4
    metadata = _build_metadata(
        "STS",
        'Graded relatedness of two functions: 4 linked by "See Also", 3 same module (if the package shows it), '
        "2 same subpackage, 1 same package, 0 different packages.",
        category="t2t",
        main_score="cosine_spearman",
    )


STARTER_TASKS: tuple[type[AbsTask], ...] = (
    StarterClassification,
    StarterClustering,
    StarterPairClassification,
    StarterReranking,
    StarterSTS,
)
