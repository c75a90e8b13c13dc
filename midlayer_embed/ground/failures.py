"""Failures of single items (a task, a dataset) that must not stop the other items."""

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from midlayer_embed.errors import InputError, first_line


def reason_of(error: Exception) -> str:
    """Why an item failed, in one line. The type of the error is named unless the message is one of ours.

    Example:
        >>> reason_of(InputError("its data have no split 'test'")), reason_of(OSError("no such file"))
        ("its data have no split 'test'", 'OSError: no such file')
        >>> reason_of(AssertionError())
        'AssertionError'
    """
    reason, kind = first_line(error), type(error).__name__
    return reason if isinstance(error, InputError) or reason == kind else f"{kind}: {reason}"


@contextmanager
def report_failures(
    item: str,
    failures: dict[str, Exception],
    logger: logging.Logger,
    *,
    reason: Callable[[Exception], str] = reason_of,
    stops_all: Callable[[Exception], bool] = lambda error: False,
) -> Iterator[None]:
    """Record an error of the block instead of raising it, and log one line; the traceback is logged at DEBUG.

    Args:
        item: Name of the item that the block works on.
        failures: Receives the error, by the name of the item.
        logger: Receives the log lines.
        reason: Describes an error in one line.
        stops_all: Whether an error would fail all other items as well. Such an error is raised.

    Example:
        >>> failures = {}
        >>> with report_failures("first", failures, logging.getLogger("example")):
        ...     1 / 0
        >>> failures
        {'first': ZeroDivisionError('division by zero')}
    """
    try:
        yield
    except Exception as error:
        if stops_all(error):
            raise
        failures[item] = error
        logger.error("%s failed: %s", item, reason(error))
        logger.debug("%s failed", item, exc_info=error)
        traceback.clear_frames(error.__traceback__)  # their variables may be large, such as vectors
