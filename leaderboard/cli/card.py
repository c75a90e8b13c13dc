"""The command `card`: writes the model card of a layer to disk, or uploads it to the Hub with the encoder."""

import argparse
import sys
from typing import Any

from leaderboard.cli.options import PROGRAM
from leaderboard.results.arguments import check_results
from midlayer_embed.cli.options import add_card_options, card_options
from midlayer_embed.cli.parser import FAILED, Parser
from midlayer_embed.errors import InputError
from midlayer_embed.layers import parse_layer


def add_card(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Adds the command to the program."""
    card = commands.add_parser(
        "card",
        help="write the model card of a layer from its results, and upload it with the encoder",
        description="Writes the model card of one layer from a results folder: README.md with its scores for people "
        "and for the Hub, a plot of the scores over layers, and the folder .eval_results. Can upload them, together "
        "with the encoder of the layer, to a repository on the Hub; the exit code is 1 if the Hub fails.",
        epilog=f"example: {PROGRAM} card results/starter --layer 7 --out README.md",
    )
    card.set_defaults(command=_card)
    card.add_argument("folder", metavar="FOLDER", help="the results folder of a run")
    card.add_argument("--model", metavar="NAME", help="the model's name in the tables (default: the only one)")
    card.add_argument("--revision", metavar="REV", help="the model's revision (default: the only one)")
    card.add_argument("--layer", metavar="LAYER", help="17, or -1, or a depth: 0.7 (default: the best mean score)")
    recipe = card.add_argument_group("the recipe of the layer (default: plain, or the only one)")
    recipe.add_argument("--template", metavar="NAME|TEXT", help="the template: eol, echo, or a text with {text}")
    recipe.add_argument("--transform", metavar="NAME", help="the transform, such as whiten:10")
    recipe.add_argument("--fitted-on", metavar="WHAT", help="what it was fitted on: train, task or corpus:NAME")
    card.add_argument("--out", metavar="FILE", help="path of the card; the plot and .eval_results go into its folder")
    card.add_argument("--overwrite", action="store_true", help="replace an existing card, plot and .eval_results")
    add_card_options(card)
    push = card.add_argument_group("the Hub")
    push.add_argument("--push", metavar="REPO", help="upload to owner/name, created if needed")
    push.add_argument("--model-path", metavar="FOLDER", help="folder of the scored model, if it was a folder")
    push.add_argument(
        "--adapter",
        action="append",
        metavar="NAME",
        help="an adapter of the scored model; if any of its adapters was a folder, repeat the option for all, in order",
    )
    push.add_argument("--device", metavar="DEVICE", help="cpu, cuda, ... (default: the fastest available)")


def _card(arguments: argparse.Namespace) -> int:
    layer = None if arguments.layer is None else parse_layer(arguments.layer)
    if arguments.out is None and arguments.push is None:
        raise InputError("card: expected --out FILE, --push REPO, or both")
    said = card_options(arguments)
    check_results(arguments.folder)
    from leaderboard.report.layer_record import find_layer
    from leaderboard.report.publish import PushFailed, check_card_target, check_push, push_layer, write_card

    if arguments.push is not None:
        check_push(arguments.push)
    if arguments.out is not None:
        check_card_target(arguments.out, overwrite=arguments.overwrite)
    recipe = {name: getattr(arguments, name) for name in ("template", "transform", "fitted_on")}
    record = find_layer(arguments.folder, arguments.model, layer, revision=arguments.revision, **recipe)
    shared: dict[str, Any] = {"base": arguments.model_path, **said}
    if arguments.push is not None:
        try:
            url = push_layer(
                record,
                arguments.push,
                model_path=arguments.model_path,
                adapters=arguments.adapter,
                device=arguments.device,
                **said,
            )
        except PushFailed as error:
            print(f"{PROGRAM}: {error}", file=sys.stderr)
            return FAILED
        print(f"{url}: layer {record.layer} of {record.variant.label()}, with its card")
        shared["name"] = arguments.push
    if arguments.out is not None:
        write_card(record, arguments.out, overwrite=arguments.overwrite, **shared)
        print(f"{arguments.out}: the card of layer {record.layer} of {record.variant.label()}")
    return 0
