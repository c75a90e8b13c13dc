import os
import signal
import threading

import pytest

from midlayer_embed.ground.interrupts import Terminated, sigterm_interrupts, tell_interrupt


def test_sigterm_interrupts_a_block_and_nothing_after_it() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), sigterm_interrupts():
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_can_run_the_block() -> None:
    before, ran = signal.getsignal(signal.SIGTERM), []

    def run() -> None:
        with sigterm_interrupts():
            ran.append(signal.getsignal(signal.SIGTERM) is before)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert ran == [True]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Terminated])
def test_the_innermost_words_are_told(kind: type[KeyboardInterrupt]) -> None:
    with pytest.raises(kind, match="^inner$"), tell_interrupt(lambda: "outer"), tell_interrupt(lambda: "inner"):
        raise kind
