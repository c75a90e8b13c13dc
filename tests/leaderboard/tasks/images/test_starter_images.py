"""The starter tasks on images: fixed, disjoint, and meaningful under mteb's own evaluation."""

import json
from collections import Counter
from typing import Any

import mteb
import numpy as np
import pytest
from datasets import Image
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta

from leaderboard.tasks.images.rendered import rendered
from leaderboard.tasks.images.starter import STARTER_TASKS
from leaderboard.tasks.starter import StarterSTS

CLASSIFICATION, CLUSTERING, STS = STARTER_TASKS

pytestmark = pytest.mark.usefixtures("quiet_libraries")


class Pixels(AbsEncoder):
    """The pixels of an image as its vector, or random vectors."""

    def __init__(self, *, is_random: bool) -> None:
        modalities = ["image"]
        self.mteb_model_meta = ModelMeta.create_empty({"name": "tests/px", "revision": "1", "modalities": modalities})
        self.random = np.random.default_rng(0) if is_random else None

    def encode(self, inputs: Any, **kwargs: Any) -> np.ndarray:
        images = [image for batch in inputs for image in batch["image"]]
        if self.random is not None:
            return self.random.normal(size=(len(images), 16)).astype(np.float32)
        return np.stack([np.asarray(image.resize((16, 16)), dtype=np.float32).ravel() / 255 for image in images])


def main_score(kind: Any, *, is_random: bool) -> dict[str, Any]:
    found = mteb.evaluate(Pixels(is_random=is_random), kind(), cache=None, show_progress_bar=False)
    scores: dict[str, Any] = found.task_results[0].scores["test"][0]
    return scores


def test_no_digit_is_in_two_splits_or_tasks_and_all_are_used() -> None:
    splits = [*CLASSIFICATION.content().values(), *CLUSTERING.content().values()]
    assert sum(len(split["label"]) for split in splits) == 1797
    images = [Counter(json.dumps(image) for image in split["image"]) for split in splits]
    assert not (images[0] & images[1] or images[0] & images[2] or images[1] & images[2])


def test_every_digit_has_as_many_images_as_the_others() -> None:
    for split in (*CLASSIFICATION.content().values(), *CLUSTERING.content().values()):
        counts = Counter(split["label"])
        assert set(counts) == set(range(10)) and max(counts.values()) < 1.2 * min(counts.values())


def test_images_are_the_digits_as_they_are_scaled_to_255() -> None:
    task = CLASSIFICATION()
    task.load_data()
    table = task.dataset["train"]
    assert isinstance(table.features["image"], Image)
    from sklearn.datasets import load_digits

    first = np.asarray(table[0]["image"])
    assert first.dtype == np.uint8 and first.shape == (8, 8) and table[0]["label"] == 0
    assert np.array_equal(first, np.rint(load_digits().images[0] * 255 / 16))


def test_the_pairs_are_those_of_the_text_starter_as_black_letters_on_white() -> None:
    task = STS()
    task.load_data()
    texts = StarterSTS.content()["test"]
    table = task.dataset["test"]
    assert table["score"][:] == texts["score"]
    for number in (0, 399):
        shown = table[number]["sentence2"]
        assert np.array_equal(np.asarray(shown), np.asarray(rendered(texts["sentence2"][number])))
        assert shown.size == (128, 128) and set(np.unique(np.asarray(shown))) == {0, 255}


def test_every_sentence_fits_and_differs() -> None:
    texts = {text for name in ("sentence1", "sentence2") for text in StarterSTS.content()["test"][name]}
    pixels = [np.asarray(rendered(text)) for text in texts]
    assert {picture.shape for picture in pixels} == {(128, 128)}
    assert all((picture[:4] == 255).all() and (picture[-4:] == 255).all() for picture in pixels)
    assert len({picture.tobytes() for picture in pixels}) == len(texts)


@pytest.mark.parametrize(
    ("text", "size"), [("", (128, 128)), ("word " * 200, (128, 608)), ("\u4e2d\u00e9", (128, 128))]
)
def test_any_text_can_be_rendered(text: str, size: tuple[int, int]) -> None:
    assert rendered(text).size == size


def test_every_process_builds_the_same_images(fresh_answers: dict[str, Any]) -> None:
    assert fresh_answers["starter image content"] == [task.content_sha256() for task in STARTER_TASKS]


@pytest.mark.parametrize("kind", STARTER_TASKS)
def test_metadata_is_filled(kind: Any) -> None:
    assert kind.metadata.is_filled()
    assert kind.metadata.modalities == ["image"]
    kind.metadata._validate_metadata()


@pytest.mark.parametrize(
    ("kind", "chance", "at_least"), [(CLASSIFICATION, 0.2, 0.75), (CLUSTERING, 0.15, 0.5), (STS, 0.15, 0.0)]
)
def test_pixels_are_no_worse_than_chance_and_scores_carry_the_hash(kind: Any, chance: float, at_least: float) -> None:
    by_chance, by_pixels = (main_score(kind, is_random=is_random) for is_random in (True, False))
    assert abs(by_chance["main_score"]) < chance and at_least < by_pixels["main_score"] < 0.99
    assert by_pixels["content_sha256"] == kind.content_sha256()


def test_content_is_a_copy() -> None:
    CLASSIFICATION.content()["test"].clear()
    assert CLASSIFICATION.content()["test"]
