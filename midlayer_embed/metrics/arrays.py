"""Input and output of the metrics: conversion, shapes, checks. The formulas are elsewhere.

numpy arrays are viewed as tensors, without a copy, and results are converted back.
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
    """An argument of a metric, with its leading dimensions flattened into one.

    Attributes:
        name: Name of the argument, for error messages.
        values: (m, *core), in the dtype of the argument.
        shape: The original leading dimensions.
        as_numpy: Whether results are numpy arrays.
        mask: (m, T), bool, False at padding; None without padding.
    """

    name: str
    values: torch.Tensor
    shape: tuple[int, ...]
    as_numpy: bool
    mask: torch.Tensor | None = None


def read_batch(name: str, value: Any, axes: str, mask: Any = None) -> Batch:
    """Convert an argument and check its shape and dtype. `in_portions` checks the values.

    Args:
        name: Name of the argument.
        value: (..., *core): array, tensor or nested lists.
        axes: Names of the core axes, such as "n, d".
        mask: (..., T) for values (..., T, d), zero at padding. None: no padding.

    Raises:
        InputTypeError: (a ValueError and a TypeError) the values are not real numbers.
        InputError: (a ValueError) too few axes, an empty core axis, or a mask of another shape.

    Example:
        >>> read_batch("Z", [[[1.0, -2.0]]], "n, d").values.shape
        torch.Size([1, 1, 2])
    """
    values, as_numpy = _tensor(name, value)
    rank = axes.count(",") + 1
    if values.ndim < rank or 0 in values.shape[-rank:]:
        raise InputError(f"{name}: expected an array (..., {axes}) without empty axes, got shape {tuple(values.shape)}")
    shape = tuple(values.shape[:-rank])
    values = values.reshape(math.prod(shape), *values.shape[-rank:])
    if mask is None:
        return Batch(name, values, shape, as_numpy)
    kept, _ = _tensor("mask", mask)
    if tuple(kept.shape) != (*shape, values.shape[1]):
        raise InputError(f"mask: expected shape {(*shape, values.shape[1])}, got {tuple(kept.shape)}")
    return Batch(name, values, shape, as_numpy, (kept != 0).reshape(values.shape[:2]).to(values.device))


def read_pair(A: Any, B: Any) -> tuple[Batch, Batch]:
    """Read two views of the same texts, A and B (..., n, d). If either is a tensor, so are the results.

    Raises:
        InputTypeError: (a ValueError and a TypeError) as in `read_batch`.
        InputError: (a ValueError) as in `read_batch`, or the shapes differ.
    """
    first, second = read_batch("A", A, "n, d"), read_batch("B", B, "n, d")
    shapes = [(*view.shape, *view.values.shape[1:]) for view in (first, second)]
    if shapes[0] != shapes[1]:
        raise InputError(f"B: expected the shape of A, {shapes[0]}, got {shapes[1]}")
    as_numpy = first.as_numpy and second.as_numpy
    device = second.values.device if first.as_numpy else first.values.device
    first, second = (replace(view, values=view.values.to(device), as_numpy=as_numpy) for view in (first, second))
    return first, second


def restore_shape(values: torch.Tensor, batch: Batch) -> Array:
    """Reshape values per item, (m, ...), to the leading dimensions of the argument; numpy if the argument was."""
    shaped = values.reshape((*batch.shape, *values.shape[1:]))
    return shaped.numpy() if batch.as_numpy else shaped


def reject_items(bad: torch.Tensor, batch: Batch, message: str, start: int = 0) -> None:
    """Raise an error if any item is bad. It names the argument and, in a batch, the first bad item.

    Args:
        bad: (s,), bool.
        batch: The argument.
        message: Description of the problem.
        start: Index of bad[0] in the batch.

    Raises:
        InputError: (a ValueError) an item is bad.
    """
    if not bool(bad.any()):
        return
    place = np.unravel_index(start + int(bad.to(torch.uint8).argmax()), batch.shape) if batch.shape else ()
    where = f" in item {tuple(int(index) for index in place)}" if batch.shape else ""
    raise InputError(f"{batch.name}: {message}{where}")


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
        array = array.copy()  # torch supports neither read-only arrays nor negative strides
    return torch.from_numpy(array), True
