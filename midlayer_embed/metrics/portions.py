"""Processes a batch a few items at a time: in float64, on all cores, in memory that does not grow with the batch."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch

from midlayer_embed.metrics.arrays import Batch, reject_items

# Bytes for the working copies of a portion: small enough for the caches of a core, large enough to hide overheads.
PORTION_BYTES = 16 * 2**20
# GPUs need larger portions.
_GPU_PORTION_BYTES = 512 * 2**20
# Below this many numbers in total, threads cost more than they gain.
_WORTH_THREADS = 100_000
# Norms in this range can be raised to the fourth power (entropy of order 2) and summed without over- or underflow.
_SAFE_NORMS = (1e-60, 1e60)

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Portion:
    """Consecutive items of a batch, ready for computation.

    Attributes:
        values: (s, *core), float64, finite, zero where the mask is False. A copy that may be overwritten. Items whose
            squares would over- or underflow are scaled as a whole.
        mask: (s, T), bool, or None.
    """

    values: torch.Tensor
    mask: torch.Tensor | None = None


def in_portions(function: Callable[..., torch.Tensor], *batches: Batch, copies: int, extra: int = 0) -> torch.Tensor:
    """Apply a function to a batch, portion by portion.

    Args:
        function: Function of one `Portion` per batch that returns (s, ...).
        batches: Batches of the same length and device.
        copies: Number of arrays of the size of its arguments that the function holds at once.
        extra: Number of further float64 values that it holds per item.

    Returns:
        The results of the function, (m, ...).

    Raises:
        InputError: (a ValueError) NaN or infinity outside the padding; the message names the argument and, in a batch,
            the item.
    """
    values = batches[0].values
    length = len(values)
    if not length:
        return values.new_zeros(0, dtype=torch.float64)
    on_cpu = values.device.type == "cpu"
    numbers = sum(batch.values[0].numel() for batch in batches)
    step = max(1, (PORTION_BYTES if on_cpu else _GPU_PORTION_BYTES) // (8 * (copies * numbers + extra)))
    busy = on_cpu and length * (numbers + extra) >= _WORTH_THREADS
    if busy:
        step = min(step, math.ceil(length / torch.get_num_threads()))

    def compute(start: int) -> torch.Tensor:
        return function(*(_portion(batch, start, start + step) for batch in batches))

    starts = range(0, length, step)
    return torch.cat(on_every_core(compute, starts) if busy else [compute(start) for start in starts])


def on_every_core(function: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Apply a function to items in parallel, on as many threads as torch may use, each of them single-threaded.

    One core per matrix is faster than all cores on one matrix: LAPACK gains little from a second core, small steps
    gain nothing. Nested calls run sequentially. torch's number of threads is restored.

    Args:
        function: Function that spends its time in torch, which releases the GIL.
        items: Arguments of the function.

    Returns:
        The results, in order.

    Example:
        >>> on_every_core(lambda k: k * k, range(4))
        [0, 1, 4, 9]
    """
    threads = torch.get_num_threads()
    if threads == 1 or len(items) == 1:
        return [function(item) for item in items]
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(function, items))
    finally:
        torch.set_num_threads(threads)


def _portion(batch: Batch, start: int, stop: int) -> Portion:
    values = batch.values[start:stop].to(torch.float64, copy=True, memory_format=torch.contiguous_format)
    mask = None if batch.mask is None else batch.mask[start:stop]
    if mask is not None:
        values.flatten(0, 1).index_fill_(0, (~mask).flatten().nonzero().flatten(), 0)
    norms = torch.linalg.vector_norm(values.flatten(1), dim=1)  # not finite if any value is not finite
    safe = (norms > _SAFE_NORMS[0]) & (norms < _SAFE_NORMS[1])
    if not bool(safe.all()):
        peaks = values.abs().flatten(1).amax(1)
        reject_items(~torch.isfinite(peaks), batch, "holds NaN or infinity", start)
        scale = peaks.where(~safe & (peaks > 0), 1)
        values /= scale.reshape(-1, *[1] * (values.ndim - 1))
    return Portion(values, mask)
