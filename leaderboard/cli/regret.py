"""The command `regret`: what picking a layer without labels costs, over all models, recipes and tasks."""

import argparse
import json
from typing import TYPE_CHECKING

from leaderboard.cli.options import PROGRAM, add_comparison, add_tables, check_tables, read_tables
from midlayer_embed.cli.parser import Parser, completes
from midlayer_embed.ground.paths import target_file
from midlayer_embed.selection.criteria import AUTO, COMBINED, CRITERIA, OUTSIDE

if TYPE_CHECKING:
    from leaderboard.board import Leaderboard


def add_regret(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Adds the command to the program."""
    regret = commands.add_parser(
        "regret",
        help="tell what picking a layer without labels costs, over models and tasks",
        description="Tells how many points each criterion loses to the best layer: on average over the models, with an "
        "interval, and at worst; for one layer a model and for one layer a task; beside a random layer, fixed depths "
        "and the last layer. Reads the results folders of runs, or tables (.csv, .csv.gz, .parquet).",
        epilog=f"example: {PROGRAM} regret results/one results/two --criteria min-dime min-infonce --csv regret.csv",
    )
    regret.set_defaults(command=_regret)
    what = add_tables(regret)
    what.add_argument("--plain", action="store_true", help="only plain layers, without recipes")
    how = add_comparison(regret, default="common", said="criterion")
    criteria = how.add_argument(
        "--criteria", nargs="+", metavar="NAME", help="criteria to compare (default: those that pick a layer here)"
    )
    completes(criteria, (*CRITERIA, *COMBINED, *OUTSIDE, AUTO))
    out = regret.add_argument_group("output")
    out.add_argument("--json", action="store_true", help="print everything as JSON, with every column")
    out.add_argument("--csv", metavar="FILE", help="also write all rows to FILE")
    out.add_argument("--markdown", metavar="FILE", help="also write the tables to FILE")


def _regret(arguments: argparse.Namespace) -> None:
    for name in ("csv", "markdown"):
        if getattr(arguments, name) is not None:
            target_file(getattr(arguments, name), name)
    check_tables(arguments)
    from leaderboard.analysis.regret import check_criteria, notes

    check_criteria(arguments.criteria)
    import polars as pl

    from leaderboard.report.markdown import regret_markdown
    from leaderboard.report.terminal import print_regret
    from midlayer_embed.ground.atomic import atomic_file

    board: Leaderboard = read_tables(arguments)
    board = board.only(arguments.model, arguments.revision)
    board = board.plain if arguments.plain else board
    options = {"criteria": arguments.criteria, "tasks": arguments.tasks, "seed": arguments.seed}
    table, of_types = (board.regret(per_type=per_type, **options) for per_type in (False, True))
    if arguments.csv is not None:
        with atomic_file(arguments.csv) as partial:
            rows = table.with_columns(task_type=pl.lit(None, pl.String)).select(of_types.columns)
            pl.concat([rows, of_types]).write_csv(partial)
    if arguments.markdown is not None:
        with atomic_file(arguments.markdown) as partial:
            partial.write_text(regret_markdown(table, of_types), encoding="utf-8")
    if arguments.json:
        found = {"regret": table.to_dicts(), "types": of_types.to_dicts(), "notes": notes(table)}
        print(json.dumps(found, indent=1, allow_nan=False))
    else:
        print_regret(table, of_types)
