"""The command `select`: chooses a layer over texts or images, without labels."""

import argparse

from midlayer_embed.cli.early import check_model
from midlayer_embed.cli.options import (
    PROGRAM,
    add_text_options,
    check_texts_for,
    find_model,
    measuring_options,
    read_items_for,
)
from midlayer_embed.cli.parser import Parser, add_file_options, add_model_options, completes, model_options
from midlayer_embed.ground.streams import output_width
from midlayer_embed.layers import check_is_layer
from midlayer_embed.selection.criteria import AUTO, COMBINED, CRITERIA, OUTSIDE, PROXY, check_criterion, check_of_proxy


def add_select(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command to the program."""
    select = commands.add_parser(
        "select",
        help="choose a layer over texts or images, without labels",
        description="Chooses a layer of a model with texts or images like those you will embed, without labels.",
        epilog=f"example: {PROGRAM} select starter --starter-texts",
    )
    select.set_defaults(command=_select)
    add_model_options(select, raw=True)
    add_file_options(select)
    add_text_options(select, required=False, of_proxy=True, images=True)
    criterion = select.add_argument(
        "--criterion",
        default=AUTO,
        metavar="NAME",
        help="auto (default: half-and-drop, if there are texts enough), one of "
        f"{', '.join((*CRITERIA, *COMBINED))}; or proxy (the best layer on labelled tasks at hand), published, last, "
        "middle, depth:0.7, which need no texts",
    )
    completes(criterion, (AUTO, *CRITERIA, *COMBINED, *OUTSIDE, "last", "middle"))
    select.add_argument(
        "--proxy-tasks", nargs="+", metavar="TASK", help="tasks of MTEB for proxy (default: the starter benchmark)"
    )
    select.add_argument("--no-layer-zero", action="store_true", help="do not choose layer 0, the embeddings")


def _select(arguments: argparse.Namespace) -> None:
    check_criterion(arguments.criterion)
    check_of_proxy(arguments.criterion, proxy_tasks=arguments.proxy_tasks)
    check_texts_for(arguments.criterion, arguments)
    check_is_layer(arguments.site, "chosen")
    check_model(arguments)
    from midlayer_embed.selection.criteria import selection_summary
    from midlayer_embed.selection.curves import curve_bars
    from midlayer_embed.selection.select import select_layer

    selection = select_layer(
        find_model(arguments),
        read_items_for(arguments.criterion, arguments),
        criterion=arguments.criterion,
        layer_zero=not arguments.no_layer_zero,
        proxy_tasks=arguments.proxy_tasks,
        data_dir=arguments.data_dir if arguments.criterion == PROXY else None,
        **measuring_options(arguments),
        **model_options(arguments),
    )
    if selection.values is not None:
        print(curve_bars(selection, output_width()))
    print("\n".join(selection_summary(selection)))
