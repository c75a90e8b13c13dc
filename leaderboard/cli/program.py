"""midlayer-leaderboard: arguments in, tables out. All work is done elsewhere."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from leaderboard.cli.card import add_card
from leaderboard.cli.report import add_report
from midlayer_embed.cli.parser import FAILED, Parser, add_model_options, model_options, run
from midlayer_embed.errors import InputError
from midlayer_embed.layers import parse_layer

if TYPE_CHECKING:
    from leaderboard.results.tables import Leaderboard
    from leaderboard.sweep.plan import Plan

PROGRAM = "midlayer-leaderboard"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: Instead of the program's own.

    Returns:
        The exit code.
    """
    return run(_parser(), arguments)


def _parser() -> Parser:
    parser = Parser(
        prog=PROGRAM, description="MTEB for every layer of a language model, out of one forward pass a task."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    _add_run(commands)
    _add_tasks(commands)
    _add_prefetch(commands)
    add_card(commands, PROGRAM, _add_plain_options)
    add_report(commands)
    return parser


def _add_run(commands: "argparse._SubParsersAction[Parser]") -> None:
    run = commands.add_parser(
        "run",
        help="score layers of a model on tasks",
        description="Scores layers of a model on tasks; what is finished in the results folder is not computed again. "
        "A task that fails does not stop the others; the exit code is 1 then.",
        epilog=f"example: {PROGRAM} run starter --benchmark starter --layers 0,0.5,-1 --results results/starter",
    )
    run.set_defaults(command=_run, resumes=True)
    add_model_options(run)
    _add_task_options(run, default="starter")
    run.add_argument("--layers", default="all", metavar="LAYERS", help='"all", or e.g. 0,6,-1; 0.5 is a depth')
    run.add_argument("--results", default="results", metavar="FOLDER", help="where results are kept (default: results)")
    run.add_argument("--overwrite", action="store_true", help="compute finished layers again")
    run.add_argument("--plan", action="store_true", help="print what it would cost, and do nothing")
    run.add_argument("--seed", type=int, default=0, metavar="N", help="of all that is drawn (default: 0)")
    metrics = run.add_argument_group("metrics")
    metrics.add_argument(
        "--metrics",
        nargs="+",
        default=["all"],
        metavar="NAME",
        help="all (default), none, or some of prompt_entropy, dataset_entropy, curvature, infonce, lidar, dime, "
        "effective_rank; infonce and dime encode 2 views of each text, lidar 16",
    )
    metrics.add_argument(
        "--metric-texts",
        type=int,
        default=1000,
        metavar="N",
        help="texts of a task they are measured on (default: 1000)",
    )
    size = run.add_argument_group("size")
    size.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that score layers (default: 1)")
    size.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="keep N evaluated items of each split, for a first look; kept apart from whole results",
    )
    size.add_argument(
        "--store-budget",
        metavar="SIZE",
        help="disk for vectors at a time, e.g. 20GB; layers that do not fit take another forward pass (default: four "
        "fifths of what is free)",
    )
    size.add_argument(
        "--store-dtype", default="float32", metavar="DTYPE", help="float32 (default), or float16 for half the disk"
    )


def _add_task_choice(parser: argparse.ArgumentParser, default: str) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--benchmark", default=default, metavar="NAME", help=f"starter, paper or paper-fast (default: {default})"
    )
    what.add_argument("--tasks", nargs="+", metavar="TASK", help="tasks by name, instead of a benchmark")


def _add_task_options(parser: argparse.ArgumentParser, default: str) -> None:
    _add_task_choice(parser, default)
    parser.add_argument(
        "--data-dir",
        metavar="FOLDER",
        help="where the datasets are, FOLDER/<org>/<name> as on the hub; the hub is not asked then",
    )


def _run(arguments: argparse.Namespace) -> int:
    # Tokenizers warn when a process that has used their threads forks; a sweep tokenises in one piece.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    layers = _layers(arguments.layers)
    from leaderboard.sweep.run import TasksFailed, run_sweep

    metrics = arguments.metrics[0] if arguments.metrics in (["all"], ["none"]) else arguments.metrics
    failed = None
    try:
        board = run_sweep(
            arguments.model,
            arguments.tasks or arguments.benchmark,
            arguments.results,
            layers=layers,
            data_dir=arguments.data_dir,
            jobs=arguments.jobs,
            store_budget=arguments.store_budget,
            store_dtype=arguments.store_dtype,
            limit=arguments.limit,
            metrics=metrics,
            metric_texts=arguments.metric_texts,
            seed=arguments.seed,
            overwrite=arguments.overwrite,
            show_progress=not arguments.quiet,
            on_plan=_print_plan if arguments.plan else None,
            **model_options(arguments),
        )
    except TasksFailed as error:  # each was told of when it failed
        board, failed = error.leaderboard, error
    if board.models() and not arguments.plan:
        _show(board, Path(arguments.results))
    if failed is not None:
        print(f"{PROGRAM}: {failed}; run the same command again to try them again", file=sys.stderr)
        return FAILED
    return 0


