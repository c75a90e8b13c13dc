"""Every layer of every image encoder, by one forward pass, against plain transformers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.tiers import sampled, slow
from support.vision.architectures import DIM, IMAGE_MODELS, N_BLOCKS
from support.vision.oracle import plain_vectors
from support.vision.tiny_vision import build_image_model, images, save_processor
from transformers import AutoImageProcessor, AutoModel

from midlayer_embed import ImageLayerwiseEncoder, LayerwiseEncoder, MidLayerEncoder
from midlayer_embed.forward.opening import open_encoder
from midlayer_embed.models.checkpoint import find_checkpoint
from midlayer_embed.models.vision.processors import load_processor

_WITH_CLS = [name for name, tiny in IMAGE_MODELS.items() if tiny.has_cls]
_WITHOUT_CLS = [name for name, tiny in IMAGE_MODELS.items() if not tiny.has_cls]


def _pixels(name: str, folder: Path, pictures: list[Image.Image]) -> torch.Tensor:
    if name == "aim-published":  # has no processor of its own
        return load_processor(find_checkpoint(folder)).pixels(pictures)
    return AutoImageProcessor.from_pretrained(folder, backend="pil")(pictures, return_tensors="pt").pixel_values


@pytest.mark.parametrize("final_norm", [True, False], ids=["normed", "raw"])
def test_the_mean_of_the_patches_at_every_layer(any_image_folder: tuple[str, Path], final_norm: bool) -> None:
    name, folder = any_image_folder
    pictures = images(5)
    found = ImageLayerwiseEncoder(folder, final_norm=final_norm).encode(pictures)
    pixels = _pixels(name, folder, pictures)
    expected = plain_vectors(name, folder, pixels, pooling_mode="mean", final_norm=final_norm)
    assert (found.shape, found.dtype) == ((5, N_BLOCKS + 1, DIM), np.float32)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("final_norm", [True, False], ids=["normed", "raw"])
@pytest.mark.parametrize("name", sampled(_WITH_CLS, "vit", "dinov3", "clip"))
def test_cls_at_every_layer(name: str, final_norm: bool, tiny_image_model: Callable[[str], Path]) -> None:
    folder, pictures = tiny_image_model(name), images(3)
    found = ImageLayerwiseEncoder(folder, final_norm=final_norm, pooling_mode="cls").encode(pictures)
    pixels = _pixels(name, folder, pictures)
    expected = plain_vectors(name, folder, pixels, pooling_mode="cls", final_norm=final_norm)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
    if not final_norm or IMAGE_MODELS[name].model_type not in ("clip", "clip_vision_model"):
        mean = ImageLayerwiseEncoder(folder, final_norm=final_norm).encode(pictures)
        assert np.abs(found - mean).max() > 0.1


@pytest.mark.parametrize("name", _WITHOUT_CLS)
def test_without_cls_it_cannot_be_pooled(name: str, tiny_image_model: Callable[[str], Path]) -> None:
    with pytest.raises(ValueError, match=r"^pooling_mode: this \w+ model has no CLS token; expected 'mean'$"):
        ImageLayerwiseEncoder(tiny_image_model(name), pooling_mode="cls")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_close(any_image_folder: tuple[str, Path], dtype: str) -> None:
    _, folder = any_image_folder
    pictures = images(4)
    found = ImageLayerwiseEncoder(folder, dtype=dtype, device="cpu").encode(pictures)
    exact = ImageLayerwiseEncoder(folder).encode(pictures)
    assert found.dtype == np.float32
    for layer in range(N_BLOCKS + 1):
        difference = np.linalg.norm(found[:, layer] - exact[:, layer])
        assert difference < 0.06 * np.linalg.norm(exact[:, layer])


def test_order_duplicates_and_batches_change_nothing(any_image_folder: tuple[str, Path]) -> None:
    _, folder = any_image_folder
    encoder, pictures = ImageLayerwiseEncoder(folder), images(4)
    found = encoder.encode(pictures)
    np.testing.assert_allclose(encoder.encode(pictures, batch_tokens=1), found, atol=1e-5)
    order = [2, 0, 2, 3, 1, 0]
    again = encoder.encode([pictures[i] for i in order], layers=[-1, 0, -1])
    np.testing.assert_allclose(again, found[order][:, [N_BLOCKS, 0, N_BLOCKS]], atol=1e-5)
    assert (again[0] == again[2]).all()
    np.testing.assert_allclose(encoder.encode(pictures[1]), found[1], atol=1e-5)


@pytest.mark.parametrize("name", ["dinov2", *slow("vit", "clip", "beit", "mae", "aimv2-native", "aim")])
def test_images_of_unequal_sizes_are_batched_by_size(
    name: str, tiny_image_model: Callable[[str], Path], tmp_path: Path
) -> None:
    """A processor that keeps the shape of an image, as those of native resolution do."""
    folder = tmp_path / "model"
    folder.mkdir()
    for file in tiny_image_model(name).iterdir():
        (folder / file.name).symlink_to(file.resolve())
    (folder / "preprocessor_config.json").unlink()
    save_processor(folder, do_resize=False)
    pictures = [*images(2, width=24, height=24), *images(2, width=40, height=16, seed=1), *images(1, seed=2)]
    pictures = [pictures[i] for i in (2, 0, 4, 3, 1)]
    encoder = ImageLayerwiseEncoder(folder)
    found = encoder.encode(pictures)
    for picture, vectors in zip(pictures, found, strict=True):
        np.testing.assert_allclose(encoder.encode([picture])[0], vectors, atol=1e-5)


def test_an_encoder_is_opened_by_what_it_embeds(
    any_image_folder: tuple[str, Path], tiny_model: Callable[[str], Path]
) -> None:
    assert isinstance(open_encoder(any_image_folder[1]), ImageLayerwiseEncoder)
    assert isinstance(open_encoder(tiny_model("bert")), LayerwiseEncoder)


def test_text_encoders_refuse_image_encoders_and_the_reverse(
    any_image_folder: tuple[str, Path], tiny_model: Callable[[str], Path]
) -> None:
    for make in (
        LayerwiseEncoder,
        lambda folder: MidLayerEncoder(folder, 1),
        lambda folder: MidLayerEncoder(folder, 3),
    ):
        with pytest.raises(ValueError, match=r"^model: \S+ is an image encoder \(\w+\); use ImageLayerwiseEncoder$"):
            make(any_image_folder[1])
    with pytest.raises(ValueError, match=r"^images: \S+ is a model of texts \(bert\); expected an image encoder"):
        ImageLayerwiseEncoder(tiny_model("bert"))


def test_a_device_that_is_not_there_is_one_line(tiny_image_model: Callable[[str], Path]) -> None:
    with pytest.raises(ValueError, match=r"^device: 'cuda:99' cannot be used here"):
        ImageLayerwiseEncoder(tiny_image_model("vit"), device="cuda:99")


@pytest.mark.parametrize("name", ["vit", "clip"])
def test_without_a_processor_nothing_is_made_up(
    name: str, tiny_image_model: Callable[[str], Path], tmp_path: Path
) -> None:
    for file in tiny_image_model(name).iterdir():
        if file.name != "preprocessor_config.json":
            (tmp_path / file.name).symlink_to(file.resolve())
    with pytest.raises(ValueError, match=r"^model: \S+ has no preprocessor_config\.json"):
        ImageLayerwiseEncoder(tmp_path)


@pytest.mark.model
@pytest.mark.parametrize(("name", "size"), [("beit", 40), ("dinov3", 40)])
def test_a_model_of_the_same_kind_can_be_trained_afterwards(name: str, size: int, tmp_path: Path) -> None:
    """transformers keeps what these compute of a size of image for all of their kind: it has to be of use to others."""
    tiny = IMAGE_MODELS[name]
    build_image_model(tiny._replace(entries={**tiny.entries, "image_size": size})).save_pretrained(tmp_path)
    save_processor(tmp_path, size={"height": size, "width": size})
    every = ImageLayerwiseEncoder(tmp_path)
    every.encode(images(2))
    model = AutoModel.from_pretrained(tmp_path)
    model(pixel_values=torch.zeros(1, 3, size, size)).last_hidden_state.sum().backward()
    assert any(parameter.grad is not None for parameter in model.parameters())
