"""The YAML files of `configs/`: what a user may want to change. What they mean is the business of their readers."""

from pathlib import Path
from typing import Any

import yaml

_HERE = Path(__file__).parent
# In an installed wheel the files stand inside this package, in a checkout beside it.
_PLACES = (_HERE / "configs", _HERE.parent / "configs")


def read_config(kind: str, name: str) -> dict[str, Any]:
    """What `configs/<kind>/<name>.yaml` says.

    Example:
        >>> len(read_config("benchmarks", "paper")["tasks"])
        32
    """
    place = next(place for place in _PLACES if place.is_dir())
    found = yaml.safe_load((place / kind / f"{name}.yaml").read_text(encoding="utf-8"))
    return dict(found)
