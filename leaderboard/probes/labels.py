"""Labels of a probe: numbers for them, and splits that keep the share of each class."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from midlayer_embed.errors import InputError


def check_labels(labels: Any, n: int, name: str = "labels") -> list[Any]:
    """The labels as a list, one for each of `n` images: ints or strings, no mixture of both.

    Raises:
        InputError: (a ValueError) another number of them, or a label that is neither an int nor a string.

    Example:
        >>> check_labels(np.array([0, 1, 1]), 3)
        [0, 1, 1]
    """
    if isinstance(labels, str) or not hasattr(labels, "__len__"):
        raise InputError(f"{name}: expected a sequence of ints or strings, got {type(labels).__name__}")
    if getattr(labels, "ndim", 1) != 1:
        raise InputError(f"{name}: expected one axis, got shape {tuple(labels.shape)}")
    if len(labels) != n:
        raise InputError(f"{name}: expected one for each of the {n:,} images, got {len(labels):,}")
    to_list = getattr(labels, "tolist", None) or getattr(labels, "to_list", None)  # numpy, torch; polars
    found = list(labels) if to_list is None else to_list()
    for kind in (str, int):
        if found and isinstance(found[0], kind):
            wrong = next((one for one in found if not isinstance(one, kind)), None)
            if wrong is None:
                return found
            raise InputError(f"{name}: expected all ints or all strings, got {found[0]!r} and {wrong!r}")
    if found:
        raise InputError(f"{name}: expected ints or strings, got {found[0]!r}")
    return found


def classes_of(labels: Sequence[Any]) -> list[Any]:
    """The different labels, sorted.

    Raises:
        InputError: (a ValueError) fewer than two.
    """
    classes = sorted(set(labels))
    if len(classes) < 2:
        said = f"got only {classes[0]!r}" if classes else "got none"
        raise InputError(f"labels: expected at least two different ones, {said}")
    return classes


def numbered(labels: Sequence[Any], classes: Sequence[Any], name: str) -> np.ndarray:
    """The number of each label among the classes: int64 (n,).

    Raises:
        InputError: (a ValueError) a label is not among the classes.

    Example:
        >>> numbered(["b", "a"], ["a", "b"], "labels").tolist()
        [1, 0]
    """
    numbers = {label: number for number, label in enumerate(classes)}
    for label in labels:
        if label not in numbers:
            raise InputError(f"{name}: {label!r} is not among the labels to train on")
    return np.array([numbers[label] for label in labels], dtype=np.int64)


def hold_out(targets: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split rows by the seed: the rows to keep, and a share of each class that is held out.

    A class keeps at least one row. Classes too small for their share give a row each by the size of what is cut off.

    Args:
        targets: The class of each row: int (n,).
        share: Share of the rows to hold out, 0 to 1.
        seed: Seed of the draw.

    Returns:
        Sorted rows: kept, held out. Nothing is held out if every class has one row.

    Example:
        >>> kept, held = hold_out(np.array([0, 0, 0, 0, 1, 1, 1, 1]), 0.25, seed=0)
        >>> len(kept), len(held)
        (6, 2)
    """
    random = np.random.default_rng(seed)
    counts = np.bincount(targets)
    exact = np.minimum(counts * share, np.maximum(counts - 1, 0))
    numbers = np.floor(exact).astype(int)
    missing = round(exact.sum()) - int(numbers.sum())
    larger = np.argsort(numbers - exact, kind="stable")  # the largest remainder first
    numbers[[one for one in larger if numbers[one] < exact[one]][: max(missing, 0)]] += 1
    held = [random.permutation(np.flatnonzero(targets == one))[:number] for one, number in enumerate(numbers)]
    rows = np.sort(np.concatenate(held)).astype(np.int64)
    return np.setdiff1d(np.arange(len(targets)), rows), rows
