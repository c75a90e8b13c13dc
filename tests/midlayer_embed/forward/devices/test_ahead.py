import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midlayer_embed.forward.devices.ahead import ahead


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "midlayer-embed-ahead"]


def _until(condition: object) -> None:
    deadline = time.monotonic() + 30
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.001)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(), max_size=20), st.integers(0, 3))
def test_the_items_come_in_their_order(items: list[int], n: int) -> None:
    assert list(ahead(iter(items), n)) == items
    assert not _threads()


def test_no_thread_without_a_number() -> None:
    made = []
    found = ahead((made.append(number) or threading.current_thread() for number in range(3)), 0)  # type: ignore[func-returns-value]
    assert next(found) is threading.main_thread()
    assert made == [0]


@pytest.mark.parametrize("n", [1, 2, 4])
def test_no_more_are_made_than_asked_for(n: int) -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    found = ahead(items(), n)
    for used in range(1, 4):
        next(found)
        _until(lambda used=used: len(made) == used + n + 1)  # n wait, and one is made
    time.sleep(0.02)
    assert len(made) == 3 + n + 1
    found.close()
    assert not _threads()


@pytest.mark.parametrize("error", [ValueError("a bad image"), KeyboardInterrupt()])
def test_an_error_is_raised_after_the_items_before_it(error: BaseException) -> None:
    def items() -> Iterator[int]:
        yield from (1, 2)
        raise error

    found = ahead(items(), 2)
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(type(error)) as raised:
        next(found)
    assert raised.value is error
    assert not _threads()


@pytest.mark.parametrize("how", ["break", "error", "interrupt"])
def test_the_thread_ends_when_the_items_are_no_longer_used(how: str) -> None:
    def use() -> None:
        for number in ahead(iter(range(1000)), 2):
            if number == 3:
                if how == "break":
                    break
                raise {"error": ValueError, "interrupt": KeyboardInterrupt}[how]

    if how == "break":
        use()
    else:
        with pytest.raises((ValueError, KeyboardInterrupt)):
            use()
    _until(lambda: not _threads())


def test_an_item_that_is_being_made_is_made_before_the_thread_ends() -> None:
    going, made = threading.Event(), []

    def items() -> Iterator[int]:
        for number in range(10):
            if number == 2:
                going.set()
                time.sleep(0.05)
            made.append(number)
            yield number

    found = ahead(items(), 1)
    next(found)
    going.wait(30)
    found.close()
    assert made == [0, 1, 2]
    assert not _threads()
