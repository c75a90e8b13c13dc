"""Three small mteb tasks on images, for machines without a network: scikit-learn's digits, and rendered sentences.

Scores are not comparable with MIEB: the images are tiny. The digits come with scikit-learn; the sentences are those of
StarterSTS, and change with the versions of three packages (see the revision).
"""

from __future__ import annotations

import functools
import hashlib
import json
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, Features, Image, Value
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.classification import AbsTaskClassification
from mteb.abstasks.clustering_legacy import AbsTaskClusteringLegacy
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from PIL import Image as Pillow
from sklearn.datasets import load_digits

from leaderboard.tasks.images.rendered import rendered
from leaderboard.tasks.own_data import STARTER_VISION_DATASET, OwnDataTask
from midlayer_embed.texts.starter_content import content_json
from midlayer_embed.texts.starter_corpus import corpus_revision

# Rows of the digits, which are sorted by writer: classification is trained on the first half.
_DIGITS = {"train": slice(0, 897), "test": slice(897, 1347), "clustering": slice(1347, 1797)}
# Raised whenever other images come out of the same data.
_REVISION = "1"
_DIGITS_SOURCE: dict[str, Any] = {
    "reference": "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
    "dataset": {"path": STARTER_VISION_DATASET, "revision": f"{_REVISION}-digits"},
    "domains": ["Encyclopaedic"],
    "task_subtypes": ["Object recognition"],
    "license": "cc-by-4.0",
    "annotations_creators": "human-annotated",
    "sample_creation": "found",
    "category": "i2c",
}
_SENTENCES_SOURCE: dict[str, Any] = {
    "reference": "https://numpydoc.readthedocs.io/en/latest/format.html",
    "dataset": {"path": STARTER_VISION_DATASET, "revision": f"{_REVISION}-{corpus_revision()}"},
    "domains": ["Programming", "Written"],
    "task_subtypes": ["Rendered semantic textual similarity"],
    "license": "bsd-3-clause",
    "annotations_creators": "derived",
    "sample_creation": "rendered",
    "category": "i2i",
}


def _build_metadata(**fields: Any) -> TaskMetadata:
    shared: dict[str, Any] = {
        "modalities": ["image"],
        "eval_splits": ["test"],
        "eval_langs": ["eng-Latn"],
        "date": ("1998-07-01", "2026-11-26"),
        "dialect": [],
        "bibtex_citation": "",
    }
    return TaskMetadata(**{**shared, **fields})


class _DigitsTask(OwnDataTask):
    """Base of the tasks on digits: grey images of 8 x 8 pixels, which a model's processor enlarges."""

    splits: dict[str, str]

    @classmethod
    def content_json(cls) -> str:
        """Canonical JSON: for each split the images, 8 rows of 8 greys from 0 to 255 each, and the digits."""
        return _digits_json(json.dumps(cls.splits))

    def _to_dataset(self, content: dict[str, Any]) -> Any:
        features = Features({"image": Image(), "label": Value("int64")})
        for split in content.values():
            split["image"] = [Pillow.fromarray(np.array(image, dtype=np.uint8)) for image in split["image"]]
        return DatasetDict({split: Dataset.from_dict(rows, features=features) for split, rows in content.items()})


@functools.cache
def _digits_json(splits: str) -> str:
    digits = load_digits()
    greys = np.rint(digits.images * (255 / 16)).astype(int)
    rows = {split: _DIGITS[name] for split, name in json.loads(splits).items()}
    content = {
        split: {"image": greys[some].tolist(), "label": digits.target[some].tolist()} for split, some in rows.items()
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


class StarterImageClassification(_DigitsTask, AbsTaskClassification):
    """Predict which digit was written by hand. Test images are of other writers than most training images."""

    splits = {"train": "train", "test": "test"}  # noqa: RUF012
    input_column_name = "image"
    samples_per_label = 16
    n_experiments = 5
    metadata = _build_metadata(
        **_DIGITS_SOURCE,
        name="StarterImageClassification",
        type="ImageClassification",
        description="Handwritten digits of scikit-learn, 8 x 8 pixels. Predict which digit it is.",
        main_score="accuracy",
    )


class StarterImageClustering(_DigitsTask, AbsTaskClusteringLegacy):
    """Cluster handwritten digits that are in no split of the classification task."""

    splits = {"test": "clustering"}  # noqa: RUF012
    input_column_name = "image"
    label_column_name = "label"
    metadata = _build_metadata(
        **_DIGITS_SOURCE,
        name="StarterImageClustering",
        type="ImageClustering",
        description="Handwritten digits of scikit-learn, 8 x 8 pixels. Group them by digit.",
        main_score="nmi",
    )


class StarterVisualSTS(OwnDataTask, AbsTaskSTS):
    """Score the relatedness of two functions from 0 to 4 by pictures of their summaries: StarterSTS, rendered."""

    min_score = 0
    max_score = 4
    metadata = _build_metadata(
        **_SENTENCES_SOURCE,
        name="StarterVisualSTS",
        type="VisualSTS(eng)",
        description="The sentence pairs of StarterSTS, docstring summaries of numpy, scipy and scikit-learn, rendered "
        "as images of 128 x 128 pixels. Graded relatedness of two functions, from 0 to 4.",
        main_score="cosine_spearman",
    )

    @classmethod
    def content_json(cls) -> str:
        """Canonical JSON of the sentences and scores; `load_data` renders the sentences."""
        return content_json("STS")

    @classmethod
    def content_sha256(cls) -> str:
        """SHA-256 of the sentences, the scores and the pixels."""
        return _rendered_sha256()

    def _to_dataset(self, content: dict[str, Any]) -> Any:
        features = Features({"sentence1": Image(), "sentence2": Image(), "score": Value("int64")})
        for split in content.values():
            for name in ("sentence1", "sentence2"):
                split[name] = [rendered(text) for text in split[name]]
        return DatasetDict({split: Dataset.from_dict(rows, features=features) for split, rows in content.items()})


@functools.cache
def _rendered_sha256() -> str:
    content = content_json("STS")
    digest = hashlib.sha256(content.encode())
    for split in json.loads(content).values():
        for text in (*split["sentence1"], *split["sentence2"]):
            digest.update(rendered(text).tobytes())
    return digest.hexdigest()


STARTER_TASKS: tuple[type[AbsTask], ...] = (
    StarterImageClassification,
    StarterImageClustering,
    StarterVisualSTS,
)
