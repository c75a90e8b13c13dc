"""MTEB for every layer of a language model, beside its representation metrics.

The names below are loaded on first use: mteb takes seconds to import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leaderboard.results import Leaderboard, load_results
    from leaderboard.sweep import TasksFailed, run_sweep
    from leaderboard.tasks import PAPER_TASKS, get_benchmark

__all__ = ["PAPER_TASKS", "Leaderboard", "TasksFailed", "get_benchmark", "load_results", "run_sweep"]

_HOMES = {
    "PAPER_TASKS": "leaderboard.tasks",
    "Leaderboard": "leaderboard.results",
    "TasksFailed": "leaderboard.sweep",
    "get_benchmark": "leaderboard.tasks",
    "load_results": "leaderboard.results",
    "run_sweep": "leaderboard.sweep",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
