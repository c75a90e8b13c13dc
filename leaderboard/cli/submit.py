"""The command `submit`: has several workers do a sweep, each a `run --shard i/n` of its own, by an engine."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from leaderboard.cli.options import PROGRAM
from leaderboard.cli.run import add_run_options, check_run, show
from leaderboard.sweep.executors.arguments import check_workers, make_executor
from leaderboard.sweep.executors.follow import exit_code_of, follow
from leaderboard.sweep.executors.protocol import ENGINES, Executor, Worker
from midlayer_embed.cli.parser import FAILED, MISTAKE, Parser, completes
from midlayer_embed.ground.paths import user_path
from midlayer_embed.sharing.devices import THREADS


def add_submit(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Adds the command to the program."""
    of_run = Parser(add_help=False)
    add_run_options(of_run)
    submit = commands.add_parser(
        "submit",
        parents=[of_run],
        help="score layers of models on tasks with several workers: processes, GPUs, SLURM or Ray",
        description="Has several workers score layers of models on tasks. Each is a `run --shard i/N` with the same "
        "options; they share the work through the results folder. A worker that is lost starts again. With SLURM the "
        "command returns as soon as the jobs are submitted. The exit code is that of `run`.",
        epilog=f"example: {PROGRAM} submit starter --benchmark starter --engine local --workers 2",
    )
    submit.set_defaults(command=_submit, resumes=True, of_run=of_run)
    engine = submit.add_argument_group("engine")
    name = engine.add_argument(
        "--engine",
        default=ENGINES[0],
        metavar="NAME",
        help="local (default): processes of this machine; slurm: an array of jobs; ray: tasks of a Ray cluster",
    )
    completes(name, ENGINES)
    engine.add_argument("--workers", type=int, metavar="N", help="number of workers (default: one a device, or 1)")
    engine.add_argument(
        "--devices", metavar="LIST", help='local: GPUs such as 0,1, or "all"; each worker has one of them'
    )
    engine.add_argument(
        "--gpus", metavar="N", help="slurm, ray: GPUs of each worker (default: ray: 1 if there are any)"
    )
    engine.add_argument(
        "--cpus", type=int, metavar="N", help="cores of each worker (default: local: its share, ray: 1)"
    )
    engine.add_argument(
        "--slurm",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="slurm: options of sbatch, such as partition=gpu time=12:00:00 mem=32GB (default: time=1-00:00:00); "
        "cluster=local tries it without SLURM",
    )
    engine.add_argument(
        "--address", metavar="ADDRESS", help="ray: address of the cluster (default: RAY_ADDRESS, or this machine)"
    )
    engine.add_argument(
        "--logs",
        metavar="FOLDER",
        help="folder for the logs of the workers (default: workers in the results folder; midlayer-logs if that is on "
        "an object store)",
    )
    engine.add_argument("--follow", action="store_true", help="slurm: wait for the end of the jobs")
    engine.add_argument("--dry-run", action="store_true", help="print what would be started, and exit")


def _submit(arguments: argparse.Namespace) -> int:
    check_workers(arguments.workers)
    logs = _logs(arguments)
    executor, n_workers = make_executor(
        arguments.engine,
        logs=logs,
        devices=arguments.devices,
        cpus=arguments.cpus,
        gpus=arguments.gpus,
        slurm=arguments.slurm,
        address=arguments.address,
        stays=arguments.follow,
        dry_run=arguments.dry_run,
    )
    check_run(arguments)
    workers = _workers(arguments, arguments.workers or n_workers, logs)
    if arguments.dry_run:
        print(executor.describe(workers))
        return 0
    try:
        if executor.detached and not arguments.follow:
            executor.start(workers)
            print(f"{executor.said()}; {PROGRAM} status {arguments.results}; logs: {logs}")
            return 0
        code = _follow(executor, workers, arguments)
    finally:
        executor.close()
    return code


def _follow(executor: Executor, workers: Sequence[Worker], arguments: argparse.Namespace) -> int:
    """Stays until all workers have ended, and prints what `run` prints. Returns the exit code."""
    from leaderboard.sweep.executors.showing import Showing

    showing = Showing(arguments.results, not arguments.quiet)
    codes = follow(executor, workers, showing.update)
    showing.close()
    code = exit_code_of(codes, workers)
    if code != MISTAKE:
        from leaderboard.board import load_results
        from leaderboard.storage.opening import open_storage

        if open_storage(arguments.results).exists() and (board := load_results(arguments.results)).models():
            show(board, arguments.results)
    if code == FAILED:
        print(f"{PROGRAM}: not everything is finished; run the same command again to go on", file=sys.stderr)
    return code


def _logs(arguments: argparse.Namespace) -> Path:
    if arguments.logs is not None:
        return user_path(arguments.logs, "logs")
    if "://" in arguments.results:
        return user_path("midlayer-logs", "logs")
    return user_path(arguments.results, "results") / "workers"


def _workers(arguments: argparse.Namespace, n_workers: int, logs: Path) -> list[Worker]:
    given = argparse.Namespace(**vars(arguments))
    if "://" not in given.results:
        given.results = str(user_path(given.results, "results"))
    options = ["run", *arguments_of(arguments.of_run, given)]
    threads = {} if arguments.cpus is None else {THREADS: str(arguments.cpus)}
    found = []
    for number in range(1, n_workers + 1):
        name = f"{number}-of-{n_workers}"
        words = (*options, "--shard", f"{number}/{n_workers}")
        found.append(Worker(name, words, str(logs / f"{name}.log"), str(Path.cwd()), threads))
    return found


def arguments_of(parser: argparse.ArgumentParser, values: argparse.Namespace) -> list[str]:
    """The arguments that a parser reads as these values; options that have their default are left out.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> _ = parser.add_argument("model"), parser.add_argument("--limit", type=int), parser.add_argument("--plan")
        >>> arguments_of(parser, argparse.Namespace(model="starter", limit=7, plan=None))
        ['starter', '--limit', '7']
    """
    words: list[str] = []
    for action in parser._actions:
        value = getattr(values, action.dest, action.default)
        if not action.option_strings:
            words = [*([value] if isinstance(value, str) else value), *words]
        elif value != action.default:
            words += _option(action, value)
    return words


def _option(action: argparse.Action, value: object) -> list[str]:
    flag = action.option_strings[-1]
    if action.nargs == 0:  # store_true, store_false
        return [flag] if value == action.const else []
    if not isinstance(value, (list, tuple)):
        return _pair(flag, value)
    if action.nargs is None:  # an option that is given once for each value
        return [word for item in value for word in _pair(flag, item)]
    return [flag, *map(str, value)]


def _pair(flag: str, value: object) -> list[str]:
    # what starts with a dash would be taken for another option
    return [f"{flag}={value}"] if str(value).startswith("-") else [flag, str(value)]
