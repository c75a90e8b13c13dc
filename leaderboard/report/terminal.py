"""Tables in a terminal: schemes, a model's layers and associations, and the tasks there are."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl
from mteb.abstasks.abstask import AbsTask
from rich import box
from rich.console import Console, JustifyMethod
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from leaderboard.analysis.schemes import SCHEMES
from leaderboard.report.cells import SCHEME_COLUMNS, fewer_tasks, format_cell, format_coefficient, scheme_cells
from leaderboard.results.tables import Leaderboard
from leaderboard.tasks.benchmarks import n_samples
from midlayer_embed.selection.representations import METRICS

# Long words of a task's name are broken here, so that eight columns fit into 80 characters.
_WIDEST_WORD = 8


def print_layers(board: Leaderboard, model: str, revision: str, console: Console | None = None) -> None:
    """Prints a row a layer, best and last marked: the scores, the line that sums them up, and the metrics."""
    console = console or Console(highlight=False)
    frame = board.layer_table(model, revision)
    summary = board.summary(model, revision)
    layers = frame["layer"].to_list()
    marks = dict.fromkeys(layers, "")
    if summary is not None:
        marks |= {summary.last: "last", summary.best: "best"}
    measured = [name for name in frame.columns if name in METRICS]
    scored = frame.drop(measured)
    if measured:
        means = "means over the tasks" if len(scored.columns) > 4 else "of the task's texts"
        title = f"{model} ({revision}), metrics, {means}"
        _print_layers(console, title, frame.select("layer", "depth", *measured), marks)
        console.print()
    _print_layers(console, f"{model} ({revision}), scores x100", scored, marks)
    console.print(Text(str(summary) if summary is not None else "no layer has all tasks yet"), soft_wrap=True)


def _print_layers(console: Console, title: str, frame: pl.DataFrame, marks: dict[int, str]) -> None:
    rows = []
    for row in frame.iter_rows(named=True):
        mark = marks[row["layer"]]
        cells = [*(format_cell(name, value) for name, value in row.items()), mark]
        rows.append([Text(cell, style="bold" if mark == "best" else "") for cell in cells])
    _print_table(console, title, [*column_titles(frame.columns), ""], rows, justify="right", marked=True)


def _print_table(
    console: Console,
    title: str,
    names: Sequence[str],
    rows: Sequence[Sequence[Text]],
    *,
    justify: JustifyMethod = "left",
    marked: bool = False,
) -> None:
    """Prints a table, its columns in blocks below each other where the terminal is narrower than all of them.

    Nothing is cut. The first column, which says what a row is of, stands in every block and is the first to be
    wrapped, down to a third of the width; `justify` is its own, numbers stand right. Where the rows are `marked`, the
    last column stands in every block as well.
    """
    columns = [[Text(name), *cells] for name, *cells in zip(names, *rows, strict=True)]
    widths = [max(console.measure(cell).maximum for cell in column) for column in columns]
    end = len(columns) - marked
    marks = range(end, len(columns))
    room = console.width - sum(widths[column] + 1 for column in marks)
    console.print(Text(title, style="table.title"))
    for block in _blocks(range(1, end), widths, room - min(widths[0], console.width // 3)):
        if block[0] > 1:
            console.print()
        table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
        left = room - sum(widths[column] + 1 for column in block)
        table.add_column(columns[0][0], justify=justify, overflow="fold", max_width=max(left, 1))
        for column in (*block, *marks):
            table.add_column(columns[column][0], justify="right" if column in block else "left", overflow="fold")
        for cells in zip(*(columns[column][1:] for column in (0, *block, *marks)), strict=True):
            table.add_row(*cells)
        console.print(table)


def _blocks(columns: Sequence[int], widths: Sequence[int], room: int) -> Iterator[list[int]]:
    """As many columns as fit into the room, each with a space before it, but one at least; then the next ones."""
    block: list[int] = []
    left = room
    for column in columns:
        if block and widths[column] + 1 > left:
            yield block
            block, left = [], room
        block.append(column)
        left -= widths[column] + 1
    yield block


# The paper's Table 2; all schemes do not fit into 80 characters.
_SHOWN = {
    "last": "last",
    "random_layer": "random",
    "min_dime": "min\ndime",
    "min_infonce": "min\ninfonce",
    "min_entropy": "min\nentropy",
}
_OVER = {"available": "each over the tasks it has", "common": "all over the tasks that all have"}


def print_schemes(schemes: pl.DataFrame, console: Console | None = None) -> None:
    """Prints a row a model: the best single layer and which it is, the last, a random one, and the paper's criteria.

    Args:
        schemes: As `Leaderboard.schemes` gives it, of one model or more.
        console: Where to.
    """
    console = console or Console(highlight=False)
    found = schemes.to_dicts()
    rows = []
    for row in found:
        name = row["model"] if row["revision"] == "main" else f"{row['model']} ({row['revision']})"
        layer = format_cell("best_layer", row["best_layer"])
        best, *others = (_with_tasks(row, scheme) for scheme in ("best", *_SHOWN))
        rows.append(list(map(Text, (name, str(row["n_tasks"]), best, layer, *others))))
        rows[-1][2].stylize("bold")
    title = f"schemes, scores x100, {_OVER[found[0]['tasks']]}"
    _print_table(console, title, ["model", "tasks", "best", "at", *_SHOWN.values()], rows)
    if any(fewer_tasks(row, scheme) for row in found for scheme in ("best", *_SHOWN)):
        console.print('"of N": the mean over N tasks only; means over different tasks do not compare', soft_wrap=True)


def _with_tasks(row: dict[str, Any], scheme: str) -> str:
    n = fewer_tasks(row, scheme)
    return format_cell(scheme, row[scheme]) + (f"\nof {n}" if n else "")


def print_scheme_details(row: dict[str, Any], console: Console | None = None) -> None:
    """Prints a row a scheme of one model, best marked.

    Args:
        row: Of `Leaderboard.schemes`.
        console: Where to.
    """
    console = console or Console(highlight=False)
    rows = [
        [Text(cell, style="bold" if scheme == "best" else "") for cell in scheme_cells(row, scheme)]
        for scheme in SCHEMES
    ]
    _print_table(console, f"{row['model']} ({row['revision']}), schemes, scores x100", SCHEME_COLUMNS, rows)
    console.print("regret: points below the best single layer over the same tasks", soft_wrap=True)


def print_associations(model: str, revision: str, associations: pl.DataFrame, console: Console | None = None) -> None:
    """Prints a row a metric of one model.

    Args:
        model: Its name.
        revision: Its revision.
        associations: As `Leaderboard.associations` gives it.
        console: Where to.
    """
    console = console or Console(highlight=False)
    names = [name.removeprefix("n_") for name in associations.columns]
    rows = [
        [Text(metric), *(Text(format_coefficient(n)) for n in numbers)] for metric, *numbers in associations.iter_rows()
    ]
    _print_table(console, f"{model} ({revision}), metrics against scores over the layers", names, rows)


def print_tasks(tasks: Sequence[tuple[AbsTask, int | None]]) -> None:
    """Prints a line a task: what it is of, samples as mteb counted them, bytes on disk, and whether it is at hand.

    Plain columns, never cut to the width of the terminal: for eyes and for grep.

    Args:
        tasks: Each with the size of its data, None where they are not at hand.
    """
    rows = [("task", "type", "dataset", "revision", "subset", "split", "samples", "size", "data")]
    for task, size in tasks:
        metadata = task.metadata
        subsets, splits = ",".join(task.hf_subsets), ",".join(task.eval_splits)
        dataset = (metadata.dataset["path"], metadata.dataset["revision"])
        counts = (str(n_samples(task) or "-"), decimal(size, separator="") if size else "-")
        at_hand = "missing" if size is None else "at hand"
        rows.append((metadata.name, metadata.type, *dataset, subsets, splits, *counts, at_hand))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"{sum(size is not None for _, size in tasks)} of {len(tasks)} at hand")


def column_titles(names: Sequence[str]) -> list[str]:
    r"""Names of columns, narrow: broken at capitals and underscores, without a beginning that all tasks share.

    Example:
        >>> column_titles(["layer", "StarterSTS", "StarterPairClassification", "dataset_entropy"])
        ['layer', 'STS', 'Pair\nClassif-\nication', 'dataset\nentropy']
    """
    tasks = [name for name in names if not name.islower()]
    first_words = {_words(name)[0] for name in tasks}
    shared = first_words.pop() if len(first_words) == 1 and min(len(_words(name)) for name in tasks) > 1 else ""
    return ["\n".join(_lines(name.removeprefix(shared))) for name in names]


def _words(name: str) -> list[str]:
    return re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+", name) or [name]


def _lines(name: str) -> list[str]:
    lines = []
    for word in _words(name):
        while len(word) > _WIDEST_WORD:
            lines.append(word[: _WIDEST_WORD - 1] + "-")
            word = word[_WIDEST_WORD - 1 :]
        lines.append(word)
    return lines
