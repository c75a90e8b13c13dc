"""The program's name and the options that several commands share."""

import argparse

PROGRAM = "midlayer-leaderboard"


def add_task_choice(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds --benchmark and --tasks, of which one can be given.

    Args:
        parser: The command.
        default: The benchmark if neither is given.
    """
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--benchmark", default=default, metavar="NAME", help=f"starter, paper or paper-fast (default: {default})"
    )
    what.add_argument("--tasks", nargs="+", metavar="TASK", help="tasks by name, instead of a benchmark")


def add_task_options(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds the options of `add_task_choice`, and --data-dir to read datasets from."""
    add_task_choice(parser, default)
    parser.add_argument(
        "--data-dir",
        metavar="FOLDER",
        help="read datasets from FOLDER/<org>/<name>, laid out as on the Hub, instead of from the Hub",
    )
