"""Writes .jsonl and .parquet files: each row of the input, with all of its columns, and its vector.

What a row cannot be written as is reported when the input is read first, before hours of work.
"""

import base64
import json
import os
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from midlayer_embed.errors import InputError
from midlayer_embed.texts.files import Row, TextFile, format_of, load_pyarrow, read_rows
from midlayer_embed.texts.files.parquet import read_batches, read_schema

# Column of the vectors.
EMBEDDING = "embedding"

# Rows in memory at a time.
_GROUP_ROWS, _GROUP_CHARACTERS = 4096, 2_000_000
_INT64 = 2**63

# Maps a number of rows to the vectors (n_rows, dim) that come next.
Take = Callable[[int], np.ndarray]


class RowSource(Protocol):
    """Where rows come from, such as a file of texts.

    Attributes:
        path: The file or folder.
        column: Name of the column that holds what is embedded, or what it is called.
        columns: Names of all columns.
    """

    @property
    def path(self) -> Path: ...  # noqa: D102
    @property
    def column(self) -> str: ...  # noqa: D102
    @property
    def columns(self) -> tuple[str, ...]: ...  # noqa: D102


class RowFile(Protocol):
    """Rows with their vectors, in one format of files."""

    def read(self) -> Iterator[str]:
        """The texts of the input. Checks that every row can be written.

        Raises:
            InputError: (a ValueError) a row is invalid, or cannot be written in this format.
        """

    def write(self, path: Path, take: Take, dim: int) -> None:
        """Write the rows of the input with their vectors, after `read`."""


def row_file(target: Path, file: TextFile) -> RowFile | None:
    """The rows of a target; None for .npy, which has none.

    Args:
        target: Path of the file that will be written.
        file: File of the texts.
    """
    suffix = target.suffix.lower()
    if suffix == ".npy":
        return None
    if suffix == ".parquet" and format_of(file.path) == ".parquet":
        return _ParquetCopy(file)
    return file_of_rows(target, file, lambda: read_rows(file))


def file_of_rows(target: Path, source: RowSource, read: Callable[[], Iterator[Row]]) -> RowFile | None:
    """The rows of a target, from any source; None for .npy, which has none.

    Args:
        target: Path of the file that will be written.
        source: Where the rows come from.
        read: Reads them; it is called twice.
    """
    suffix = target.suffix.lower()
    if suffix == ".npy":
        return None
    return (_JsonlRows if suffix == ".jsonl" else _ParquetRows)(source, read)


class _JsonlRows:
    def __init__(self, source: RowSource, read: Callable[[], Iterator[Row]]) -> None:
        self._file = source
        self._rows = read

    def read(self) -> Iterator[str]:
        for number, row in enumerate(self._rows(), start=1):
            _check_names(self._file, number, row)
            try:
                _json_object(row)
            except RecursionError:
                raise InputError(f"input: {self._file.path}, text {number}: its columns are nested too deep") from None
            yield row.text

    def write(self, path: Path, take: Take, dim: int) -> None:
        # Nine digits restore every float32 exactly; json writes sixteen and takes twice as long.
        numbers = ", ".join(["%.9g"] * dim)
        with path.open("w", encoding="utf-8", newline="\n") as file:
            for rows in _groups(self._rows()):
                for row, vector in zip(rows, take(len(rows)), strict=True):
                    start = _json_object(row).removesuffix("}")
                    file.write(f'{start}, "{EMBEDDING}": [{numbers % tuple(vector.tolist())}]}}\n')
            file.flush()
            os.fsync(file.fileno())


