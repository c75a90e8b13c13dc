"""The command `probe`: classifiers on the frozen states of every layer of image encoders, beside the metrics."""

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leaderboard.cli.options import PROGRAM
from leaderboard.models.known import known_models
from leaderboard.probes.arguments import PROBES, Settings, check_probes, check_window
from leaderboard.sweep.arguments import parse_bytes
from midlayer_embed.cli.early import check_model
from midlayer_embed.cli.images import check_image_options
from midlayer_embed.cli.parser import Parser, add_model_options, completes, model_options
from midlayer_embed.errors import InputError
from midlayer_embed.ground.checks import check_optional_int
from midlayer_embed.ground.paths import target_folder
from midlayer_embed.images.folders import images_in, labels_by_folder, labels_from_csv
from midlayer_embed.options import OF_TEXTS
from midlayer_embed.terms import METRIC_TABLE, PAPER_METRICS, check_metrics

if TYPE_CHECKING:
    from midlayer_embed.images.pictures import Picture

# Where finished models are kept.
_PARTS = "parts"
_FOLDERS = "folders"
_NONE = "none"
_MAX_METRIC_IMAGES = 1000
_TRAINING: dict[str, tuple[Any, str, str]] = {
    "heads": (int, "N", "attention heads, which divide the width of the states"),
    "epochs": (int, "N", "passes over the images, at most; by default as many as take 2,000 steps, at least 10"),
    "batch_size": (int, "N", "images in a step, at most"),
    "lr": (float, "RATE", "learning rate of Adam"),
    "smoothing": (float, "SHARE", "share of the target that is spread over all classes in training"),
    "held_out": (float, "SHARE", "share of the images that only decides when a layer stops"),
    "patience": (
        int,
        "N",
        "epochs without progress on these after which a layer stops (default: a fifth, at least 10)",
    ),
}


