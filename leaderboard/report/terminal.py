"""Prints tables in a terminal: schemes, recipes, layers and associations of a model, and tasks."""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl
from rich import box
from rich.console import Console, JustifyMethod
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from leaderboard.analysis import recipes, regret
from leaderboard.analysis.schemes import SCHEMES, notes
from leaderboard.analysis.variants import MODEL, Variant
from leaderboard.report.answer import answer_of_recipes, answers_of_types
from leaderboard.report.cells import (
    RECIPE_COLUMNS,
    REGRET_COLUMNS,
    REGRET_TITLES,
    SCHEME_COLUMNS,
    fewer_tasks,
    format_cell,
    format_coefficient,
    plain_cell,
    recipe_cells,
    regret_cells,
    regret_cost,
    regret_counts,
    scheme_cells,
    variant_of,
)
from leaderboard.results.tables import Tables
from midlayer_embed.terms import METRICS

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask

# Long words in the names of tasks, and what the head of a column says instead; other words are never cut.
_SHORT = {
    "Classification": "Classif.",
    "Clustering": "Cluster.",
    "Conversations": "Convers.",
    "Counterfactual": "Counterf.",
    "Extraction": "Extract.",
    "Newsgroups": "Newsgr.",
    "Regression": "Regress.",
    "Summarization": "Summar.",
}


# A rule below the heads of the columns, and the same in ASCII.
_RULE = box.SIMPLE_HEAD
_ASCII_RULE = box.Box(str(_RULE).replace("─", "-"), ascii=True)


