import importlib
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]

GIVES_ROWS = """
import atexit
import subprocess
import sys
import benchmarks.bench
from benchmarks.bench import Row, build_parser, report_rows
lasting = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
atexit.register(lasting.kill)
print("a part: 1.0 s")
print("drawn:", benchmarks.bench.__file__)
subprocess.run([sys.executable, "-c", "print('said by a process of its own')"])
rows = [
    Row("one", "plain", 2.0, 1.5),
    Row("two", "-", 3.0, 1.0, at_least=False, unit=" s", note="or so", reason="it imports much"),
]
report_rows(rows, build_parser("rows").parse_args().rows)
"""
FAILS = "import sys; sys.exit('vectors differ')"


# Its own process: the runner forks.
RUNNER = """
from benchmarks import run
run.LIBRARIES, run.PROGRAMS = (), [(name,) for name in {programs}]
run.main()
"""


def run_all(folder: Path, *names: str, **programs: str) -> subprocess.CompletedProcess[str]:
    """Runs programs of these names and contents: all of them, or those named."""
    for name, content in programs.items():
        (folder / f"{name}.py").write_text(content)
    runner = RUNNER.format(programs=list(programs))
    command = [sys.executable, "-c", runner, *names, "--results", str(folder / "RESULTS.md")]
    paths = os.pathsep.join([str(ROOT), str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
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
        assert f"drawn: {Path('benchmarks', 'bench.py')}\n" in text


def test_what_is_written_names_no_path_of_a_machine() -> None:
    for name in ("RESULTS.md", "RESULTS.json", "serving/quality_scores.json"):
        text = (ROOT / "benchmarks" / name).read_text(encoding="utf-8").replace("\\n", "\n")
        assert re.findall(r"(?:^|(?<=[\s'\"(`]))/\w[\w.-]*/\S*", text, re.MULTILINE) == [], name


def test_nothing_is_written_where_a_program_fails(tmp_path: Path) -> None:
    done = run_all(tmp_path, fails=FAILS, rows=GIVES_ROWS)
    assert done.returncode == 1
    assert "is not written, because programs failed: fails" in done.stderr
    assert "vectors differ" in done.stderr
    assert not (tmp_path / "RESULTS.md").exists()


def test_programs_that_are_not_named_keep_what_they_gave(tmp_path: Path) -> None:
    assert run_all(tmp_path, rows=GIVES_ROWS, other="print('first')").returncode == 0
    done = run_all(tmp_path, "other", rows=FAILS, other="print('second')")
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "RESULTS.md").read_text()
    assert "| one | plain | at least 1.5x | 2x | yes |" in written
    assert written.index("a part: 1.0 s") < written.index("second")
    assert "first" not in written


def test_an_unknown_program_is_told_in_one_line(tmp_path: Path) -> None:
    done = run_all(tmp_path, "nope", rows=GIVES_ROWS)
    assert done.returncode == 2
    assert "PROGRAM: expected some of rows; got nope" in done.stderr


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The runner, as a module."""
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.run")


def test_every_program_of_the_table_is_there(run: ModuleType) -> None:
    assert [command[0] for command in run.PROGRAMS if find_spec(command[0]) is None] == []


def test_the_target_itself_is_reached(run: ModuleType) -> None:
    assert run.Row("a", "b", 10.0, 10.0).reached
    assert not run.Row("a", "b", 9.99, 10.0).reached
    assert run.Row("a", "b", 1.05, 1.05, at_least=False).reached
    assert not run.Row("a", "b", 1.06, 1.05, at_least=False).reached
