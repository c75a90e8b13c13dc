"""The states of patches, batch by batch, for what is trained on them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from midlayer_embed import ImageLayerwiseEncoder

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8) for _ in range(7)]


@pytest.mark.parametrize("name", ["deit", "clip", "siglip", "aim"])
@pytest.mark.parametrize("final_norm", [True, False], ids=["normed", "raw"])
def test_the_mean_of_the_patches_is_the_vector(
    name: str, final_norm: bool, tiny_image_model: Callable[[str], Path]
) -> None:
    every = ImageLayerwiseEncoder(tiny_image_model(name), final_norm=final_norm)
    images = [*IMAGES, IMAGES[2]]
    vectors = every.encode(images)
    seen = []
    for rows, states, pooled in every.token_batches(images, batch_tokens=60):
        np.testing.assert_allclose(pooled, vectors[rows].swapaxes(0, 1), atol=1e-5)
        assert states.dtype == torch.float32
        np.testing.assert_allclose(states.mean(dim=2).numpy(), vectors[rows].swapaxes(0, 1), atol=1e-5)
        seen += rows.tolist()
    assert sorted(seen) == list(range(len(images)))


def test_all_tokens_begin_with_those_before_the_patches(tiny_image_model: Callable[[str], Path]) -> None:
    every = ImageLayerwiseEncoder(tiny_image_model("dinov2-registers"), pooling_mode="cls")
    ((rows, states, _),) = every.token_batches(IMAGES, layers=[1, -1], all_tokens=True)
    ((_, patches, _),) = every.token_batches(IMAGES, layers=[1, -1])
    assert states.shape[2] == patches.shape[2] + every.family.n_prefix
    torch.testing.assert_close(states[:, :, every.family.n_prefix :], patches)
    np.testing.assert_allclose(
        states[:, :, 0].numpy(), every.encode(IMAGES, layers=[1, -1])[rows].swapaxes(0, 1), atol=1e-5
    )


def test_something_can_be_trained_on_them(tiny_image_model: Callable[[str], Path]) -> None:
    every = ImageLayerwiseEncoder(tiny_image_model("vit"))
    weight = torch.ones(every.dim, requires_grad=True)
    for _, states, _ in every.token_batches(IMAGES):
        (states @ weight).square().sum().backward()
    assert weight.grad is not None and every.backbone.model.embeddings.cls_token.grad is None


def test_a_layer_that_is_named_twice_is_an_error(tiny_image_model: Callable[[str], Path]) -> None:
    every = ImageLayerwiseEncoder(tiny_image_model("vit"))
    with pytest.raises(ValueError, match="layers: expected each once"):
        next(every.token_batches(IMAGES, layers=[every.n_layers - 1, -1]))
