"""midlayer-leaderboard report: which tables are read, what of them is printed, and where they are written."""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from midlayer_embed.cli.parser import Parser
from midlayer_embed.errors import InputError

if TYPE_CHECKING:
    import polars as pl

    from leaderboard.results.tables import Leaderboard


def add_report(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Adds the command to the program's."""
    report = commands.add_parser(
        "report",
        help="which layer to take: schemes and associations out of results or tables",
        description="Compares ways to pick a layer, the paper's Table 2 and more, and shows how metrics go with "
        "scores. Reads the results folder of a run, or tables of any number of models (.csv, .csv.gz, .parquet).",
    )
    report.epilog = f"example: {report.prog} --scores scores.csv.gz --metrics metrics.csv.gz --model Pythia-410m"
    report.set_defaults(command=_report)
    what = report.add_argument_group("what is read")
    what.add_argument("results", nargs="?", metavar="FOLDER", help="the results folder of a run")
    what.add_argument("--scores", metavar="FILE", help="instead of FOLDER: a table of scores")
    what.add_argument("--metrics", metavar="FILE", help="with --scores: a table of metrics")
    what.add_argument("--model", metavar="NAME", help="only this model")
    what.add_argument("--revision", metavar="NAME", help="only this revision")
    how = report.add_argument_group("how schemes are compared")
    how.add_argument(
        "--tasks",
        default="available",
        metavar="WHICH",
        help="available (default): each scheme over the tasks it has; common: all over the tasks that all have",
    )
    how.add_argument("--complete-only", action="store_true", help="take the best layer among those that miss no task")
    how.add_argument("--seed", type=int, default=0, metavar="N", help="of the intervals' resamples (default: 0)")
    out = report.add_argument_group("where to")
    out.add_argument("--json", action="store_true", help="print schemes and associations as JSON, with every column")
    out.add_argument("--parquet", metavar="FOLDER", help="also write all tables there as .parquet")
    out.add_argument("--csv", metavar="FOLDER", help="also write all tables there as .csv")
    out.add_argument("--markdown", metavar="FILE", help="also write schemes, layers and associations there")
    out.add_argument("--html", metavar="FILE", help="also write a page there that a browser opens without a network")
    out.add_argument("--figures", metavar="FOLDER", help="also draw the paper's figures there, as .png and .svg")
    out.add_argument("--quiet", action="store_true", help="nothing but results and mistakes")


def _report(arguments: argparse.Namespace) -> None:
    if arguments.seed < 0:
        raise InputError(f"seed: expected an int of 0 or more, got {arguments.seed}")
    board = _read(arguments).only(arguments.model, arguments.revision)
    options = {"tasks": arguments.tasks, "complete_only": arguments.complete_only, "seed": arguments.seed}
    schemes = board.schemes(**options)
    if schemes.is_empty():
        raise InputError(f"{arguments.results or arguments.scores}: there are no scores in it")
    writers: dict[str, Callable[..., None]] = {
        "parquet": board.to_parquet,
        "csv": board.to_csv,
        "markdown": board.save_markdown,
        "html": board.to_html,
        "figures": board.save_figures,
    }
    for name, write in writers.items():
        target = getattr(arguments, name)
        if target is not None:
            with _told(name, target):
                write(target, **options)
    if arguments.json:
        tables = {"schemes": schemes, "associations": board.of_every_model(board.associations)}
        print(json.dumps({name: table.to_dicts() for name, table in tables.items()}, indent=1, allow_nan=False))
    else:
        _print(board, schemes, in_detail=arguments.model)


@contextmanager
def _told(name: str, target: str) -> Iterator[None]:
    """Tells of a place where nothing can be written in one line."""
    try:
        yield
    except (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise InputError(f"{name}: {target} cannot be written: {error.strerror}") from error


def _read(arguments: argparse.Namespace) -> "Leaderboard":
    if (arguments.results is None) == (arguments.scores is None):
        given = "both" if arguments.results is not None else "neither"
        raise InputError(f"expected a results folder or --scores FILE, got {given}")
    if arguments.results is not None:
        if arguments.metrics is not None:
            raise InputError("metrics: a results folder has its own; a file goes with --scores")
        from leaderboard.results.tables import load_results

        return load_results(arguments.results)
    from leaderboard.results.table_files import load_tables

    return load_tables(arguments.scores, arguments.metrics)


def _print(board: "Leaderboard", schemes: "pl.DataFrame", in_detail: str | None) -> None:
    """All models, and one of them in detail: the only one, or the one that was asked for, in its revision "main"."""
    from leaderboard.report.terminal import print_associations, print_scheme_details, print_schemes

    print_schemes(schemes)
    shown = [which for which in board.models() if schemes.height == 1 or which == (in_detail, "main")]
    if not shown:
        print("all schemes of one model, and how its metrics go with its scores: --model NAME [--revision NAME]")
    for model, revision in shown:
        print()
        print_scheme_details(schemes.filter(model=model, revision=revision).row(0, named=True))
        associations = board.associations(model, revision)
        if not associations.is_empty():
            print()
            print_associations(model, revision, associations)
