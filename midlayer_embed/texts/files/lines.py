r"""The lines of a text file: UTF-8, or UTF-16 with a byte order mark; compressed with gzip if its name ends in .gz.

Only "\n" ends a line, because a text may contain other characters that break lines. In a file of an old Mac, which has
no "\n", "\r" ends a line.
"""

import codecs
import gzip
import zlib
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import IO

from midlayer_embed.errors import InputError

COMPRESSED = ".gz"

# Bytes that tell how a file is spelt.
_HEAD_BYTES = 1 << 20
_ESCAPED = 0xDC00  # plus the byte: what "surrogateescape" puts in place of a byte that is not UTF-8


def read_lines(path: Path) -> Iterator[str]:
    """Decode the lines of a file, with their ends. A byte order mark at the start is dropped.

    Raises:
        InputError: (a ValueError) a line is not UTF-8 (or UTF-16, in a file that starts with its mark), or the
            compressed file is damaged.
    """
    try:
        encoding, end = _spelling(path)
        with _open(path) as file, TextIOWrapper(file, encoding=encoding, newline=end) as lines:
            yield from lines
    except UnicodeDecodeError as error:
        raise InputError(f"input: {path}{_place(path, encoding, end, error)}") from None
    except (EOFError, zlib.error) as error:
        raise InputError(f"input: {path} is not a whole gzip file ({error})") from None


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix.lower() == COMPRESSED else path.open("rb")  # type: ignore[return-value]


def _spelling(path: Path) -> tuple[str, str]:
    """The encoding of a file, and what ends its lines."""
    with _open(path) as file:
        head = file.read(_HEAD_BYTES)
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise InputError(f"input: {path} is UTF-32; expected UTF-8")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif any(2 * head[start::2].count(0) > len(head[start::2]) for start in (0, 1)):
        raise InputError(f"input: {path} looks like UTF-16 without a byte order mark; expected UTF-8")
    else:
        encoding = "utf-8-sig"
    text = head.decode(encoding, "replace")
    if len(head) == _HEAD_BYTES:
        text = text[:-1]  # a "\n" may follow
    return encoding, "\r" if "\r" in text and "\n" not in text else "\n"


def _place(path: Path, encoding: str, end: str, error: UnicodeDecodeError) -> str:
    """Where a file stops to be readable: the number of the line, and of the byte in it, counted from 1."""
    if encoding == "utf-16":
        return f" is not valid UTF-16 ({error.reason})"
    escaped = "surrogateescape"
    with _open(path) as file, TextIOWrapper(file, encoding=encoding, newline=end, errors=escaped) as lines:
        for number, line in enumerate(lines, start=1):
            for position, character in enumerate(line):
                if _ESCAPED + 0x80 <= ord(character) <= _ESCAPED + 0xFF:
                    byte, before = ord(character) - _ESCAPED, len(line[:position].encode("utf-8"))
                    return (
                        f", line {number}: not UTF-8 (byte 0x{byte:02x} at {before + 1}); "
                        "expected UTF-8, or UTF-16 with a byte order mark"
                    )
    return f": not UTF-8 ({error.reason})"
