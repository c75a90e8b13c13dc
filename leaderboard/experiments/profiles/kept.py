"""Profiles that are finished, in a folder: an experiment that was interrupted measures what is missing.

A file's name tells the weights, texts and settings that it is of, so what was measured on others is never taken.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock

from midlayer_embed.ground.atomic import PARTIAL_MARK, atomic_file, only_process_in
from midlayer_embed.ground.paths import target_folder

logger = logging.getLogger(__name__)

_DIGEST = "[0-9a-f]" * 16


class KeptProfiles:
    """Finished profiles; a context manager, which only one process may be in.

    Args:
        folder: Where they are kept; None: nowhere.

    Raises:
        InputError: (a ValueError) another process uses the folder, or it cannot be written.
    """

    def __init__(self, folder: str | Path | None) -> None:
        self._folder = None if folder is None else target_folder(folder, "folder")
        self._lock: FileLock | None = None

    def __enter__(self) -> "KeptProfiles":
        if self._folder is not None:
            self._lock = only_process_in(self._folder, "measuring")
            for left in self._folder.glob(f".{_DIGEST}.parquet{PARTIAL_MARK}*"):  # what a kill left
                left.unlink(missing_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()

    @property
    def is_used(self) -> bool:
        """Whether anything is kept."""
        return self._folder is not None

    def find(self, settings: Mapping[str, Any]) -> pl.DataFrame | None:
        """The profile that was measured with these settings; None if there is none that can be read."""
        if self._folder is None or not (path := self._file(settings)).is_file():
            return None
        try:
            return pl.read_parquet(path, glob=False)
        except (pl.exceptions.PolarsError, OSError) as error:
            logger.warning("%s cannot be read and is measured again: %s", path, str(error).splitlines()[0])
            return None

    def keep(self, settings: Mapping[str, Any], profile: pl.DataFrame) -> None:
        """Keep what was measured with these settings."""
        if self._folder is not None:
            with atomic_file(self._file(settings)) as partial:
                profile.write_parquet(partial)

    def what_is_kept(self) -> str:
        """What an interrupt leaves behind, in words."""
        if self._folder is None:
            return "nothing is kept; with a folder (--out) an experiment can be resumed"
        n_kept = len(list(self._folder.glob(f"{_DIGEST}.parquet")))
        return f"{n_kept} profile{'s' * (n_kept != 1)} kept; run the same command again to resume"

    def _file(self, settings: Mapping[str, Any]) -> Path:
        assert self._folder is not None
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]
        return self._folder / f"{digest}.parquet"
