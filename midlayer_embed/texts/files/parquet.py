"""Parquet files, read in batches of rows. Needs pyarrow."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from midlayer_embed.errors import InputError
from midlayer_embed.texts.files.source import Columns, choose_column

_BUFFER_BYTES = 1 << 20
_BATCH_ROWS = 4096


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


def find_column(path: Path, column: str | None) -> str:
    """Check a column against the schema, or find the only column of strings.

    Raises:
        InputError: (a ValueError) no such column, not exactly one of strings, or not a Parquet file.
    """
    types = load_pyarrow(path).types
    with _open(path) as file:
        schema = file.schema_arrow

    def holds_strings(kind: Any) -> bool:
        value = kind.value_type if types.is_dictionary(kind) else kind
        return bool(types.is_string(value) or types.is_large_string(value) or types.is_string_view(value))

    strings = [field.name for field in schema if holds_strings(field.type)]
    return choose_column(path, Columns(list(schema.names), strings), column)


def read_column(path: Path, column: str) -> Iterator[str]:
    """Read the strings of a column.

    Raises:
        InputError: (a ValueError) a value is not a string, or a row cannot be read.
    """
    pyarrow = load_pyarrow(path)
    row_number = 0
    with _open(path) as file:
        batches = file.iter_batches(batch_size=_BATCH_ROWS, columns=[column])
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
                    kind = "null" if value is None else type(value).__name__
                    raise InputError(
                        f"input: {path}, row {row_number}: expected a string in column {column!r}, got {kind}"
                    )
                yield value


def _open(path: Path) -> Any:
    pyarrow = load_pyarrow(path)
    try:
        return pyarrow.parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False)
    except pyarrow.ArrowException as error:
        raise InputError(f"input: {path} is not a valid Parquet file ({error})") from None
