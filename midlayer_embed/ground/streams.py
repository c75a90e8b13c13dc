"""The standard streams of a command, whatever they are: any encoding, a pipe without a reader, a full disk, closed."""

import codecs
import os
import select
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import TextIO

# What we draw with, where an encoding lacks it. Other characters become escapes, such as \u4e2d.
_PLAIN = {"█": "#", "─": "-", "…": "...", "→": "->"}
_ERRORS = "midlayer-plain"


def _spell_plainly(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    spelt = (_PLAIN.get(letter) or letter.encode("ascii", "backslashreplace").decode() for letter in lacking)
    return "".join(spelt), error.end


codecs.register_error(_ERRORS, _spell_plainly)


@contextmanager
def standard_streams() -> Iterator[None]:
    """Let the block print any text on any stream: what an encoding lacks is spelt in ASCII, a closed stream is mute.

    Example:
        >>> with standard_streams():
        ...     print("any text")
        any text
    """
    # In this order: a file that is opened gets the lowest free number, which is that of the first closed stream.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    changed = [(stream, stream.errors) for stream in (sys.stdout, sys.stderr) if isinstance(stream, TextIOWrapper)]
    for stream, _ in changed:
        with suppress(OSError, ValueError):
            stream.reconfigure(errors=_ERRORS)
    try:
        yield
    finally:
        for stream, errors in changed:
            with suppress(OSError, ValueError):
                stream.reconfigure(errors=errors)


def say(message: str) -> None:
    """Print a line on stderr, which may be gone."""
    with suppress(OSError, ValueError):
        print(message, file=sys.stderr, flush=True)


def has_terminal() -> bool:
    """Whether stderr is a terminal on which a bar can be drawn over itself."""
    return bool(sys.stderr) and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def output_width() -> int | None:
    """Width of the terminal that stdout is, or COLUMNS; None for files and pipes."""
    if "COLUMNS" in os.environ or (sys.stdout and sys.stdout.isatty()):
        return shutil.get_terminal_size().columns
    return None


def output_has_no_reader() -> bool:
    """Whether stdout is a pipe that nobody reads any more, as after `| head`."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):  # not a file
        return False
    if not hasattr(select, "poll"):  # Windows
        return True
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def flush_output() -> None:
    """Write what waits to be written. What cannot be is dropped, or the interpreter would try again at its end.

    Raises:
        OSError: stdout cannot be written.
    """
    with suppress(OSError):
        _flush(sys.stderr)
    _flush(sys.stdout)


def _flush(stream: TextIO) -> None:
    try:
        stream.flush()
    except OSError:
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
            stream.flush()
        raise
