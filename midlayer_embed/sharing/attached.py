"""Ends a process with the one that started it, however that one ends."""

import os
import signal
import threading
import time
from contextlib import suppress

# Seconds that a process has to end in order.
GRACE = 60


def end_with_parent() -> None:
    """Ends this process, in order, when the one that started it is gone.

    That one holds the other end of this process's stdin, and writes nothing. When it ends, by SIGKILL too, the pipe
    closes, and this process gets the SIGTERM that it would have been stopped with, so that it gives back what it has
    claimed.
    """
    threading.Thread(target=_watch, name="end-with-parent", daemon=True).start()


def _watch() -> None:
    with suppress(OSError):  # not through sys.stdin, whose lock would keep the interpreter from its end
        while os.read(0, 1024):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
