import os
import signal
import threading

import pytest

from midlayer_embed.ground.interrupts import Terminated, signals_interrupt, tell_interrupt


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts_a_block_and_nothing_after_it(number: signal.Signals) -> None:
    outside = signal.signal(number, signal.SIG_DFL)  # nohup ignores one of them
    try:
        with pytest.raises(Terminated) as told, signals_interrupt():
            os.kill(os.getpid(), number)
            signal.pause()
        assert told.value.number == number
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, outside)


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with signals_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_can_run_the_block() -> None:
    before, ran = signal.getsignal(signal.SIGTERM), []

    def run() -> None:
        with signals_interrupt():
            ran.append(signal.getsignal(signal.SIGTERM) is before)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert ran == [True]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Terminated])
def test_the_innermost_words_are_told(kind: type[KeyboardInterrupt]) -> None:
    with pytest.raises(kind, match="^inner$"), tell_interrupt(lambda: "outer"), tell_interrupt(lambda: "inner"):
        raise kind
