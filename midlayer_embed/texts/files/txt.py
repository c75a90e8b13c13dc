"""Plain text files: one text per line. A blank line is an empty text."""

from collections.abc import Iterator
from pathlib import Path

from midlayer_embed.errors import InputError
from midlayer_embed.texts.files.lines import read_lines
from midlayer_embed.texts.files.source import Row, TextFile

_COLUMN = "text"


def find(path: Path, column: str | None) -> TextFile:
    """The lines of the file are the texts; their column is "text".

    Raises:
        InputError: (a ValueError) the user named a column.
    """
    if column is not None:
        raise InputError(f"column: a .txt file has no columns, got {column!r}")
    return TextFile(path, _COLUMN, (_COLUMN,))


def read(file: TextFile, *, whole: bool) -> Iterator[Row]:
    """Read the lines of the file, without their ends."""
    for line in read_lines(file.path):
        text = line.removesuffix("\n").removesuffix("\r")
        yield Row(text, {_COLUMN: text} if whole else {})