def _print_plan(plan: "Plan") -> bool:
    print("\n".join(plan.lines()))
    return False


def _show(board: "Leaderboard", folder: Path) -> None:
    from leaderboard.report.terminal import print_layers

    board.to_parquet(folder)
    board.save_markdown(folder / "leaderboard.md")
    for model, revision in board.models():
        print_layers(board, model, revision)
    print(f"tables: {folder / 'leaderboard.md'}; layers, schemes, scores, metrics and more as .parquet beside it")


def _add_tasks(commands: "argparse._SubParsersAction[Parser]") -> None:
    tasks = commands.add_parser(
        "tasks",
        help="list tasks, their size, and whether their data are at hand",
        description="Lists tasks with their datasets, how many samples mteb counts in what is evaluated, and whether "
        "the data are at hand, with their size on disk: in the folder, or without one in the cache of the datasets "
        "library. No hub is asked.",
        epilog=f"example: {PROGRAM} tasks --benchmark paper --data-dir datasets",
    )
    tasks.set_defaults(command=_tasks)
    _add_task_options(tasks, default="paper")
    _add_plain_options(tasks)


def _add_plain_options(parser: argparse.ArgumentParser) -> None:
    """What every command has, of one that computes nothing."""
    parser.add_argument("--quiet", action="store_true", help="no progress bars, nothing but results and mistakes")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="changes nothing: nothing is drawn at random")


def _tasks(arguments: argparse.Namespace) -> None:
    from leaderboard.report.terminal import print_tasks
    from leaderboard.tasks.benchmarks import resolve_tasks
    from leaderboard.tasks.mirror import check_data_dir, size_at_hand

    data_dir = None if arguments.data_dir is None else check_data_dir(arguments.data_dir)
    tasks = resolve_tasks(arguments.tasks or arguments.benchmark)
    print_tasks([(task, size_at_hand(task, data_dir)) for task in tasks])


def _add_prefetch(commands: "argparse._SubParsersAction[Parser]") -> None:
    prefetch = commands.add_parser(
        "prefetch",
        help="fetch the datasets of tasks into a folder, for machines without a hub",
        description="Fetches the datasets of tasks, in the revisions that are pinned, into FOLDER/<org>/<name>, where "
        "`run --data-dir FOLDER` reads them without a hub. What is finished is not fetched again; a file that is "
        "damaged is. A dataset that fails does not stop the others; the exit code is 1 then.",
        epilog=f"example: {PROGRAM} prefetch --benchmark paper --data-dir datasets",
    )
    prefetch.set_defaults(command=_prefetch, resumes=True)
    _add_task_choice(prefetch, default="paper")
    prefetch.add_argument("--data-dir", required=True, metavar="FOLDER", help="where the datasets go; made if need be")
    prefetch.add_argument(
        "--check", action="store_true", help="only compare the files with what was fetched; no hub is asked"
    )
    _add_plain_options(prefetch)


def _prefetch(arguments: argparse.Namespace) -> int:
    from leaderboard.tasks.benchmarks import resolve_tasks
    from leaderboard.tasks.prefetch import DatasetsFailed, check, prefetch

    tasks = resolve_tasks(arguments.tasks or arguments.benchmark)
    try:
        if arguments.check:
            check(tasks, arguments.data_dir)
        else:
            prefetch(tasks, arguments.data_dir, show_progress=not arguments.quiet)
    except DatasetsFailed as error:  # each was told of when it failed
        what = "without --check, they are fetched again" if arguments.check else "run the same command again to go on"
        print(f"{PROGRAM}: {error}; {what}", file=sys.stderr)
        return FAILED
    return 0


def _layers(text: str) -> str | list[int | float]:
    if text == "all":
        return text
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise InputError(f'layers: expected "all" or layers such as 0,6,-1, got {text!r}')
    return [parse_layer(part) for part in parts]


if __name__ == "__main__":
    sys.exit(main())
