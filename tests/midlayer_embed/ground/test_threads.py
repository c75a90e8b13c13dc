import copy
import os
import signal

from midlayer_embed.ground.threads import OneAtATime


def test_a_copy_is_open_while_the_original_is_held() -> None:
    turn = OneAtATime()
    with turn, copy.deepcopy(turn):
        pass


def test_a_fork_does_not_wait_for_a_thread_that_it_does_not_have() -> None:
    turn = OneAtATime()
    with turn:
        child = os.fork()
        if child == 0:
            signal.alarm(10)  # ends a child that waits
            with turn:
                os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
