"""Vectors into a file, some rows at a time: .npy, .jsonl and .parquet. Killed anywhere, the next run goes on.

Unfinished vectors stand in a hidden folder beside the target: a .npy file that grows, and a small JSON file that says
how many of its rows count and which settings they were computed with. The target appears whole, by a rename.
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
from midlayer_embed.ground.atomic import PARTIAL_MARK, atomic_file
from midlayer_embed.texts.files import pyarrow_for

logger = logging.getLogger(__name__)

SUFFIXES = (".npy", ".jsonl", ".parquet")
# The vectors' name beside the texts' own column.
EMBEDDING = "embedding"

_DTYPE = np.dtype("<f4")
_STATE, _ROWS, _WHOLE, _LOCK = "state.json", "vectors.npy", "whole", "lock"


def check_target(target: str | Path, column: str, *, source: Path, overwrite: bool) -> Path:
    """A file that vectors may be written to, before anything is computed.

    Args:
        target: Its extension says the format.
        column: What the texts are called in it.
        source: The file of the texts, which must not be replaced.
        overwrite: Whether a file that is there may be replaced.

    Raises:
        InputError: (a ValueError) the message says what is in the way.
    """
    target = Path(target)
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"output: expected a file ending in {', '.join(SUFFIXES)}, got {target}")
    if suffix == ".parquet":
        pyarrow_for(target)
    if suffix != ".npy" and column == EMBEDDING:
        raise InputError(f"column: the vectors are going to be the column {EMBEDDING!r}, so the texts cannot be")
    if target.is_dir():
        raise InputError(f"output: {target} is a folder")
    if target.exists():
        if target.samefile(source):
            raise InputError(f"output: {target} is the input")
        if not overwrite:
            raise InputError(f"output: {target} is there already; use --overwrite to replace it")
    folder = next(folder for folder in target.absolute().parents if folder.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise InputError(f"output: {target} cannot be written: {folder} is no folder that may be written to")
    return target


class UnfinishedVectors:
    """Rows of vectors that become a file when all are there.

    Opens what an earlier run with the same settings has left and goes on after it; with other settings it starts
    afresh, and says so. `finish` makes the target of it; left without that, the rows stay for the next run.

    Args:
        target: The file, as from `check_target`. Its folder is made if need be.
        shape: (n_rows, dim) of all the vectors.
        settings: Whatever the vectors depend on, as JSON.

    Raises:
        InputError: (a ValueError) another process writes the same file, or the disk does not do as it is told.

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
        """How many rows are there and safe on disk."""
        return self._done

    def __enter__(self) -> "UnfinishedVectors":
        with self._told():
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except Timeout:
                raise InputError(f"output: another process is writing {self.target}") from None
            try:
                self._done = self._rows_left()
                self._open()
            except BaseException:
                self._leave()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def append(self, vectors: np.ndarray) -> None:
        """Adds rows (n, dim); once this returns, no kill loses them."""
        assert self._rows is not None
        with self._told():
            self._rows.write(np.ascontiguousarray(vectors, dtype=_DTYPE).data)
            self._rows.flush()
            os.fsync(self._rows.fileno())  # before the state counts them
            self._write_state(self._done + len(vectors))

    def finish(self, chunks: Iterable[list[str]], column: str) -> None:
        """Makes the target appear.

        Args:
            chunks: The texts of the rows, read once more where the format holds them.
            column: What they are called there.
        """
        assert self._rows is not None
        assert self._done == self.shape[0], "rows are missing"
        with self._told():
            self._rows.close()
            whole = self.folder / _ROWS
            suffix = self.target.suffix.lower()
            if suffix != ".npy":
                write = _write_jsonl if suffix == ".jsonl" else _write_parquet
                with whole.open("rb") as rows:
                    rows.seek(len(self._header))
                    whole = self.folder / _WHOLE
                    write(whole, _beside(chunks, rows, self.shape[1]), column, self.shape[1])
            os.replace(whole, self.target)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _rows_left(self) -> int:
        """How many rows of an earlier run can be used."""
        try:
            state = json.loads((self.folder / _STATE).read_text(encoding="utf-8"))
            then, done = dict(state["settings"]), int(state["done"])
            size = (self.folder / _ROWS).stat().st_size
        except (FileNotFoundError, ValueError, TypeError, KeyError):  # killed before the first row, or not ours
            return 0
        if then != self._settings:
            changed = [key for key in {**then, **self._settings} if then.get(key) != self._settings.get(key)]
            logger.warning(
                "starting afresh: the %d vectors left by an earlier run are of another %s", done, ", ".join(changed)
            )
            return 0
        if not 0 <= done <= self.shape[0] or size < len(self._header) + done * self._row_bytes:
            return 0
        if done:
            logger.info("going on where an earlier run stopped: %d of %d vectors are there", done, self.shape[0])
        return done

    def _open(self) -> None:
        path = self.folder / _ROWS
        if not self._done:  # rows are going to be written over, so nothing may count them any more
            (self.folder / _STATE).unlink(missing_ok=True)
        self._rows = path.open("r+b" if self._done else "w+b")
        if not self._done:
            self._rows.write(self._header)
        end = len(self._header) + self._done * self._row_bytes
        self._rows.truncate(end)  # what a kill has left behind the rows that count
        self._rows.seek(end)
        self._write_state(self._done)

    def _write_state(self, done: int) -> None:
        with atomic_file(self.folder / _STATE) as partial, partial.open("w", encoding="utf-8") as file:
            json.dump({"settings": self._settings, "done": done}, file)
            file.flush()
            os.fsync(file.fileno())
        self._done = done

    def _leave(self) -> None:
        if self._rows is not None:
            with suppress(OSError):  # a full disk, told of already
                self._rows.close()
        if self._lock.is_locked:
            if self._done == 0:
                shutil.rmtree(self.folder, ignore_errors=True)
            self._lock.release()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = f"output: {self.target} cannot be written: {error.strerror or error}"
            if self._done:
                what += f"; {self._done} of {self.shape[0]} vectors are kept: run the same command again to go on"
            raise InputError(what) from error


