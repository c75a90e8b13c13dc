"""Interrupts: Ctrl-C, and the SIGTERM of a batch system or of `timeout`, end work in the same orderly way."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn


class Terminated(KeyboardInterrupt):
    """SIGTERM was received."""


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Raise `Terminated` in the block when SIGTERM arrives. Does nothing outside of the main thread."""

    def stop(_number: int, _frame: Any) -> NoReturn:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def tell_interrupt(words: Callable[[], str]) -> Iterator[None]:
    """Give an interrupt of the block a message: what an interrupt leaves behind.

    Example:
        >>> with tell_interrupt(lambda: "nothing is kept"):
        ...     raise KeyboardInterrupt
        Traceback (most recent call last):
        KeyboardInterrupt: nothing is kept
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if not interrupt.args:
            interrupt.args = (words(),)
        raise
