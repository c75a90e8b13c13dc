"""The comparison of a page with what came out can fail."""

from pathlib import Path

import pytest
from support.reading.pages import blocks, figures, is_like, is_rounded_on, missing_lines, shown_values

_PRINTED = """
layer depth mean
────────────────
    0  0.00 53.0
    7  0.23 63.2 best
   30  1.00 56.0 last
best layer 7 (depth 0.23): +7.2 points over the last layer
"""


@pytest.mark.parametrize(
    ("shown", "missing"),
    [
        ("    7  0.23 63.4 best", []),
        ("    0  0.00 53.0\n   30  1.00 56.0 last", []),  # rows may be left out
        ("    7  0.23 63.6 best", ["    7  0.23 63.6 best"]),
        ("    7  0.23 63.2", ["    7  0.23 63.2"]),  # words count
        ("    8  0.23 63.2 best", ["    8  0.23 63.2 best"]),  # whole numbers are names
        ("   30  1.00 56.0 last\n    0  0.00 53.0", ["    0  0.00 53.0"]),  # so does the order
        ("best layer 7 (depth 0.23): +9.2 points over the last layer",) * 2,
    ],
)
def test_lines_are_missed_that_were_not_printed(shown: str, missing: list[str] | str) -> None:
    assert missing_lines(shown, _PRINTED, "0.3") == ([missing] if isinstance(missing, str) else missing)


def test_a_tolerance_may_be_a_share() -> None:
    assert is_like("dime 0.0500", "dime 0.0504", "1%")
    assert not is_like("dime 0.0500", "dime 0.0510", "1%")


@pytest.mark.parametrize(
    ("page", "quote", "is_there"),
    [
        ("14.5 times as long", "14.53x (20.67x in CPU seconds)", True),
        ("3,033 ms", "3033        291    10.4", True),
        ("14.6 times as long", "14.53x", False),
        ("1 of them", "1.4x", False),
    ],
)
def test_figures_are_found_as_they_are_rounded(page: str, quote: str, is_there: bool) -> None:
    assert is_rounded_on(page, quote) is is_there


def test_a_page_is_read_with_what_it_says_about_its_blocks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```sh\n# needs the Hub and hours\nmidlayer-embed select a \\\n    --texts b  # why\n```\n\n"
        "<!-- make leaderboard; within 0.3 -->\n```text\n7 63.2\n```\n\n"
        "<!-- figures of benchmarks/RESULTS.md:\n14.53x\n-->\n```python\n2 + 2  # -> 4\n```\n"
    )
    shell, text, python = blocks(page, tmp_path)
    assert (shell.needs, shell.commands) == (
        ("the Hub", "hours"),
        ["midlayer-embed select a \\\n    --texts b  # why"],
    )
    assert (text.source, text.within, text.line) == ("make leaderboard", "0.3", 8)
    assert shown_values(python.text) == {1: "4"} and python.source == ""
    (found,) = figures(page)
    assert (found.source, found.quotes) == ("benchmarks/RESULTS.md", ("14.53x",))
