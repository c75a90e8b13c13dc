"""Interrupts: Ctrl-C, the SIGTERM of a batch system or of `timeout`, and a terminal that closes, end work in order."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

# Those that end a process at once by default, so that unfinished files would be left. Windows has no SIGHUP.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP was received.

    Attributes:
        number: Number of the signal.
    """

    number: int = signal.SIGTERM


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Raise `Terminated` in the block when SIGTERM or SIGHUP arrives, unless it is ignored, as under `nohup`.

    Does nothing outside of the main thread.
    """

    def stop(number: int, _frame: Any) -> NoReturn:
        terminated = Terminated()
        terminated.number = number
        raise terminated

    before = {}
    if threading.current_thread() is threading.main_thread():
        heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def tell_interrupt(words: Callable[[], str]) -> Iterator[None]:
    """Give an interrupt of the block a message: what an interrupt leaves behind.

    Example:
        >>> try:
        ...     with tell_interrupt(lambda: "nothing is kept"):
        ...         raise KeyboardInterrupt
        ... except KeyboardInterrupt as interrupt:
        ...     print(interrupt)
        nothing is kept
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if not interrupt.args:
            interrupt.args = (words(),)
        raise
