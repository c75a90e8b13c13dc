import io
import itertools
import re
import sys
import threading
from collections.abc import Callable

import pytest

from midlayer_embed.ground import progress as module
from midlayer_embed.ground.progress import progress


class _Terminal(io.StringIO):
    """A stderr that is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def _terminal(monkeypatch: pytest.MonkeyPatch, kind: str = "xterm") -> _Terminal:
    """Puts a terminal in the place of stderr. pytest would put its own stream there after a fixture."""
    found = _Terminal()
    monkeypatch.setattr(sys, "stderr", found)
    monkeypatch.setenv("TERM", kind)
    return found


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets the clock of every bar go on; it stands still otherwise."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


def test_a_bar_that_is_not_shown_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(2, "Measuring", "metric", False, items="ab")) == ["a", "b"]
    assert capsys.readouterr() == ("", "")


def test_a_bar_names_the_work_and_its_unit_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    with progress(2000, "Encoding", "tok", True) as bar:
        bar.update(2000)
    with progress(2, "Resampling", "half", True) as bar:
        bar.update(2)
    shown = terminal.getvalue()
    assert "Encoding: 100%" in shown and "2.00k/2.00k" in shown and "tok/s" in shown
    assert "Resampling: 100%" in shown and "2/2" in shown


def test_short_work_shows_no_bar_before_its_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    with progress(2, "views", "view", True, delay=60) as bar:
        bar.update(2)
    assert "views" not in terminal.getvalue()


@pytest.mark.parametrize(("n", "n_lines"), [(3400, 17), (3450, 18)])
def test_off_a_terminal_there_is_a_line_every_ten_seconds_and_a_last_one(
    wait: Callable[[float], None], capsys: pytest.CaptureFixture[str], n: int, n_lines: int
) -> None:
    with progress(n, "Encoding", "tok", True) as bar:
        for _ in range(n // 10):
            wait(0.5)
            bar.update(10)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == n_lines
    assert lines[0] == f"Encoding: 6% 200/{n / 1000:.2f}k tok, {'2:40' if n == 3400 else '2:42'} left"
    assert lines[-1].startswith(f"Encoding: 100% {n / 1000:.2f}k/{n / 1000:.2f}k tok, after 2:5")


def test_off_a_terminal_short_work_writes_nothing(
    wait: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in progress(9, "Measuring", "layer", True, items=range(9)):
        wait(1)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("slow", [1, 25])
def test_lines_are_never_closer_than_ten_seconds(
    wait: Callable[[float], None], monkeypatch: pytest.MonkeyPatch, slow: int
) -> None:
    seen = []
    monkeypatch.setattr(module.Lines, "_write", lambda self, now: (seen.append(now), setattr(self, "_last", now)))
    with progress(None, "Reading", " texts", True) as bar:
        for _ in range(100):
            wait(slow)
            bar.update()
    assert min(second - first for first, second in itertools.pairwise(seen)) >= 10


def test_work_that_goes_on_from_before_is_not_faster_for_it(
    wait: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress(1000, "Encoding", "char", True) as bar:
        bar.initial = bar.n = 900
        wait(10)
        bar.set_postfix_str("9 of 10 texts")
        bar.update(10)
        assert capsys.readouterr().err == "Encoding: 91% 910/1.00k char, 1:30 left, 9 of 10 texts\n"


def test_the_last_line_is_not_written_twice(wait: Callable[[float], None], capsys: pytest.CaptureFixture[str]) -> None:
    with progress(2, "Resampling", "half", True) as bar:
        wait(11)
        bar.update(2)
    assert capsys.readouterr().err == "Resampling: 100% 2/2 half, after 0:11\n"


def test_a_dumb_terminal_gets_lines(wait: Callable[[float], None], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch, "dumb")
    with progress(2, "Encoding", "layer", True) as bar:
        wait(20)
        bar.update(1)
    assert terminal.getvalue().splitlines()[0] == "Encoding: 50% 1/2 layer, 0:20 left"


@pytest.mark.parametrize("stream", [None, "closed"])
def test_work_goes_on_where_stderr_is_gone(
    wait: Callable[[float], None], monkeypatch: pytest.MonkeyPatch, stream: str | None
) -> None:
    gone = io.StringIO()
    gone.close()
    monkeypatch.setattr(sys, "stderr", None if stream is None else gone)
    if stream:
        monkeypatch.setattr(module, "has_terminal", lambda: False)
    done = []
    for item in progress(2, "Measuring", "layer", True, items="ab"):
        wait(20)
        done.append(item)
    assert done == ["a", "b"]


def test_threads_may_count(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(4000, "prefetch", "B", True) as bar:
        threads = [threading.Thread(target=lambda: [bar.update(1) for _ in range(1000)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert bar.n == 4000


@pytest.mark.parametrize("kind", ["xterm", "dumb"])
def test_the_start_of_processes_is_not_in_the_estimate(
    wait: Callable[[float], None], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Two processes take a minute to start, and then 30 seconds a layer each."""
    terminal = _terminal(monkeypatch, kind)
    with progress(10, "scoring", "layer", True, at_once=2) as bar:
        for number in range(10):
            wait(90 if number == 0 else 0.1 if number % 2 else 29.9)
            bar.update()
    pattern = r"(\d+)/10 \[[^<]*<([0-9:?]+)," if kind == "xterm" else r"(\d+)/10 layer, (?:([0-9:]+) left|after)"
    estimates = {int(n): left for n, left in re.findall(pattern, terminal.getvalue()) if int(n) < 10}
    assert estimates[1] in ("?", "")
    assert {3, 5, 7, 9} <= estimates.keys()
    for n in (3, 5, 7, 9):
        minutes, seconds = estimates[n].split(":")
        assert abs(int(minutes) * 60 + int(seconds) - (10 - n) * 15) <= 1
