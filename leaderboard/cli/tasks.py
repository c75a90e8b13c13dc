"""The command `tasks`: lists tasks, their datasets, and which of them are available offline."""

import argparse

from leaderboard.cli.options import PROGRAM, add_task_options, check_task_choice
from leaderboard.tasks.names import check_data_dir
from midlayer_embed.cli.parser import Parser


def add_tasks(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Adds the command to the program."""
    tasks = commands.add_parser(
        "tasks",
        help="list tasks, their size, and whether their data are available offline",
        description="Lists tasks with their datasets, the number of evaluated samples in mteb's statistics, and the "
        "size on disk of the data that are available offline: in --data-dir, or else in the cache of the datasets "
        "library. The Hub is not contacted.",
        epilog=f"example: {PROGRAM} tasks --benchmark paper --data-dir datasets",
    )
    tasks.set_defaults(command=_tasks)
    add_task_options(tasks, default="paper")


def _tasks(arguments: argparse.Namespace) -> None:
    check_task_choice(arguments)
    data_dir = None if arguments.data_dir is None else check_data_dir(arguments.data_dir)
    from leaderboard.report.terminal import print_tasks
    from leaderboard.tasks.benchmarks import resolve_tasks
    from leaderboard.tasks.mirror import available_size

    tasks = resolve_tasks(arguments.tasks or arguments.benchmark)
    print_tasks([(task, available_size(task, data_dir)) for task in tasks])
