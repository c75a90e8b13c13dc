"""What the module of a file format defines, and what the formats share: decoding of lines, choice of a column."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from midlayer_embed.errors import InputError


class Source(Protocol):
    """Functions of the module of a file format."""

    def find_column(self, path: Path, column: str | None) -> str:
        """Check the column that the user named, or find the only column of strings if it is None."""

    def read_column(self, path: Path, column: str) -> Iterator[str]:
        """Read the texts of a column, in order."""


class Columns(NamedTuple):
    """Column names of a file.

    Attributes:
        all: All columns, in order.
        strings: The columns that hold strings.
    """

    all: list[str]
    strings: list[str]


def choose_column(path: Path, columns: Columns | None, column: str | None) -> str:
    """Check a column, or choose the only column of strings.

    Args:
        path: Path of the file, for error messages.
        columns: Columns of the file; None if it is empty and every column is accepted.
        column: Column that the user named, or None.

    Raises:
        InputError: (a ValueError) the column does not exist once, or there is not exactly one column of strings.

    Example:
        >>> choose_column(Path("texts.csv"), Columns(["id", "body"], ["body"]), None)
        'body'
    """
    if columns is None:
        return column or "text"
    if column is not None:
        if columns.all.count(column) != 1:
            problem = "no column" if column not in columns.all else "more than one column"
            raise InputError(f"column: {path} has {problem} {column!r}; {list_columns(columns.all)}")
        return column
    if len(columns.strings) != 1:
        problem = "no column of strings" if not columns.strings else "more than one column of strings"
        raise InputError(f"column: {path} has {problem}, so name one with --column; {list_columns(columns.all)}")
    return columns.strings[0]


def list_columns(columns: Sequence[str]) -> str:
    """The columns of a file, for an error message.

    Example:
        >>> list_columns(["id", "body"])
        'its columns are id, body'
    """
    return f"its columns are {', '.join(columns)}" if columns else "it has no columns"


def read_lines(path: Path) -> Iterator[str]:
    """Decode the lines of a UTF-8 file, with their ends.

    Only newlines end a line, because a text may contain other characters that break lines. A byte order mark at the
    start is dropped.

    Raises:
        InputError: (a ValueError) a line is not UTF-8.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                decoded = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"input: {path}, line {number}: not UTF-8 (byte 0x{line[error.start]:02x} at {error.start + 1})"
                ) from None
            yield decoded
