"""Datasets of images: fetched from a hub, read from a folder, limited, kept in files; never decoded on the way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, Features, Image, Value
from mteb.abstasks import AbsTaskClusteringLegacy
from support.vision.image_mirror import IMAGE_TASKS, encoded, labelled, write_image_mirror

from leaderboard.tasks.benchmarks import resolve_tasks
from leaderboard.tasks.data import TaskData
from leaderboard.tasks.images.pictures import image_columns, picture_to_json, pictures_in
from leaderboard.tasks.limit import limit_task
from leaderboard.tasks.prefetch import check, prefetch
from midlayer_embed.errors import InputError

pytestmark = pytest.mark.usefixtures("quiet_libraries")


def table(n: int = 6) -> Dataset:
    images, labels = labelled(n, 3)
    return Dataset.from_dict(
        {"image": images, "label": labels}, features=Features({"image": Image(), "label": Value("int64")})
    )


def test_datasets_of_images_are_fetched_checked_and_read(
    stand_in_hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image_mirror(tmp_path / "hub")
    names = ["OxfordFlowersClassification", "CUB200I2IRetrieval"]
    for task in resolve_tasks(names):
        folder = tmp_path / "hub" / IMAGE_TASKS[task.metadata.name]
        files = {
            str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
        }
        stand_in_hub.datasets[task.metadata.dataset["path"], str(task.metadata.revision)] = files
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    prefetch(resolve_tasks(names), tmp_path / "data", endpoint=stand_in_hub.url, show_progress=False)
    check(resolve_tasks(names), tmp_path / "data")
    for task in resolve_tasks(names):
        data = TaskData(task, limit=None, seed=0)
        data.find(tmp_path / "data")
        with data.loaded():
            assert task.data_loaded
        assert data.files_sha256 is not None


def test_pictures_have_the_place_and_the_pixels_of_their_rows() -> None:
    rows = table()
    found = pictures_in(rows, "image", ("default", "test"), [4, 1])
    assert [picture_to_json(picture)["at"] for picture in found] == [
        [["default", "test"], "image", 4],
        [["default", "test"], "image", 1],
    ]
    assert [picture.pil().tobytes() for picture in found] == [
        rows[number]["image"].convert("RGB").tobytes() for number in (4, 1)
    ]
    assert [picture.name for picture in found] == ["default/test/image[4]", "default/test/image[1]"]


def test_the_same_file_in_two_rows_is_one_picture() -> None:
    features = Features({"image": Image()})
    rows = Dataset.from_dict({"image": [encoded(0, 1), encoded(0, 2), encoded(0, 1)]}, features=features)
    found = pictures_in(rows, "image")
    assert found[0] == found[2] != found[1] and len(set(found)) == 2


def test_images_that_are_files_beside_a_table_are_read(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    path.write_bytes(encoded(1, 1)["bytes"])
    rows = Dataset.from_dict({"image": [str(path)]}, features=Features({"image": Image()}))
    (found,) = pictures_in(rows, "image")
    assert (
        found.key
        == pictures_in(Dataset.from_dict({"image": [encoded(1, 1)]}, features=Features({"image": Image()})), "image")[
            0
        ].key
    )
    assert found.pil().size == rows[0]["image"].size


def test_a_row_without_an_image_is_named() -> None:
    rows = Dataset.from_dict({"image": [encoded(0, 1), None]}, features=Features({"image": Image()}))
    with pytest.raises(InputError, match=r"^test/image\[1\]: expected an image, got none$"):
        pictures_in(rows, "image", ("test",))


def test_texts_are_no_images() -> None:
    assert image_columns(Dataset.from_dict({"text": ["a"], "label": [0]})) == []
    assert image_columns(table()) == ["image"]


@pytest.mark.parametrize("name", ["image", "label"])
def test_clustering_of_images_is_limited_by_rows(name: str, make_clustering: Callable[[], Any]) -> None:
    task = make_clustering()
    limit_task(task, 4, seed=0)
    kept = task.dataset["test"]
    assert len(kept) == 4 and name in kept.column_names
    again = make_clustering()
    limit_task(again, 4, seed=0)
    assert again.dataset["test"]["label"][:] == kept["label"][:]


@pytest.fixture
def make_clustering() -> Callable[[], Any]:
    def make() -> Any:
        (task,) = resolve_tasks(["ImageNetDog15Clustering"])
        assert isinstance(task, AbsTaskClusteringLegacy)
        task.dataset, task.data_loaded = DatasetDict({"test": table(12)}), True
        return task

    return make
