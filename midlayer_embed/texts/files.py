"""Texts out of files, a chunk at a time: .txt, .jsonl, .csv and .parquet. Knows no model, holds no file in memory.

Chunks end at the same texts every time a file is read: that is what lets a cut run go on.
"""

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from midlayer_embed.errors import InputError

# A chunk is what a killed run loses, and what is sorted by length: some seconds to a minute of work on a CPU.
CHUNK_TEXTS = 4096
CHUNK_CHARACTERS = 500_000

_LONGEST_CSV_FIELD = 2**31 - 1  # the csv module's own limit is 131,072 characters
_PARQUET_BUFFER = 1 << 20
_PARQUET_ROWS = 4096


@dataclass(frozen=True)
class TextFile:
    """A file of texts that can be read.

    Attributes:
        path: Where it is.
        column: Which column, or key of each object, holds the texts; "text" for .txt.
    """

    path: Path
    column: str


@dataclass(frozen=True)
class Survey:
    """What reading a whole file once tells.

    Attributes:
        n_texts: How many texts there are.
        n_characters: How long they are together.
        sha256: Of the texts, in their order; files of other formats with the same texts have the same.
    """

    n_texts: int
    n_characters: int
    sha256: str


def find_texts(path: str | Path, column: str | None = None) -> TextFile:
    """Looks at the head of a file of texts.

    Args:
        path: A .txt file with one text a line (a blank line is an empty text), a .jsonl file with one object a line
            (blank lines are skipped), a .csv file with a header (likewise), or a .parquet file. Text is UTF-8.
        column: Where the texts are; None: the one string column there is (of a .jsonl file: of its first object).

    Raises:
        InputError: (a ValueError) no such file, another extension, or no such column; the message names the columns.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "texts.jsonl"
        >>> _ = path.write_text('{"id": 1, "body": "a text"}')
        >>> find_texts(path).column
        'body'
    """
    path = Path(path)
    file_format = _format(path)
    if path.is_dir() or not path.exists():
        raise InputError(f"input: {path} is a folder" if path.is_dir() else f"input: there is no file {path}")
    if not path.is_file():  # it is read more than once, which a pipe cannot be
        raise InputError(f"input: {path} is no regular file")
    if file_format.columns is None:
        if column is not None:
            raise InputError(f"column: a {path.suffix} file has no columns, got {column!r}")
        return TextFile(path, "text")
    with _told(path):
        found = file_format.columns(path)
    if found is None:  # an empty file has no columns to choose from
        return TextFile(path, column or "text")
    every, of_strings = found
    if column is not None:
        if every.count(column) != 1:
            what = "no column" if column not in every else "more than one column"
            raise InputError(f"column: {path} has {what} {column!r}; {_listed(every)}")
        return TextFile(path, column)
    if len(of_strings) != 1:
        which = "no column of strings" if not of_strings else "more than one column of strings"
        raise InputError(f"column: {path} has {which}, so name one with --column; {_listed(every)}")
    return TextFile(path, of_strings[0])


def read_texts(file: TextFile) -> Iterator[str]:
    """The texts of a file, in order.

    Raises:
        InputError: (a ValueError) a line or row that is not what it should be; the message says which, from 1.
    """
    with _told(file.path):
        yield from _format(file.path).texts(file.path, file.column)


def read_chunks(file: TextFile) -> Iterator[list[str]]:
    """The texts of a file, some thousands at a time.

    Raises:
        InputError: (a ValueError) as `read_texts`.
    """
    chunk: list[str] = []
    n_characters = 0
    for text in read_texts(file):
        chunk.append(text)
        n_characters += len(text)
        if len(chunk) >= CHUNK_TEXTS or n_characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, n_characters = [], 0
    if chunk:
        yield chunk


def survey(chunks: Iterable[list[str]]) -> Survey:
    """Reads chunks to their end, so that whatever is wrong with a file shows before hours are spent on it.

    Example:
        >>> survey([["a", "bc"], [""]]).n_characters
        3
    """
    n_texts = n_characters = 0
    digest = hashlib.sha256()
    for chunk in chunks:
        for text in chunk:
            data = text.encode()
            digest.update(len(data).to_bytes(8, "little"))  # or ["ab"] would hash as ["a", "b"]
            digest.update(data)
            n_characters += len(text)
        n_texts += len(chunk)
    return Survey(n_texts, n_characters, digest.hexdigest())


def pyarrow_for(path: Path) -> ModuleType:
    """The pyarrow package, for a Parquet file.

    Raises:
        InputError: (a ValueError) it is not installed; the message says what to install.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(f"{path}: Parquet needs pyarrow; run: pip install 'midlayer-embed[encode]'") from None
    return pyarrow  # type: ignore[no-any-return]


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turns what the operating system says about a file into one line."""
    try:
        yield
    except OSError as error:
        raise InputError(f"input: {path} cannot be read: {error.strerror or error}") from error


# --- lines -----------------------------------------------------------------------------------------------------------


