"""The command `card`: arguments in, a model card out, on the disk or the Hub."""

import argparse
import sys
from collections.abc import Callable

from midlayer_embed.cli.parser import FAILED, Parser
from midlayer_embed.errors import InputError
from midlayer_embed.layers import parse_layer


def add_card(
    commands: "argparse._SubParsersAction[Parser]", program: str, add_plain_options: Callable[[Parser], None]
) -> None:
    """Adds the command.

    Args:
        commands: Those of the program.
        program: Its name.
        add_plain_options: Adds what every command has, of one that computes nothing.
    """
    card = commands.add_parser(
        "card",
        help="write the model card of a layer out of its results, and upload it with the encoder",
        description="Writes the model card of one layer out of a folder of results: README.md with its scores for "
        "people and for the Hub, a picture of the curve over layers, and the folder .eval_results. Uploads it, "
        "together with the encoder of the layer, to a repository on the Hub; the exit code is 1 where the Hub fails.",
        epilog=f"example: {program} card results/starter --layer 7 --out README.md",
    )
    card.set_defaults(command=lambda arguments: _card(arguments, program))
    card.add_argument("folder", metavar="FOLDER", help="the results of a run")
    card.add_argument("--model", metavar="NAME", help="as in the tables; may be left out where there is only one")
    card.add_argument("--revision", metavar="REV", help="of the model, where there are several under that name")
    card.add_argument("--layer", metavar="LAYER", help="17, or -1, or a depth: 0.7 (default: the one of the best mean)")
    card.add_argument("--out", metavar="FILE", help="the card; the picture and .eval_results go beside it")
    card.add_argument("--overwrite", action="store_true", help="replace a card, picture and .eval_results")
    push = card.add_argument_group("the Hub")
    push.add_argument("--push", metavar="REPO", help="owner/name; made if need be")
    push.add_argument("--model-path", metavar="FOLDER", help="where the model is that was scored, if it was a folder")
    push.add_argument(
        "--adapter",
        action="append",
        metavar="NAME",
        help="an adapter that was merged into it, if one was a folder: then each of them, in order",
    )
    push.add_argument("--device", metavar="DEVICE", help="cpu, cuda, ... (default: the fastest that is there)")
    add_plain_options(card)


def _card(arguments: argparse.Namespace, program: str) -> int:
    layer = None if arguments.layer is None else parse_layer(arguments.layer)
    if arguments.out is None and arguments.push is None:
        raise InputError("card: expected --out FILE, --push REPO, or both")
    from leaderboard.report.layer_record import find_layer
    from leaderboard.report.publish import PushFailed, check_card_target, check_push, push_layer, write_card

    if arguments.push is not None:
        check_push(arguments.push)
    if arguments.out is not None:
        check_card_target(arguments.out, overwrite=arguments.overwrite)
    record = find_layer(arguments.folder, arguments.model, layer, revision=arguments.revision)
    shared = {"base": arguments.model_path}
    if arguments.push is not None:
        try:
            url = push_layer(
                record,
                arguments.push,
                model_path=arguments.model_path,
                adapters=arguments.adapter,
                device=arguments.device,
            )
        except PushFailed as error:
            print(f"{program}: {error}", file=sys.stderr)
            return FAILED
        print(f"{url}: layer {record.layer} of {record.model}, with its card")
        shared["name"] = arguments.push
    if arguments.out is not None:
        write_card(record, arguments.out, overwrite=arguments.overwrite, **shared)
        print(f"{arguments.out}: the card of layer {record.layer} of {record.model}")
    return 0
