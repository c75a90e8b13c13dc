"""JSON lines files: one object per line. Blank lines are skipped."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from midlayer_embed.errors import InputError
from midlayer_embed.texts.files.lines import read_lines
from midlayer_embed.texts.files.source import SAMPLE_ROWS, Columns, Row, TextFile, choose_column, list_columns

_TYPE_NAMES: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "true or false",
    type(None): "null",
}
# What one writes for a whole array, or for objects over several lines.
_HINT = "; expected one object per line, as `jq -c '.[]'` writes an array and `jq -c .` objects"


def find(path: Path, column: str | None) -> TextFile:
    """Check a key against the first object, or find its only key with texts.

    Raises:
        InputError: (a ValueError) no such key, or not exactly one with texts.
    """
    objects = _read_objects(path)
    _, first = next(objects, (0, None))
    if first is None:
        return TextFile(path, column or "text", (column or "text",))
    strings = {key: [value] for key, value in first.items() if isinstance(value, str)}
    if column is None and len(strings) > 1:
        for _, row in islice(objects, SAMPLE_ROWS):
            for key, values in strings.items():
                if isinstance(value := row.get(key), str):
                    values.append(value)
    return TextFile(path, choose_column(path, Columns(list(first), strings), column), tuple(first))


def read(file: TextFile, *, whole: bool) -> Iterator[Row]:
    """Read the objects.

    Raises:
        InputError: (a ValueError) a line is not an object, or lacks a valid string under the key of the texts.
    """
    column = file.column
    for number, row in _read_objects(file.path):
        place = f"input: {file.path}, line {number}"
        if column not in row:
            raise InputError(f"{place}: no column {column!r}; {list_columns(list(row))}")
        text = row[column]
        if not isinstance(text, str):
            raise InputError(f"{place}: expected a string in column {column!r}, got {_type_name(text)}")
        try:
            text.encode()
        except UnicodeEncodeError:  # JSON can escape half of a surrogate pair, which is not a character
            raise InputError(f"{place}: half a surrogate pair in column {column!r}") from None
        yield Row(text, row if whole else {})


def _read_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects of a file with their line numbers."""
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            hint = _HINT if line.strip() in ("[", "{") or line.lstrip().startswith("[{") else ""
            raise InputError(f"input: {path}, line {number}: not valid JSON ({error}){hint}") from None
        if not isinstance(row, dict):
            hint = _HINT if isinstance(row, list) else ""
            raise InputError(f"input: {path}, line {number}: expected a JSON object, got {_type_name(row)}{hint}")
        yield number, row


def _type_name(value: Any) -> str:
    return _TYPE_NAMES.get(type(value), "a number")
