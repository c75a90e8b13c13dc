"""The tables as Markdown. What they hold is the business of `results`."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from leaderboard.report.cells import fewer_tasks, format_cell, format_coefficient
from leaderboard.schemes import SCHEMES

if TYPE_CHECKING:
    from leaderboard.results import Leaderboard


def markdown(board: "Leaderboard", **options: Any) -> str:
    """The schemes of all models; then of each model its layers, best one in bold, and associations.

    Args:
        board: The tables.
        **options: Of `Leaderboard.schemes`.
    """
    blocks = [_schemes(board, options)]
    for model, revision in board.models():
        blocks += [_layers(board, model, revision), _associations(board, model, revision)]
    return "\n".join("\n".join(block) for block in blocks)


def _schemes(board: "Leaderboard", options: dict[str, Any]) -> Iterator[str]:
    yield "## Schemes\n"
    yield "In points. In brackets: the tasks behind a number, where they are not all of the model's.\n"
    names = ["model", "revision", "n_tasks", "best_layer", *SCHEMES]
    yield from _head(names)
    for row in board.schemes(**options).iter_rows(named=True):
        cells = [_escaped(row["model"]), _escaped(row["revision"]), str(row["n_tasks"])]
        cells.append(format_cell("best_layer", row["best_layer"]))
        for scheme in SCHEMES:
            n = fewer_tasks(row, scheme)
            cells.append(format_cell(scheme, row[scheme]) + (f" ({n})" if n else ""))
        yield _line(cells)
    yield ""


def _layers(board: "Leaderboard", model: str, revision: str) -> Iterator[str]:
    table = board.layer_table(model, revision)
    summary = board.summary(model, revision)
    yield f"## {_escaped(model)} ({_escaped(revision)})\n"
    yield from _head(table.columns)
    for row in table.iter_rows(named=True):
        cells = [format_cell(name, value) for name, value in row.items()]
        if summary is not None and row["layer"] == summary.best:
            cells = [f"**{cell}**" for cell in cells]
        yield _line(cells)
    yield f"\n{summary}\n" if summary is not None else "\nNo layer has all tasks yet.\n"


def _associations(board: "Leaderboard", model: str, revision: str) -> Iterator[str]:
    table = board.associations(model, revision)
    if table.is_empty():
        return
    yield "Metrics against scores, over the layers:\n"
    yield from _head(table.columns)
    for name, *rest in table.iter_rows():
        yield _line([_escaped(name), *(format_coefficient(value) for value in rest)])
    yield ""


def _head(names: Sequence[str]) -> Iterator[str]:
    yield _line([_escaped(name) for name in names])
    yield _line(["---:" for _ in names])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
