"""`python -m leaderboard.sweep.executors.attached MODULE ...` is `python -m MODULE ...`, and ends with its parent.

The parent holds the other end of its stdin. However the parent ends, by SIGKILL too, the pipe closes, and this process
gets the SIGTERM that it would have been stopped with, so that it gives back what it has claimed.
"""

import os
import runpy
import signal
import sys
import threading
import time

# Seconds that a process has to end in order.
GRACE = 60


def main() -> None:
    """Runs the module."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    module, *sys.argv[1:] = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


if __name__ == "__main__":
    main()
