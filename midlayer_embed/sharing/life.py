"""Whether a process that shares the work is alive: by its number on the same machine, elsewhere by signs of life."""

import os
import socket
from contextlib import suppress
from pathlib import Path

# Seconds between two signs of life of a process, and after how many without one it counts as dead. NFS may show the
# time of a file up to a minute late.
BEAT = 15.0
EXPIRY = 120.0


def this_place() -> str:
    """Where numbers of processes mean the same: this machine since its last boot, and this container on it."""
    parts = [socket.gethostname()]
    with suppress(OSError):  # not Linux
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def process_name(number: int) -> str | None:
    """A process of this place: its number, and when it began, since numbers are used again. None if there is none.

    Example:
        >>> process_name(os.getpid()) == process_name(os.getpid())
        True
    """
    try:
        said = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
        state, *others = said.rpartition(")")[2].split()  # the program's name is in brackets and may hold anything
        return None if state in "ZX" else f"{number} {others[18]}"
    except OSError:
        if Path("/proc/self").exists():
            return None
    try:  # no /proc, as on a Mac
        os.kill(number, 0)
    except ProcessLookupError:
        return None
    except OSError:  # it is another user's
        pass
    return str(number)


def is_alive(place: str, name: str) -> bool | None:
    """Whether a process is alive that is named so in a place; None if that is another place.

    Example:
        >>> is_alive(this_place(), "0 0"), is_alive("elsewhere", "0 0")
        (False, None)
    """
    number = name.partition(" ")[0]
    if place != this_place():
        return None
    return number.isdecimal() and name == process_name(int(number))
