"""Copies to a device and back. On CUDA they run beside the computation, from and to page-locked memory."""

from collections.abc import Callable, Sequence
from typing import Any

import torch


class Transfers:
    """Copies to a device and back, one after the other with its computation.

    Attributes:
        n_ahead: Number of batches that a thread makes ahead of their use.
        n_behind: Number of batches whose results are awaited while the next ones are computed.
    """

    n_ahead = 0
    n_behind = 0

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def pinned(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor in host memory from which copies run beside other work."""
        return tensor

    def to_device(self, values: Sequence[Any]) -> list[Any]:
        """The values with their tensors on the device; a tensor that is there twice is copied once."""
        tensors = {id(value): value for value in values if isinstance(value, torch.Tensor)}
        moved = self._sent(tensors)
        return [moved.get(id(value), value) for value in values]

    def to_host(self, tensors: Sequence[torch.Tensor]) -> Callable[[], list[torch.Tensor]]:
        """Start to copy tensors back; what is returned waits for the copies, which are the caller's own."""
        return lambda: [tensor.cpu() for tensor in tensors]

    def _sent(self, tensors: dict[int, torch.Tensor]) -> dict[int, torch.Tensor]:
        return {key: tensor.to(self._device) for key, tensor in tensors.items()}


class CudaTransfers(Transfers):
    """Copies on streams of their own, one for each direction, so that the device computes meanwhile.

    While a batch is computed, the host launches the next one, and then waits for the first one's results.
    """

    n_ahead = 2
    n_behind = 1

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._up = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._down = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def pinned(self, tensor: torch.Tensor) -> torch.Tensor:
        """A page-locked copy: the device copies from other memory only while the host waits."""
        with torch.cuda.device(self._device):  # a thread starts on the first device, which may be another one's
            return tensor.pin_memory()

    def to_host(self, tensors: Sequence[torch.Tensor]) -> Callable[[], list[torch.Tensor]]:
        """See `Transfers.to_host`."""
        self._down.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._down):
            copies = [torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for tensor in tensors]
            for copy, tensor in zip(copies, tensors, strict=True):
                copy.copy_(tensor, non_blocking=True)
                tensor.record_stream(self._down)  # its memory is not used again before it has been copied
            # blocking: waiting takes no core from the thread that makes batches
            done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            done.record(self._down)

        def found() -> list[torch.Tensor]:
            done.synchronize()
            # page-locked memory is scarce, and callers may keep what they get
            return [copy.clone() for copy in copies]

        return found

    def _sent(self, tensors: dict[int, torch.Tensor]) -> dict[int, torch.Tensor]:
        computing = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._up):
            moved = {key: tensor.to(self._device, non_blocking=True) for key, tensor in tensors.items()}
        computing.wait_stream(self._up)
        for tensor in moved.values():
            tensor.record_stream(computing)
        return moved


def transfers(device: torch.device) -> Transfers:
    """The transfers of a device.

    Example:
        >>> transfers(torch.device("cpu")).n_ahead
        0
    """
    return CudaTransfers(device) if device.type == "cuda" else Transfers(device)
