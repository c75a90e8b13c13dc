"""The program's name and the options that several commands share."""

import argparse
from typing import TYPE_CHECKING

from leaderboard.results.arguments import check_results
from leaderboard.tasks.names import BENCHMARKS, check_benchmark, check_task_names
from midlayer_embed.cli.parser import completes
from midlayer_embed.errors import InputError
from midlayer_embed.layers import parse_layer_or_name

if TYPE_CHECKING:
    from leaderboard.board import Leaderboard

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
    if arguments.benchmark is not None:
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


def parse_layers(text: str) -> str | list[int | float]:
    """The layers of an option: "all", or layers and depths with commas between them.

    Raises:
        InputError: (a ValueError) neither.

    Example:
        >>> parse_layers("0,0.5,-1")
        [0, 0.5, -1]
    """
    if text == "all":
        return text
    layers = [parse_layer_or_name(part.strip()) for part in text.split(",")]
    numbers = [layer for layer in layers if not isinstance(layer, str)]
    if len(numbers) < len(layers):
        raise InputError(f'layers: expected "all" or layers such as 0,6,-1, got {text!r}')
    return numbers


def add_tables(parser: argparse.ArgumentParser) -> "argparse._ArgumentGroup":
    """Adds the tables to read: any number of FOLDER, --scores and --metrics; and --model and --revision."""
    what = parser.add_argument_group("input")
    what.add_argument(
        "results", nargs="*", metavar="FOLDER", help="the results folder of a run; those of several are joined"
    )
    what.add_argument("--scores", metavar="FILE", help="a table of scores, instead of FOLDER or joined with it")
    what.add_argument("--metrics", metavar="FILE", help="with --scores: a table of metrics")
    what.add_argument("--model", metavar="NAME", help="only this model")
    what.add_argument("--revision", metavar="NAME", help="only this revision")
    return what


def add_comparison(parser: argparse.ArgumentParser, default: str, said: str) -> "argparse._ArgumentGroup":
    """Adds --tasks and --seed.

    Args:
        parser: The command.
        default: What --tasks is by default.
        said: What is compared.
    """
    how = parser.add_argument_group("comparison")
    meaning = {"available": f"each {said} over the tasks it has", "common": "all over the tasks that all have"}
    words = (f"{name}{' (default)' if name == default else ''}: {text}" for name, text in meaning.items())
    how.add_argument("--tasks", default=default, metavar="WHICH", help="; ".join(words))
    how.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the bootstrap resamples (default: 0)")
    return how


def check_tables(arguments: argparse.Namespace) -> None:
    """Checks the options of `add_tables` and `add_comparison` before anything slow is imported.

    Raises:
        InputError: (a ValueError) neither folders nor tables, no such folder, or a wrong --tasks.
    """
    if not arguments.results and arguments.scores is None:
        raise InputError("expected a results folder or --scores FILE, got neither")
    if arguments.scores is None and arguments.metrics is not None:
        raise InputError("metrics: a results folder includes its metrics; use --metrics with --scores only")
    for folder in arguments.results:
        check_results(folder)
    from leaderboard.analysis.schemes import check_comparison

    check_comparison(arguments.tasks)


def read_tables(arguments: argparse.Namespace) -> "Leaderboard":
    """The tables of the options of `add_tables`; those of several folders, and of files, are joined.

    Raises:
        InputError: (a ValueError) there are no scores, or two sources contradict each other.
    """
    from leaderboard.board import log_remarks, read_board, read_table_board
    from leaderboard.results.joined import joined
    from leaderboard.results.remarks import said_of_nothing

    boards = {}
    if arguments.scores is not None:
        boards[arguments.scores] = read_table_board(arguments.scores, arguments.metrics)
        if boards[arguments.scores].scores.is_empty():
            raise InputError(f"{arguments.scores}: contains no scores")
    for folder in arguments.results:
        boards[folder] = read_board(folder)
        if boards[folder].scores.is_empty():
            raise InputError(said_of_nothing(folder, boards[folder].remarks))
    board = joined(list(boards.values()), list(boards))
    log_remarks(board)
    return board