class _ParquetRows:
    """Rows of text formats. A column gets the type that all of its values have; where they have none, it holds JSON."""

    def __init__(self, source: RowSource, read: Callable[[], Iterator[Row]]) -> None:
        self._file = source
        self._rows = read
        self._kinds: dict[str, _Kind] = {source.column: "string"}

    def read(self) -> Iterator[str]:
        for number, row in enumerate(self._rows(), start=1):
            _check_names(self._file, number, row)
            for name, value in row.values.items():
                try:
                    name.encode()
                    self._kinds[name] = _merge(self._kinds.get(name), _kind_of(value))
                except UnicodeEncodeError:
                    place = f"{self._file.path}, text {number}"
                    raise InputError(f"input: {place}: half a surrogate pair in column {name!r}") from None
            yield row.text

    def write(self, path: Path, take: Take, dim: int) -> None:
        pyarrow = load_pyarrow(path)
        names = dict.fromkeys((*self._file.columns, *self._kinds))  # also those of a file without rows
        kinds = {name: self._kinds.get(name) for name in names}
        schema = pyarrow.schema([(name, _arrow_type(pyarrow, kind)) for name, kind in kinds.items()])

        def batches() -> Iterator[Any]:
            for rows in _groups(self._rows()):
                columns = [[_converted(row.values.get(name), kind) for row in rows] for name, kind in kinds.items()]
                arrays = [pyarrow.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
                yield pyarrow.RecordBatch.from_arrays(arrays, schema=schema)

        _write_batches(path, schema, batches(), take, dim)


class _ParquetCopy:
    """Rows of a Parquet file, as they are."""

    def __init__(self, file: TextFile) -> None:
        self._file = file

    def read(self) -> Iterator[str]:
        return (row.text for row in read_rows(self._file, whole=False))

    def write(self, path: Path, take: Take, dim: int) -> None:
        _write_batches(path, read_schema(self._file.path), read_batches(self._file.path), take, dim)


def _write_batches(path: Path, schema: Any, batches: Iterable[Any], take: Take, dim: int) -> None:
    pyarrow = load_pyarrow(path)
    schema = schema.append(pyarrow.field(EMBEDDING, pyarrow.list_(pyarrow.float32(), dim)))
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as writer:
        for batch in batches:
            vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(take(batch.num_rows).ravel()), dim)
            writer.write_table(pyarrow.Table.from_arrays([*batch.columns, vectors], schema=schema))
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    group: list[Row] = []
    n_characters = 0
    for row in rows:
        group.append(row)
        n_characters += len(row.text)
        if len(group) >= _GROUP_ROWS or n_characters >= _GROUP_CHARACTERS:
            yield group
            group, n_characters = [], 0
    if group:
        yield group


def _check_names(file: RowSource, number: int, row: Row) -> None:
    """Objects of a .jsonl file need not have the keys of the first one."""
    if EMBEDDING in row.values:
        raise InputError(f"input: {file.path}, text {number}: {name_taken()}")


def name_taken() -> str:
    """Why an input with a column of this name is refused."""
    return f"its column {EMBEDDING!r} would be taken for the vectors; rename it, or write a .npy file"


def _json_object(row: Row) -> str:
    """A row as a JSON object. NaN and infinity, which JSON does not have, become null."""
    line = json.dumps(_plain(row.values), ensure_ascii=False, allow_nan=False)
    try:
        line.encode()
    except UnicodeEncodeError:  # half a surrogate pair in another column, which only an escape can hold
        return json.dumps(_plain(row.values), allow_nan=False)
    return line


def _plain(value: Any) -> Any:
    """A value of a column as JSON has it: dates in ISO 8601, bytes in base64, decimals as strings."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, (float, np.floating)):
        return float(value) if isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value.isoformat() if hasattr(value, "isoformat") and not isinstance(value, Decimal) else str(value)


# Type of the values of a column: "bool", "int", "float", "string", "json", the type of a list's items in a tuple, or
# None for no value.
_Kind = str | tuple[Any] | None


def _kind_of(value: Any) -> _Kind:
    """The kind of a value that was read from JSON.

    Raises:
        UnicodeEncodeError: half of a surrogate pair, which Parquet cannot hold.
    """
    if value is None:
        return None
    if isinstance(value, str):
        value.encode()
        return "string"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -_INT64 <= value < _INT64 else "json"
    if isinstance(value, float):
        return "float"
    if isinstance(value, list):
        items: _Kind = None
        for item in value:
            items = _merge(items, _kind_of(item))
        return "json" if items == "json" else (items,)
    return "json"


def _merge(one: _Kind, other: _Kind) -> _Kind:
    """The kind that holds the values of both."""
    if one == other or other is None:
        return one
    if one is None:
        return other
    if isinstance(one, tuple) and isinstance(other, tuple):
        items = _merge(one[0], other[0])
        return "json" if items == "json" else (items,)
    return "float" if {one, other} == {"int", "float"} else "json"


def _arrow_type(pyarrow: Any, kind: _Kind) -> Any:
    if isinstance(kind, tuple):
        return pyarrow.list_(_arrow_type(pyarrow, kind[0]))
    return {"bool": pyarrow.bool_(), "int": pyarrow.int64(), "float": pyarrow.float64()}.get(
        kind or "", pyarrow.string()
    )


def _converted(value: Any, kind: _Kind) -> Any:
    if value is None:
        return None
    if isinstance(kind, tuple):
        return [_converted(item, kind[0]) for item in value]
    if kind == "json":
        return json.dumps(value)
    return float(value) if kind == "float" else value
