"""Receipts: what a finished run was asked for and what it stood on, so that the same command sees at once that it is.

To see that nothing is left to do, a run imports mteb and torch, which takes longer than all else that it does then. A
receipt says it without them. It holds only while nothing has changed: the command, the files of the results and of the
models, what is installed, the modules of this package. What this machine cannot tell has no receipt: models on the Hub,
data in a folder of the user's, results on an object store. Neither torch nor mteb is imported here.
"""

import hashlib
import json
import logging
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import leaderboard
import midlayer_embed
from leaderboard.storage.local import LocalStorage
from leaderboard.storage.protocol import Storage
from midlayer_embed.errors import InputError
from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.ground.paths import user_path
from midlayer_embed.models.starter import STARTER, starter_gguf

logger = logging.getLogger(__name__)

# In the results folder, where names that begin with a dot are no results.
_FOLDER = ".finished"
# What a sweep writes as its results.
_RESULTS = ("results", "metrics")


@dataclass(frozen=True)
class Receipt:
    """The receipt of one command in one results folder, whether it is there or not.

    Attributes:
        root: The results folder.
        key: Hash of the command, of its models and of what is installed.
    """

    root: Path
    key: str

    @property
    def holds(self) -> bool:
        """Whether the command was finished here, and nothing has changed since."""
        try:
            return self._path.read_text(encoding="utf-8") == self._state()
        except (OSError, UnicodeDecodeError):
            return False

    def write(self) -> None:
        """Says that the command is finished. Receipts that have become void are deleted."""
        state = self._state()
        try:
            with atomic_file(self._path) as partial:
                partial.write_text(state, encoding="utf-8")
            for other in self._path.parent.iterdir():
                if other.read_text(encoding="utf-8") != state:
                    other.unlink()
        except (OSError, UnicodeDecodeError) as error:  # the next run looks again
            logger.debug("there is no receipt of this run", exc_info=error)

    @property
    def _path(self) -> Path:
        return self.root / _FOLDER / self.key

    def _state(self) -> str:
        return _hash_of([*_stats(self.root / part for part in _RESULTS)])


def receipt_of(
    storage: Storage, models: Sequence[str], files: Iterable[str], asked: Mapping[str, Any]
) -> Receipt | None:
    """The receipt of a command; None if it can have none.

    Args:
        storage: The results folder.
        models: The models, as the user names them.
        files: Further files or folders that the command reads; those that are not there count as no files.
        asked: Everything else that changes the results.
    """
    if not isinstance(storage, LocalStorage):
        return None
    with suppress(InputError, OSError):
        stands_on = [starter_gguf() if model == STARTER else user_path(model, "model") for model in models]
        if all(path.exists() for path in stands_on):
            code = [Path(str(package.__file__)).parent for package in (midlayer_embed, leaderboard)]
            paths = [*stands_on, *(user_path(file, "file") for file in files)]
            installed = [*_installed(), *_stats(code, ".py", ".yaml")]
            return Receipt(storage.root, _hash_of([models, sorted(asked.items()), installed, *_stats(paths)]))
    return None


def _installed() -> list[str]:
    """The interpreter, and the packages with their versions."""
    folders = [Path(place) for place in sys.path if Path(place).name in ("site-packages", "dist-packages")]
    packages = {path.name for folder in folders for path in folder.glob("*.dist-info")}
    return [sys.version, platform.machine(), *sorted(packages)]


def _stats(paths: Iterable[Path], *endings: str) -> Iterator[tuple[str, int, int]]:
    """Path, size and time of each file, of those with one of the endings if any are given."""
    for path in paths:
        files = [path] if path.is_file() else sorted(_below(path))
        for file in files:
            if not endings or file.suffix in endings:
                stat = file.stat()
                yield str(file.relative_to(path)), stat.st_size, stat.st_mtime_ns


def _below(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder, followlinks=True):
        yield from (Path(place, name) for name in names)


def _hash_of(parts: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()
