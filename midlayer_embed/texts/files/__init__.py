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
from midlayer_embed.texts.files.lines import COMPRESSED
from midlayer_embed.texts.files.parquet import load_pyarrow
from midlayer_embed.texts.files.source import Row, Source, TextFile

__all__ = [
    "CHUNK_CHARACTERS",
    "CHUNK_TEXTS",
    "Row",
    "Survey",
    "TextFile",
    "describe",
    "find_texts",
    "format_of",
    "load_pyarrow",
    "read_chunks",
    "read_rows",
    "read_texts",
    "survey",
]

# Texts are sorted by length within a chunk, so a chunk is large enough to fill its batches.
CHUNK_TEXTS = 4096
CHUNK_CHARACTERS = 500_000

_SOURCES: dict[str, Source] = {
    ".txt": txt,
    ".jsonl": jsonl,
    ".ndjson": jsonl,
    ".json": jsonl,
    ".csv": csv,
    ".tsv": csv,
    ".parquet": parquet,
}
# Columns that a message lists by name.
_NAMED_COLUMNS = 8


@dataclass(frozen=True)
class Survey:
    """Summary of a whole file of texts.

    Attributes:
        n_texts: Number of texts.
        n_characters: Total length of the texts.
        n_blank: Number of texts that are empty or white space.
        sha256: Hash of the texts in order; the same for files of different formats with the same texts.
    """

    n_texts: int
    n_characters: int
    n_blank: int
    sha256: str


def find_texts(path: str | Path, column: str | None = None) -> TextFile:
    """Find the column of the texts in a file, reading only its head.

    Args:
        path: A .txt file with one text per line (a blank line is an empty text); a .jsonl, .ndjson or .json file with
            one object per line; a .csv or .tsv file with a header (both skip blank lines); or a .parquet file. Text is
            UTF-8, or UTF-16 with a byte order mark, and may be compressed: .txt.gz.
        column: Column of the texts; None: the only column of strings that are not all numbers, dates or ids (in a
            .jsonl file: of its first object).

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
    source = _SOURCES[format_of(path)]
    if path.is_dir() or not path.exists():
        raise InputError(f"input: {path} is a folder" if path.is_dir() else f"input: there is no file {path}")
    if not path.is_file():  # it is read more than once, which a pipe does not allow
        raise InputError(f"input: expected a regular file, got {path}")
    with _convert_os_errors(path):
        return source.find(path, column)


@contextmanager
def errors_about(argument: str, column: str | None = None) -> Iterator[None]:
    """Let errors about a file name another argument of the command than its main one.

    Args:
        argument: Name of the argument with the file.
        column: Name of that with its column; None: there is none.

    Example:
        >>> with errors_about("transform_texts", "transform_column"):
        ...     raise InputError("input: there is no file a.txt")
        Traceback (most recent call last):
        midlayer_embed.errors.InputError: transform_texts: there is no file a.txt
    """
    try:
        yield
    except InputError as error:
        named, _, said = str(error).partition(": ")
        if named == "column" and column is not None:
            argument, said = column, said.replace("--column", f"--{column.replace('_', '-')}")
        elif named == "column":
            said = said.replace(", so name one with --column", "")
        raise type(error)(f"{argument}: {said}") from None


def read_rows(file: TextFile, *, whole: bool = True) -> Iterator[Row]:
    """Read the rows of a file, in order.

    Args:
        file: The file, from `find_texts`.
        whole: Whether the values of all columns are read, or the texts alone.

    Raises:
        InputError: (a ValueError) a line or row is invalid; the message has its number, counted from 1.
    """
    with _convert_os_errors(file.path):
        yield from _SOURCES[format_of(file.path)].read(file, whole=whole)


def read_texts(file: TextFile) -> Iterator[str]:
    """Read the texts of a file, in order.

    Raises:
        InputError: (a ValueError) as in `read_rows`.
    """
    return (row.text for row in read_rows(file, whole=False))


def read_chunks(file: TextFile) -> Iterator[list[str]]:
    """Read the texts of a file in chunks of some thousands.

    Raises:
        InputError: (a ValueError) as in `read_rows`.
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


def survey(texts: Iterable[str]) -> Survey:
    """Read all texts and summarise them, so that errors in a file show before hours of work.

    Example:
        >>> survey(["a", "bc", ""]).n_characters
        3
    """
    n_texts = n_characters = n_blank = 0
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "little"))  # otherwise ["ab"] and ["a", "b"] have the same hash
        digest.update(data)
        n_characters += len(text)
        n_blank += not text.strip()
        n_texts += 1
    return Survey(n_texts, n_characters, n_blank, digest.hexdigest())


def describe(file: TextFile, n_texts: int, n_blank: int = 0) -> str:
    """What was read from a file, in one line.

    Args:
        file: The file.
        n_texts: Number of texts.
        n_blank: Number of texts that are empty or white space.

    Example:
        >>> describe(TextFile(Path("a.csv"), "body", ("id", "body"), ";"), 1200)
        "a.csv: 1,200 texts in column 'body' of 2 (id, body), separated by ';'"
        >>> describe(TextFile(Path("a.txt"), "text", ("text",)), 2, 2)
        'a.txt: 2 texts, one a line; all of them are blank'
    """
    if not n_texts:
        empty = file.path.stat().st_size == 0
        return f"{file.path} is empty" if empty else f"{file.path} has no texts, only blank lines or a header"
    one = "" if n_texts == 1 else "s"
    where = ", one a line"
    if format_of(file.path) != ".txt":
        named = ", ".join(file.columns[:_NAMED_COLUMNS]) + ", ..." * (len(file.columns) > _NAMED_COLUMNS)
        among = f" of {len(file.columns)} ({named})" if len(file.columns) > 1 else ""
        separated = f", separated by {file.delimiter!r}" if file.delimiter not in (None, ",") else ""
        where = f" in column {file.column!r}{among}{separated}"
    blank = "; all of them are blank" if n_blank == n_texts else ""
    return f"{file.path}: {n_texts:,} text{one}{where}{blank}"


def format_of(path: Path) -> str:
    """The ending of a file that tells its format, without that of its compression.

    Raises:
        InputError: (a ValueError) an unknown ending; the message lists those there are.

    Example:
        >>> format_of(Path("a.CSV")), format_of(Path("a.b.txt.gz"))
        ('.csv', '.txt')
    """
    compressed = path.suffix.lower() == COMPRESSED
    suffix = (path.with_suffix("") if compressed else path).suffix.lower()
    if suffix not in _SOURCES or (compressed and suffix == ".parquet"):
        known = f"{', '.join(_SOURCES)} (all but .parquet may be compressed: {COMPRESSED})"
        raise InputError(f"input: expected a file ending in {known}, got {path}")
    return suffix


@contextmanager
def _convert_os_errors(path: Path) -> Iterator[None]:
    """Convert errors of the operating system about a file to one-line input errors."""
    try:
        yield
    except OSError as error:
        raise InputError(f"input: {path} cannot be read: {error.strerror or error}") from error
