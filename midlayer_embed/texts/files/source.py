"""What the module of a file format defines, and what the formats share: the choice of a column."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from midlayer_embed.errors import InputError

# Rows at the head of a file that tell which columns hold texts.
SAMPLE_ROWS = 100

# A number, a date, an id or a truth value: one word with a digit, or nothing but digits and signs.
_CODE = re.compile(r"(?=.*\d)[!-~]{1,64}|[\d\W_]*|true|false", re.IGNORECASE)


@dataclass(frozen=True)
class TextFile:
    """A file of texts that can be read.

    Attributes:
        path: Path of the file.
        column: Column, or key of each object, with the texts; "text" for .txt.
        columns: All columns, in order; of a .jsonl file, the keys of its first object.
        delimiter: Character between the fields of a .csv or .tsv file, else None.
    """

    path: Path
    column: str
    columns: tuple[str, ...]
    delimiter: str | None = None


class Row(NamedTuple):
    """A row of a file.

    Attributes:
        text: The text.
        values: The values of all columns by name, the text included; empty if only texts are read.
    """

    text: str
    values: Mapping[str, Any]


class Source(Protocol):
    """Functions of the module of a file format."""

    def find(self, path: Path, column: str | None) -> TextFile:
        """Check the column that the user named, or find the only column of texts if it is None."""

    def read(self, file: TextFile, *, whole: bool) -> Iterator[Row]:
        """Read the rows in order: their texts, and all of their values if `whole`."""


class Columns(NamedTuple):
    """The columns of a file.

    Attributes:
        all: All columns, in order.
        strings: The columns that hold strings, each with some of its values.
    """

    all: Sequence[str]
    strings: Mapping[str, Sequence[str]]


def choose_column(path: Path, columns: Columns, column: str | None) -> str:
    """Check a column, or choose the only column of texts.

    Numbers, dates and ids are not texts: they count only where the file has no other strings.

    Args:
        path: Path of the file, for error messages.
        columns: Columns of the file.
        column: Column that the user named, or None.

    Raises:
        InputError: (a ValueError) the column does not exist once, or there is not exactly one column of texts.

    Example:
        >>> choose_column(Path("texts.csv"), Columns(["id", "body"], {"id": ["1"], "body": ["a text"]}), None)
        'body'
    """
    if column is None:
        texts = [name for name, values in columns.strings.items() if not holds_codes(values)] or list(columns.strings)
        if len(texts) != 1:
            problem = "no column of strings" if not texts else "more than one column of strings"
            raise InputError(f"column: {path} has {problem}, so name one with --column; {list_columns(columns.all)}")
        column = texts[0]
    if columns.all.count(column) != 1:
        problem = "no column" if column not in columns.all else "more than one column"
        inside = column not in columns.all and column.partition(".")[0] in columns.all
        hint = " (a field inside of a column cannot be read)" if inside else ""
        raise InputError(f"column: {path} has {problem} {column!r}{hint}; {list_columns(columns.all)}")
    return column


def holds_codes(values: Sequence[str]) -> bool:
    """Whether values are numbers, dates, ids or truth values, and no texts. Blank values say nothing.

    Example:
        >>> holds_codes(["17", "-1.5e3", "2026-01-31 10:00", "doc-7", "", "true"]), holds_codes(["17", "yes, 17"])
        (True, False)
    """
    return all(_CODE.fullmatch(value.strip()) for value in values)


def list_columns(columns: Sequence[str]) -> str:
    """The columns of a file, for an error message.

    Example:
        >>> list_columns(["id", "body", " x"])
        "its columns are id, body, ' x'"
    """
    return f"its columns are {', '.join(map(_quoted, columns))}" if columns else "it has no columns"


def _quoted(name: str) -> str:
    """A name as it is, or in quotes where it would not be seen as one."""
    return name if name.isprintable() and name and name == name.strip() and ", " not in name else repr(name)
