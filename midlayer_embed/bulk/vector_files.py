"""Writes vectors to .npy, .jsonl or .parquet files, some rows at a time. A killed run can be resumed at any point.

Unfinished vectors are in a hidden folder next to the target: a growing .npy file, and a small JSON file with the number
of valid rows and the settings. The finished file is renamed to the target.
"""

import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout

from midlayer_embed.errors import InputError
from midlayer_embed.ground.atomic import PARTIAL_MARK, atomic_file, replace_file
from midlayer_embed.ground.paths import followed, is_special, target_file
from midlayer_embed.texts.files import load_pyarrow

logger = logging.getLogger(__name__)

SUFFIXES = (".npy", ".jsonl", ".parquet")
# Column of the vectors.
EMBEDDING = "embedding"

_DTYPE = np.dtype("<f4")
_STATE, _ROWS, _FINISHED, _LOCK = "state.json", "vectors.npy", "whole", "lock"


def check_target(target: str | Path, column: str, *, source: Path, overwrite: bool) -> Path:
    """Check that vectors can be written to a file, before anything is computed.

    Args:
        target: Path of the file; its extension determines the format.
        column: Column of the texts in the file.
        source: File of the texts, which must not be replaced.
        overwrite: Whether an existing file may be replaced.

    Raises:
        InputError: (a ValueError) the file cannot be written; the message says why.
    """
    target = target_file(target, "output")
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"output: expected a file ending in {', '.join(SUFFIXES)}, got {target}")
    if suffix == ".parquet":
        load_pyarrow(target)
    if suffix != ".npy" and column == EMBEDDING:
        raise InputError(f"column: the texts cannot be in column {EMBEDDING!r}, which holds the vectors")
    if is_special(target):
        raise InputError(f"output: expected a file, got {target}, which is a device or a pipe")
    if target.exists():
        if target.samefile(source):
            raise InputError(f"output: expected another file than the input, got {target}")
        if not overwrite:
            raise InputError(f"output: {target} exists already; use --overwrite to replace it")
    return target


