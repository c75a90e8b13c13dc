"""midlayer-leaderboard: arguments in, tables out. All work is done elsewhere."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from midlayer_embed.command_line import Parser, add_model_options, model_options, run
from midlayer_embed.errors import InputError
from midlayer_embed.layers import parse_layer

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
    run = commands.add_parser(
        "run",
        help="score layers of a model on tasks",
        description="Scores layers of a model on tasks; what is finished in the results folder is not computed again.",
        epilog=f"example: {PROGRAM} run starter --benchmark starter --layers 0,0.5,-1 --results results/starter",
    )
    run.set_defaults(command=_run)
    add_model_options(run)
    what = run.add_mutually_exclusive_group()
    what.add_argument("--benchmark", metavar="NAME", help="starter (the default)")
    what.add_argument("--tasks", nargs="+", metavar="TASK", help="tasks by name, instead of a benchmark")
    run.add_argument("--layers", default="all", metavar="LAYERS", help='"all", or e.g. 0,6,-1; 0.5 is a depth')
    run.add_argument("--results", default="results", metavar="FOLDER", help="where results are kept (default: results)")
    run.add_argument("--overwrite", action="store_true", help="compute finished layers again")
    run.add_argument("--seed", type=int, default=0, metavar="N", help="chooses the texts metrics are measured on")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    # Tokenizers warn when a process that has used their threads forks; a sweep tokenises in one piece.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    layers = _layers(arguments.layers)
    from leaderboard.report.terminal import print_layers
    from leaderboard.sweep import run_sweep

    board = run_sweep(
        arguments.model,
        arguments.tasks or arguments.benchmark or "starter",
        arguments.results,
        layers=layers,
        seed=arguments.seed,
        overwrite=arguments.overwrite,
        show_progress=not arguments.quiet,
        **model_options(arguments),
    )
    folder = Path(arguments.results)
    board.to_parquet(folder)
    board.save_markdown(folder / "leaderboard.md")
    for model, revision in board.models():
        print_layers(board, model, revision)
    print(f"tables: {folder / 'leaderboard.md'}, layers.parquet, scores.parquet and metrics.parquet beside it")


def _layers(text: str) -> str | list[int | float]:
    if text == "all":
        return text
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise InputError(f'layers: expected "all" or layers such as 0,6,-1, got {text!r}')
    return [parse_layer(part) for part in parts]


if __name__ == "__main__":
    sys.exit(main())
