"""Tables in terminals of any width: all numbers, each in its row, and nothing cut."""

from collections import defaultdict
from collections.abc import Callable
from io import StringIO

import polars as pl
import pytest
from rich.console import Console
from support.web.boards import scores_of

from leaderboard import PAPER_TASKS, Leaderboard
from leaderboard.analysis.schemes import SCHEMES
from leaderboard.analysis.variants import Variant
from leaderboard.report.cells import format_cell, format_coefficient, scheme_cells
from leaderboard.report.terminal import print_associations, print_layers, print_scheme_details, print_schemes
from leaderboard.results.schemas import METRICS_SCHEMA
from midlayer_embed.terms import METRICS

_LAYERS = range(13)
_LONG = "organisation/a-model-of-a-name-longer-than-any-narrow-terminal-is-wide"

every_width = pytest.mark.parametrize("width", [40, 60, 80, 120])


@pytest.fixture(scope="module")
def board() -> Leaderboard:
    """Two models on the paper's tasks, best at layer 7, each number another one; one has every metric."""
    scores = [
        (
            model,
            "main",
            layer,
            layer / 12,
            task,
            "STS",
            0.9 - abs(layer - 7) / 50 - number / 100 + (model == _LONG) / 999,
        )
        for model in ("org/m", _LONG)
        for layer in _LAYERS
        for number, task in enumerate(PAPER_TASKS)
    ]
    metrics = [
        ("org/m", "main", task, metric, "raw", layer, (layer * 7 + number) % 13 + number / 10)
        for number, metric in enumerate(METRICS)
        for layer in _LAYERS
        for task in PAPER_TASKS
    ]
    return Leaderboard(
        scores_of(scores),
        pl.DataFrame(metrics, schema=METRICS_SCHEMA, orient="row"),
    )


def _printed(show: Callable[[Console], None], width: int) -> list[str]:
    out = StringIO()
    show(Console(file=out, width=width, highlight=False))
    assert "…" not in out.getvalue()
    return [line.rstrip() for line in out.getvalue().splitlines()]


def _blocks(lines: list[str]) -> list[list[str]]:
    """The rows of every block of columns, which stand between a rule and an empty line."""
    blocks: list[list[str]] = []
    within = False
    for line in lines:
        if line.startswith("─"):
            within = True
            blocks.append([])
        elif not line:
            within = False
        elif within:
            blocks[-1].append(line)
    return blocks


def _rows(blocks: list[list[str]], first: list[str]) -> dict[str, list[str]]:
    """What stands behind the first column, of all blocks together; `first` is what may stand there."""
    rows: dict[str, list[str]] = defaultdict(list)
    for block in blocks:
        for line in block:
            found = [name for name in first if line.strip().startswith(f"{name} ")]
            if found:
                rows[found[0]] += line.strip().removeprefix(found[0]).split()
    return rows


@every_width
def test_every_number_of_a_layer_stands_in_its_row(board: Leaderboard, width: int) -> None:
    frame = board.layer_table("org/m", "main")
    lines = _printed(lambda console: print_layers(board, "org/m", "main", console), width)
    assert max(map(len, lines[:-1])) <= width  # the last line is text, which terminals wrap
    blocks = _blocks(lines)
    rows = _rows(blocks, [str(layer) for layer in _LAYERS])
    metrics = [name for name in frame.columns if name in METRICS]
    expected = ["depth", *metrics, "depth", *(name for name in frame.columns[2:] if name not in METRICS)]
    for row in frame.iter_rows(named=True):
        numbers = [cell for cell in rows[str(row["layer"])] if cell not in ("best", "last")]
        assert numbers == [format_cell(name, row[name]) for name in expected]
    marked = [
        [line.split()[0] for line in block if line.endswith(mark)] for block in blocks for mark in ("best", "last")
    ]
    assert marked == [["7"], ["12"]] * len(blocks)


@every_width
def test_every_number_of_a_model_stands_in_its_row(board: Leaderboard, width: int) -> None:
    lines = _printed(lambda console: print_schemes(board.schemes(), console), width)
    assert max(map(len, lines)) <= width
    blocks = _blocks(lines)
    row = board.schemes("org/m").row(0, named=True)
    shown = ["n_tasks", "best", "best_layer", "last", "random_layer", "min_dime", "min_infonce", "min_entropy"]
    assert _rows(blocks, ["org/m"])["org/m"] == [format_cell(name, row[name]) for name in shown]
    for block in blocks:
        of_the_other = "".join(line.split()[0] for line in block if not line.startswith("org/m "))
        assert of_the_other.startswith("organisation/a-model-") and len(of_the_other) == len(_LONG)


@every_width
def test_every_number_of_a_scheme_stands_in_its_row(board: Leaderboard, width: int) -> None:
    row = board.schemes("org/m").row(0, named=True)
    lines = _printed(lambda console: print_scheme_details(row, console), width)
    assert max(map(len, lines[:-1])) <= width
    cells = [scheme_cells(row, scheme) for scheme in SCHEMES]
    rows = _rows(_blocks(lines), [name for name, *_ in cells])
    assert rows == {name: " ".join(numbers).split() for name, *numbers in cells}


@every_width
def test_every_number_of_a_metric_stands_in_its_row(board: Leaderboard, width: int) -> None:
    frame = board.associations("org/m")
    lines = _printed(lambda console: print_associations(Variant("org/m", "main"), frame, console), width)
    assert max(map(len, lines)) <= width
    expected = {metric: list(map(format_coefficient, numbers)) for metric, *numbers in frame.iter_rows()}
    assert _rows(_blocks(lines), list(expected)) == expected


def test_a_table_that_fits_is_one_block(board: Leaderboard) -> None:
    row = board.schemes("org/m").row(0, named=True)
    assert len(_blocks(_printed(lambda console: print_scheme_details(row, console), 46))) == 1
    assert len(_blocks(_printed(lambda console: print_scheme_details(row, console), 45))) == 2


def test_nothing_is_cut_where_not_even_one_column_fits_beside_the_first(board: Leaderboard) -> None:
    row = board.schemes("org/m").row(0, named=True)
    lines = _printed(lambda console: print_scheme_details(row, console), 12)
    assert max(map(len, lines[:-1])) <= 12
    numbers = "".join("".join(scheme_cells(row, scheme)[1:]) for scheme in SCHEMES)
    assert "".join(lines).count(".") == numbers.count(".")
