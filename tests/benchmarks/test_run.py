import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

GIVES_ROWS = """
import atexit
import subprocess
import sys
from bench import Row, hand_in, parser
lasting = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
atexit.register(lasting.kill)
print("a part: 1.0 s")
subprocess.run([sys.executable, "-c", "print('said by a process of its own')"])
rows = [
    Row("one", "plain", 2.0, 1.5),
    Row("two", "-", 3.0, 1.0, at_least=False, unit=" s", beside="or so", reason="it imports much"),
]
hand_in(rows, parser("rows").parse_args().rows)
"""
FAILS = "import sys; sys.exit('vectors differ')"


# Its own process: the runner forks.
RUNNER = """
import sys
from pathlib import Path
import run
run.HERE, run.LIBRARIES, run.PROGRAMS = Path(sys.argv.pop()), (), [(name,) for name in {programs}]
run.main()
"""


def run_all(folder: Path, **programs: str) -> subprocess.CompletedProcess[str]:
    """Runs programs of these names and contents."""
    for name, content in programs.items():
        (folder / f"{name}.py").write_text(content)
    runner = RUNNER.format(programs=[f"{name}.py" for name in programs])
    command = [sys.executable, "-c", runner, "--results", str(folder / "RESULTS.md"), str(folder)]
    paths = os.pathsep.join([str(BENCHMARKS), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": paths})


def test_rows_and_words_of_every_program_are_written(tmp_path: Path) -> None:
    done = run_all(tmp_path, rows=GIVES_ROWS)
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "RESULTS.md").read_text()
    assert "| one | plain | at least 1.5x | 2x | yes |" in written
    assert "| two | - | at most 1 s | 3 s (or so) | no |" in written
    assert "- two: 3 s (or so), at most 1 s. it imports much" in written
    for text in (written, done.stdout):
        assert "a part: 1.0 s" in text
        assert "said by a process of its own" in text


def test_nothing_is_written_where_a_program_fails(tmp_path: Path) -> None:
    done = run_all(tmp_path, fails=FAILS, rows=GIVES_ROWS)
    assert done.returncode == 1
    assert "not written: fails.py" in done.stderr
    assert "vectors differ" in done.stderr
    assert not (tmp_path / "RESULTS.md").exists()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The runner, to be looked at."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("run")
    del sys.modules["run"], sys.modules["bench"]


def test_every_program_of_the_table_is_there(run: ModuleType) -> None:
    assert [command[0] for command in run.PROGRAMS if not (BENCHMARKS / command[0]).is_file()] == []


def test_a_reach_itself_is_reached(run: ModuleType) -> None:
    assert run.Row("a", "b", 10.0, 10.0).reached
    assert not run.Row("a", "b", 9.99, 10.0).reached
    assert run.Row("a", "b", 1.05, 1.05, at_least=False).reached
    assert not run.Row("a", "b", 1.06, 1.05, at_least=False).reached
