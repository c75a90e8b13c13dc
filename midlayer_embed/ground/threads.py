"""Work that one thread does at a time, so that an encoder can be used from several."""

import os
from threading import Lock
from typing import Any
from weakref import WeakSet


class OneAtATime:
    """A lock, as a context manager, that can be copied, pickled and forked: a copy is a lock of its own, and open.

    Example:
        >>> import copy
        >>> turn = OneAtATime()
        >>> with turn, copy.deepcopy(turn):
        ...     print("both are open")
        both are open
    """

    def __init__(self) -> None:
        self._lock = Lock()
        _EVERY.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[Any, ...]:
        return OneAtATime, ()


_EVERY: "WeakSet[OneAtATime]" = WeakSet()


def _open_all() -> None:
    for turn in list(_EVERY):  # a thread of the parent may have held it, and is not in this process
        turn._lock = Lock()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_open_all)
