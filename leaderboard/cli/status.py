"""The command `status`: what is done in a results folder, what runs, waits and failed, and how long it will take."""

import argparse
import json

from leaderboard.cli.options import PROGRAM
from leaderboard.results.arguments import check_results
from midlayer_embed.cli.parser import FAILED, Parser


def add_status(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Adds the command to the program."""
    status = commands.add_parser(
        "status",
        help="what is done in a results folder, what runs and what failed",
        description="Shows the shards of a results folder: those that failed with the reason and the log, those that "
        "run with their workers, how many are finished and how long the rest will take. Nothing is written, and others "
        "may write meanwhile. The exit code is 0 if everything in the folder is finished, else 1.",
        epilog=f"example: {PROGRAM} status results/starter",
    )
    status.set_defaults(command=_status)
    status.add_argument("results", metavar="FOLDER", help="the results folder of a run, or a URL such as s3://bucket/a")
    status.add_argument("--all", action="store_true", help="list every shard, also those that wait or are finished")
    status.add_argument("--json", action="store_true", help="print everything as JSON")


def _status(arguments: argparse.Namespace) -> int:
    check_results(arguments.results)
    from leaderboard.shards.progress import read_progress
    from leaderboard.storage.opening import open_storage

    progress = read_progress(open_storage(arguments.results))
    if arguments.json:
        print(json.dumps(progress.to_dict(), indent=1, allow_nan=False))
    else:
        print("\n".join(progress.lines(every=arguments.all)))
    return 0 if progress.is_complete else FAILED
