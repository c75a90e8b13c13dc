"""What goes into a metric and what comes out of it: kinds of arrays, shapes, checks. No formula is known here.

numpy and torch go the same way: a numpy array is seen as a tensor without a copy, and the answer is turned back.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch

from midlayer_embed.errors import InputError, InputTypeError

Array: TypeAlias = np.ndarray | torch.Tensor


@dataclass(frozen=True)
class Batch:
    """An argument of a metric, its leading dimensions made one.

    Attributes:
        name: The argument's name, for messages.
        values: (m, *core) in the type that came.
        shape: The leading dimensions.
        as_numpy: Whether a numpy array came.
        mask: (m, T) of bool, False where values are padding; None: no padding.
    """

    name: str
    values: torch.Tensor
    shape: tuple[int, ...]
    as_numpy: bool
    mask: torch.Tensor | None = None


def read(name: str, value: Any, axes: str, mask: Any = None) -> Batch:
    """An argument; its shape and type are checked, its values are not yet looked at.

    Args:
        name: What the argument is called.
        value: (..., *core): an array, a tensor, or lists.
        axes: The names of the core axes, such as "n, d".
        mask: (..., T) for values (..., T, d): zero where values are padding. None: no padding.

    Raises:
        InputTypeError: (a ValueError, a TypeError) no real numbers.
        InputError: (a ValueError) too few axes, an empty core axis, a mask of another shape.

    Example:
        >>> read("Z", [[[1.0, -2.0]]], "n, d").values.shape
        torch.Size([1, 1, 2])
    """
    values, as_numpy = _tensor(name, value)
    rank = axes.count(",") + 1
    if values.ndim < rank or 0 in values.shape[-rank:]:
        raise InputError(
            f"{name}: expected an array (..., {axes}), none of these empty, got shape {tuple(values.shape)}"
        )
    shape = tuple(values.shape[:-rank])
    values = values.reshape(math.prod(shape), *values.shape[-rank:])
    if mask is None:
        return Batch(name, values, shape, as_numpy)
    kept, _ = _tensor("mask", mask)
    if tuple(kept.shape) != (*shape, values.shape[1]):
        raise InputError(f"mask: expected shape {(*shape, values.shape[1])}, got {tuple(kept.shape)}")
    return Batch(name, values, shape, as_numpy, (kept != 0).reshape(values.shape[:2]).to(values.device))


def read_pair(A: Any, B: Any) -> tuple[Batch, Batch]:
    """Two views of the same texts: A, B (..., n, d) of one shape. A numpy array beside a tensor is made one.

    Raises:
        InputTypeError: (a ValueError, a TypeError) as `read`.
        InputError: (a ValueError) as `read`; shapes that differ.
    """
    first, second = read("A", A, "n, d"), read("B", B, "n, d")
    shapes = [(*view.shape, *view.values.shape[1:]) for view in (first, second)]
    if shapes[0] != shapes[1]:
        raise InputError(f"B: expected the shape of A, {shapes[0]}, got {shapes[1]}")
    as_numpy = first.as_numpy and second.as_numpy
    device = second.values.device if first.as_numpy else first.values.device
    first, second = (replace(view, values=view.values.to(device), as_numpy=as_numpy) for view in (first, second))
    return first, second


def answer(values: torch.Tensor, batch: Batch) -> Array:
    """One value an item, (m,), in the kind and the leading dimensions that came."""
    shaped = values.reshape(batch.shape)
    return shaped.numpy() if batch.as_numpy else shaped


def refuse(bad: torch.Tensor, batch: Batch, message: str, start: int = 0) -> None:
    """Raises an error that names the argument and, in a batch, its first bad item, if there is one.

    Args:
        bad: (s,) of bool.
        batch: The argument.
        message: What is wrong.
        start: Which item of the batch bad[0] is.

    Raises:
        InputError: (a ValueError) an item is bad.
    """
    if not bool(bad.any()):
        return
    place = np.unravel_index(start + int(bad.to(torch.uint8).argmax()), batch.shape) if batch.shape else ()
    where = f" in item {tuple(int(index) for index in place)}" if batch.shape else ""
    raise InputError(f"{batch.name}: {message}{where}")


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
    if array.dtype not in (np.float16, np.float32, np.float64):
        array = array.astype(np.float64)
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()  # torch has neither read-only tensors nor negative strides
    return torch.from_numpy(array), True
