"""The right of one process to a folder, on any file system that many machines share.

Locks of the system are not to be relied on over NFS. A claim is a file that exactly one process creates, and touches as
long as it lives. Claims are numbered: the highest counts, and whoever creates the next one after a dead process has the
folder. Nothing is renamed, so there is nothing to race for.
"""

import json
import os
import socket
import threading
from contextlib import suppress
from pathlib import Path

from midlayer_embed.sharing.life import BEAT, EXPIRY, is_alive, process_name, this_place

_ENDING = ".claim"


class Claim:
    """A claim to a folder.

    Args:
        folder: The folder; it is made if it is not there.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> mine, other = Claim(folder), Claim(folder)
        >>> mine.take() is None, (other.take() or "").startswith("process")
        (True, True)
        >>> mine.release()
        >>> other.take() is None
        True
        >>> other.release()
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path: Path | None = None
        self._ended = threading.Event()

    def take(self) -> str | None:
        """Take the folder.

        Returns:
            None if this process has it now; else who has it, in words.

        Raises:
            OSError: the folder cannot be written.
        """
        while True:
            self._folder.mkdir(parents=True, exist_ok=True)
            number = self._highest()
            if (owner := self._living_owner(number)) is not None:
                return owner
            path = self._named(number + 1)
            try:
                with path.open("x", encoding="utf-8") as file:
                    json.dump(_this_process(), file)
            except (FileExistsError, FileNotFoundError):  # another process was faster; or the folder has been removed
                continue
            self._path, self._ended = path, threading.Event()
            threading.Thread(target=_beat, args=(path, self._ended), daemon=True).start()
            return None

    def owner(self) -> str | None:
        """Who has the folder, in words; None if nobody that lives."""
        return self._living_owner(self._highest())

    @property
    def is_held(self) -> bool:
        """Whether this process has the folder."""
        return self._path is not None

    def release(self) -> None:
        """Give the folder back."""
        if self._path is not None:
            self._ended.set()
            with suppress(OSError):
                self._path.unlink()
            self._path = None

    def _named(self, number: int) -> Path:
        return self._folder / f"{number:04}{_ENDING}"

    def _highest(self) -> int:
        numbers = (int(path.stem) for path in self._folder.glob(f"*{_ENDING}") if path.stem.isdecimal())
        return max(numbers, default=0)

    def _living_owner(self, number: int) -> str | None:
        """Whose claim it is, in words; None if there is none, or the process is dead."""
        path = self._named(number)
        try:
            content, modified = path.read_text(encoding="utf-8"), path.stat().st_mtime
            now = self._now()
        except FileNotFoundError:
            return None
        try:
            owner = {name: str(value) for name, value in json.loads(content).items()}
        except ValueError:  # it is being written, or its process died at that
            owner = {}
        alive = is_alive(owner.get("place", ""), owner.get("process", ""))
        if alive is None:
            alive = now - modified < EXPIRY
        pid = owner.get("process", "").partition(" ")[0]
        return f"process {pid} on {owner.get('host', 'another machine')}" if alive else None

    def _now(self) -> float:
        """The time by the clock of the file system, which need not be that of this machine."""
        path = self._folder / f"clock-{os.getpid()}-{threading.get_ident()}"
        path.touch()
        try:
            return path.stat().st_mtime
        finally:
            path.unlink(missing_ok=True)


def _beat(path: Path, ended: threading.Event) -> None:
    """Show that this process lives, until the claim ends."""
    while not ended.wait(BEAT):
        with suppress(OSError):  # the file system may be away for a while
            os.utime(path)


def _this_process() -> dict[str, str]:
    return {"host": socket.gethostname(), "place": this_place(), "process": process_name(os.getpid()) or ""}
