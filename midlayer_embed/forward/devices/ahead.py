"""Makes items in a thread while earlier ones are in use."""

from collections import deque
from collections.abc import Generator, Iterable
from threading import Condition, Thread
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T], n: int) -> Generator[T, None, None]:
    """The items in their order, made by a thread ahead of their use.

    The thread ends with the items, or once this iterator is closed, at the latest when the item it works on is made.

    Args:
        items: The items. Only the thread iterates over them.
        n: Largest number of items that wait, besides the one that is being made. 0: no thread, items are made when they
            are asked for.

    Raises:
        BaseException: What making an item raised, after the items before it.

    Example:
        >>> list(ahead(iter("abc"), 2))
        ['a', 'b', 'c']
    """
    if n == 0:
        yield from items
        return
    made: deque[T] = deque()
    changed = Condition()
    errors: list[BaseException] = []
    ended = stopped = False

    def make() -> None:
        nonlocal ended
        try:
            for item in items:
                with changed:
                    changed.wait_for(lambda: stopped or len(made) < n)
                    if stopped:
                        break
                    made.append(item)
                    changed.notify_all()
        except BaseException as error:  # raised where the items are used
            errors.append(error)
        finally:
            with changed:
                ended = True
                changed.notify_all()

    thread = Thread(target=make, name="midlayer-embed-ahead", daemon=True)
    thread.start()
    try:
        while True:
            with changed:
                changed.wait_for(lambda: made or ended)
                if not made:
                    break
                item = made.popleft()
                changed.notify_all()
            yield item
        if errors:
            raise errors.pop()
    finally:
        with changed:
            stopped = True
            changed.notify_all()
        thread.join()
