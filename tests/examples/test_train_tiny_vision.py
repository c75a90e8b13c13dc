"""Tiny image models: they learn, their folders load, one that is there is left as it is, and no test image is seen."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, ViTForImageClassification, ViTMAEModel

from examples.train_tiny_vision import MODELS, Digits, Training, train, write_digits
from leaderboard.tasks.images.starter import StarterImageClassification, StarterImageClustering
from midlayer_embed import ImageLayerwiseEncoder
from midlayer_embed.errors import InputError

pytestmark = pytest.mark.model

_TINY = Training(n_steps=30, n_blocks=2, hidden_size=16, n_heads=2, image_size=8, batch_size=16, learning_rate=1e-2)


@pytest.fixture
def pictures() -> list[np.ndarray]:
    return [np.array(image, np.uint8) for image in StarterImageClassification.content()["test"]["image"][:3]]


@pytest.mark.parametrize("name", MODELS)
def test_a_model_learns_loads_and_is_not_trained_again(
    name: str, pictures: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.random.get_rng_state(), torch.get_num_threads()
    losses = train(tmp_path / "a", name, _TINY)
    assert torch.equal(before[0], torch.random.get_rng_state()) and before[1] == torch.get_num_threads()
    assert len(losses) == _TINY.n_steps and np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.02
    assert train(tmp_path / "b", name, _TINY) == losses  # by the seed
    every = ImageLayerwiseEncoder(tmp_path / "a" / name)
    assert every.encode(pictures).shape == (3, 3, 16)
    monkeypatch.setitem(MODELS, name, (None, 1))  # it would fail, if it was asked for
    assert train(tmp_path / "a", name, _TINY) == losses
    assert [path.name for path in (tmp_path / "a").iterdir()] == [name]


@pytest.mark.parametrize("found", ["{", "[]", "{}", '{"training": 1, "losses": []}'])
def test_a_model_of_other_settings_is_trained_anew(found: str, tmp_path: Path) -> None:
    train(tmp_path, "vit", Training(1, n_blocks=1, hidden_size=16, n_heads=2))
    (tmp_path / "vit" / "training.json").write_text(found)
    assert len(train(tmp_path, "vit", Training(2, n_blocks=1, hidden_size=16, n_heads=2))) == 2


def test_plain_transformers_loads_vit_and_mae(pictures: list[np.ndarray], tmp_path: Path) -> None:
    for name in ("vit", "mae"):
        train(tmp_path, name, Training(1, n_blocks=2, hidden_size=16, n_heads=2, image_size=8))
    images = [Image.fromarray(picture).convert("RGB") for picture in pictures]
    pixels = AutoImageProcessor.from_pretrained(tmp_path / "vit")(images, return_tensors="pt")["pixel_values"]
    assert pixels.shape == (3, 3, 8, 8)
    vit, found = ViTForImageClassification.from_pretrained(tmp_path / "vit", output_loading_info=True)
    assert not any(found.values()) and vit(pixels).logits.shape == (3, 10)
    mae, found = ViTMAEModel.from_pretrained(tmp_path / "mae", output_loading_info=True)
    assert not found["missing_keys"]
    assert mae.embeddings.position_embeddings.std() > 0.1


def test_models_see_no_image_that_a_task_is_scored_on(tmp_path: Path) -> None:
    write_digits(tmp_path)
    write_digits(tmp_path)
    split = {
        name: [np.asarray(Image.open(path)).tobytes() for path in sorted((tmp_path / "digits" / name).rglob("*.png"))]
        for name in ("train", "test")
    }
    tasks = (StarterImageClassification, StarterImageClustering)
    scored = [np.array(image, np.uint8).tobytes() for task in tasks for image in task.content()["test"]["image"]]
    assert len(split["train"]) == 897 and len(scored) == 900
    assert sorted(split["test"]) == sorted(scored)
    assert not set(scored) & set(split["train"])

    class Untouched:
        def __call__(self, images: list[Image.Image], return_tensors: str) -> dict[str, torch.Tensor]:
            self.seen = [np.asarray(image)[..., 0].tobytes() for image in images]
            return {"pixel_values": torch.zeros(len(images), 3, 8, 8)}

    processor = Untouched()
    Digits(_TINY, processor)  # type: ignore[arg-type]
    assert sorted(processor.seen) == sorted(split["train"])


def test_what_lies_outside_of_a_turned_image_is_black(tmp_path: Path) -> None:
    class Black:
        def __call__(self, images: list[Image.Image], return_tensors: str) -> dict[str, torch.Tensor]:
            return {"pixel_values": -torch.ones(len(images), 3, 8, 8)}

    pixels, labels = Digits(_TINY, Black()).draw(torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    assert pixels.shape == (16, 3, 8, 8) and labels.shape == (16,)
    torch.testing.assert_close(pixels, -torch.ones_like(pixels))


def test_settings_below_one_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="^n_steps: expected an int of at least 1, got 0$"):
        train(tmp_path, "vit", Training(0))
    assert list(tmp_path.iterdir()) == []
