"""JSON lines files: one object per line. Blank lines are skipped."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from midlayer_embed.errors import InputError
from midlayer_embed.texts.files.source import Columns, choose_column, list_columns, read_lines

_TYPE_NAMES: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "true or false",
    type(None): "null",
}


def find_column(path: Path, column: str | None) -> str:
    """Check a key against the first object, or find its only key with a string.

    Raises:
        InputError: (a ValueError) no such key, or not exactly one with a string.
    """
    _, first = next(_read_objects(path), (0, None))
    if first is None:
        return choose_column(path, None, column)
    strings = [key for key, value in first.items() if isinstance(value, str)]
    return choose_column(path, Columns(list(first), strings), column)


def read_column(path: Path, column: str) -> Iterator[str]:
    """Read the strings under a key.

    Raises:
        InputError: (a ValueError) a line is not an object, or lacks a valid string under the key.
    """
    for number, row in _read_objects(path):
        if column not in row:
            raise InputError(f"input: {path}, line {number}: no column {column!r}; {list_columns(list(row))}")
        text = row[column]
        if not isinstance(text, str):
            raise InputError(
                f"input: {path}, line {number}: expected a string in column {column!r}, got {_type_name(text)}"
            )
        try:
            text.encode()
        except UnicodeEncodeError:  # JSON can escape half of a surrogate pair, which is not a character
            raise InputError(f"input: {path}, line {number}: half a surrogate pair in column {column!r}") from None
        yield text


def _read_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects of a file with their line numbers."""
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"input: {path}, line {number}: not valid JSON ({error})") from None
        if not isinstance(row, dict):
            raise InputError(f"input: {path}, line {number}: expected a JSON object, got {_type_name(row)}")
        yield number, row


def _type_name(value: Any) -> str:
    return _TYPE_NAMES.get(type(value), "a number")
