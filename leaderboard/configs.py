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
    found = yaml.safe_load((_place() / kind / f"{name}.yaml").read_text(encoding="utf-8"))
    return dict(found)


def config_names(kind: str) -> list[str]:
    """The names that `read_config` takes, in alphabetical order.

    Example:
        >>> config_names("benchmarks")
        ['paper', 'paper-fast', 'starter']
    """
    return sorted(path.stem for path in (_place() / kind).glob("*.yaml"))


def _place() -> Path:
    return next(place for place in _PLACES if place.is_dir())