def partial_folder(target: Path) -> Path:
    """Where the unfinished vectors of a target are: the same folder in every run."""
    return target.with_name(f".{target.name}{PARTIAL_MARK}vectors")


def _npy_header(shape: tuple[int, int]) -> bytes:
    from io import BytesIO

    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": _DTYPE.str, "fortran_order": False, "shape": shape})
    return header.getvalue()


def _beside(chunks: Iterable[list[str]], rows: BinaryIO, dim: int) -> Iterator[tuple[list[str], np.ndarray]]:
    """Each chunk of texts with its vectors (n, dim)."""
    for texts in chunks:
        yield texts, np.fromfile(rows, dtype=_DTYPE, count=len(texts) * dim).reshape(len(texts), dim)


def _write_jsonl(path: Path, chunks: Iterable[tuple[list[str], np.ndarray]], column: str, dim: int) -> None:
    key = json.dumps(column, ensure_ascii=False)
    # Nine digits give every float32 back exactly; json would spell sixteen, in twice the time.
    numbers = ", ".join(["%.9g"] * dim)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for texts, vectors in chunks:
            for text, vector in zip(texts, vectors, strict=True):
                spelt = json.dumps(text, ensure_ascii=False)
                file.write(f'{{{key}: {spelt}, "{EMBEDDING}": [{numbers % tuple(vector.tolist())}]}}\n')
        file.flush()
        os.fsync(file.fileno())


def _write_parquet(path: Path, chunks: Iterable[tuple[list[str], np.ndarray]], column: str, dim: int) -> None:
    pyarrow = pyarrow_for(path)
    schema = pyarrow.schema([(column, pyarrow.string()), (EMBEDDING, pyarrow.list_(pyarrow.float32(), dim))])
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as writer:
        for texts, vectors in chunks:
            lists = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.ravel()), dim)
            columns = [pyarrow.array(texts, pyarrow.string()), lists]
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
    with path.open("rb") as file:
        os.fsync(file.fileno())
