"""What goes into a metric and comes out of it: kinds of arrays, checks, portions that fit in memory. No formula here.

numpy and torch go the same way: a numpy array is seen as a tensor without a copy, and the answer is turned back.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch

from midlayer_embed.errors import InputError, InputTypeError

Array: TypeAlias = np.ndarray | torch.Tensor

# What the float64 working copies of one portion of a batch may take. More gains no speed.
PORTION_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Batch:
    """An argument of a metric, its leading dimensions made one.

    Attributes:
        name: The argument's name, for messages.
        values: (m, ...core) in the type that came.
        peaks: (m,) float64: the largest absolute value of each item, 1 where all is zero.
        shape: The leading dimensions.
        as_numpy: Whether a numpy array came.
        mask: (m, T) of bool, False where values are padding; None: no padding.
    """

    name: str
    values: torch.Tensor
    peaks: torch.Tensor
    shape: tuple[int, ...]
    as_numpy: bool
    mask: torch.Tensor | None = None


def read(name: str, value: Any, axes: str, mask: Any = None) -> Batch:
    """An argument, checked.

    Args:
        name: What the argument is called.
        value: (..., *core): an array, a tensor, or lists.
        axes: The names of the core axes, such as "n, d".
        mask: (..., T) for values (..., T, d): zero where values are padding. None: no padding.

    Raises:
        InputTypeError: (a ValueError, a TypeError) no real numbers.
        InputError: (a ValueError) too few axes, an empty core axis, NaN or infinity; a mask of another shape.

    Example:
        >>> read("Z", [[[1.0, -2.0]]], "n, d").peaks.tolist()
        [2.0]
    """
    values, as_numpy = _tensor(name, value)
    rank = axes.count(",") + 1
    if values.ndim < rank or 0 in values.shape[-rank:]:
        raise InputError(
            f"{name}: expected an array (..., {axes}), none of these axes empty, got {tuple(values.shape)}"
        )
    shape = tuple(values.shape[:-rank])
    values = values.reshape(math.prod(shape), *values.shape[-rank:])
    rows = torch.linalg.vector_norm(_floating(values), ord=math.inf, dim=-1)  # NaN and infinity come through
    kept = None
    if mask is not None:
        kept, _ = _tensor("mask", mask)
        if tuple(kept.shape) != (*shape, values.shape[1]):
            raise InputError(f"mask: expected shape {(*shape, values.shape[1])}, got {tuple(kept.shape)}")
        kept = (kept != 0).reshape(rows.shape).to(rows.device)
        rows = rows.where(kept, 0)
    peaks = rows.flatten(1).amax(1).double()
    bad = torch.isfinite(peaks).logical_not()
    if bad.any():
        raise InputError(f"{name}: holds NaN or infinity{_place(bad, shape)}")
    return Batch(name, values, peaks.where(peaks > 0, 1), shape, as_numpy, kept)


def read_pair(A: Any, B: Any) -> tuple[Batch, Batch]:
    """Two views of the same texts, checked: A, B (..., n, d) of one shape. A numpy array beside a tensor becomes one.

    Raises:
        InputError: (a ValueError) as `read`; shapes that differ.
    """
    first, second = read("A", A, "n, d"), read("B", B, "n, d")
    shapes = [(*view.shape, *view.values.shape[1:]) for view in (first, second)]
    if shapes[0] != shapes[1]:
        raise InputError(f"B: expected the shape of A, {shapes[0]}, got {shapes[1]}")
    as_numpy = first.as_numpy and second.as_numpy
    device = second.values.device if first.as_numpy else first.values.device
    first, second = (
        replace(view, values=view.values.to(device), peaks=view.peaks.to(device), as_numpy=as_numpy)
        for view in (first, second)
    )
    return first, second


def in_portions(function: Callable[..., torch.Tensor], *batches: Batch, copies: int, extra: int = 0) -> torch.Tensor:
    """Applies a function to a few items at a time, so that its working memory does not grow with the batch.

    Args:
        function: Takes float64 tensors (s, ...core), one a batch, scaled to a peak of 1, and may write into them. A
            masked batch comes as two: its values, padding set to zero, and its mask. Returns (s,).
        batches: All of one length.
        copies: How many arrays of the size of its arguments the function holds at once.
        extra: How many more float64 numbers an item takes.

    Returns:
        (m,).
    """
    first = batches[0].values
    size = 8 * (copies * sum(batch.values[0].numel() for batch in batches) + extra) if len(first) else 1
    step = max(1, PORTION_BYTES // size)
    done = []
    for start in range(0, len(first), step):
        arguments = []
        for batch in batches:
            part = slice(start, start + step)
            arguments.append(_scaled(batch, part))
            if batch.mask is not None:
                arguments.append(batch.mask[part])
        done.append(function(*arguments))
    return torch.cat(done) if done else first.new_zeros(0, dtype=torch.float64)


def answer(values: torch.Tensor, batch: Batch) -> Array:
    """One value an item, (m,), in the kind and the leading dimensions that came."""
    shaped = values.reshape(batch.shape)
    return shaped.numpy() if batch.as_numpy else shaped


def refuse(bad: torch.Tensor, batch: Batch, message: str) -> None:
    """Raises an error that names the argument and its first bad item, if there is one.

    Args:
        bad: (m,) of bool.
        batch: The argument.
        message: What is wrong.

    Raises:
        InputError: (a ValueError) an item is bad.
    """
    if bad.any():
        raise InputError(f"{batch.name}: {message}{_place(bad, batch.shape)}")


def check_above_zero(name: str, value: Any) -> float:
    """A finite number above 0.

    Raises:
        InputError: (a ValueError) it is not.

    Example:
        >>> check_above_zero("alpha", 2)
        2.0
    """
    if not (isinstance(value, (int, float, np.integer, np.floating)) and 0 < value < math.inf):
        raise InputError(f"{name}: expected a finite number above 0, got {value!r}")
    return float(value)


def _tensor(name: str, value: Any) -> tuple[torch.Tensor, bool]:
    if isinstance(value, torch.Tensor):
        if value.is_complex():
            raise InputTypeError(f"{name}: expected real numbers, got {value.dtype}")
        value = value.detach()
        return (value.cpu() if value.device.type == "mps" else value), False  # mps has no float64
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputTypeError(f"{name}: expected an array of numbers, got {type(value).__name__}: {error}") from error
    if array.dtype.kind not in "biuf":
        raise InputTypeError(f"{name}: expected an array of numbers, got dtype {array.dtype}")
    if array.dtype not in (np.float16, np.float32, np.float64) or not array.dtype.isnative:
        array = array.astype(np.float64)
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()  # torch has neither read-only tensors nor negative strides
    return torch.from_numpy(array), True


def _floating(values: torch.Tensor) -> torch.Tensor:
    return values if values.is_floating_point() else values.double()


def _place(bad: torch.Tensor, shape: tuple[int, ...]) -> str:
    if not shape:
        return ""
    first = np.unravel_index(int(bad.to(torch.uint8).argmax()), shape)
    return f" in item {tuple(int(index) for index in first)}"


def _scaled(batch: Batch, part: slice) -> torch.Tensor:
    # Scaling keeps tiny and huge values from under- and overflowing when squared.
    values = batch.values[part]
    peaks = batch.peaks[part].reshape(-1, *[1] * (values.ndim - 1))
    scaled = values.double().div_(peaks) if values.dtype != torch.float64 else values / peaks
    return scaled if batch.mask is None else scaled.masked_fill_(~batch.mask[part].unsqueeze(-1), 0)
