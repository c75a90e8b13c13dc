"""Shows how far a sweep is, from the results folder alone: the same for every engine."""

import sys
import time

from leaderboard.shards.progress import read_progress
from leaderboard.storage.opening import open_storage
from midlayer_embed.ground.failures import reason_of
from midlayer_embed.ground.streams import has_terminal, output_width, say

# Seconds between two lines where a line cannot be drawn over itself.
_LINE_EVERY = 10
# Reading may take this share of the time, at most: a results folder on an object store is slow to list.
_SHARE = 0.1


class Showing:
    """A line on stderr that says how many shards are finished, and the table at the end.

    Args:
        results: The results folder.
        shown: Whether anything is shown.
    """

    def __init__(self, results: str, shown: bool) -> None:
        self._results, self._shown = results, shown
        self._in_place = shown and has_terminal()
        self._last = ""
        self._next = 0.0 if self._in_place else time.monotonic() + _LINE_EVERY

    def update(self) -> None:
        """Shows the line if it is time to, and if it has changed."""
        now = time.monotonic()
        if not self._shown or now < self._next:
            return
        line = self._read()[0]
        wait = 0 if self._in_place else _LINE_EVERY
        self._next = time.monotonic() + max(wait, (time.monotonic() - now) / _SHARE)
        if line == self._last:
            return
        if self._in_place:
            width = (output_width() or 80) - 1
            sys.stderr.write("\r" + line[:width].ljust(min(width, len(self._last))))
            sys.stderr.flush()
        else:
            say(line)
        self._last = line

    def close(self) -> None:
        """Shows the table."""
        if self._in_place and self._last:
            say("")
        if self._shown:
            line, *table = self._read()
            for text in [line, *table] if line != self._last else table:
                say(text)

    def _read(self) -> list[str]:
        try:
            return read_progress(open_storage(self._results)).lines()
        except Exception as error:  # such as those of object stores: the sweep goes on, and the next look may succeed
            return [f"the results folder cannot be read: {reason_of(error)}"]
