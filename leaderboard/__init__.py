"""MTEB scores and representation metrics for every layer of a language model.

The names below are imported on first use, because importing mteb takes seconds. Once this package and mteb are both
imported, in either order, mteb finds our benchmarks and models by name (see `leaderboard.registry`).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from wrapt import register_post_import_hook

if TYPE_CHECKING:
    from leaderboard.board import Leaderboard, load_results, load_tables
    from leaderboard.models.layer import get_model
    from leaderboard.results.files.merging import MergeConflict, MergeReport, merge_results
    from leaderboard.results.for_mteb import mteb_results
    from leaderboard.sweep.run import TasksFailed, run_sweep
    from leaderboard.tasks.benchmarks import get_benchmark
    from leaderboard.tasks.pins import PAPER_TASKS

__all__ = [
    "PAPER_TASKS",
    "Leaderboard",
    "MergeConflict",
    "MergeReport",
    "TasksFailed",
    "get_benchmark",
    "get_model",
    "load_results",
    "load_tables",
    "merge_results",
    "mteb_results",
    "run_sweep",
]

_HOMES = {
    "PAPER_TASKS": "leaderboard.tasks.pins",
    "Leaderboard": "leaderboard.board",
    "MergeConflict": "leaderboard.results.files.merging",
    "MergeReport": "leaderboard.results.files.merging",
    "TasksFailed": "leaderboard.sweep.run",
    "get_benchmark": "leaderboard.tasks.benchmarks",
    "get_model": "leaderboard.models.layer",
    "load_results": "leaderboard.board",
    "load_tables": "leaderboard.board",
    "merge_results": "leaderboard.results.files.merging",
    "mteb_results": "leaderboard.results.for_mteb",
    "run_sweep": "leaderboard.sweep.run",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# Runs now if mteb is imported already. The module is imported whole, no name from it: it may be importing mteb itself.
register_post_import_hook(lambda _mteb: import_module("leaderboard.registry"), "mteb")
