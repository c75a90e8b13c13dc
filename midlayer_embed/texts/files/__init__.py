"""Reads texts from .txt, .jsonl, .csv and .parquet files in chunks. No file is held in memory, no model is needed.

Each format has a module here, with the functions of `source.Source`. Chunk boundaries are the same whenever a file is
read, so an interrupted run can continue.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from midlayer_embed.errors import InputError
from midlayer_embed.ground.paths import user_path
from midlayer_embed.texts.files import csv, jsonl, parquet, txt
from midlayer_embed.texts.files.parquet import load_pyarrow
from midlayer_embed.texts.files.source import Source

__all__ = [
    "CHUNK_CHARACTERS",
    "CHUNK_TEXTS",
    "Survey",
    "TextFile",
    "find_texts",
    "load_pyarrow",
    "read_chunks",
    "read_texts",
    "survey",
]

# A killed run loses at most one chunk, and texts are sorted by length within a chunk: seconds to a minute on a CPU.
CHUNK_TEXTS = 4096
CHUNK_CHARACTERS = 500_000

_SOURCES: dict[str, Source] = {".txt": txt, ".jsonl": jsonl, ".csv": csv, ".parquet": parquet}


@dataclass(frozen=True)
class TextFile:
    """A file of texts that can be read.

    Attributes:
        path: Path of the file.
        column: Column, or key of each object, with the texts; "text" for .txt.
    """

    path: Path
    column: str


@dataclass(frozen=True)
class Survey:
    """Summary of a whole file of texts.

    Attributes:
        n_texts: Number of texts.
        n_characters: Total length of the texts.
        sha256: Hash of the texts in order; the same for files of different formats with the same texts.
    """

    n_texts: int
    n_characters: int
    sha256: str


def find_texts(path: str | Path, column: str | None = None) -> TextFile:
    """Find the column of the texts in a file, reading only its head.

    Args:
        path: A .txt file with one text per line (a blank line is an empty text), a .jsonl file with one object per
            line, a .csv file with a header (both skip blank lines), or a .parquet file. Text is UTF-8.
        column: Column of the texts; None: the only column of strings (in a .jsonl file: of its first object).

    Raises:
        InputError: (a ValueError) no such file, an unknown extension, or no such column; the message lists the columns.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "texts.jsonl"
        >>> _ = path.write_text('{"id": 1, "body": "a text"}')
        >>> find_texts(path).column
        'body'
    """
    path = user_path(path, "input")
    source = _find_source(path)
    if path.is_dir() or not path.exists():
        raise InputError(f"input: {path} is a folder" if path.is_dir() else f"input: there is no file {path}")
    if not path.is_file():  # it is read more than once, which a pipe does not allow
        raise InputError(f"input: expected a regular file, got {path}")
    with _convert_os_errors(path):
        return TextFile(path, source.find_column(path, column))


def read_texts(file: TextFile) -> Iterator[str]:
    """Read the texts of a file, in order.

    Raises:
        InputError: (a ValueError) a line or row is invalid; the message has its number, counted from 1.
    """
    with _convert_os_errors(file.path):
        yield from _find_source(file.path).read_column(file.path, file.column)


def read_chunks(file: TextFile) -> Iterator[list[str]]:
    """Read the texts of a file in chunks of some thousands.

    Raises:
        InputError: (a ValueError) as in `read_texts`.
    """
    chunk: list[str] = []
    n_characters = 0
    for text in read_texts(file):
        chunk.append(text)
        n_characters += len(text)
        if len(chunk) >= CHUNK_TEXTS or n_characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, n_characters = [], 0
    if chunk:
        yield chunk


def survey(chunks: Iterable[list[str]]) -> Survey:
    """Read all chunks and summarise them, so that errors in a file show before hours of work.

    Example:
        >>> survey([["a", "bc"], [""]]).n_characters
        3
    """
    n_texts = n_characters = 0
    digest = hashlib.sha256()
    for chunk in chunks:
        for text in chunk:
            data = text.encode()
            digest.update(len(data).to_bytes(8, "little"))  # otherwise ["ab"] and ["a", "b"] have the same hash
            digest.update(data)
            n_characters += len(text)
        n_texts += len(chunk)
    return Survey(n_texts, n_characters, digest.hexdigest())


def _find_source(path: Path) -> Source:
    try:
        return _SOURCES[path.suffix.lower()]
    except KeyError:
        raise InputError(f"input: expected a file ending in {', '.join(_SOURCES)}, got {path}") from None


@contextmanager
def _convert_os_errors(path: Path) -> Iterator[None]:
    """Convert errors of the operating system about a file to one-line input errors."""
    try:
        yield
    except OSError as error:
        raise InputError(f"input: {path} cannot be read: {error.strerror or error}") from error
