"""JSON files of a saved folder."""

import json
from pathlib import Path
from typing import Any


def read_json(file: Path) -> Any:
    """What a JSON file holds."""
    return json.loads(file.read_text(encoding="utf-8"))


def write_json(file: Path, value: Any) -> None:
    """Write a JSON file as the libraries do: indented, keys in order, floats like infinity by Python's names."""
    file.write_text(json.dumps(value, indent=2, sort_keys=isinstance(value, dict)) + "\n", encoding="utf-8")