class _Console(Console):
    """A console for tables, as wide as the terminal. Where nobody reads the output any more, it says so."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, **options)

    def on_broken_pipe(self) -> None:
        """Let the command end as it does after any other output, instead of with exit code 1."""
        raise


def print_layers(board: Tables, model: str, revision: str, console: Console | None = None) -> None:
    """Print one row per layer, best and last marked: metrics, scores and a summary line; then the recipes, if any.

    Layers are plain. If none of these ran, those of the best recipe are printed.
    """
    console = console or _Console()
    table = recipes.compared(board.recipes(model, revision))
    of_label = [variant_of(row) for row in table.iter_rows(named=True) if row["label"] == model]
    variant = Variant(model, revision)
    if of_label and variant not in of_label:
        variant = of_label[0]
    _print_layers_of(board, variant, console)
    others = set(table.filter(revision=revision)["label"])
    if of_label and model == next(name for name, _ in board.models() if name in others):  # once for all its poolings
        console.print()
        print_recipes(table, board.recipes(model, revision, per_type=True), console)


def _print_layers_of(board: Tables, variant: Variant, console: Console) -> None:
    frame = board.layer_table(*variant[:2], **variant.recipe())
    summary = board.summary(*variant[:2], **variant.recipe())
    layers = frame["layer"].to_list()
    marks = dict.fromkeys(layers, "")
    if summary is not None:
        marks |= {summary.last: "last"} if summary.last is not None else {}
        marks[summary.best] = "best"
    measured = [name for name in frame.columns if name in METRICS]
    scored = frame.drop(measured)
    title = variant.label(f"{variant.model} ({variant.revision})")
    if measured:
        means = "means over the tasks" if len(scored.columns) > 4 else "on the task's texts"
        _print_layers(console, f"{title}, metrics, {means}", frame.select("layer", "depth", *measured), marks)
        console.print()
    _print_layers(console, f"{title}, scores x100", scored, marks)
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
    """Print a table; if the terminal is too narrow, split its columns into blocks below each other.

    Nothing is truncated. The first column names the rows: it is repeated in every block and wrapped first, down to a
    third of the width. `justify` applies to it; numbers are right-aligned. If rows are `marked`, the last column is
    repeated in every block as well.
    """
    columns = [[Text(name), *cells] for name, *cells in zip(names, *rows, strict=True)]
    widths = [max(console.measure(cell).maximum for cell in column) for column in columns]
    end = len(columns) - marked
    marks = range(end, len(columns))
    room = console.width - sum(widths[column] + 1 for column in marks)
    console.print(Text(title, style="table.title"))
    for block in _split_blocks(range(1, end), widths, room - min(widths[0], console.width // 3)):
        if block[0] > 1:
            console.print()
        table = Table(box=_ASCII_RULE if console.options.ascii_only else _RULE, padding=0, show_edge=False)
        left = room - sum(widths[column] + 1 for column in block)
        table.add_column(columns[0][0], justify=justify, overflow="fold", max_width=max(left, 1))
        for column in (*block, *marks):
            table.add_column(columns[column][0], justify="right" if column in block else "left", overflow="fold")
        for cells in zip(*(columns[column][1:] for column in (0, *block, *marks)), strict=True):
            table.add_row(*cells)
        console.print(table)


def _split_blocks(columns: Sequence[int], widths: Sequence[int], room: int) -> Iterator[list[int]]:
    """Split columns into blocks that fit into `room`, one space before each column; at least one column per block."""
    block: list[int] = []
    left = room
    for column in columns:
        if block and widths[column] + 1 > left:
            yield block
            block, left = [], room
        block.append(column)
        left -= widths[column] + 1
    yield block


# The schemes of the paper's Table 2, with titles; all schemes would not fit into 80 characters.
_SHOWN = {
    "last": "last",
    "random_layer": "random",
    "min_dime": "min\ndime",
    "min_infonce": "min\ninfonce",
    "min_entropy": "min\nentropy",
}
_OVER = {"available": "each over its available tasks", "common": "all over the common tasks"}


def print_schemes(schemes: pl.DataFrame, console: Console | None = None) -> None:
    """Print one row per model and recipe: score and index of the best layer, the last, a random one, and criteria.

    Args:
        schemes: Result of `Leaderboard.schemes`, at least one row.
        console: Console to print to. None: stdout.
    """
    console = console or _Console()
    models = schemes.to_dicts()
    rows = []
    for row in models:
        name = variant_of(row).label(None if row["revision"] == "main" else f"{row['model']} ({row['revision']})")
        layer = format_cell("best_layer", row["best_layer"])
        best, *others = (_format_score(row, scheme) for scheme in ("best", *_SHOWN))
        rows.append(list(map(Text, (name, str(row["n_tasks"]), best, layer, *others))))
        rows[-1][2].stylize("bold")
    over = _OVER[models[0]["tasks"]]
    if models[0]["tasks"] == "common" and any(row["n_shared"] < row["n_tasks"] for row in models):
        over = "each model over its own common tasks"
    title = f"schemes, scores x100, {over}"
    _print_table(console, title, ["model", "tasks", "best", "at", *_SHOWN.values()], rows)
    if any(fewer_tasks(row, scheme) for row in models for scheme in ("best", *_SHOWN)):
        console.print('"of N": mean over N tasks only; means over different tasks are not comparable', soft_wrap=True)
    for note in notes(schemes):
        console.print(Text(note), soft_wrap=True)


def _format_score(row: dict[str, Any], scheme: str) -> str:
    n = fewer_tasks(row, scheme)
    return format_cell("score", row[scheme]) + (f"\nof {n}" if n else "")


def print_scheme_details(row: dict[str, Any], console: Console | None = None) -> None:
    """Print one row per scheme of a model, best marked.

    Args:
        row: Row of `Leaderboard.schemes`.
        console: Console to print to. None: stdout.
    """
    console = console or _Console()
    rows = [
        [Text(cell, style="bold" if scheme == "best" else "") for cell in scheme_cells(row, scheme)]
        for scheme in SCHEMES
    ]
    name = variant_of(row).label(f"{row['model']} ({row['revision']})")
    _print_table(console, f"{name}, schemes, scores x100", SCHEME_COLUMNS, rows)
    console.print("regret: points below the best single layer over the same tasks", soft_wrap=True)


def print_recipes(
    table: pl.DataFrame, of_types: pl.DataFrame, console: Console | None = None, *, said: Sequence[str] = ()
) -> None:
    """Print one row per recipe of each model, the best first and in bold, and what has to be said of them.

    Args:
        table: Result of `Leaderboard.recipes`, at least one row.
        of_types: The same `per_type`.
        console: Console to print to. None: stdout.
        said: What has been said already.
    """
    console = console or _Console()
    for (model, revision), of_model in table.partition_by(MODEL, as_dict=True, maintain_order=True).items():
        found = of_model.to_dicts()
        rows = [[Text(cell, style="bold" if row["is_best"] else "") for cell in recipe_cells(row)] for row in found]
        _print_table(console, f"{model} ({revision}), recipes, scores x100", RECIPE_COLUMNS, rows)
        console.print(Text(answer_of_recipes(found)), soft_wrap=True)
        for line in answers_of_types(of_types.filter(model=model, revision=revision).to_dicts()):
            console.print(Text(f"  {line}"), soft_wrap=True)
        console.print()
    console.print("gain: points of the best layer over the plain last layer, on the same tasks", soft_wrap=True)
    for note in recipes.notes(table):
        if note in said:
            continue
        console.print(Text(note), soft_wrap=True)


def print_regret(table: pl.DataFrame, of_types: pl.DataFrame, console: Console | None = None) -> None:
    """Print a table of regrets for each reading, the lowest first, and what each criterion costs.

    Args:
        table: Result of `Leaderboard.regret`.
        of_types: The same `per_type`.
        console: Console to print to. None: stdout.
    """
    console = console or _Console()
    for (reading,), of_reading in table.partition_by("reading", as_dict=True, maintain_order=True).items():
        rows = of_reading.to_dicts()
        counts = {regret_counts(row) for row in rows if row["n"]} or {regret_counts(row) for row in rows}
        over = f"; {counts.pop()}" if len(counts) == 1 else ""
        cells = [list(map(Text, regret_cells(row))) for row in rows]
        names = [*REGRET_COLUMNS]
        if len(counts):
            names, cells = [*names, "over"], [[*c, Text(regret_counts(r))] for c, r in zip(cells, rows, strict=True)]
        _print_table(console, f"regret, {REGRET_TITLES[reading]}{over}", names, cells)
        console.print()
        if reading == "type":
            _print_types(console, of_types.filter(reading=reading), [row["criterion"] for row in rows])
    costs = [list(map(Text, (row["criterion"], *regret_cost(row)))) for row in table.filter(reading="task").to_dicts()]
    _print_table(
        console, "what it takes: forward passes over each text, and labels", ("criterion", "passes", "labels"), costs
    )
    for place, note in enumerate(regret.notes(table)):
        console.print(Text(note if place else f"\n{note}"), soft_wrap=True)


def _print_types(console: Console, of_types: pl.DataFrame, criteria: Sequence[str]) -> None:
    types = sorted(of_types["task_type"].unique().drop_nulls())
    if len(types) < 2:
        return
    found = {(row["criterion"], row["task_type"]): row["regret"] for row in of_types.iter_rows(named=True)}
    cells = [[Text(one), *(Text(format_cell("regret", found.get((one, kind)))) for kind in types)] for one in criteria]
    _print_table(
        console, "of each type of tasks, the mean over the models", ["criterion", *column_titles(types)], cells
    )
    console.print()


def print_associations(variant: Variant, associations: pl.DataFrame, console: Console | None = None) -> None:
    """Print one row per metric of a model.

    Args:
        variant: The model with its recipe.
        associations: Result of `Leaderboard.associations`.
        console: Console to print to. None: stdout.
    """
    console = console or _Console()
    names = [name.removeprefix("n_") for name in associations.columns]
    rows = [
        [Text(metric), *(Text(format_coefficient(n)) for n in numbers)] for metric, *numbers in associations.iter_rows()
    ]
    title = variant.label(f"{variant.model} ({variant.revision})")
    _print_table(console, f"{title}, metrics against scores over the layers", names, rows)


def print_frame(title: str, frame: pl.DataFrame, console: Console | None = None) -> None:
    """Print a small table as it is.

    Args:
        title: Title of the table.
        frame: The table.
        console: Console to print to. None: stdout.
    """
    rows = [[Text(plain_cell(value)) for value in row] for row in frame.iter_rows()]
    _print_table(console or _Console(), title, [name.replace("_", " ") for name in frame.columns], rows)


def print_tasks(tasks: "Sequence[tuple[AbsTask, int | None]]") -> None:
    """Print one line per task: its dataset, number of samples (counted by mteb), size on disk, and availability.

    Columns are plain text and not truncated to the width of the terminal, so that grep works.

    Args:
        tasks: Tasks with the size of their data in bytes, None if the data are not available.
    """
    from leaderboard.tasks.benchmarks import n_samples  # imports mteb, as whoever has tasks has done

    rows = [("task", "type", "dataset", "revision", "subset", "split", "samples", "size", "data")]
    for task, size in tasks:
        metadata = task.metadata
        subsets, splits = ",".join(task.hf_subsets), ",".join(task.eval_splits)
        dataset = (metadata.dataset["path"], metadata.dataset["revision"])
        counts = (str(n_samples(task) or "-"), decimal(size, separator="") if size else "-")
        availability = "missing" if size is None else "available"
        rows.append((metadata.name, metadata.type, *dataset, subsets, splits, *counts, availability))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"{sum(size is not None for _, size in tasks)} of {len(tasks)} available")


def column_titles(names: Sequence[str]) -> list[str]:
    r"""Wrap the names of columns at capitals and underscores, without a common prefix of the task names.

    Example:
        >>> column_titles(["layer", "StarterSTS", "StarterPairClassification", "dataset_entropy"])
        ['layer', 'STS', 'Pair\nClassif.', 'dataset\nentropy']
    """
    tasks = [name for name in names if not name.islower()]
    first_words = {_split_words(name)[0] for name in tasks}
    shared = first_words.pop() if len(first_words) == 1 and min(len(_split_words(name)) for name in tasks) > 1 else ""
    return ["\n".join(_SHORT.get(word, word) for word in _split_words(name.removeprefix(shared))) for name in names]


def _split_words(name: str) -> list[str]:
    return re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+", name) or [name]
