"""Batches that do not fit into memory: a stand-in raises what CUDA raises above a number of tokens."""

import copy
import logging
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.vision.tiny_vision import images

from midlayer_embed import ImageLayerwiseEncoder, LayerwiseEncoder, MidLayerEncoder
from midlayer_embed.forward.devices import room as rooms
from midlayer_embed.forward.devices.room import Room
from midlayer_embed.forward.measured import StatesKept, TokenMeasure

CPU = torch.device("cpu")


@contextmanager
def memory_for(block: torch.nn.Module, most_tokens: int, error: Exception | None = None) -> Iterator[list[int]]:
    """A model whose block takes at most so many tokens, padding included; yields how many each pass has had."""
    seen: list[int] = []

    def check(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        states = args[0] if args else kwargs["hidden_states"]
        seen.append(states.shape[0] * states.shape[1])
        if seen[-1] > most_tokens:
            raise error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    hook = block.register_forward_pre_hook(check, with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()


@pytest.fixture
def texts(sentences: list[str]) -> list[str]:
    return [f"{sentence} {number}" for number in range(4) for sentence in sentences]


@pytest.mark.parametrize("most_tokens", [40, 64, 111, 200])
def test_vectors_are_the_same_however_small_the_memory(
    llama_folder: Path, texts: list[str], most_tokens: int, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = LayerwiseEncoder(llama_folder)
    expected = encoder.encode(texts)
    with memory_for(encoder.backbone.blocks[1], most_tokens) as seen, caplog.at_level(logging.WARNING):
        found = encoder.encode(texts)
        n_failed = sum(tokens > most_tokens for tokens in seen)
        assert n_failed > 0
        again = encoder.encode(texts, batch_tokens=10_000)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(again, expected, atol=1e-6)
    assert sum(tokens > most_tokens for tokens in seen) == n_failed  # what did not fit is not tried again
    (record,) = caplog.records
    told = record.getMessage().replace(",", "").split()
    assert told[2:10] == ["tokens", "do", "not", "fit", "into", "the", "memory", "of"]
    assert int(told[1]) == max(seen)
    assert int(told[-3]) == encoder._room.most_tokens <= most_tokens


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 18.00 GB)"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_other_words_for_the_end_of_memory_are_known(
    llama_folder: Path, sentences: list[str], llama: LayerwiseEncoder, error: Exception
) -> None:
    encoder = LayerwiseEncoder(llama_folder)
    with memory_for(encoder.backbone.blocks[0], 60, error):
        np.testing.assert_allclose(encoder.encode(sentences), llama.encode(sentences), atol=1e-6)


def test_other_errors_are_raised_at_once(llama_folder: Path, sentences: list[str]) -> None:
    encoder = LayerwiseEncoder(llama_folder)
    with (
        memory_for(encoder.backbone.blocks[0], 60, RuntimeError("an illegal memory access")) as seen,
        pytest.raises(RuntimeError, match="illegal memory access"),
    ):
        encoder.encode(sentences)
    assert len(seen) == 1


def test_a_text_that_does_not_fit_is_one_line(llama_folder: Path, sentences: list[str]) -> None:
    encoder = LayerwiseEncoder(llama_folder)
    longest = max(len(ids) for ids in encoder.backbone.tokenizer(sentences)["input_ids"])
    with (
        memory_for(encoder.backbone.blocks[0], longest - 1),
        pytest.raises(
            ValueError, match=rf"^device: one text of {longest} tokens does not fit into the memory of cpu; "
        ),
    ):
        encoder.encode(sentences)
    assert encoder.encode("word").shape == (4, 32)
    assert not any(module._forward_hooks for module in encoder.backbone.model.modules())


def test_what_a_failed_pass_counted_is_taken_back(llama_folder: Path, sentences: list[str]) -> None:
    encoder, counted = LayerwiseEncoder(llama_folder), []
    measure = TokenMeasure(lambda _states, mask: mask.sum(dim=1), final_norm=False)
    with memory_for(encoder.backbone.blocks[2], 60):
        batches = list(
            encoder.pooled_batches(sentences, range(4), norms=[True], measures=[measure], on_tokens=counted.append)
        )
    assert min(counted) < 0
    assert sum(counted) == sum(int(batch.n_tokens.sum()) for batch in batches)
    for batch in batches:
        np.testing.assert_array_equal(batch.measured[0], [batch.n_tokens] * 4)
    assert sorted(np.concatenate([batch.rows for batch in batches])) == list(range(len(sentences)))


def test_images_and_the_states_that_are_kept(tiny_image_model: Callable[[str], Path]) -> None:
    encoder = ImageLayerwiseEncoder(tiny_image_model("dinov2"))
    pictures = images(7)
    whole = encoder.encode(pictures)
    of_one = int(encoder.inputs.token_counts([None])[0])  # type: ignore[list-item]
    with memory_for(encoder.backbone.blocks[1], 3 * of_one) as seen:
        np.testing.assert_allclose(encoder.encode(pictures), whole, atol=1e-6)
        assert max(seen) == 7 * of_one
        kept = list(encoder.token_batches(pictures))
    assert encoder._room.most_tokens == 2 * of_one  # of 7 images at once 4, of 4 then 2
    for rows, states, _ in kept:
        np.testing.assert_allclose(states.mean(dim=2).numpy(), whole[rows].swapaxes(0, 1), atol=1e-5)
    with memory_for(encoder.backbone.blocks[1], of_one - 1), pytest.raises(ValueError, match="device: one image of"):
        encoder.encode(pictures)


def test_states_that_are_kept_say_nothing_about_other_passes(tiny_image_model: Callable[[str], Path]) -> None:
    encoder = ImageLayerwiseEncoder(tiny_image_model("dinov2"))
    items = encoder.inputs.check(images(4))
    with memory_for(encoder.backbone.blocks[0], int(encoder.inputs.token_counts(items)[:2].sum())):
        list(encoder.pooled_batches(items, [1], norms=[True], kept=StatesKept(True)))
    assert encoder._room.most_tokens is None


@pytest.mark.parametrize("batch_tokens", [None, 300])
def test_one_layer_is_encoded_in_smaller_batches(
    llama_folder: Path, texts: list[str], batch_tokens: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = MidLayerEncoder(llama_folder, 2)
    expected, shares = encoder.encode(texts), []
    encoder.batch_tokens, encoder.on_progress = batch_tokens, shares.append
    with memory_for(encoder[0].model.layers[0], 100) as seen, caplog.at_level(logging.WARNING):  # type: ignore[union-attr]
        np.testing.assert_allclose(encoder.encode(texts, batch_size=1000), expected, atol=1e-6)
        assert shares == sorted(shares)
        assert shares[-1] == 1
        tensor = encoder.encode(texts, batch_size=1000, convert_to_tensor=True)
    np.testing.assert_allclose(tensor.numpy(), expected, atol=1e-6)
    assert max(seen) > 100
    assert len(caplog.records) == 1
    for another in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert another._room.most_tokens == encoder._room.most_tokens
        another._room.most_tokens = 1
    assert encoder._room.most_tokens != 1


def test_one_layer_of_a_text_that_does_not_fit_is_one_line(llama_folder: Path, sentences: list[str]) -> None:
    encoder = MidLayerEncoder(llama_folder, 2)
    with (
        memory_for(encoder[0].model.layers[0], 3),  # type: ignore[union-attr]
        pytest.raises(ValueError, match=r"^device: one text of \d+ tokens does not fit into the memory of cpu; set a"),
    ):
        encoder.encode(sentences)


def _free_memory(monkeypatch: pytest.MonkeyPatch, gib: float) -> None:
    """A CUDA device with so much of it, some of it reserved by torch."""
    free = int(gib * 2**30)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (free - 2**20, 80 * 2**30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: 2**21)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _device: 2**20)


@pytest.mark.parametrize(
    ("gib", "dim", "dtype", "expected"),
    [
        (70, 2048, torch.bfloat16, 16384),
        (70, 384, torch.float32, 65536),
        (70, 768, torch.float32, 32768),
        (70, 4096, torch.bfloat16, 16384),
        (6, 4096, torch.bfloat16, 8192),
        (6, 4096, torch.float32, 4096),
        (0.01, 4096, torch.float32, 1024),
    ],
)
def test_the_first_guess_on_cuda(
    monkeypatch: pytest.MonkeyPatch, gib: float, dim: int, dtype: torch.dtype, expected: int
) -> None:
    _free_memory(monkeypatch, gib)
    room, cuda = Room(), torch.device("cuda")
    assert room.budget(None, cuda, dim, dtype) == expected
    assert room.budget(100_000, cuda, dim, dtype) == 100_000  # the user's own number
    room.most_tokens = 500
    assert room.budget(None, cuda, dim, dtype) == room.budget(100_000, cuda, dim, dtype) == 500
    assert room.budget(64, cuda, dim, dtype) == 64


def test_on_a_cpu_the_budget_is_fixed() -> None:
    assert Room().budget(None, CPU, 4096, torch.float32) == Room().budget(None, CPU, 32, torch.bfloat16) == 2048


def test_results_that_hold_memory_are_awaited_before_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    monkeypatch.setattr(rooms, "_free", lambda _device: events.append("free"))

    class Items:
        def __init__(self, name: str, n_items: int) -> None:
            self.name, self.n_items, self.n_tokens = name, n_items, 10 * n_items

        def halves(self) -> "tuple[Items, Items]":
            larger = (self.n_items + 1) // 2
            return Items(f"{self.name}a", larger), Items(f"{self.name}b", self.n_items - larger)

    def start(batch: Items) -> Callable[[], str]:
        events.append(f"start {batch.name}")
        if batch.n_tokens > 20:
            raise torch.OutOfMemoryError
        return lambda: events.append(f"end {batch.name}") or batch.name  # type: ignore[func-returns-value]

    batches = [Items("one", 2), Items("two", 3), Items("three", 4)]
    found = list(Room().fitted(batches, start, device=CPU, kind="text", n_behind=1))
    assert found == ["one", "twoa", "twob", "threea", "threeb"]
    assert events[:5] == ["start one", "start two", "end one", "free", "start twoa"]
    assert events[5:9] == ["start twob", "end twoa", "start threea", "end twob"]
