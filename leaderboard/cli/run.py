"""The command `run`: scores layers of a model on tasks, prints the tables and keeps them in the results folder."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from leaderboard.cli.options import PROGRAM, add_task_options, check_task_choice, parse_layers
from leaderboard.models.known import at_revision, known_models, read_models
from leaderboard.shards.expiry import check_expiry
from leaderboard.shards.progress import read_progress
from leaderboard.storage.opening import open_storage
from leaderboard.storage.scratch import check_scratch
from leaderboard.sweep.arguments import check_results_folder, check_sweep
from leaderboard.sweep.receipts import Receipt, receipt_of
from leaderboard.tasks.names import TASK, TRAIN, check_data_dir
from midlayer_embed.cli.early import check_layers, check_model
from midlayer_embed.cli.parser import FAILED, Parser, add_model_options, completes, model_options
from midlayer_embed.errors import InputError
from midlayer_embed.options import fold
from midlayer_embed.recipes.names import NONE, TEMPLATES, TEXT, TRANSFORMS
from midlayer_embed.sharing.life import EXPIRY
from midlayer_embed.sharing.parts import parse_part
from midlayer_embed.terms import METRIC_TABLE, views_needed

if TYPE_CHECKING:
    from leaderboard.board import Leaderboard
    from leaderboard.sweep.plan import Plan

logger = logging.getLogger(__name__)

# Options that change no result; and those of commands that are to do something whatever is finished.
_ON_THE_SIDE = (
    "command",
    "given",
    "resumes",
    "quiet",
    "verbose",
    "results",
    "jobs",
    "expiry",
    "scratch",
    "store_budget",
)
_NOT_RECEIVED = ("plan", "shard", "overwrite", "data_dir", "adapters")


def add_run(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Adds the command to the program."""
    run = commands.add_parser(
        "run",
        help="score layers of models on tasks",
        description="Scores layers of models on tasks. Results that are already in the results folder are not "
        "computed again. A task that fails does not stop the others; the exit code is then 1. Several processes and "
        "machines can share a results folder: each passes over what another one is doing.",
        epilog=f"example: {PROGRAM} run starter --benchmark starter --layers 0,0.5,-1 --results results/starter",
    )
    run.set_defaults(command=_run, resumes=True)
    machines = add_run_options(run)
    machines.add_argument(
        "--shard",
        metavar="I/N",
        help="do part i of n, such as 2/8, then what is left of the parts of other processes that share the results "
        "folder; auto: i and n of a SLURM array's task; auto/8: i of a Kubernetes job's pod (default: everything)",
    )
    run.add_argument("--plan", action="store_true", help="print the expected cost and exit")


