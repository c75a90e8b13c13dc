import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

GIVES_ROWS = """
from bench import Row, hand_in, parser
print("a part: 1.0 s")
rows = [
    Row("one", "plain", 2.0, 1.5),
    Row("two", "-", 3.0, 1.0, at_least=False, unit=" s", beside="or so", reason="it imports much"),
]
hand_in(rows, parser("rows").parse_args().rows)
"""
FAILS = "import sys; sys.exit('vectors differ')"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    """The runner, which finds its programs in the test's folder."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("PYTHONPATH", str(BENCHMARKS), prepend=":")
    import run as module

    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["run.py", "--results", str(tmp_path / "RESULTS.md")])
    yield module
    del sys.modules["run"], sys.modules["bench"]


def test_rows_and_words_of_every_program_are_written(
    run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows.py").write_text(GIVES_ROWS)
    monkeypatch.setattr(run, "PROGRAMS", (("rows.py",),))
    run.main()
    written = (tmp_path / "RESULTS.md").read_text()
    assert "| one | plain | at least 1.5x | 2x | yes |" in written
    assert "| two | - | at most 1 s | 3 s (or so) | no |" in written
    assert "- two: 3 s (or so), at most 1 s. it imports much" in written
    assert "a part: 1.0 s" in written


def test_nothing_is_written_where_a_program_fails(
    run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows.py").write_text(GIVES_ROWS)
    (tmp_path / "fails.py").write_text(FAILS)
    monkeypatch.setattr(run, "PROGRAMS", (("fails.py",), ("rows.py",)))
    with pytest.raises(SystemExit, match="fails.py"):
        run.main()
    assert not (tmp_path / "RESULTS.md").exists()


def test_every_program_of_the_table_is_there(run: ModuleType) -> None:
    assert [command[0] for command in run.PROGRAMS if not (BENCHMARKS / command[0]).is_file()] == []


def test_a_reach_itself_is_reached(run: ModuleType) -> None:
    assert run.Row("a", "b", 10.0, 10.0).reached
    assert not run.Row("a", "b", 9.99, 10.0).reached
    assert run.Row("a", "b", 1.05, 1.05, at_least=False).reached
    assert not run.Row("a", "b", 1.06, 1.05, at_least=False).reached
