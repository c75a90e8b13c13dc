"""The layer table in a terminal."""

import sys
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from leaderboard.results import Leaderboard, format_cell

# Columns that hold numbers of a layer rather than scores.
_TITLES = {"dataset_entropy": "dataset entropy"}


def print_layers(board: Leaderboard, model: str, revision: str, file: TextIO | None = None) -> None:
    """Prints a row a layer, best and last marked, and the line that sums it up."""
    console = Console(file=file or sys.stdout, highlight=False, soft_wrap=False)
    frame = board.layer_table(model, revision)
    summary = board.summary(model, revision)
    table = Table(title=Text(f"{model} ({revision}), scores x100"), title_justify="left")
    for name in frame.columns:
        table.add_column(Text(_TITLES.get(name, name)), justify="right", overflow="fold")
    table.add_column("")
    for row in frame.iter_rows(named=True):
        marks = []
        if summary is not None:
            marks = [word for word, layer in (("best", summary.best), ("last", summary.last)) if row["layer"] == layer]
        cells = [format_cell(name, value) for name, value in row.items()]
        table.add_row(*cells, " ".join(marks), style="bold" if "best" in marks else None)
    console.print(table)
    console.print(Text(str(summary) if summary is not None else "no layer has all tasks yet"))
