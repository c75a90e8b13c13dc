"""The command `prefetch`: downloads the datasets of tasks and corpora into a folder, or checks the files there."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from leaderboard.cli.options import PROGRAM, add_task_choice, check_task_choice
from leaderboard.tasks.names import PAPER_BENCHMARK, check_corpora, check_data_dir
from midlayer_embed.cli.parser import FAILED, Parser, completes
from midlayer_embed.texts.names import ON_HUB

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask


def add_prefetch(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Adds the command to the program."""
    prefetch = commands.add_parser(
        "prefetch",
        help="download the datasets of tasks into a folder, for machines without a network",
        description="Downloads the datasets of tasks, in their pinned revisions, into FOLDER/<org>/<name>, where "
        "`--data-dir FOLDER` of other commands reads them offline. Finished datasets are not downloaded again; damaged "
        "files are. A dataset that fails does not stop the others; the exit code is then 1.",
        epilog=f"example: {PROGRAM} prefetch --benchmark paper --data-dir datasets",
    )
    prefetch.set_defaults(command=_prefetch, resumes=True)
    add_task_choice(prefetch, default=PAPER_BENCHMARK)
    prefetch.set_defaults(benchmark=None)
    corpora = prefetch.add_argument(
        "--dataset",
        nargs="+",
        default=[],
        metavar="NAME",
        help=f"texts to measure layers on: {', '.join(ON_HUB)} (its test split); with neither --tasks nor --benchmark, "
        "nothing else",
    )
    completes(corpora, ON_HUB)
    prefetch.add_argument(
        "--data-dir", required=True, metavar="FOLDER", help="target folder of the datasets, created if needed"
    )
    prefetch.add_argument(
        "--check", action="store_true", help="only compare the files with what was downloaded, without the Hub"
    )


def _prefetch(arguments: argparse.Namespace) -> int:
    check_corpora(arguments.dataset)
    if not arguments.dataset and arguments.benchmark is None:
        arguments.benchmark = PAPER_BENCHMARK  # of no use beside --tasks, which go first
    check_task_choice(arguments)
    if arguments.check:
        check_data_dir(arguments.data_dir)
    from leaderboard.tasks.prefetch import DatasetsFailed, check, prefetch

    tasks: Sequence[AbsTask] = ()
    if choice := arguments.tasks or arguments.benchmark:
        from leaderboard.tasks.benchmarks import resolve_tasks

        tasks = resolve_tasks(choice)
    try:
        if arguments.check:
            check(tasks, arguments.data_dir, corpora=arguments.dataset)
        else:
            prefetch(tasks, arguments.data_dir, corpora=arguments.dataset, show_progress=not arguments.quiet)
    except DatasetsFailed as error:  # each failure is logged already
        hint = "without --check they are fetched again" if arguments.check else "run the same command again to resume"
        print(f"{PROGRAM}: {error}; {hint}", file=sys.stderr)
        return FAILED
    return 0
