"""Image processors: the pixel values of stock transformers, whatever the batch, and one line where there are none."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.vision.tiny_vision import images, save_processor
from torch import nn
from transformers import AutoImageProcessor

from midlayer_embed.errors import InputError
from midlayer_embed.images.pictures import check_images
from midlayer_embed.models.checkpoint import find_checkpoint
from midlayer_embed.models.vision.processors import Processor, load_processor

SIZES = [(40, 30), (1, 1), (8, 8), (3, 50), (50, 3), (120, 90)]


def some_images() -> list[Image.Image]:
    return [images(1, seed=seed, width=width, height=height)[0] for seed, (width, height) in enumerate(SIZES)]


@pytest.fixture
def folder(tmp_path: Path, tiny_image_model: Callable[[str], Path]) -> Path:
    """A tiny ViT of the test's own."""
    return Path(shutil.copytree(tiny_image_model("vit"), tmp_path / "vit"))


def processor_of(folder: Path) -> Processor:
    return load_processor(find_checkpoint(folder))


def message(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        processor_of(folder).pixels(images(1))
    text = str(caught.value)
    assert "\n" not in text and len(text) < 400
    return text


PROCESSORS: dict[str, dict[str, Any]] = {
    "ViT": {},
    "ViT, its older name": {"image_processor_type": None, "feature_extractor_type": "ViTFeatureExtractor"},
    "ViT, of the torchvision backend": {"image_processor_type": "ViTImageProcessorFast"},
    "CLIP": {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 24},
        "crop_size": {"height": 24, "width": 24},
        "do_center_crop": True,
        "do_convert_rgb": True,
    },
    "CLIP, crop larger than the image": {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 16},
        "crop_size": 24,
        "do_center_crop": True,
    },
    "BEiT": {"image_processor_type": "BeitImageProcessor", "do_center_crop": False},
    "DeiT": {
        "image_processor_type": "DeiTImageProcessor",
        "size": {"height": 28, "width": 28},
        "crop_size": {"height": 24, "width": 24},
        "do_center_crop": True,
    },
    "DINOv2": {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 28},
        "crop_size": {"height": 24, "width": 24},
        "do_center_crop": True,
    },
    "SigLIP": {"image_processor_type": "SiglipImageProcessor"},
    "no resizing": {"do_resize": False, "image_processor_type": "ViTImageProcessor"},
}


@pytest.mark.parametrize("kind", PROCESSORS)
def test_pixel_values_are_those_of_transformers_bit_for_bit_whatever_the_batch(kind: str, folder: Path) -> None:
    entries = {name: value for name, value in PROCESSORS[kind].items() if value is not None}
    save_processor(folder, **entries)
    if PROCESSORS[kind].get("image_processor_type", "") is None:
        config = json.loads((folder / "preprocessor_config.json").read_text())
        del config["image_processor_type"]
        (folder / "preprocessor_config.json").write_text(json.dumps(config))
    given = images(3) if kind == "no resizing" else some_images()
    expected = AutoImageProcessor.from_pretrained(folder)(images=given, return_tensors="pt")["pixel_values"]
    processor = processor_of(folder)
    found = processor.pixels(given)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    assert torch.equal(torch.stack(processor.pixels_of(check_images(given))), expected)
    assert all(torch.equal(processor.pixels([one])[0], row) for one, row in zip(given, expected, strict=True))


def test_a_processor_of_images_and_texts_is_read(folder: Path) -> None:
    of_images = json.loads((folder / "preprocessor_config.json").read_text())
    expected = processor_of(folder).pixels(some_images())
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(
        json.dumps({"processor_class": "CLIPProcessor", "image_processor": of_images})
    )
    assert torch.equal(processor_of(folder).pixels(some_images()), expected)


def test_the_first_of_dinov3s_steps_is_the_rescaling(folder: Path, tiny_image_model: Callable[[str], Path]) -> None:
    folder = Path(shutil.copytree(tiny_image_model("dinov3"), folder.parent / "dinov3"))
    entries = {"size": {"height": 16, "width": 24}, "resample": 2, "image_mean": [0.1, 0.2, 0.3]}
    save_processor(folder, image_processor_type="DINOv3ViTImageProcessorFast", **entries, crop_size=None)
    processor = processor_of(folder)
    found = processor.pixels(some_images())
    assert found.shape == (len(SIZES), 3, 16, 24) and found.dtype == torch.float32
    for image, values in zip(some_images(), found, strict=True):
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] * (1 / 255)
        resized = nn.functional.interpolate(pixels, (16, 24), mode="bilinear", antialias=True, align_corners=False)[0]
        mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.25, 0.3, 0.2])
        torch.testing.assert_close(values, (resized - mean[:, None, None]) / std[:, None, None])
    assert torch.equal(torch.stack(processor.pixels_of(check_images(some_images()))), found)
    save_processor(folder, image_processor_type="DINOv3ViTImageProcessor", size={"shortest_edge": 24})
    assert "expected an image processor of DINOv3 with a height and a width" in message(folder)
    save_processor(folder, image_processor_type="DINOv3ViTImageProcessor", do_center_crop=True)
    assert "neither crops nor pads" in message(folder)


