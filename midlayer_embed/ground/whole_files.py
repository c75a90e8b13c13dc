"""What is in a whole file: its SHA-256, its JSON."""

import hashlib
import json
from pathlib import Path
from typing import Any

from midlayer_embed.errors import InputError, first_line

_CHUNK = 1 << 20


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, which is read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
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
