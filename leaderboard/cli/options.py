"""The program's name and the options that several commands share."""

import argparse

from leaderboard.tasks.names import BENCHMARKS, check_benchmark, check_task_names
from midlayer_embed.cli.parser import completes

PROGRAM = "midlayer-leaderboard"


def add_task_choice(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds --benchmark and --tasks, of which one can be given.

    Args:
        parser: The command.
        default: The benchmark if neither is given.
    """
    what = parser.add_mutually_exclusive_group()
    benchmark = what.add_argument(
        "--benchmark", default=default, metavar="NAME", help=f"{', '.join(BENCHMARKS)} (default: {default})"
    )
    completes(benchmark, BENCHMARKS)
    what.add_argument("--tasks", nargs="+", metavar="TASK", help="tasks by name, instead of a benchmark")


def check_task_choice(arguments: argparse.Namespace) -> None:
    """Checks the options of `add_task_choice` before mteb is imported.

    Raises:
        InputError: (a ValueError) no such benchmark or task.
    """
    check_benchmark(arguments.benchmark)
    check_task_names(arguments.tasks or ())


def add_task_options(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds the options of `add_task_choice`, and --data-dir to read datasets from."""
    add_task_choice(parser, default)
    parser.add_argument(
        "--data-dir",
        metavar="FOLDER",
        help="read datasets from FOLDER/<org>/<name>, laid out as on the Hub (default: from the Hub)",
    )
