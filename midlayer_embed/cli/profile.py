"""The command `profile`: measures every layer over texts or images."""

import argparse

from midlayer_embed.cli.early import check_model, check_texts
from midlayer_embed.cli.options import PROGRAM, add_text_options, find_model, measuring_options, read_items
from midlayer_embed.cli.parser import Parser, add_file_options, add_model_options, completes, model_options
from midlayer_embed.ground.paths import user_path
from midlayer_embed.ground.streams import output_width
from midlayer_embed.terms import METRIC_TABLE, PAPER_METRICS, check_metrics


def add_profile(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command to the program."""
    labels = [metric.label for metric in METRIC_TABLE.values()]
    slowest = max((METRIC_TABLE[name] for name in PAPER_METRICS), key=lambda metric: metric.n_views)
    profile = commands.add_parser(
        "profile",
        help="measure every layer over texts or images, without labels",
        description=f"Measures every layer of a model over texts or images: {', '.join(labels)}. By default, those of "
        f"the paper: {slowest.label} takes {slowest.n_views} of their {slowest.n_views + 1} forward passes; leave it "
        "out for a quick look.",
        epilog=f"example: {PROGRAM} profile starter --starter-texts --max-texts 200 --out profile",
    )
    profile.set_defaults(command=_profile)
    add_model_options(profile, raw=True)
    add_file_options(profile)
    add_text_options(profile, required=True, images=True)
    metrics = profile.add_argument(
        "--metrics",
        nargs="+",
        metavar="METRIC",
        help=f"some of {', '.join(METRIC_TABLE)} (default: {', '.join(PAPER_METRICS)})",
    )
    completes(metrics, METRIC_TABLE)
    profile.add_argument(
        "--no-first-token",
        dest="first_token",
        action="store_false",
        help="leave the first token of each text out of what is pooled, of prompt entropy and of curvature: decoders "
        "park attention on it, and its large state hides the others. Of models that add no BOS token it is the text's "
        "first word",
    )
    profile.add_argument("--out", metavar="FOLDER", help="also write profile.parquet and profile.png to FOLDER")


def _profile(arguments: argparse.Namespace) -> None:
    from midlayer_embed.selection.curves import check_folder_for_pictures, draw_profile, measured_on, profile_table

    metrics = check_metrics(arguments.metrics or PAPER_METRICS)
    if arguments.out is not None:
        check_folder_for_pictures(arguments.out)
    check_texts(arguments)
    check_model(arguments)
    from midlayer_embed.selection.profile import profile_layers

    profile = profile_layers(
        find_model(arguments),
        read_items(arguments) or [],
        metrics=metrics,
        first_token=arguments.first_token,
        **measuring_options(arguments),
        **model_options(arguments),
    )
    print(profile_table(profile, output_width()))
    print(measured_on(profile))
    if arguments.out is not None:
        folder = user_path(arguments.out, "out")
        profile.to_parquet(folder / "profile.parquet")
        draw_profile(profile, folder / "profile.png")
        print(f"{arguments.out}: profile.parquet, profile.png")
