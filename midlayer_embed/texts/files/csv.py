"""CSV files with a header. Blank lines are skipped."""

import csv
from collections.abc import Iterator
from pathlib import Path

from midlayer_embed.errors import InputError
from midlayer_embed.texts.files.source import Columns, choose_column, read_lines

_MAX_FIELD_CHARACTERS = 2**31 - 1  # the default of the csv module is 131,072


def find_column(path: Path, column: str | None) -> str:
    """Check a column against the header, or find the only column.

    Raises:
        InputError: (a ValueError) no such column, or not exactly one.
    """
    _, header = next(_read_rows(path), (0, None))
    return choose_column(path, None if header is None else Columns(header, header), column)


def read_column(path: Path, column: str) -> Iterator[str]:
    """Read the fields of a column.

    Raises:
        InputError: (a ValueError) a row is not valid CSV, or has more or fewer fields than the header.
    """
    rows = _read_rows(path)
    _, header = next(rows, (0, [column]))
    index = header.index(column)
    for row_number, (line, row) in enumerate(rows, start=1):
        if len(row) != len(header):
            raise InputError(
                f"input: {path}, row {row_number} (line {line}): expected {len(header)} fields, got {len(row)}"
            )
        yield row[index]


def _read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows of a file, the header included, with the numbers of their last lines."""
    csv.field_size_limit(_MAX_FIELD_CHARACTERS)
    reader = csv.reader(read_lines(path), strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"input: {path}, line {reader.line_num}: not valid CSV ({error})") from None
