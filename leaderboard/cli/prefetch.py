"""The command `prefetch`: downloads the datasets of tasks into a folder, or checks the files there."""

import argparse
import sys

from leaderboard.cli.options import PROGRAM, add_task_choice, check_task_choice
from leaderboard.tasks.names import check_data_dir
from midlayer_embed.cli.parser import FAILED, Parser


def add_prefetch(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Adds the command to the program."""
    prefetch = commands.add_parser(
        "prefetch",
        help="download the datasets of tasks into a folder, for machines without a network",
        description="Downloads the datasets of tasks, in their pinned revisions, into FOLDER/<org>/<name>, where "
        "`run --data-dir FOLDER` reads them offline. Finished datasets are not downloaded again; damaged files are. A "
        "dataset that fails does not stop the others; the exit code is then 1.",
        epilog=f"example: {PROGRAM} prefetch --benchmark paper --data-dir datasets",
    )
    prefetch.set_defaults(command=_prefetch, resumes=True)
    add_task_choice(prefetch, default="paper")
    prefetch.add_argument(
        "--data-dir", required=True, metavar="FOLDER", help="target folder of the datasets, created if needed"
    )
    prefetch.add_argument(
        "--check", action="store_true", help="only compare the files with what was downloaded, without the Hub"
    )


def _prefetch(arguments: argparse.Namespace) -> int:
    check_task_choice(arguments)
    if arguments.check:
        check_data_dir(arguments.data_dir)
    from leaderboard.tasks.benchmarks import resolve_tasks
    from leaderboard.tasks.prefetch import DatasetsFailed, check, prefetch

    tasks = resolve_tasks(arguments.tasks or arguments.benchmark)
    try:
        if arguments.check:
            check(tasks, arguments.data_dir)
        else:
            prefetch(tasks, arguments.data_dir, show_progress=not arguments.quiet)
    except DatasetsFailed as error:  # each failure is logged already
        hint = "without --check they are fetched again" if arguments.check else "run the same command again to resume"
        print(f"{PROGRAM}: {error}; {hint}", file=sys.stderr)
        return FAILED
    return 0