def _lines(path: Path) -> Iterator[str]:
    """Decoded lines with their ends. Lines end at a newline only: a text may hold other characters that break lines."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                decoded = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"input: {path}, line {number}: not UTF-8 (byte 0x{line[error.start]:02x} at {error.start + 1})"
                ) from None
            yield decoded


def _txt_texts(path: Path, _column: str) -> Iterator[str]:
    for line in _lines(path):
        yield line.removesuffix("\n").removesuffix("\r")


# --- JSON lines ------------------------------------------------------------------------------------------------------


def _json_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"input: {path}, line {number}: no valid JSON ({error})") from None
        if not isinstance(found, dict):
            raise InputError(f"input: {path}, line {number}: expected a JSON object, got {_json_type(found)}")
        yield number, found


def _json_columns(path: Path) -> tuple[list[str], list[str]] | None:
    for _, found in _json_objects(path):
        return list(found), [key for key, value in found.items() if isinstance(value, str)]
    return None


def _json_texts(path: Path, column: str) -> Iterator[str]:
    for number, found in _json_objects(path):
        if column not in found:
            raise InputError(f"input: {path}, line {number}: no column {column!r}; {_listed(list(found))}")
        text = found[column]
        if not isinstance(text, str):
            raise InputError(
                f"input: {path}, line {number}: expected a string in column {column!r}, got {_json_type(text)}"
            )
        try:
            text.encode()
        except UnicodeEncodeError:  # JSON can spell half of a surrogate pair, which is no character
            raise InputError(f"input: {path}, line {number}: half a surrogate pair in column {column!r}") from None
        yield text


def _json_type(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


# --- CSV -------------------------------------------------------------------------------------------------------------


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(_LONGEST_CSV_FIELD)
    reader = csv.reader(_lines(path), strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"input: {path}, line {reader.line_num}: no valid CSV ({error})") from None


def _csv_columns(path: Path) -> tuple[list[str], list[str]] | None:
    for _, header in _csv_rows(path):
        return header, header
    return None


def _csv_texts(path: Path, column: str) -> Iterator[str]:
    rows = _csv_rows(path)
    _, header = next(rows, (0, [column]))
    place = header.index(column)
    for row_number, (line, row) in enumerate(rows, start=1):
        if len(row) != len(header):
            raise InputError(
                f"input: {path}, row {row_number} (line {line}): expected {len(header)} fields, got {len(row)}"
            )
        yield row[place]


# --- Parquet ---------------------------------------------------------------------------------------------------------


def _parquet_file(path: Path) -> Any:
    pyarrow = pyarrow_for(path)
    try:
        return pyarrow.parquet.ParquetFile(path, buffer_size=_PARQUET_BUFFER, pre_buffer=False)
    except pyarrow.ArrowException as error:
        raise InputError(f"input: {path} is no valid Parquet file ({error})") from None


def _parquet_columns(path: Path) -> tuple[list[str], list[str]]:
    types = pyarrow_for(path).types
    with _parquet_file(path) as file:
        schema = file.schema_arrow

    def of_strings(kind: Any) -> bool:
        value = kind.value_type if types.is_dictionary(kind) else kind
        return bool(types.is_string(value) or types.is_large_string(value) or types.is_string_view(value))

    return list(schema.names), [field.name for field in schema if of_strings(field.type)]


def _parquet_texts(path: Path, column: str) -> Iterator[str]:
    pyarrow = pyarrow_for(path)
    row_number = 0
    with _parquet_file(path) as file:
        batches = file.iter_batches(batch_size=_PARQUET_ROWS, columns=[column])
        while True:
            try:
                batch = next(batches, None)
                values = None if batch is None else batch.column(0).to_pylist()
            except (pyarrow.ArrowException, UnicodeDecodeError) as error:
                raise InputError(f"input: {path}, after row {row_number}: cannot be read ({error})") from None
            if values is None:
                return
            for value in values:
                row_number += 1
                if not isinstance(value, str):
                    what = "null" if value is None else type(value).__name__
                    raise InputError(
                        f"input: {path}, row {row_number}: expected a string in column {column!r}, got {what}"
                    )
                yield value


# --- formats ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Format:
    """How a format is read.

    Attributes:
        columns: All columns and those of strings; None for an empty file. No function where there are no columns.
        texts: The texts of one column.
    """

    columns: Callable[[Path], tuple[list[str], list[str]] | None] | None
    texts: Callable[[Path, str], Iterator[str]]


_FORMATS = {
    ".txt": _Format(None, _txt_texts),
    ".jsonl": _Format(_json_columns, _json_texts),
    ".csv": _Format(_csv_columns, _csv_texts),
    ".parquet": _Format(_parquet_columns, _parquet_texts),
}


def _format(path: Path) -> _Format:
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        raise InputError(f"input: expected a file ending in {', '.join(_FORMATS)}, got {path}") from None


def _listed(columns: Sequence[str]) -> str:
    return f"its columns are {', '.join(columns)}" if columns else "it has no columns"