def add_run_options(run: argparse.ArgumentParser) -> "argparse._ArgumentGroup":
    """Adds the options of a sweep; `submit` takes the same and hands them on.

    Args:
        run: The command.

    Returns:
        The group of options for several machines.
    """
    add_model_options(run, several=True, without=("template",))
    run.add_argument(
        "--models",
        dest="models_file",
        metavar="FILE",
        help='a file of further models, one a line; like MODEL, each may be "name@revision"',
    )
    add_task_options(run, default="starter")
    run.add_argument(
        "--layers", default="all", metavar="LAYERS", help='"all" (default), or e.g. 0,6,-1; 0.5 is a depth'
    )
    run.add_argument(
        "--results", default="results", metavar="FOLDER", help="results folder, or s3://bucket/... (default: results)"
    )
    run.add_argument("--overwrite", action="store_true", help="compute finished layers again")
    run.add_argument("--seed", type=int, default=0, metavar="N", help="seed of all random draws (default: 0)")
    recipes = run.add_argument_group("recipes")
    templates = recipes.add_argument(
        "--templates",
        nargs="+",
        metavar="NAME|TEXT",
        help=f"none (default), {', '.join(TEMPLATES)}, or texts with {TEXT} in them once or twice; a forward pass each",
    )
    completes(templates, (NONE, *TEMPLATES))
    transforms = recipes.add_argument(
        "--transforms",
        nargs="+",
        default=[NONE],
        metavar="NAME",
        help=f"none (default), {', '.join(TRANSFORMS)} or whiten (whiten:10); all out of the same vectors",
    )
    completes(transforms, (NONE, *TRANSFORMS))
    recipes.add_argument(
        "--transform-texts",
        default=TRAIN,
        metavar="WHAT",
        help=f"what transforms are fitted on, without labels: {TRAIN} (default: the task's splits that are not "
        f"evaluated, where it has some, else {TASK}), {TASK} (the evaluated texts themselves), or a file of texts",
    )
    recipes.add_argument(
        "--fit-texts",
        type=int,
        default=5000,
        metavar="N",
        help="distinct texts on which transforms are fitted, at most (default: 5000)",
    )
    metrics = run.add_argument_group("metrics")
    wanted = metrics.add_argument(
        "--metrics",
        nargs="+",
        default=["all"],
        metavar="NAME",
        help=f"all (default), none, or some of {', '.join(METRIC_TABLE)}; encoded views of each text: {views_needed()}",
    )
    completes(wanted, ("all", "none", *METRIC_TABLE))
    metrics.add_argument(
        "--metric-texts",
        type=int,
        default=1000,
        metavar="N",
        help="texts per task on which metrics are measured (default: 1000)",
    )
    machines = run.add_argument_group("several machines")
    machines.add_argument(
        "--expiry",
        type=float,
        default=EXPIRY,
        metavar="SECONDS",
        help="time without a sign of life after which this process counts as dead and others take over (default: "
        f"{EXPIRY:g})",
    )
    size = run.add_argument_group("size")
    size.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that score layers (default: 1)")
    size.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="keep N evaluated items of each split, for a first look; such results are stored under their own name "
        "(default: all items)",
    )
    size.add_argument(
        "--store-budget",
        metavar="SIZE",
        help="disk space that vectors may take at a time, e.g. 20GB; layers that do not fit take another forward pass "
        "(default: four fifths of the free space)",
    )
    size.add_argument(
        "--scratch",
        metavar="FOLDER",
        help="folder for vectors and data of the task that is done, best on a disk of this machine (default: in the "
        "results folder; for a URL, the system's temporary folder)",
    )
    size.add_argument(
        "--store-dtype",
        default="float32",
        metavar="DTYPE",
        help="dtype of vectors on disk: float32 (default), or float16 for half the space",
    )
    return machines


def check_run(arguments: argparse.Namespace) -> None:
    """Checks the options of `add_run_options` before anything slow is imported.

    Raises:
        InputError: (a ValueError) the message names the option, what came and what was expected.
    """
    layers = parse_layers(arguments.layers)
    check_sweep(**_sizes(arguments), metrics=_metrics(arguments), seed=arguments.seed)
    check_task_choice(arguments)
    if arguments.data_dir is not None:
        check_data_dir(arguments.data_dir)
    check_expiry(arguments.expiry)
    if arguments.scratch is not None:
        check_scratch(arguments.scratch)
    for model in models_of(arguments):
        _check_model(arguments, model, [] if isinstance(layers, str) else layers)
    check_results_folder(arguments.results)


def models_of(arguments: argparse.Namespace) -> list[str]:
    """The models of the command line and of the file of --models.

    Raises:
        InputError: (a ValueError) there are none, or the file cannot be read.
    """
    of_file = [] if arguments.models_file is None else read_models(arguments.models_file)
    found = list(dict.fromkeys([*arguments.models, *of_file]))
    if not found:
        raise InputError("model: expected at least one MODEL, or --models FILE, got none")
    return found


def _metrics(arguments: argparse.Namespace) -> str | list[str]:
    named: list[str] = arguments.metrics
    return named[0] if named in (["all"], ["none"]) else named


