"""Reads the YAML files of `configs/`, which users may edit. Their meaning is defined by the modules that read them."""

from importlib.resources import files
from typing import Any

import yaml

# In a checkout, a link to the top-level folder `configs`; in a wheel, the files themselves.
_FOLDER = files("leaderboard") / "configs"


def read_config(kind: str, name: str) -> dict[str, Any]:
    """The content of `configs/<kind>/<name>.yaml`.

    Example:
        >>> len(read_config("benchmarks", "paper")["tasks"])
        32
    """
    found = yaml.safe_load(_FOLDER.joinpath(kind, f"{name}.yaml").read_text(encoding="utf-8"))
    return dict(found)


def config_names(kind: str) -> list[str]:
    """Names of the files of one kind, in alphabetical order.

    Example:
        >>> config_names("benchmarks")
        ['paper', 'paper-fast', 'starter', 'starter-vision', 'vision']
    """
    return sorted(path.name.removesuffix(".yaml") for path in _FOLDER.joinpath(kind).iterdir())
