"""What is in a whole file: its SHA-256, its JSON."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from midlayer_embed.errors import InputError, first_line

_CHUNK = 1 << 20


def file_sha256(path: Path, on_read: Callable[[int], object] | None = None) -> str:
    """Hexadecimal SHA-256 of a file, which is read in chunks.

    Args:
        path: The file.
        on_read: Function that is called with the number of bytes of each chunk, to show progress; or None.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            if on_read is not None:
                on_read(len(chunk))
    return digest.hexdigest()


def read_json(path: Path, argument: str) -> Any:
    """What a JSON file holds.

    Args:
        path: The file.
        argument: What the user gave that it belongs to, for messages.

    Raises:
        InputError: (a ValueError) it cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{argument}: {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{argument}: {path} is not valid JSON: {first_line(error)}") from error


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file as transformers does: indented, keys in order, infinity by Python's name."""
    path.write_text(json.dumps(value, indent=2, sort_keys=isinstance(value, dict)) + "\n", encoding="utf-8")