def test_aim_has_the_processing_of_its_authors(tiny_image_model: Callable[[str], Path]) -> None:
    folder = tiny_image_model("aim-published")
    assert not (folder / "preprocessor_config.json").exists()
    given = images(1, width=280, height=56)[0]
    found = processor_of(folder).pixels([given])[0]
    resized = given.resize((140, 28), Image.Resampling.BICUBIC).crop((58, 2, 82, 26))  # 24 / 0.875 is 27.4
    values = torch.from_numpy(np.asarray(resized) / 255).permute(2, 0, 1)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(found, ((values - mean[:, None, None]) / std[:, None, None]).float())


def test_images_that_stay_different_sizes_come_one_by_one(folder: Path) -> None:
    save_processor(folder, image_processor_type="CLIPImageProcessor", size={"shortest_edge": 24}, do_center_crop=False)
    processor = processor_of(folder)
    given = [*images(1, width=48, height=24), *images(1, width=24, height=24)]
    assert [values.shape for values in processor.pixels_of(check_images(given))] == [(3, 24, 48), (3, 24, 24)]
    with pytest.raises(InputError, match=r"makes images of different sizes, such as \(24, 24\) and \(24, 48\)"):
        processor.pixels(given)


def test_an_image_that_would_fill_the_memory_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = Image.new("RGB", (20_000, 2))
    assert processor_of(folder).pixels([wide]).shape == (1, 3, 24, 24)
    entries = {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}, "do_center_crop": True}
    save_processor(folder, image_processor_type="CLIPImageProcessor", **entries)
    processor = processor_of(folder)
    assert processor.pixels([wide]).shape == (1, 3, 24, 24)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    words = "20000 x 2 pixels are too narrow for .*, which resizes the short side to 24: that makes more than 1,000,000"
    with pytest.raises(InputError, match=rf"images\[0\]: {words}"):
        processor.pixels([wide])
    with pytest.raises(InputError, match=rf"images\[1\]: .*: {words}"):
        processor.pixels_of(check_images([*images(1), wide]))


def test_the_first_image_that_cannot_be_read_is_named(folder: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no image")
    pictures = check_images([*images(3), tmp_path / "a.png", tmp_path / "b.png"])
    with pytest.raises(InputError, match=rf"images\[3\]: {tmp_path}/a\.png"):
        processor_of(folder).pixels_of(pictures)
    assert processor_of(folder).pixels_of([]) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "has no preprocessor_config.json, so how its images are resized and normalised is unknown"),
        ('{"image_processor_type": "NoSuch"}', "cannot be loaded: Unrecognized image processor in"),
        ("{", "the image processor of"),
        ("[]", "so how its images are resized and normalised is unknown"),
        ('{"image_processor_type": "ViTImageProcessor", "image_mean": [1, 2]}', "cannot be processed for"),
        ('{"image_processor_type": "ViTImageProcessor", "size": {"width": 3}}', "image"),
        ('{"image_processor_type": "LlavaNextImageProcessor"}', "makes pixel values of shape"),
    ],
)
def test_a_processor_that_cannot_be_used_is_one_line(text: str | None, words: str, folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()
    if text is not None:
        (folder / "preprocessor_config.json").write_text(text)
    assert words in message(folder)


def test_its_settings_can_be_written_as_json(tiny_image_model: Callable[[str], Path]) -> None:
    for name in ("vit", "aim-published"):
        settings = processor_of(tiny_image_model(name)).settings
        assert json.loads(json.dumps(settings))["image_std"]


def test_code_of_a_processor_is_not_run_unless_it_is_trusted(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "Own", "auto_map": {"AutoImageProcessor": "own.Own"}})
    )
    (folder / "own.py").write_text("raise SystemExit('this code ran')")
    assert "cannot be loaded" in message(folder)
