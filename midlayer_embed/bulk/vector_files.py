"""Writes vectors to .npy, .jsonl or .parquet files, some rows at a time. A killed run can be resumed at any point.

Unfinished vectors are in a hidden folder next to the target: a growing .npy file, and a small JSON file with the number
of valid rows and the settings. The finished file is renamed to the target.

Rows come in chunks. The rows of a chunk come in batches, in any order, so an unfinished chunk is kept as well.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from midlayer_embed.bulk.claims import Claim
from midlayer_embed.bulk.row_files import EMBEDDING, RowFile, RowSource, name_taken
from midlayer_embed.errors import InputError
from midlayer_embed.ground.atomic import PARTIAL_MARK, atomic_file, replace_file
from midlayer_embed.ground.paths import followed, is_special, target_file
from midlayer_embed.texts.files import load_pyarrow

logger = logging.getLogger(__name__)

SUFFIXES = (".npy", ".jsonl", ".parquet")

_DTYPE = np.dtype("<f4")
_STATE, _ROWS, _FINISHED = "state.json", "vectors.npy", "whole"


def check_target(target: str | Path, source: RowSource, *, overwrite: bool, needed: str | Path | None = None) -> Path:
    """Check that vectors can be written to a file, before anything is computed.

    Args:
        target: Path of the file; its extension determines the format.
        source: Where the rows come from, which must not be replaced. Other formats than .npy hold its columns as well.
        overwrite: Whether an existing file may be replaced.
        needed: Another file that must not be replaced, if there is one.

    Raises:
        InputError: (a ValueError) the file cannot be written; the message says why.
    """
    target = target_file(target, "output")
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"output: expected a file ending in {', '.join(SUFFIXES)}, got {target}")
    if suffix == ".parquet":
        load_pyarrow(target)
    if suffix != ".npy":
        twice = next((name for name in source.columns if source.columns.count(name) > 1), None)
        if twice is not None:
            raise InputError(
                f"input: {source.path} has more than one column {twice!r}; rename it, or write a .npy file"
            )
        if EMBEDDING in source.columns:
            raise InputError(f"input: {source.path}: {name_taken()}")
    if is_special(target):
        raise InputError(f"output: expected a file, got {target}, which is a device or a pipe")
    if target.exists():
        if target.samefile(source.path):
            raise InputError(f"output: expected another file than the input, got {target}")
        if needed is not None and target.samefile(needed):
            raise InputError(f"output: expected another file than that of the transform's texts, got {target}")
        if not overwrite:
            raise InputError(f"output: {target} exists already; use --overwrite to replace it")
    return target


@dataclass
class Chunk:
    """Rows that come in batches.

    Attributes:
        vectors: float32 (n_rows, dim); zero where a row is missing.
        n_batches: Number of batches that are in it.
        n_rows: Number of rows that are in it.
    """

    vectors: np.ndarray
    n_batches: int = 0
    n_rows: int = 0


class Claimed(InputError):
    """Another process is writing the same file."""


class UnfinishedVectors:
    """Rows of vectors that become a file when they are complete.

    Continues after the rows of an earlier run with the same settings; with other settings it starts over, with a
    warning. `finish` creates the target. Without it, the rows are kept for the next run.

    Args:
        target: Path of the file, from `check_target`. Missing folders are created.
        shape: (n_rows, dim) of the complete vectors.
        settings: Everything that the vectors depend on, as JSON: the chunks and batches as well.

    Raises:
        Claimed: (a ValueError) another process is writing the same file.
        InputError: (a ValueError) the disk fails.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "vectors.npy"
        >>> with UnfinishedVectors(target, (2, 3), {"layer": 12}) as vectors:
        ...     chunk = vectors.chunk(2)
        ...     chunk.vectors[1], chunk.n_batches, chunk.n_rows = 1, 1, 1
        ...     vectors.save(chunk)
        >>> with UnfinishedVectors(target, (2, 3), {"layer": 12}) as vectors:
        ...     chunk = vectors.chunk(2)
        ...     print(vectors.n_kept, chunk.n_batches)
        ...     vectors.append(chunk.vectors)
        ...     vectors.finish()
        1 1
        >>> np.load(target).tolist()
        [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """

    def __init__(self, target: Path, shape: tuple[int, int], settings: Mapping[str, Any]) -> None:
        self.target = target
        self.shape = shape
        self.folder = partial_folder(target)
        self._settings = json.loads(json.dumps({**settings, "shape": shape}))
        self._header = _npy_header(shape)
        self._row_bytes = shape[1] * _DTYPE.itemsize
        self._claim = Claim(self.folder)
        self._state = _State()
        self._rows: BinaryIO | None = None

    @property
    def done(self) -> int:
        """Number of rows in complete chunks, which are safe on disk."""
        return self._state.done

    @property
    def n_kept(self) -> int:
        """Number of rows that are safe on disk."""
        return self._state.done + self._state.chunk_rows

    def __enter__(self) -> "UnfinishedVectors":
        with self._convert_os_errors():
            if (owner := self._claim.take()) is not None:
                raise Claimed(f"output: another process is writing {self.target}: {owner}")
            try:
                self._state = self._find_usable_state()
                self._open_rows()
            except BaseException:
                self._close()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def chunk(self, n_rows: int) -> Chunk:
        """The chunk of the next rows, with the batches of it that an earlier run saved."""
        assert self._rows is not None
        state = self._state
        if state.chunk_size != n_rows or not state.chunk_batches:
            return Chunk(np.zeros((n_rows, self.shape[1]), dtype=_DTYPE))
        with self._convert_os_errors():
            self._rows.seek(self._end(state.done))
            data = self._rows.read(n_rows * self._row_bytes)
        vectors = np.frombuffer(data, dtype=_DTYPE).reshape(n_rows, self.shape[1]).copy()
        return Chunk(vectors, state.chunk_batches, state.chunk_rows)

    def save(self, chunk: Chunk) -> None:
        """Save the batches of an unfinished chunk. They survive a kill once this returns."""
        if chunk.n_batches > self._state.chunk_batches:
            self._write(chunk.vectors, _State(self.done, len(chunk.vectors), chunk.n_batches, chunk.n_rows))

    def append(self, vectors: np.ndarray) -> None:
        """Append the rows (n, dim) of a whole chunk. They survive a kill once this returns."""
        self._write(vectors, _State(self.done + len(vectors)))

    def finish(
        self,
        rows: RowFile | None = None,
        on_rows: Callable[[int], object] = int,
        before: Callable[[Path], object] = Path,
    ) -> None:
        """Create the target.

        Args:
            rows: The rows that are written with the vectors; None for a .npy file.
            on_rows: Function that is called with the number of rows that are written next.
            before: Function that is called with the path of the whole file, just before it is moved to its place.
        """
        assert self._rows is not None
        assert self.done == self.shape[0], "rows are missing"
        with self._convert_os_errors():
            finished = self.folder / _ROWS
            is_own = os.path.samestat(os.fstat(self._rows.fileno()), finished.stat())
            self._rows.close()
            if not is_own:  # this process was taken for dead, and another one started over
                raise Claimed(f"output: another process has begun {self.target} anew")
            if rows is not None:
                dim = self.shape[1]
                with finished.open("rb") as file:
                    file.seek(len(self._header))
                    finished = self.folder / _FINISHED

                    def take(n_rows: int) -> np.ndarray:
                        on_rows(n_rows)
                        return np.fromfile(file, _DTYPE, n_rows * dim).reshape(n_rows, dim)

                    rows.write(finished, take, dim)
            before(finished)
            replace_file(finished, followed(self.target))
            shutil.rmtree(self.folder, ignore_errors=True)

    def _find_usable_state(self) -> "_State":
        """How far an earlier run came whose rows can be used."""
        found = _read_state(self.folder)
        if found is None:
            return _State()
        earlier, state = found
        if earlier != self._settings:
            changed = [key for key in {**earlier, **self._settings} if earlier.get(key) != self._settings.get(key)]
            n_kept = state.done + state.chunk_rows
            logger.warning("starting over: the %d vectors of an earlier run differ in %s", n_kept, ", ".join(changed))
            return _State()
        try:
            size = (self.folder / _ROWS).stat().st_size
        except FileNotFoundError:
            return _State()
        if not 0 <= state.done <= state.done + state.chunk_size <= self.shape[0] or size < self._end(state.done):
            return _State()
        if size < self._end(state.done + state.chunk_size):
            state = _State(state.done)
        if n_kept := state.done + state.chunk_rows:
            logger.info("resuming an earlier run: %s of %s vectors are done", f"{n_kept:,}", f"{self.shape[0]:,}")
        return state

    def _open_rows(self) -> None:
        path = self.folder / _ROWS
        fresh = self._state == _State()
        if fresh:  # the rows will be overwritten, so the old count must go first
            (self.folder / _STATE).unlink(missing_ok=True)
            path.unlink(missing_ok=True)  # a process that was taken for dead may have it open
        self._rows = path.open("w+b" if fresh else "r+b")
        if fresh:
            self._rows.write(self._header)
        self._rows.truncate(self._end(self.done + self._state.chunk_size))  # drop partial rows that a kill left
        self._write_state(self._state)

    def _end(self, n_rows: int) -> int:
        """Where in the file so many rows end."""
        return len(self._header) + n_rows * self._row_bytes

    def _write(self, vectors: np.ndarray, state: "_State") -> None:
        assert self._rows is not None
        with self._convert_os_errors():
            self._rows.seek(self._end(self.done))
            self._rows.write(np.ascontiguousarray(vectors, dtype=_DTYPE).data)
            self._rows.flush()
            os.fsync(self._rows.fileno())  # must come before the state that counts them
            self._write_state(state)

    def _write_state(self, state: "_State") -> None:
        with atomic_file(self.folder / _STATE) as partial, partial.open("w", encoding="utf-8") as file:
            json.dump({"settings": self._settings, **asdict(state)}, file)
            file.flush()
            os.fsync(file.fileno())
        self._state = state

    def _close(self) -> None:
        if self._rows is not None:
            with suppress(OSError):  # a full disk, reported already
                self._rows.close()
        if self._claim.is_held:
            if self.n_kept == 0:
                shutil.rmtree(self.folder, ignore_errors=True)
            self._claim.release()

    @contextmanager
    def _convert_os_errors(self) -> Iterator[None]:
        """Convert errors of the operating system to input errors that say how many vectors are kept."""
        try:
            yield
        except OSError as error:
            message = f"output: {self.target} cannot be written: {error.strerror or error}"
            if self.n_kept:
                message += f"; {what_is_kept(self.target)}"
            raise InputError(message) from error


@dataclass(frozen=True)
class _State:
    """How far a run came: the rows of complete chunks, and the unfinished chunk after them.

    Attributes:
        done: Number of rows in complete chunks.
        chunk_size: Number of rows of the unfinished chunk.
        chunk_batches: Number of its batches that are saved.
        chunk_rows: Number of its rows that are saved.
    """

    done: int = 0
    chunk_size: int = 0
    chunk_batches: int = 0
    chunk_rows: int = 0


def _read_state(folder: Path) -> tuple[dict[str, Any], _State] | None:
    """Settings and state of an earlier run; None where there is none: killed before the first row, or not our file."""
    try:
        found = dict(json.loads((folder / _STATE).read_text(encoding="utf-8")))
        return dict(found.pop("settings")), _State(**{name: int(value) for name, value in found.items()})
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def what_is_kept(target: Path) -> str:
    """How many vectors of an unfinished target are kept for the next run, in words."""
    found = _read_state(partial_folder(target))
    n_kept = 0 if found is None else found[1].done + found[1].chunk_rows
    if found is None or not n_kept:
        return "nothing is kept"
    n_rows = found[0]["shape"][0]
    return f"{n_kept:,} of {n_rows:,} vectors are kept; run the same command again to resume"


def check_unclaimed(target: Path) -> None:
    """Check that no other process is writing a file, before its input is read.

    Raises:
        Claimed: (a ValueError) one is; the message says which.
    """
    if (owner := Claim(partial_folder(target)).owner()) is not None:
        raise Claimed(f"output: another process is writing {target}: {owner}")


def partial_folder(target: Path) -> Path:
    """Folder of the unfinished vectors of a target, the same in every run: beside the file that a link leads to."""
    target = followed(target)
    return target.with_name(f".{target.name}{PARTIAL_MARK}vectors")


def _npy_header(shape: tuple[int, int]) -> bytes:
    from io import BytesIO

    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": _DTYPE.str, "fortran_order": False, "shape": shape})
    return header.getvalue()
