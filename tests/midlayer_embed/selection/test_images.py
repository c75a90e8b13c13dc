"""Profiles and the choice of a layer for images: the same metrics, over patches, vectors and views of images."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel

from midlayer_embed import ImageLayerwiseEncoder, metrics, profile_layers, select_layer, select_recipe
from midlayer_embed.images.views import augmented_pictures

TinyImageModel = Callable[[str], Path]
N = 12


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    """Colours that change across each image, so that its patches differ."""
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 256, (N, 3, 4, 3), dtype=np.uint8)
    return [Image.fromarray(some).resize((40, 30)) for some in corners]


@pytest.fixture(scope="module")
def encoder(tiny_image_model: TinyImageModel) -> ImageLayerwiseEncoder:
    return ImageLayerwiseEncoder(tiny_image_model("dinov2-registers"), final_norm=False)


def plain_patches(folder: Path, images: list[Image.Image], encoder: ImageLayerwiseEncoder) -> list[torch.Tensor]:
    """The raw states of the patches at every layer, (n, n_patches, dim), by plain transformers."""
    model = AutoModel.from_pretrained(folder).eval()
    found: list[torch.Tensor] = []
    for block in model.encoder.layer:
        block.register_forward_pre_hook(lambda _module, args: found.append(args[0]))
    model.encoder.layer[-1].register_forward_hook(lambda _module, _args, out: found.append(out))
    with torch.inference_mode():
        model(pixel_values=torch.stack(encoder.inputs.processor.pixels_of(encoder.inputs.check(images))))
    n_prefix = 1 + model.config.num_register_tokens
    return [states[:, n_prefix:] for states in found]


def test_every_metric_is_that_of_the_states_of_plain_transformers(
    tiny_image_model: TinyImageModel, images: list[Image.Image], encoder: ImageLayerwiseEncoder
) -> None:
    folder = tiny_image_model("dinov2-registers")
    wanted = ["prompt_entropy", "curvature", "dataset_entropy", "effective_rank", "infonce", "dime"]
    found = profile_layers(folder, images, wanted).values
    views = [[view.pil() for view in some] for some in augmented_pictures(images, 2)]
    # DiME permutes, and the sample decides what is permuted.
    order = [images.index(one.source) for one in encoder.inputs.sample(images, None)]
    of_views = [plain_patches(folder, [some[i] for i in order], encoder) for some in views]
    for layer, patches in enumerate(plain_patches(folder, images, encoder)):
        first, second = (states[layer].mean(dim=1).numpy() for states in of_views)
        vectors = patches.mean(dim=1).numpy()
        expected = {
            "prompt_entropy": np.mean([float(metrics.prompt_entropy(some)) for some in patches]),
            "curvature": np.mean([float(metrics.curvature(some)) for some in patches]),
            "dataset_entropy": metrics.dataset_entropy(vectors),
            "effective_rank": metrics.effective_rank(vectors),
            "infonce": metrics.infonce(first, second),
            "dime": metrics.dime(first, second),
        }
        for metric, value in expected.items():
            assert found[metric][layer] == pytest.approx(float(value), abs=1e-4, rel=1e-4), (metric, layer)


def test_a_profile_does_not_depend_on_the_order_of_the_images(
    images: list[Image.Image], encoder: ImageLayerwiseEncoder
) -> None:
    wanted = ["prompt_entropy", "dataset_entropy", "infonce"]
    one = profile_layers(encoder, images, wanted, max_texts=8)
    other = profile_layers(encoder, images[::-1], wanted, max_texts=8, batch_tokens=40)
    assert one.n_texts == 8
    for metric in wanted:
        np.testing.assert_allclose(one.values[metric], other.values[metric], rtol=1e-5)
    assert one.to_frame()["layer"].max() == encoder.checkpoint.n_blocks


@pytest.mark.parametrize("name", ["vit", "beit", "clip", "siglip", "aimv2", "aim"])
def test_a_layer_is_chosen_for_images(name: str, tiny_image_model: TinyImageModel, images: list[Image.Image]) -> None:
    found = select_layer(tiny_image_model(name), images, "min-entropy", n_resamples=3)
    assert found.values.argmin() == found.layer
    assert found.n_resamples == 3


@pytest.mark.parametrize(("name", "layer"), [("vit", -1), ("aim", 0.75)])
def test_auto_goes_by_what_was_published_of_image_encoders(
    name: str, layer: float, tiny_image_model: TinyImageModel, images: list[Image.Image]
) -> None:
    found = select_layer(tiny_image_model(name), images)
    assert found.layer == (found.n_layers - 1 if layer == -1 else round(layer * (found.n_layers - 1)))
    assert found.reason is not None and "image encoder" in found.reason
    assert select_layer(tiny_image_model(name)).layer == found.layer  # without images, too


def test_transforms_are_fitted_on_images(images: list[Image.Image], encoder: ImageLayerwiseEncoder) -> None:
    vectors = encoder.encode(images)
    standardize = encoder.fit_transform([*images[::-1]], "standardize")
    np.testing.assert_allclose(standardize(vectors).mean(axis=0), 0, atol=1e-4)
    again = encoder.fit_transform(images, "standardize")
    np.testing.assert_array_equal(standardize.weight, again.weight)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda folder, images: profile_layers(folder, images, ["half_retrieval"]), "half_retrieval compares views"),
        (lambda folder, images: select_layer(folder, images, "half-and-drop"), "half_retrieval compares views"),
        (lambda folder, images: select_layer(folder, images, "proxy"), "'proxy' goes by scores of texts"),
        (lambda folder, images: select_layer(folder, images, "published"), "'published' goes by scores of texts"),
        (lambda folder, images: profile_layers(folder, images, template="eol"), "template: only models of texts"),
        (lambda folder, images: profile_layers(folder, images, max_seq_length=8), "max_seq_length: only models of"),
        (lambda folder, images: profile_layers(folder, images, site="attn_out"), "site: only models of texts"),
        (lambda folder, images: profile_layers(folder, images, first_token=False), "first_token: only texts have one"),
        (lambda folder, images: profile_layers(folder, images, min_tokens=999), "min_tokens: images have"),
        (lambda folder, images: profile_layers(folder, []), "images: expected at least one, got none"),
        (lambda folder, images: profile_layers(folder, "cat.jpg"), "images: expected a list of images"),
        (lambda folder, images: profile_layers(folder, images, pooling_mode="lasttoken"), "pooling_mode: of images"),
        (lambda folder, images: select_recipe(folder, ["a text"]), "is an image encoder"),
    ],
)
def test_what_images_do_not_have_is_told_in_one_line(
    call: Callable[[Path, Any], Any], message: str, tiny_image_model: TinyImageModel, images: list[Image.Image]
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        call(tiny_image_model("vit"), images)
    assert "\n" not in str(error.value)
