"""Plain text files: one text per line. A blank line is an empty text."""

from collections.abc import Iterator
from pathlib import Path

from midlayer_embed.errors import InputError
from midlayer_embed.texts.files.source import read_lines


def find_column(path: Path, column: str | None) -> str:
    """Return "text": the lines of the file are the texts.

    Raises:
        InputError: (a ValueError) the user named a column.
    """
    if column is not None:
        raise InputError(f"column: a {path.suffix} file has no columns, got {column!r}")
    return "text"


def read_column(path: Path, column: str) -> Iterator[str]:
    """Read the lines of the file, without their ends."""
    for line in read_lines(path):
        yield line.removesuffix("\n").removesuffix("\r")
