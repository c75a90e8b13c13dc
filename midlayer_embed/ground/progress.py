"""One progress bar for all long work: on stderr, with an ETA, as wide as the terminal."""

from collections.abc import Iterable
from typing import Any

from tqdm.auto import tqdm

# Units that come in thousands are shown as 1.2k, 3.4M.
_SCALED = ("tok", "char", "B")


def progress(
    total: int | None, what: str, unit: str, shown: bool, *, items: Iterable[Any] | None = None, delay: float = 0
) -> tqdm:
    """A bar: a context manager with `update(n)`, or, around `items`, an iterator over them.

    Args:
        total: Number of units; None if it is not known.
        what: Label in front of the bar.
        unit: Unit of the total, such as "layer" or "tok".
        shown: Whether the bar is shown at all.
        items: Items to iterate over, each of one unit.
        delay: Seconds before the bar appears: shorter work shows none.

    Example:
        >>> with progress(2, "Encoding", "tok", shown=False) as bar:
        ...     _ = bar.update(2)
        >>> list(progress(3, "Measuring", "metric", shown=False, items="abc"))
        ['a', 'b', 'c']
    """
    return tqdm(
        items,
        total=total,
        desc=what,
        unit=unit,
        unit_scale=unit in _SCALED,
        delay=delay,
        dynamic_ncols=True,
        disable=not shown,
    )
