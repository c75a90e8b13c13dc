"""Tables in a terminal: a model's layers, and the tasks there are."""

import re
from collections.abc import Sequence

import polars as pl
from mteb.abstasks.abstask import AbsTask
from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from leaderboard.results import Leaderboard, format_cell
from leaderboard.tasks import n_samples
from midlayer_embed.representations import METRICS

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
        console.print(
            _table(f"{model} ({revision}), metrics, {means}", frame.select("layer", "depth", *measured), marks)
        )
        console.print()
    console.print(_table(f"{model} ({revision}), scores x100", scored, marks))
    console.print(Text(str(summary) if summary is not None else "no layer has all tasks yet"), soft_wrap=True)


def _table(title: str, frame: pl.DataFrame, marks: dict[int, str]) -> Table:
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for name in column_titles(frame.columns):
        table.add_column(Text(name), justify="right", vertical="bottom")
    table.add_column("")
    for row in frame.iter_rows(named=True):
        cells = [format_cell(name, value) for name, value in row.items()]
        mark = marks[row["layer"]]
        table.add_row(*cells, mark, style="bold" if mark == "best" else None)
    return table


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
