"""MTEB for every layer of a language model, beside its representation metrics.

The names below are loaded on first use: mteb takes seconds to import. Where mteb itself is imported, before or after,
it finds our benchmarks and models by name (see `leaderboard.registry`).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from wrapt import register_post_import_hook

if TYPE_CHECKING:
    from leaderboard.models.layer import get_model
    from leaderboard.results.table_files import load_tables
    from leaderboard.results.tables import Leaderboard, load_results
    from leaderboard.sweep.run import TasksFailed, run_sweep
    from leaderboard.tasks.benchmarks import PAPER_TASKS, get_benchmark

__all__ = [
    "PAPER_TASKS",
    "Leaderboard",
    "TasksFailed",
    "get_benchmark",
    "get_model",
    "load_results",
    "load_tables",
    "run_sweep",
]

_HOMES = {
    "PAPER_TASKS": "leaderboard.tasks.benchmarks",
    "Leaderboard": "leaderboard.results.tables",
    "TasksFailed": "leaderboard.sweep.run",
    "get_benchmark": "leaderboard.tasks.benchmarks",
    "get_model": "leaderboard.models.layer",
    "load_results": "leaderboard.results.tables",
    "load_tables": "leaderboard.results.table_files",
    "run_sweep": "leaderboard.sweep.run",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# Now, if mteb has been imported already. No name is taken out of the registry: it may itself be importing mteb.
register_post_import_hook(lambda _mteb: import_module("leaderboard.registry"), "mteb")
