"""The command `merge`: joins results folders into one."""

import argparse
import json

from leaderboard.cli.options import PROGRAM
from midlayer_embed.cli.parser import FAILED, Parser


def add_merge(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Adds the command to the program."""
    merge = commands.add_parser(
        "merge",
        help="join results folders into one",
        description="Joins results folders, such as those of machines that share no disk. If two of them have the same "
        "result with other numbers, data or settings, each contradiction is printed, nothing is written and the exit "
        "code is 1. A merge that was interrupted is finished by the same command. Tables and pages are not merged: "
        "make them again with `report`.",
        epilog=f"example: {PROGRAM} merge from-a from-b --into results/all",
    )
    merge.set_defaults(command=_merge, resumes=True)
    merge.add_argument("folders", nargs="+", metavar="FOLDER", help="results folders, or URLs such as s3://bucket/a")
    merge.add_argument(
        "--into", required=True, metavar="FOLDER", help="the target; what it holds already counts as one more folder"
    )
    merge.add_argument("--dry-run", action="store_true", help="print what would be copied, and what conflicts")
    merge.add_argument("--json", action="store_true", help="print every path as JSON")


def _merge(arguments: argparse.Namespace) -> int:
    from leaderboard.results.files.merging import MergeConflict, merge_results

    try:
        report = merge_results(
            arguments.folders, arguments.into, dry_run=arguments.dry_run, show_progress=not arguments.quiet
        )
    except MergeConflict as conflict:
        report = conflict.report
    if arguments.json:
        print(json.dumps(report.to_dict(), indent=1))
    else:
        print("\n".join(report.lines()))
    return FAILED if report.conflicts else 0
