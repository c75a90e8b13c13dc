"""Five small mteb tasks, one of each type in the paper, built from the docstrings of numpy, scipy and scikit-learn.

They evaluate every layer on real sentences in minutes, offline. Scores are not comparable with MTEB scores: the
texts are one genre, and change with the versions of the three packages (see the revision).
"""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.classification import AbsTaskClassification
from mteb.abstasks.clustering_legacy import AbsTaskClusteringLegacy
from mteb.abstasks.pair_classification import AbsTaskPairClassification
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata, TaskType

from leaderboard.tasks.own_data import STARTER_DATASET, OwnDataTask
from midlayer_embed.texts.starter_content import CLASSIFICATION_LABELS, CLUSTERING_LABELS, content_json
from midlayer_embed.texts.starter_corpus import corpus_revision


class _StarterTask(OwnDataTask):
    """Base of the five tasks."""

    @classmethod
    def content_json(cls) -> str:
        """Canonical JSON of the texts and labels."""
        return content_json(cls.metadata.type)


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
