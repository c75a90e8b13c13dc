"""Tables in a terminal: schemes, a model's layers and associations, and the tasks there are."""

import re
from collections.abc import Sequence
from typing import Any

import polars as pl
from mteb.abstasks.abstask import AbsTask
from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from leaderboard.report.cells import fewer_tasks, format_cell, format_coefficient
from leaderboard.results import Leaderboard
from leaderboard.schemes import SCHEMES
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
    table = _empty_table(title)
    for name in column_titles(frame.columns):
        table.add_column(Text(name), justify="right", vertical="bottom")
    table.add_column("")
    for row in frame.iter_rows(named=True):
        cells = [format_cell(name, value) for name, value in row.items()]
        mark = marks[row["layer"]]
        table.add_row(*cells, mark, style="bold" if mark == "best" else None)
    return table


def _empty_table(title: str) -> Table:
    return Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=0, show_edge=False)


# The paper's Table 2; all schemes do not fit into 80 characters.
_SHOWN = {
    "last": "\nlast",
    "random_layer": "\nrandom",
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
    rows = schemes.to_dicts()
    table = _empty_table(f"schemes, scores x100, {_OVER[rows[0]['tasks']]}")
    table.add_column("\nmodel", overflow="fold")
    for title in ("\ntasks", "\nbest", "\nat", *_SHOWN.values()):
        table.add_column(title, justify="right", no_wrap=True, style="bold" if title == "\nbest" else None)
    for row in rows:
        name = row["model"] if row["revision"] == "main" else f"{row['model']} ({row['revision']})"
        layer = format_cell("best_layer", row["best_layer"])
        others = (_with_tasks(row, scheme) for scheme in _SHOWN)
        table.add_row(Text(name), str(row["n_tasks"]), _with_tasks(row, "best"), layer, *others)
    console.print(table)
    if any(fewer_tasks(row, scheme) for row in rows for scheme in ("best", *_SHOWN)):
        console.print('"of N": the mean over N tasks only; means over different tasks do not compare', soft_wrap=True)


def _with_tasks(row: dict[str, Any], scheme: str) -> str:
    n = fewer_tasks(row, scheme)
    return format_cell(scheme, row[scheme]) + (f"\nof {n}" if n else "")


def print_scheme_details(row: dict[str, Any], console: Console | None = None) -> None:
    """Prints a row a scheme of one model, best and last marked.

    Args:
        row: Of `Leaderboard.schemes`.
        console: Where to.
    """
    console = console or Console(highlight=False)
    table = _empty_table(f"{row['model']} ({row['revision']}), schemes, scores x100")
    table.add_column("scheme")
    for title in ("score", "95% interval", "regret", "tasks"):
        table.add_column(title, justify="right")
    table.add_column("")
    marks = {"best": f"best: layer {format_cell('best_layer', row['best_layer'])}", "last": "last"}
    for scheme in SCHEMES:
        interval = "-" if row[scheme] is None else f"{row[f'{scheme}_low']:.1f} to {row[f'{scheme}_high']:.1f}"
        regret = format_cell("regret", row.get(f"regret_{scheme}"))
        cells = (scheme, format_cell(scheme, row[scheme]), interval, regret, str(row[f"n_{scheme}"]))
        table.add_row(*cells, marks.get(scheme, ""), style="bold" if scheme == "best" else None)
    console.print(table)
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
    table = _empty_table(f"{model} ({revision}), metrics against scores over the layers")
    table.add_column("metric")
    for name in associations.columns[1:]:
        table.add_column(name.removeprefix("n_"), justify="right")
    for metric, *numbers in associations.iter_rows():
        table.add_row(Text(metric), *(format_coefficient(number) for number in numbers))
    console.print(table)


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
