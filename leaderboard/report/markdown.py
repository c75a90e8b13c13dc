"""The tables as Markdown."""

from collections.abc import Iterator
from typing import Any

import polars as pl

from leaderboard.analysis.schemes import SCHEMES, notes
from leaderboard.report.cells import fewer_tasks, format_cell, format_coefficient
from leaderboard.results.remarks import said_of_no_scores
from leaderboard.results.tables import Tables
from midlayer_embed.ground.markdown import escaped, table


def markdown(board: Tables, **options: Any) -> str:
    """Schemes of all models, then layers (the best in bold) and associations of each model.

    Args:
        board: The tables.
        **options: Options of `Leaderboard.schemes`: tasks, complete_only, seed.
    """
    blocks = [_schemes(board, options)]
    for model, revision in board.models():
        blocks += [_layers(board, model, revision), _associations(board, model, revision)]
    return "\n".join("\n".join(block) for block in blocks)


def _schemes(board: Tables, options: dict[str, Any]) -> Iterator[str]:
    yield "## Schemes\n"
    yield "Scores in points. In brackets: the number of tasks in a mean that lacks some of the model's tasks.\n"
    rows = [["model", "revision", "n_tasks", "best_layer", *SCHEMES]]
    found = board.schemes(**options)
    for row in found.iter_rows(named=True):
        cells = [escaped(row["model"]), escaped(row["revision"]), str(row["n_tasks"])]
        cells.append(format_cell("best_layer", row["best_layer"]))
        for scheme in SCHEMES:
            n = fewer_tasks(row, scheme)
            cells.append(format_cell(scheme, row[scheme]) + (f" ({n})" if n else ""))
        rows.append(cells)
    yield table(rows, right=True)
    yield ""
    for note in notes(found):
        yield f"{escaped(note[:1].upper() + note[1:])}.\n"


def _layers(board: Tables, model: str, revision: str) -> Iterator[str]:
    summary = board.summary(model, revision)
    yield f"## {escaped(model)} ({escaped(revision)})\n"
    yield layers_markdown(board.layer_table(model, revision), None if summary is None else summary.best)
    yield f"\n{summary}\n" if summary is not None else "\nNo layer has all tasks yet.\n"
    for said in said_of_no_scores(board.only(model, revision).no_scores()):
        yield f"{escaped(said)}.\n"


def layers_markdown(frame: pl.DataFrame, marked: int | None) -> str:
    """A layer table, or some of its columns, as a Markdown table.

    Args:
        frame: Columns of `Leaderboard.layer_table`, including layer.
        marked: The layer whose row is bold, if any.
    """
    rows = [[escaped(name) for name in frame.columns]]
    rows += [[format_cell(name, value) for name, value in row.items()] for row in frame.iter_rows(named=True)]
    layers = frame["layer"].to_list()
    return table(rows, right=True, bold=1 + layers.index(marked) if marked in layers else None)


def _associations(board: Tables, model: str, revision: str) -> Iterator[str]:
    found = board.associations(model, revision)
    if found.is_empty():
        return
    yield "Metrics against scores, over the layers:\n"
    rows = [[escaped(name) for name in found.columns]]
    rows += [[escaped(name), *map(format_coefficient, values)] for name, *values in found.iter_rows()]
    yield table(rows, right=True)
    yield ""
