"""Parquet files, read in batches of rows. Needs pyarrow."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from midlayer_embed.errors import InputError
from midlayer_embed.texts.files.source import SAMPLE_ROWS, Columns, Row, TextFile, choose_column

_BUFFER_BYTES = 1 << 20
# Rows in memory at a time: of the texts, and of all columns, which may hold much more.
_BATCH_TEXTS, _BATCH_ROWS = 4096, 1024
# How pandas names an index without a name.
_INDEX = re.compile(r"__index_level_\d+__")


def load_pyarrow(path: Path) -> ModuleType:
    """Import pyarrow, with pyarrow.parquet, for a Parquet file.

    Raises:
        InputError: (a ValueError) pyarrow is not installed; the message has the command.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(f"{path}: Parquet needs pyarrow; run: pip install 'midlayer-embed[encode]'") from None
    return pyarrow  # type: ignore[no-any-return]


def find(path: Path, column: str | None) -> TextFile:
    """Check a column against the schema, or find the only column of texts.

    Raises:
        InputError: (a ValueError) no such column, one of no strings, not exactly one of texts, or not a Parquet file.
    """
    schema = read_schema(path)
    names = list(schema.names)
    strings: dict[str, list[str]] = {
        field.name: [] for field in schema if _holds_strings(path, field.type) and not _INDEX.fullmatch(field.name)
    }
    if column is None and len(strings) > 1:
        for batch in _batches(path, list(strings), SAMPLE_ROWS):
            for name, values in zip(batch.schema.names, batch.columns, strict=True):
                if name in strings:
                    strings[name] += [value for value in values.to_pylist() if value is not None]
            break
    chosen = choose_column(path, Columns(names, strings), column)
    kind = schema.field(names.index(chosen)).type
    if not _holds_strings(path, kind):
        raise InputError(f"column: {path}: expected strings in column {chosen!r}, got {kind}")
    return TextFile(path, chosen, tuple(names))


def read(file: TextFile, *, whole: bool) -> Iterator[Row]:
    """Read the rows.

    Raises:
        InputError: (a ValueError) a value is not a string, or a row cannot be read.
    """
    row_number = 0
    for batch in _batches(file.path, None, _BATCH_ROWS) if whole else _batches(file.path, [file.column], _BATCH_TEXTS):
        with _convert_errors(file.path, row_number):
            # By its place among the columns: pyarrow takes "a.b" for the field b of a as well.
            texts = batch.column(batch.schema.names.index(file.column)).to_pylist()
            rows = batch.to_pylist() if whole else [{}] * len(texts)
        for text, values in zip(texts, rows, strict=True):
            row_number += 1
            if text is None:
                raise InputError(
                    f"input: {file.path}, row {row_number}: expected a string in column {file.column!r}, got null"
                )
            yield Row(text, values)


def read_schema(path: Path) -> Any:
    """The Arrow schema of a file.

    Raises:
        InputError: (a ValueError) not a Parquet file.
    """
    with _open(path) as file:
        return file.schema_arrow


def read_batches(path: Path) -> Iterator[Any]:
    """All columns, in Arrow record batches of a thousand rows.

    Raises:
        InputError: (a ValueError) a row cannot be read.
    """
    return _batches(path, None, _BATCH_ROWS)


def _batches(path: Path, columns: list[str] | None, n_rows: int) -> Iterator[Any]:
    done = 0
    with _open(path) as file:
        batches = file.iter_batches(batch_size=n_rows, columns=columns)
        while True:
            with _convert_errors(path, done):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch
            done += batch.num_rows


@contextmanager
def _convert_errors(path: Path, row_number: int) -> Iterator[None]:
    """Convert errors of pyarrow about the rows after `row_number` to one-line input errors."""
    try:
        yield
    except (load_pyarrow(path).ArrowException, ValueError) as error:  # ValueError: not UTF-8, or a date beyond Python's
        raise InputError(f"input: {path}, after row {row_number}: cannot be read ({error})") from None


def _holds_strings(path: Path, kind: Any) -> bool:
    types = load_pyarrow(path).types
    value = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(value) or types.is_large_string(value) or types.is_string_view(value))


def _open(path: Path) -> Any:
    pyarrow = load_pyarrow(path)
    try:
        return pyarrow.parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False)
    except pyarrow.ArrowException as error:
        raise InputError(f"input: {path} is not a valid Parquet file ({error})") from None
