"""Overlapping transfers, forced on the CPU, give what plain ones give; and the calls that CUDA's need, in order."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.vision.tiny_vision import images

from midlayer_embed import ImageLayerwiseEncoder, LayerwiseEncoder, MidLayerEncoder
from midlayer_embed.encoder import batched
from midlayer_embed.forward import one_pass
from midlayer_embed.forward.devices import transfers as module
from midlayer_embed.forward.devices.transfers import CudaTransfers, Transfers, transfers
from midlayer_embed.forward.measured import TokenMeasure


class Overlapping(Transfers):
    """What CUDA's transfers do, with plain copies: made in a thread, and awaited one batch later."""

    n_ahead, n_behind = 2, 1
    events: list[str]

    def pinned(self, tensor: torch.Tensor) -> torch.Tensor:
        assert threading.current_thread() is not threading.main_thread()
        return tensor.clone()

    def to_host(self, tensors: Sequence[torch.Tensor]) -> Callable[[], list[torch.Tensor]]:
        number = sum(event.startswith("launched") for event in self.events)
        self.events.append(f"launched {number}")

        def found() -> list[torch.Tensor]:
            self.events.append(f"awaited {number}")
            return [tensor.clone() for tensor in tensors]

        return found


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Makes every encoder overlap; what it does and when."""
    found: list[str] = []
    monkeypatch.setattr(Overlapping, "events", found, raising=False)
    monkeypatch.setattr(one_pass, "transfers", Overlapping)
    monkeypatch.setattr(batched, "transfers", Overlapping)
    return found


def _no_thread_is_left() -> bool:
    return not any(thread.name == "midlayer-embed-ahead" for thread in threading.enumerate())


def test_vectors_of_texts_are_the_same(
    llama: LayerwiseEncoder, sentences: list[str], request: pytest.FixtureRequest
) -> None:
    plain = llama.encode(sentences, batch_tokens=40)
    events = request.getfixturevalue("events")
    np.testing.assert_array_equal(llama.encode(sentences, batch_tokens=40), plain)
    assert events[:4] == ["launched 0", "launched 1", "awaited 0", "launched 2"]
    assert events[-1] == f"awaited {len(events) // 2 - 1}"
    assert _no_thread_is_left()


def test_batches_come_in_the_same_order(
    llama: LayerwiseEncoder, sentences: list[str], request: pytest.FixtureRequest
) -> None:
    measure = TokenMeasure(lambda states, _mask: states.square().mean(dim=(1, 2)).double(), final_norm=True)

    def run() -> list[tuple[list[int], np.ndarray]]:
        batches = llama.pooled_batches(sentences, [3, 1], norms=[], measures=[measure], batch_tokens=40)
        return [(batch.rows.tolist(), batch.measured) for batch in batches]

    plain = run()
    request.getfixturevalue("events")
    for (rows, measured), (expected_rows, expected) in zip(run(), plain, strict=True):
        assert rows == expected_rows
        np.testing.assert_array_equal(measured, expected)


def test_one_layer_is_the_same(llama_2: MidLayerEncoder, sentences: list[str], request: pytest.FixtureRequest) -> None:
    texts = [*sentences, "", sentences[0]]
    plain = llama_2.encode(texts, batch_size=2)
    events = request.getfixturevalue("events")
    np.testing.assert_array_equal(llama_2.encode(texts, batch_size=2), plain)
    assert events[:4] == ["launched 0", "launched 1", "awaited 0", "launched 2"]
    assert llama_2.encode(["", ""]).shape == (2, 32)


def test_vectors_and_states_of_images_are_the_same(
    tiny_image_model: Callable[[str], Path], request: pytest.FixtureRequest
) -> None:
    encoder, pictures = ImageLayerwiseEncoder(tiny_image_model("vit")), images(7)

    def run() -> tuple[np.ndarray, list[Any]]:
        return encoder.encode(pictures, batch_tokens=20), list(encoder.token_batches(pictures, batch_tokens=20))

    vectors, batches = run()
    assert len(batches) > 2
    events = request.getfixturevalue("events")
    found, kept = run()
    np.testing.assert_array_equal(found, vectors)
    for (rows, states, pooled), (expected_rows, expected, expected_pooled) in zip(kept, batches, strict=True):
        np.testing.assert_array_equal(rows, expected_rows)
        torch.testing.assert_close(states, expected, rtol=0, atol=0)
        np.testing.assert_array_equal(pooled, expected_pooled)
    # states of two batches are never in memory at once
    last = [event.split()[0] for event in events[-2 * len(batches) :]]
    assert last == ["launched", "awaited"] * len(batches)


def test_a_bad_image_is_raised_where_images_are_used(
    tiny_image_model: Callable[[str], Path], events: list[str], tmp_path: Path
) -> None:
    encoder = ImageLayerwiseEncoder(tiny_image_model("vit"))
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(ValueError, match=r"bad\.png"):
        encoder.encode([*images(5), tmp_path / "bad.png"], batch_tokens=1)
    assert _no_thread_is_left()


@pytest.mark.parametrize("how", ["closed", "interrupted"])
def test_the_thread_ends_with_the_batches(
    llama: LayerwiseEncoder, sentences: list[str], events: list[str], how: str
) -> None:
    batches = llama.pooled_batches(sentences, [1], norms=[True], batch_tokens=1)
    next(batches)
    if how == "closed":
        batches.close()  # type: ignore[attr-defined]
    else:
        with pytest.raises(KeyboardInterrupt):
            batches.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    assert _no_thread_is_left()
    assert not any(module._forward_hooks for module in llama.backbone.model.modules())


def test_what_is_there_twice_is_copied_once() -> None:
    tensor = torch.ones(3)
    moved = Transfers(torch.device("meta")).to_device([tensor, None, tensor, True])
    assert moved[0] is moved[2] and moved[0].device.type == "meta"
    assert moved[1] is None and moved[3] is True


def test_only_cuda_overlaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Stream", lambda _device: None)
    assert type(transfers(torch.device("cpu"))) is type(transfers(torch.device("mps"))) is Transfers
    assert type(transfers(torch.device("cuda", 1))) is CudaTransfers


class _Cuda:
    """Stands in for torch.cuda: notes the calls, in the words of what they order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        cuda, calls = self, self.calls
        self.current = "computing"

        class Stream:
            names = iter(("up", "down"))

            def __init__(self, _device: Any, name: str | None = None) -> None:
                self.name = name or next(self.names)

            def wait_stream(self, other: "Stream") -> None:
                calls.append(f"{self.name} waits for {other.name}")

        class Event:
            def __init__(self, *, blocking: bool) -> None:
                assert blocking

            def record(self, stream: Stream) -> None:
                calls.append(f"event on {stream.name}")

            def synchronize(self) -> None:
                calls.append("host waits for the event")

        @contextmanager
        def within(stream: Stream) -> Iterator[None]:
            before, cuda.current = cuda.current, stream.name
            yield
            cuda.current = before

        def copy(to: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
            assert non_blocking and self.is_pinned(to)
            calls.append(f"copy down on {self.current}")
            return source

        def move(tensor: torch.Tensor, _device: Any, non_blocking: bool = False) -> torch.Tensor:
            assert non_blocking
            calls.append(f"copy up on {self.current}")
            return tensor.view(-1)

        def empty(*arguments: Any, pin_memory: bool, **options: Any) -> torch.Tensor:
            assert pin_memory
            made = torch.zeros(*arguments, **options)
            self._pinned.append(made.data_ptr())
            return made

        self._pinned: list[int] = []
        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "stream", within)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: Stream(None, "computing"))
        monkeypatch.setattr(module.torch, "empty", empty)
        monkeypatch.setattr(torch.Tensor, "copy_", copy)
        monkeypatch.setattr(torch.Tensor, "to", move)
        monkeypatch.setattr(
            torch.Tensor, "record_stream", lambda _tensor, stream: calls.append(f"kept for {stream.name}")
        )

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        return tensor.data_ptr() in self._pinned


def test_the_calls_of_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = [torch.ones(2), torch.ones(3)]
    with monkeypatch.context() as patch:
        cuda = _Cuda(patch)
        moves = CudaTransfers(torch.device("cuda", 0))
        moves.to_device([tensors[0], 7, tensors[0]])
        up, cuda.calls[:] = list(cuda.calls), []
        found = moves.to_host(tensors)
        down, cuda.calls[:] = list(cuda.calls), []
        copies = found()
    assert up == ["copy up on up", "computing waits for up", "kept for computing"]
    assert down == [
        "down waits for computing",
        *("copy down on down", "kept for down") * 2,
        "event on down",
    ]
    assert cuda.calls == ["host waits for the event"]
    assert not any(cuda.is_pinned(copy) for copy in copies)
