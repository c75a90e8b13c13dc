"""Slow tests first, so that no worker is left alone with one at the end; a file's tests stay together.

How long they take is in `durations.json`: the slowest test of each file, in seconds. To write it anew:
`python -m pytest --numprocesses 2 --record-durations`.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

DURATIONS = Path(__file__).with_name("durations.json")
_SLOW = 0.5


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def in_order(items: Sequence[pytest.Item], n_workers: int) -> list[pytest.Item]:
    """The order in which to run tests.

    Args:
        items: As they were collected.
        n_workers: Among which pytest-xdist divides them, in equal parts that it evens out later from their ends.
    """
    slowest: dict[str, float] = json.loads(DURATIONS.read_text())
    by_file: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        by_file[_file(item.nodeid)].append(item)
    slow = sorted((file for file in by_file if file in slowest), key=lambda file: -slowest[file])
    quick = [item for file, tests in by_file.items() if file not in slowest for item in tests]
    ordered: list[pytest.Item] = []
    for worker in range(n_workers):
        ordered += [item for file in slow[worker::n_workers] for item in by_file[file]]
        n_missing = len(items) * (worker + 1) // n_workers - len(ordered)
        ordered += quick[: max(0, n_missing)]
        del quick[: max(0, n_missing)]
    return ordered + quick


class Recorder:
    """A plugin that notes how long tests take, and writes `durations.json` when all have passed."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        slowest: dict[str, float] = {}
        for nodeid, seconds in self.seconds.items():
            slowest[_file(nodeid)] = max(slowest.get(_file(nodeid), 0), round(seconds, 1))
        if exitstatus == pytest.ExitCode.OK:
            written = {file: seconds for file, seconds in sorted(slowest.items()) if seconds >= _SLOW}
            DURATIONS.write_text(json.dumps(written, indent=1) + "\n")
