"""Progress of all long work, on stderr: a bar with an ETA on a terminal, elsewhere a plain line every ten seconds."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from tqdm import std
from tqdm.auto import tqdm

from midlayer_embed.ground.streams import has_terminal

# Units that come in thousands are shown as 1.2k, 3.4M.
_SCALED = ("tok", "char", "B")
# Seconds between two lines.
_LINE_EVERY = 10


def progress(
    total: int | None,
    what: str,
    unit: str,
    shown: bool,
    *,
    items: Iterable[Any] | None = None,
    delay: float = 0,
    at_once: int = 0,
) -> "tqdm | Lines":
    """A bar: a context manager with `update(n)`, or, around `items`, an iterator over them.

    Args:
        total: Number of units; None if it is not known.
        what: Label in front of the bar.
        unit: Unit of the total, such as "layer" or "tok".
        shown: Whether the bar is shown at all.
        items: Items to iterate over, each of one unit.
        delay: Seconds before the bar appears: shorter work shows none. Lines appear after ten seconds.
        at_once: Number of units that processes work on at a time. These take long to start, so the ETA comes from the
            units after the first one. 0: from all units.

    Example:
        >>> with progress(2, "Encoding", "tok", shown=False) as bar:
        ...     _ = bar.update(2)
        >>> list(progress(3, "Measuring", "metric", shown=False, items="abc"))
        ['a', 'b', 'c']
    """
    if not shown or _has_bars():
        return _Bar(
            items,
            total=total,
            desc=what,
            unit=unit,
            unit_scale=unit in _SCALED,
            delay=delay,
            dynamic_ncols=True,
            disable=not shown,
            at_once=at_once,
        )
    return Lines(total, what, unit, items=items, at_once=at_once)


def _has_bars() -> bool:
    in_notebook = tqdm.status_printer is not std.tqdm.status_printer
    return in_notebook or has_terminal()


def in_parts(total: int, n_parts: int) -> Iterator[int]:
    """A number in parts of about the same size, whole numbers that add up to it.

    Example:
        >>> list(in_parts(10, 4))
        [2, 3, 2, 3]
    """
    for part in range(n_parts):
        yield total * (part + 1) // n_parts - total * part // n_parts


def duration(seconds: float) -> str:
    """Formats a duration.

    Example:
        >>> duration(4.2), duration(75), duration(40000)
        ('4 s', '1 min', '11 h 7 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class _Speed:
    """The speed of work whose first unit does not count: it includes the start of processes."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._first: tuple[float, float] | None = None

    def count(self, n: float, now: float) -> None:
        """Note when the first units are finished."""
        if n and self._first is None:
            self._first = n, now

    def per_second(self, n: float, now: float) -> float | None:
        """Units per second; None until as many are finished after the first as are worked on at a time."""
        if self._first is None:
            return None
        n_before, start = self._first
        return (n - n_before) / (now - start) if n - n_before >= self._at_once and now > start else None


class _Bar(tqdm):  # type: ignore[misc]
    """tqdm's bar, with the ETA of `at_once`."""

    def __init__(self, *arguments: Any, at_once: int = 0, **options: Any) -> None:
        self._speed = _Speed(at_once) if at_once else None
        super().__init__(*arguments, **options)

    def __iter__(self) -> Iterator[Any]:
        if self._speed is None:
            yield from super().__iter__()
            return
        with self:
            for item in self.iterable:
                yield item
                self.update()

    def update(self, n: float | None = 1) -> bool | None:
        """Count finished units."""
        if self._speed is not None and not self.disable:
            self._speed.count(self.n + (n or 0), self._time())
        return super().update(n)  # type: ignore[no-any-return]

    @property
    def format_dict(self) -> dict[str, Any]:
        """The state that tqdm shows."""
        state: dict[str, Any] = super().format_dict
        if self._speed is not None and not self.disable:
            state["rate"] = self._speed.per_second(self.n, self._time())
            if state["rate"] is None:
                state["initial"] = self.n  # or tqdm would take the mean since the start
        return state


class Lines:
    """Progress as plain lines, for files and logs: one every ten seconds at most, none for shorter work.

    It has what our code uses of a tqdm bar.

    Args:
        total: Number of units; None if it is not known.
        what: Label.
        unit: Unit of the total.
        items: Items to iterate over.
        at_once: As for `progress`.

    Attributes:
        n: Number of finished units.
        initial: Number of units that were finished before; they do not count towards the speed.
    """

    def __init__(
        self, total: int | None, what: str, unit: str, *, items: Iterable[Any] | None = None, at_once: int = 0
    ) -> None:
        self.total = total
        self.n: float = 0
        self.initial: float = 0
        self._what, self._unit, self._items, self._postfix = what, unit, items, ""
        self._speed = _Speed(at_once) if at_once else None
        self._start = self._last = time.monotonic()
        self._written: float | None = None  # the number in the line before
        self._lock = threading.Lock()

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        with self:
            for item in self._items or ():
                yield item
                self.update()

    def update(self, n: float | None = 1) -> None:
        """Count finished units, and write a line if the last one is ten seconds old."""
        with self._lock:
            now = time.monotonic()
            self.n += n or 0
            if self._speed is not None:
                self._speed.count(self.n, now)
            if now - self._last >= _LINE_EVERY:
                self._write(now)

    def set_postfix_str(self, postfix: str) -> None:
        """Set what stands at the end of a line."""
        self._postfix = postfix

    def set_description(self, what: str) -> None:
        """Change the label."""
        self._what = what

    def close(self) -> None:
        """Write the last line, if there were others and it says more."""
        with self._lock:
            if self._written is not None and self._written != self.n:
                self._write(time.monotonic())
            self._written = None

    def _write(self, now: float) -> None:
        self._last, self._written = now, self.n
        with suppress(OSError, ValueError):  # stderr may be gone; the work goes on
            print(self._line(now), file=sys.stderr, flush=True)

    def _line(self, now: float) -> str:
        size = std.tqdm.format_sizeof if self._unit in _SCALED else "{:.0f}".format
        seconds = now - self._start
        if self._speed is not None:
            rate = self._speed.per_second(self.n, now)
        else:
            rate = (self.n - self.initial) / seconds if seconds else None
        counted = f"{size(self.n)} {self._unit.strip()}"
        if self.total:
            counted = f"{self.n / self.total:.0%} {size(self.n)}/{size(self.total)} {self._unit.strip()}"
        if self.total and self.n < self.total and rate:
            passed = f"{_clock((self.total - self.n) / rate)} left"
        else:
            passed = f"after {_clock(seconds)}"
        return ", ".join(filter(None, (f"{self._what}: {counted}", passed, self._postfix)))


def _clock(seconds: float) -> str:
    """A duration as minutes and seconds, or with hours.

    Example:
        >>> _clock(130), _clock(3700)
        ('2:10', '1:01:40')
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
