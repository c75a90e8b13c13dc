"""The tasks that our benchmarks pin, and their mteb Benchmarks. `benchmarks` creates the tasks.

`leaderboard.registry` imports this module as soon as mteb is imported. If this module imported mteb itself, it would
not be whole yet where it is the first to do so.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from leaderboard.config_files import read_config
from leaderboard.tasks.names import FAST_BENCHMARK, LARGE_VISION_BENCHMARK, PAPER_BENCHMARK, VISION_BENCHMARK

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask
    from mteb.benchmarks.benchmark import Benchmark

# The key of the tasks that a set adds to those of the benchmark that its file is named after.
_ADDED = {LARGE_VISION_BENCHMARK: (VISION_BENCHMARK, "large")}


def _config(name: str) -> dict[str, Any]:
    """The configuration of a benchmark."""
    if name not in _ADDED:
        return read_config("benchmarks", name)
    file, key = _ADDED[name]
    config = read_config("benchmarks", file)
    return {**config[key], "tasks": [*config["tasks"], *config[key]["tasks"]]}


# For each benchmark, by task name: name, dataset, revision, subset and split. The tasks of "starter" and
# "starter-vision" build their own data and pin nothing.
PINS: dict[str, dict[str, dict[str, str]]] = {
    benchmark: {pin["name"]: pin for pin in _config(benchmark)["tasks"]}
    for benchmark in (PAPER_BENCHMARK, FAST_BENCHMARK, VISION_BENCHMARK, LARGE_VISION_BENCHMARK)
}
# Names of the 32 tasks in the paper's Table 1.
PAPER_TASKS: tuple[str, ...] = tuple(PINS[PAPER_BENCHMARK])


def make_benchmark(name: str, tasks: "Sequence[AbsTask]") -> "Benchmark":
    """A Benchmark with the description in `configs/benchmarks`.

    Args:
        name: One of `BENCHMARKS`.
        tasks: Its tasks.
    """
    from mteb.benchmarks.benchmark import Benchmark

    config = _config(name)
    return Benchmark(
        name=name,
        tasks=tasks,
        description=config["description"],
        display_name=config["display_name"],
        language_view=["eng-Latn"],
    )
