"""Probes: small classifiers that are trained on the frozen states of every layer.

The names below are imported on first use, because they need torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leaderboard.probes.layers import probe_layers
    from leaderboard.probes.linear import linear_probe
    from leaderboard.probes.probing import attention_probe

__all__ = ["attention_probe", "linear_probe", "probe_layers"]

_HOMES = {
    "attention_probe": "leaderboard.probes.probing",
    "linear_probe": "leaderboard.probes.linear",
    "probe_layers": "leaderboard.probes.layers",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
