"""The mean of token states in half precision."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.vision.tiny_vision import images

from midlayer_embed import ImageLayerwiseEncoder, LayerwiseEncoder
from midlayer_embed.forward import pooling
from midlayer_embed.forward.pooling import masked_mean

HALF = [torch.bfloat16, torch.float16]
SHAPE = (5, 300, 64)


@pytest.fixture
def as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """Products with float32 results, which only CUDA has, made of float32 products on the CPU."""
    used: list[torch.dtype] = []
    real = torch.bmm

    def bmm(left: torch.Tensor, right: torch.Tensor, out_dtype: torch.dtype | None = None) -> torch.Tensor:
        if out_dtype is None:
            return real(left, right)
        assert left.dtype == right.dtype != out_dtype == torch.float32
        used.append(left.dtype)
        return real(left.float(), right.float())

    monkeypatch.setattr(torch, "bmm", bmm)
    monkeypatch.setattr(pooling, "_sums_in_float32", lambda states: states.dtype in HALF)
    return used


def _states_and_mask() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(SHAPE, generator=generator) + 3 * torch.randn(SHAPE[-1], generator=generator)
    lengths = torch.tensor([300, 257, 13, 1, 0])
    return states, (torch.arange(SHAPE[1]) < lengths[:, None]).long()


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_means_on_cuda_are_those_of_float32(dtype: torch.dtype, as_on_cuda: list[torch.dtype]) -> None:
    states, mask = _states_and_mask()
    states = states.to(dtype)
    found, expected = masked_mean(states, mask), masked_mean(states.float(), mask)
    assert as_on_cuda == [dtype]
    assert found.dtype == torch.float32
    # weights of 1/n, rounded to half precision, would be off by up to 4e-3
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert (found[4] == 0).all()


def test_sums_that_float16_cannot_hold_are_means_all_the_same(as_on_cuda: list[torch.dtype]) -> None:
    found = masked_mean(torch.full((1, 400, 8), 30_000.0).half(), torch.ones(1, 400, dtype=torch.int64))
    torch.testing.assert_close(found, torch.full((1, 8), 30_000.0).half().float())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_all_layers_and_sites_are_the_same_on_cuda(
    llama_folder: Path, sentences: list[str], dtype: str, request: pytest.FixtureRequest
) -> None:
    encoder = LayerwiseEncoder(llama_folder, dtype=dtype, device="cpu")
    sites = ["resid_post", "resid_mid", "attn_out", "mlp_out"]
    expected = [encoder.encode(sentences, site=site) for site in sites]
    used = request.getfixturevalue("as_on_cuda")
    for site, vectors in zip(sites, expected, strict=True):
        np.testing.assert_allclose(encoder.encode(sentences, site=site), vectors, rtol=1e-4, atol=1e-6)
    assert used


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_images_are_the_same_on_cuda(
    tiny_image_model: Callable[[str], Path], dtype: str, request: pytest.FixtureRequest
) -> None:
    encoder = ImageLayerwiseEncoder(tiny_image_model("dinov2-registers"), dtype=dtype, device="cpu")
    expected = encoder.encode(images(3))
    used = request.getfixturevalue("as_on_cuda")
    np.testing.assert_allclose(encoder.encode(images(3)), expected, rtol=1e-4, atol=1e-6)
    assert used


@pytest.mark.parametrize(("dtype", "distance"), [("bfloat16", 1e-3), ("float16", 1e-5)])
def test_weights_of_half_precision_keep_the_direction_of_every_layer(
    llama: LayerwiseEncoder, llama_folder: Path, sentences: list[str], dtype: str, distance: float
) -> None:
    exact = llama.encode(sentences)
    found = LayerwiseEncoder(llama_folder, dtype=dtype, device="cpu").encode(sentences)
    cosines = (exact * found).sum(axis=-1) / np.linalg.norm(exact, axis=-1) / np.linalg.norm(found, axis=-1)
    assert 1 - cosines.min() < distance


def test_on_the_cpu_the_states_are_cast() -> None:
    states, mask = _states_and_mask()
    for dtype in HALF:
        assert not pooling._sums_in_float32(states.to(dtype))
        torch.testing.assert_close(
            masked_mean(states.to(dtype), mask), masked_mean(states.to(dtype).float(), mask), rtol=0, atol=0
        )
