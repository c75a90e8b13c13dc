"""CSV files with a header; the fields are separated by commas, semicolons, tabs or bars. Blank lines are skipped."""

import csv
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from midlayer_embed.errors import InputError
from midlayer_embed.texts.files.lines import read_lines
from midlayer_embed.texts.files.source import SAMPLE_ROWS, Columns, Row, TextFile, choose_column

_MAX_FIELD_CHARACTERS = 2**31 - 1  # the default of the csv module is 131,072
# In a tie, the first wins.
_DELIMITERS = (",", ";", "\t", "|")
_SAMPLE_LINES, _SAMPLE_CHARACTERS = 200, 1_000_000


def find(path: Path, column: str | None) -> TextFile:
    """Find what separates the fields; check a column against the header, or find the only column of texts.

    Raises:
        InputError: (a ValueError) no such column, or not exactly one of texts.
    """
    delimiter = _find_delimiter(path)
    rows = _read_rows(path, delimiter)
    _, header = next(rows, (0, None))
    if header is None:
        return TextFile(path, column or "text", (column or "text",), delimiter)
    values: dict[str, list[str]] = {name: [] for name in header}
    if column is None and len(header) > 1:
        for _, row in islice(rows, SAMPLE_ROWS):
            for name, value in zip(header, row, strict=False):
                values[name].append(value)
        if not any(values.values()):  # no rows: any column is empty
            column = header[0]
    return TextFile(path, choose_column(path, Columns(header, values), column), tuple(header), delimiter)


def read(file: TextFile, *, whole: bool) -> Iterator[Row]:
    """Read the rows.

    Raises:
        InputError: (a ValueError) a row is not valid CSV, or has more or fewer fields than the header.
    """
    assert file.delimiter is not None
    rows = _read_rows(file.path, file.delimiter)
    _, header = next(rows, (0, list(file.columns)))
    index = header.index(file.column)
    for row_number, (line, row) in enumerate(rows, start=1):
        if len(row) != len(header):
            raise InputError(
                f"input: {file.path}, row {row_number} (line {line}): expected {len(header)} fields, got {len(row)} "
                f"(separated by {file.delimiter!r}; a field that holds it needs quotes)"
            )
        yield Row(row[index], dict(zip(header, row, strict=True)) if whole else {})


def _find_delimiter(path: Path) -> str:
    """What splits the header, best into as many fields as there are in each of the first rows."""
    if ".tsv" in (suffix.lower() for suffix in path.suffixes[-2:]):
        return "\t"
    lines: list[str] = []
    n_characters = 0
    cut = False  # the last row may go on behind the sample
    for line in read_lines(path):
        if cut := len(lines) >= _SAMPLE_LINES or n_characters >= _SAMPLE_CHARACTERS:
            break
        lines.append(line)
        n_characters += len(line)
    fits: dict[str, tuple[bool, int]] = {}
    for delimiter in _DELIMITERS:
        lengths = _lengths(lines, delimiter)
        n_fields = lengths[0] if lengths else 0
        if n_fields > 1:
            rest = lengths[1:-1] if cut else lengths[1:]
            fits[delimiter] = (all(length == n_fields for length in rest), n_fields)
    return max(fits, key=lambda delimiter: fits[delimiter], default=_DELIMITERS[0])


def _lengths(lines: list[str], delimiter: str) -> list[int]:
    """The number of fields of each row; none if the lines are not CSV."""
    csv.field_size_limit(_MAX_FIELD_CHARACTERS)
    try:
        return [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
    except csv.Error:
        return []


def _read_rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows of a file, the header included, with the numbers of their last lines."""
    csv.field_size_limit(_MAX_FIELD_CHARACTERS)
    lines: Iterable[str] = read_lines(path)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"input: {path}, line {reader.line_num}: not valid CSV ({error})") from None