def add_probe(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Adds the command to the program."""
    probe = commands.add_parser(
        "probe",
        help="train probes on every layer of image encoders",
        description="Trains attention and linear probes on the frozen states of every layer of image encoders, and "
        "measures the metrics of the same images beside. Writes probe.parquet, .png, .svg and a page. Models that are "
        "finished are not probed again.",
        epilog=f"example: {PROGRAM} probe facebook/dinov2-small --images photos --labels folders --out probes",
    )
    probe.set_defaults(command=_probe, resumes=True)
    add_model_options(probe, several=True, without=OF_TEXTS)
    images = probe.add_argument_group("labelled images")
    images.add_argument("--images", required=True, metavar="FOLDER", help="images to train on, with the folders in it")
    labels = images.add_argument(
        "--labels",
        default=_FOLDERS,
        metavar="WHAT",
        help=f'"{_FOLDERS}" (default): the folder that an image is in; or a .csv file with the columns file_name and '
        "label",
    )
    completes(labels, (_FOLDERS,))
    images.add_argument(
        "--test-images",
        metavar="FOLDER",
        help="images to test on (default: a fifth of --images, drawn by the seed, which is not trained on)",
    )
    images.add_argument("--test-labels", metavar="WHAT", help=f'their labels, as --labels (default: "{_FOLDERS}")')
    what = probe.add_argument_group("probes")
    kinds = what.add_argument(
        "--probe",
        dest="probes",
        nargs="+",
        default=list(PROBES),
        metavar="KIND",
        help=f"{', '.join(PROBES)} (default: both)",
    )
    completes(kinds, PROBES)
    what.add_argument("--window", type=int, metavar="N", help="also probe the means of N consecutive layers")
    defaults = {field.name: field.default for field in fields(Settings)}
    for name, (type_, metavar, help_) in _TRAINING.items():
        default = defaults[name]
        said = f" (default: {default})" if default is not None else ""
        flag = f"--{name.replace('_', '-')}"
        what.add_argument(flag, type=type_, default=default, metavar=metavar, help=help_ + said)
    what.add_argument("--seed", type=int, default=0, metavar="N", help="seed of all random draws (default: 0)")
    metrics = probe.add_argument_group("metrics")
    wanted = metrics.add_argument(
        "--metrics",
        nargs="+",
        default=list(PAPER_METRICS),
        metavar="NAME",
        help=f"{_NONE}, or some of {', '.join(METRIC_TABLE)} (default: those of the paper)",
    )
    completes(wanted, (_NONE, *METRIC_TABLE))
    metrics.add_argument(
        "--metric-images",
        type=int,
        default=_MAX_METRIC_IMAGES,
        metavar="N",
        help=f"images on which metrics are measured, at most (default: {_MAX_METRIC_IMAGES})",
    )
    size = probe.add_argument_group("size")
    size.add_argument(
        "--store-budget",
        metavar="SIZE",
        help="disk space that states may take while probes are trained, e.g. 20GB; if they do not fit, every epoch "
        "encodes the images again (default: four fifths of the free space)",
    )
    size.add_argument(
        "--out", required=True, metavar="FOLDER", help="target folder of probe.parquet, .png, .svg and index.html"
    )


def _probe(arguments: argparse.Namespace) -> None:
    training = {name: getattr(arguments, name) for name in _TRAINING}
    Settings(**training, seed=arguments.seed).checked()
    check_probes(arguments.probes)
    check_window(arguments.window)
    metrics = [] if arguments.metrics == [_NONE] else check_metrics(arguments.metrics)
    check_optional_int("metric_images", arguments.metric_images, 2)
    if arguments.store_budget is not None:
        parse_bytes(arguments.store_budget)
    target_folder(arguments.out, "out")
    _check_models(arguments)
    images, labels = _labelled(arguments.images, arguments.labels, "")
    test_images, test_labels = None, None
    if arguments.test_images is not None:
        test_images, test_labels = _labelled(arguments.test_images, arguments.test_labels or _FOLDERS, "test_")
    elif arguments.test_labels is not None:
        raise InputError("test_labels: only --test-images FOLDER has them, and none was given")
    from leaderboard.probes.files import save_probes, title_of
    from leaderboard.probes.layers import probe_layers
    from leaderboard.probes.table import summary_of
    from leaderboard.report.terminal import print_frame
    from midlayer_embed.bulk.encode_folder import read_all

    def read(paths: Sequence[Path], argument: str) -> "list[Picture]":
        return read_all(paths, argument, show_progress=not arguments.quiet)

    table = probe_layers(
        arguments.models,
        read(images, "images"),
        labels,
        test_images=None if test_images is None else read(test_images, "test_images"),
        test_labels=test_labels,
        probes=arguments.probes,
        metrics=metrics,
        window=arguments.window,
        max_metric_images=arguments.metric_images,
        **training,
        seed=arguments.seed,
        store_budget=arguments.store_budget,
        folder=target_folder(arguments.out, "out") / _PARTS,
        show_progress=not arguments.quiet,
        **{name: value for name, value in model_options(arguments).items() if name not in OF_TEXTS},
    )
    files = save_probes(table, arguments.out)
    print_frame(title_of(table), summary_of(table))
    print(f"{arguments.out}: {', '.join(path.name for path in files)}")


def _check_models(arguments: argparse.Namespace) -> None:
    if not arguments.models:
        raise InputError("model: probe needs a MODEL, got none")
    for model in arguments.models:
        of_one = argparse.Namespace(**{**vars(arguments), "model": model})
        check_image_options(of_one)
        if model in known_models():
            known_models()[model].check_revision(arguments.revision)
        else:
            check_model(of_one)


def _labelled(folder: str, labels: str, prefix: str) -> tuple[Sequence[Path], list[str]]:
    """The images of a folder with their labels; no image is read."""
    images = images_in(folder, f"{prefix}images")
    argument = f"{prefix}labels"
    if labels == _FOLDERS:
        return images, labels_by_folder(folder, images, argument)
    if not labels.lower().endswith(".csv"):
        raise InputError(f'{argument}: expected "{_FOLDERS}" or a .csv file, got {labels!r}')
    return images, labels_from_csv(labels, folder, images, argument)
