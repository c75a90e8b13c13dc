"""On a CUDA GPU, what the files beside this one try with stand-ins: `make test-gpu`. Skipped where there is none."""

import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from support.vision.tiny_vision import images

from midlayer_embed import ImageLayerwiseEncoder, LayerwiseEncoder, MidLayerEncoder
from midlayer_embed.encoder import batched
from midlayer_embed.forward import one_pass
from midlayer_embed.forward.devices.transfers import CudaTransfers, Transfers

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="pytest sees no CUDA GPU (make test-gpu)"),
]


@pytest.fixture
def texts(sentences: list[str]) -> list[str]:
    """Many, of 1 to some 60 tokens."""
    return [" ".join([sentence] * (1 + number % 3)) + f" {number}" for number in range(60) for sentence in sentences]


def assert_same(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-4) -> None:
    """Vectors differ by at most a share of their length."""
    difference = np.linalg.norm(np.float64(found) - expected, axis=-1)
    assert np.isfinite(difference).all()
    assert (difference <= tolerance * np.linalg.norm(np.float64(expected), axis=-1)).all(), difference.max()


def test_every_layer_of_every_architecture_is_the_cpus(any_folder: Path, sentences: list[str]) -> None:
    on_gpu, on_cpu = (LayerwiseEncoder(any_folder, device=device) for device in ("cuda", "cpu"))
    assert_same(on_gpu.encode(sentences), on_cpu.encode(sentences))


def test_every_layer_of_every_image_encoder_is_the_cpus(any_image_folder: tuple[str, Path]) -> None:
    on_gpu, on_cpu = (ImageLayerwiseEncoder(any_image_folder[1], device=device) for device in ("cuda", "cpu"))
    assert_same(on_gpu.encode(images(5)), on_cpu.encode(images(5)))


@pytest.mark.parametrize("mode", ["mean", "cls", "lasttoken", "max", "weightedmean", "mean+max"])
@pytest.mark.parametrize(("dtype", "least"), [("bfloat16", 0.999), ("float16", 0.9999)])
def test_half_precision_is_close_to_float32(
    llama_folder: Path, sentences: list[str], mode: str, dtype: str, least: float
) -> None:
    def encode(dtype: str, device: str) -> np.ndarray:
        found = LayerwiseEncoder(llama_folder, dtype=dtype, device=device, pooling_mode=mode).encode(sentences)
        assert found.dtype == np.float32
        return np.asarray(found / np.linalg.norm(found, axis=-1, keepdims=True))

    cosines = (encode(dtype, "cuda") * encode("float32", "cpu")).sum(axis=-1)
    assert cosines.min() > least