def _sizes(arguments: argparse.Namespace) -> dict[str, Any]:
    names = (
        *("jobs", "limit", "metric_texts", "store_budget", "store_dtype"),
        *("templates", "transforms", "transform_texts", "fit_texts"),
    )
    return {name: getattr(arguments, name) for name in names}


def _run(arguments: argparse.Namespace) -> int:
    # Unless this is set, tokenizers warn when a process forks after it has used their threads.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    if arguments.shard is not None:
        parse_part(arguments.shard)
    check_run(arguments)
    receipt = _receipt(arguments)
    if receipt is not None and receipt.holds:
        from leaderboard.board import load_results

        logger.info("everything is finished")
        show(load_results(arguments.results), arguments.results)
        return 0
    from leaderboard.sweep.run import TasksFailed, run_sweep

    failed = None
    on_plan = None if not arguments.plan else _print_plan if len(models_of(arguments)) == 1 else _print_plans
    try:
        board = run_sweep(
            models_of(arguments),
            arguments.tasks or arguments.benchmark,
            arguments.results,
            layers=parse_layers(arguments.layers),
            data_dir=arguments.data_dir,
            **_sizes(arguments),
            metrics=_metrics(arguments),
            seed=arguments.seed,
            overwrite=arguments.overwrite,
            shard=arguments.shard,
            expiry=arguments.expiry,
            scratch=arguments.scratch,
            show_progress=not arguments.quiet,
            on_plan=on_plan,
            **model_options(arguments),
        )
    except TasksFailed as error:  # each failure is logged already
        board, failed = error.leaderboard, error
    if board.models() and not arguments.plan:
        show(board, arguments.results)
    if arguments.shard is not None and not arguments.plan:
        print(f"all parts: {read_progress(open_storage(arguments.results)).line()}")
    if failed is not None:
        print(f"{PROGRAM}: {failed}; run the same command again to retry them", file=sys.stderr)
        return FAILED
    if receipt is not None and read_progress(open_storage(arguments.results)).is_complete:
        receipt.write()
    return 0


def _receipt(arguments: argparse.Namespace) -> Receipt | None:
    """The receipt of the command; None if it has to look at everything in any case."""
    if any(getattr(arguments, name) for name in _NOT_RECEIVED):
        return None
    left_out = (*_ON_THE_SIDE, *_NOT_RECEIVED, "models", "models_file")
    asked = {name: value for name, value in vars(arguments).items() if name not in left_out}
    return receipt_of(open_storage(arguments.results), models_of(arguments), [arguments.transform_texts], asked)


def _check_model(arguments: argparse.Namespace, model: str, layers: Sequence[int | float]) -> None:
    """As `early.check_model`, for a name in `configs/models`, too, and for a name with a revision."""
    source, _ = fold(model_options(arguments))
    name, source = at_revision(model, source)
    known = known_models().get(str(name))
    if known is None:
        check_model(argparse.Namespace(**{**vars(arguments), "model": name, "revision": source.revision}), layers)
    else:
        known.check_revision(source.revision)
        check_layers(layers, known.n_blocks, arguments.site)


def _print_plan(plan: "Plan") -> bool:
    print("\n".join(plan.lines()))
    return False


def _print_plans(plan: "Plan") -> bool:
    print(f"{plan.model}:")
    return _print_plan(plan)


def show(board: "Leaderboard", results: str) -> None:
    """Writes the tables into the results folder, and prints those of each model."""
    from leaderboard.report.terminal import print_layers

    storage = open_storage(results)
    with storage.scratch() as folder:
        board.to_parquet(folder)
        board.save_markdown(folder / "leaderboard.md")
        for path in sorted(folder.iterdir()):
            content = path.read_bytes()
            if storage.read(path.name) != content:  # what is made of a table need not be made again
                storage.write(path.name, content)
    for model, revision in board.models():
        print_layers(board, model, revision)
    place = storage.name.rstrip("/")
    print(f"tables: {place}/leaderboard.md; layers, schemes, scores, metrics and more as .parquet in {place}")
