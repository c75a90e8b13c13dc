"""The YAML files of `configs/`: what a user may want to change. What they mean is the business of their readers."""

from importlib.resources import files
from typing import Any

import yaml

# In a checkout a link to the top level, where people look for what they may edit; in a wheel the files themselves.
_FOLDER = files("leaderboard") / "configs"


def read_config(kind: str, name: str) -> dict[str, Any]:
    """What `configs/<kind>/<name>.yaml` says.

    Example:
        >>> len(read_config("benchmarks", "paper")["tasks"])
        32
    """
    found = yaml.safe_load(_FOLDER.joinpath(kind, f"{name}.yaml").read_text(encoding="utf-8"))
    return dict(found)


def config_names(kind: str) -> list[str]:
    """The names that `read_config` takes, in alphabetical order.

    Example:
        >>> config_names("benchmarks")
        ['paper', 'paper-fast', 'starter']
    """
    return sorted(path.name.removesuffix(".yaml") for path in _FOLDER.joinpath(kind).iterdir())