def test_vectors_do_not_depend_on_how_they_are_copied(
    llama_folder: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many batches, so that a copy that began too early, or memory that is used again too early, would show."""
    every, layer = LayerwiseEncoder(llama_folder, device="cuda"), MidLayerEncoder(llama_folder, 2, device="cuda")

    def run() -> list[np.ndarray]:
        return [every.encode(texts, batch_tokens=256), layer.encode(texts, batch_size=8)]

    overlapping = [run() for _ in range(5)]
    for module in (one_pass, batched):
        assert isinstance(module.transfers(torch.device("cuda")), CudaTransfers)
        monkeypatch.setattr(module, "transfers", Transfers)
    for found in overlapping:
        for vectors, expected in zip(found, run(), strict=True):
            np.testing.assert_array_equal(vectors, expected)


def test_nothing_of_ours_waits_for_the_gpu(
    llama_folder: Path, texts: list[str], recwarn: pytest.WarningsRecorder
) -> None:
    encoder = LayerwiseEncoder(llama_folder, device="cuda")
    encoder.encode(texts)  # lazily made handles and buffers may wait
    recwarn.clear()
    warnings.simplefilter("always")
    torch.cuda.set_sync_debug_mode("warn")
    try:
        encoder.encode(texts, batch_tokens=512)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [warning for warning in recwarn if "synchroniz" in str(warning.message)]
    package = str(Path(one_pass.__file__).parents[1])
    assert [f"{w.filename}:{w.lineno}" for w in waits if w.filename.startswith(package)] == []


@pytest.fixture
def little_memory(make_model: Callable[..., Path]) -> Iterator[tuple[Path, Callable[[float], None]]]:
    """A model wide enough to fill memory, and a function that leaves this process so many MiB besides what it has."""
    folder = make_model("llama", hidden_size=512, intermediate_size=8192, max_position_embeddings=128)

    def leave(mebibytes: float) -> None:
        torch.cuda.empty_cache()
        allowed = torch.cuda.memory_reserved() + mebibytes * 2**20
        torch.cuda.set_per_process_memory_fraction(allowed / torch.cuda.mem_get_info()[1])

    yield folder, leave
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@pytest.mark.parametrize("what", ["every layer", "one layer"])
def test_batches_that_do_not_fit_are_halved(
    little_memory: tuple[Path, Callable[[float], None]], texts: list[str], what: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder, leave = little_memory
    encoder: Any
    if what == "every layer":
        encoder = LayerwiseEncoder(folder, device="cuda")
        options: dict[str, Any] = {"batch_tokens": 2**16}
    else:
        encoder = MidLayerEncoder(folder, 2, device="cuda")
        encoder.batch_tokens = 2**16
        options = {"batch_size": 10_000}
    expected = encoder.encode(texts, **options)
    assert encoder._room.most_tokens is None
    leave(150)
    with caplog.at_level(logging.WARNING):
        found = encoder.encode(texts, **options)
    assert_same(found, expected)
    assert encoder._room.most_tokens is not None
    (record,) = [record for record in caplog.records if record.name.startswith("midlayer_embed")]
    assert "tokens do not fit into the memory of cuda" in record.getMessage()


def test_a_text_that_does_not_fit_alone_is_an_error_that_says_so(
    little_memory: tuple[Path, Callable[[float], None]], texts: list[str]
) -> None:
    folder, leave = little_memory
    encoder = LayerwiseEncoder(folder, device="cuda")
    leave(0)
    torch.cuda.set_per_process_memory_fraction(1e-9)
    with pytest.raises(ValueError, match=r"^device: one text of \d+ tokens does not fit into the memory of cuda"):
        encoder.encode([" ".join(texts)])


@pytest.mark.parametrize("width", [768, 2048, 4096])
def test_the_first_guess_is_a_power_of_two_that_memory_has_room_for(
    llama_folder: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = LayerwiseEncoder(llama_folder, device="cuda")
    budget = encoder._room.budget(None, torch.device("cuda"), width, torch.bfloat16)
    assert budget.bit_count() == 1
    assert budget * width * 2 < torch.cuda.mem_get_info()[0]


@pytest.mark.parametrize(
    "recipe",
    [
        {"template": "echo", "pooling_mode": "lasttoken", "transform": "whiten"},
        {"template": "eol", "transform": "standardize"},
        {"transform": "remove:2", "pooling_mode": "cls+max"},
    ],
    ids=str,
)
def test_a_recipe_made_on_the_gpu_is_the_one_made_on_the_cpu(
    llama_folder: Path, texts: list[str], tmp_path: Path, recipe: dict[str, Any]
) -> None:
    one, other = (
        MidLayerEncoder(llama_folder, 2, **recipe, transform_texts=texts, device=device) for device in ("cuda", "cpu")
    )
    some = texts[:20]
    vectors = one.encode(some)
    # axes of whitened vectors may turn by rounding; what they say of each other's texts stays
    np.testing.assert_allclose(vectors @ vectors.T, (of_cpu := other.encode(some)) @ of_cpu.T, atol=1e-2, rtol=1e-2)
    one.save_pretrained(str(tmp_path / "saved"))
    for device in ("cuda", "cpu"):
        assert_same(np.asarray(SentenceTransformer(str(tmp_path / "saved"), device=device).encode(some)), vectors, 1e-3)