class UnfinishedVectors:
    """Rows of vectors that become a file when they are complete.

    Continues after the rows of an earlier run with the same settings; with other settings it starts over, with a
    warning. `finish` creates the target. Without it, the rows are kept for the next run.

    Args:
        target: Path of the file, from `check_target`. Missing folders are created.
        shape: (n_rows, dim) of the complete vectors.
        settings: Everything that the vectors depend on, as JSON.

    Raises:
        InputError: (a ValueError) another process is writing the same file, or the disk fails.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "vectors.npy"
        >>> with UnfinishedVectors(target, (2, 3), {"layer": 12}) as vectors:
        ...     vectors.append(np.ones((1, 3)))
        >>> with UnfinishedVectors(target, (2, 3), {"layer": 12}) as vectors:
        ...     print(vectors.done)
        ...     vectors.append(np.zeros((1, 3)))
        ...     vectors.finish([["one", "two"]], column="text")
        1
        >>> np.load(target).tolist()
        [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    """

    def __init__(self, target: Path, shape: tuple[int, int], settings: Mapping[str, Any]) -> None:
        self.target = target
        self.shape = shape
        self.folder = partial_folder(target)
        self._settings = json.loads(json.dumps({**settings, "shape": shape}))
        self._header = _npy_header(shape)
        self._row_bytes = shape[1] * _DTYPE.itemsize
        self._lock = FileLock(self.folder / _LOCK, timeout=0)
        self._done = 0
        self._rows: BinaryIO | None = None

    @property
    def done(self) -> int:
        """Number of rows that are safe on disk."""
        return self._done

    def __enter__(self) -> "UnfinishedVectors":
        with self._convert_os_errors():
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except Timeout:
                raise InputError(f"output: another process is writing {self.target}") from None
            try:
                self._done = self._count_usable_rows()
                self._open_rows()
            except BaseException:
                self._close()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def append(self, vectors: np.ndarray) -> None:
        """Append rows (n, dim). They survive a kill once this returns."""
        assert self._rows is not None
        with self._convert_os_errors():
            self._rows.write(np.ascontiguousarray(vectors, dtype=_DTYPE).data)
            self._rows.flush()
            os.fsync(self._rows.fileno())  # must come before the state that counts them
            self._write_state(self._done + len(vectors))

    def finish(self, chunks: Iterable[list[str]], column: str) -> None:
        """Create the target.

        Args:
            chunks: Texts of the rows; read only if the format includes them.
            column: Column of the texts.
        """
        assert self._rows is not None
        assert self._done == self.shape[0], "rows are missing"
        with self._convert_os_errors():
            self._rows.close()
            finished = self.folder / _ROWS
            suffix = self.target.suffix.lower()
            if suffix != ".npy":
                write = _write_jsonl if suffix == ".jsonl" else _write_parquet
                with finished.open("rb") as rows:
                    rows.seek(len(self._header))
                    finished = self.folder / _FINISHED
                    write(finished, _pair_with_vectors(chunks, rows, self.shape[1]), column, self.shape[1])
            replace_file(finished, followed(self.target))
            shutil.rmtree(self.folder, ignore_errors=True)

    def _count_usable_rows(self) -> int:
        """Number of rows of an earlier run that can be used."""
        try:
            state = json.loads((self.folder / _STATE).read_text(encoding="utf-8"))
            earlier, done = dict(state["settings"]), int(state["done"])
            size = (self.folder / _ROWS).stat().st_size
        except (FileNotFoundError, ValueError, TypeError, KeyError):  # killed before the first row, or not our file
            return 0
        if earlier != self._settings:
            changed = [key for key in {**earlier, **self._settings} if earlier.get(key) != self._settings.get(key)]
            logger.warning("starting over: the %d vectors of an earlier run differ in %s", done, ", ".join(changed))
            return 0
        if not 0 <= done <= self.shape[0] or size < len(self._header) + done * self._row_bytes:
            return 0
        if done:
            logger.info("resuming an earlier run: %d of %d vectors are done", done, self.shape[0])
        return done

    def _open_rows(self) -> None:
        path = self.folder / _ROWS
        if not self._done:  # the rows will be overwritten, so the old count must go first
            (self.folder / _STATE).unlink(missing_ok=True)
        self._rows = path.open("r+b" if self._done else "w+b")
        if not self._done:
            self._rows.write(self._header)
        end = len(self._header) + self._done * self._row_bytes
        self._rows.truncate(end)  # drop partial rows that a kill left
        self._rows.seek(end)
        self._write_state(self._done)

    def _write_state(self, done: int) -> None:
        with atomic_file(self.folder / _STATE) as partial, partial.open("w", encoding="utf-8") as file:
            json.dump({"settings": self._settings, "done": done}, file)
            file.flush()
            os.fsync(file.fileno())
        self._done = done

    def _close(self) -> None:
        if self._rows is not None:
            with suppress(OSError):  # a full disk, reported already
                self._rows.close()
        if self._lock.is_locked:
            if self._done == 0:
                shutil.rmtree(self.folder, ignore_errors=True)
            self._lock.release()

    @contextmanager
    def _convert_os_errors(self) -> Iterator[None]:
        """Convert errors of the operating system to input errors that say how many vectors are kept."""
        try:
            yield
        except OSError as error:
            message = f"output: {self.target} cannot be written: {error.strerror or error}"
            if self._done:
                message += f"; {self._done} of {self.shape[0]} vectors are kept: run the same command again to resume"
            raise InputError(message) from error


def partial_folder(target: Path) -> Path:
    """Folder of the unfinished vectors of a target, the same in every run: beside the file that a link leads to."""
    target = followed(target)
    return target.with_name(f".{target.name}{PARTIAL_MARK}vectors")


def _npy_header(shape: tuple[int, int]) -> bytes:
    from io import BytesIO

    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": _DTYPE.str, "fortran_order": False, "shape": shape})
    return header.getvalue()


def _pair_with_vectors(chunks: Iterable[list[str]], rows: BinaryIO, dim: int) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yield each chunk of texts with its vectors (n, dim)."""
    for texts in chunks:
        yield texts, np.fromfile(rows, dtype=_DTYPE, count=len(texts) * dim).reshape(len(texts), dim)


def _write_jsonl(path: Path, chunks: Iterable[tuple[list[str], np.ndarray]], column: str, dim: int) -> None:
    key = json.dumps(column, ensure_ascii=False)
    # Nine digits restore every float32 exactly; json writes sixteen and takes twice as long.
    numbers = ", ".join(["%.9g"] * dim)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for texts, vectors in chunks:
            for text, vector in zip(texts, vectors, strict=True):
                quoted = json.dumps(text, ensure_ascii=False)
                file.write(f'{{{key}: {quoted}, "{EMBEDDING}": [{numbers % tuple(vector.tolist())}]}}\n')
        file.flush()
        os.fsync(file.fileno())


def _write_parquet(path: Path, chunks: Iterable[tuple[list[str], np.ndarray]], column: str, dim: int) -> None:
    pyarrow = load_pyarrow(path)
    schema = pyarrow.schema([(column, pyarrow.string()), (EMBEDDING, pyarrow.list_(pyarrow.float32(), dim))])
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as writer:
        for texts, vectors in chunks:
            lists = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.ravel()), dim)
            columns = [pyarrow.array(texts, pyarrow.string()), lists]
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
    with path.open("rb") as file:
        os.fsync(file.fileno())
