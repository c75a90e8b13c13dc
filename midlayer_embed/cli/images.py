"""The option --images FOLDER: what goes with it, told before the slow imports, and the images themselves."""

import argparse
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from midlayer_embed.errors import InputError
from midlayer_embed.ground.checks import check_installed
from midlayer_embed.images.folders import images_in
from midlayer_embed.models.starter import STARTER
from midlayer_embed.options import OF_TEXTS, Recipe, Source, image_pooling_modes

if TYPE_CHECKING:
    from midlayer_embed.images.pictures import Picture
    from midlayer_embed.models.checkpoint import Checkpoint

# Options of commands that only texts have, besides fields of `Source` and `Recipe`, with their defaults.
_OF_TEXTS = {
    **{"column": None, "transform": None, "transform_texts": None, "transform_column": None, "dim": None},
    **{"rates": "paper", "first_token": True, "proxy_tasks": None},
}
_SOURCES = ("input", "texts", "dataset", "starter_texts")


def add_image_option(group: Any, more: str = "") -> None:
    """Add the option to a group of sources, of which a command takes one."""
    group.add_argument(
        "--images",
        metavar="FOLDER",
        help="folder of images for an image encoder, with the folders in it" + more,
    )


def has_images(arguments: argparse.Namespace) -> bool:
    """Whether images were given. Not every command takes them."""
    return getattr(arguments, "images", None) is not None


def check_image_options(arguments: argparse.Namespace) -> None:
    """Check what goes with --images, if it was given, and find the images. None is read.

    Raises:
        InputError: (a ValueError) the folder has no images, or an option is of texts alone.
    """
    if not has_images(arguments):
        return
    defaults = {f.name: f.default for record in (Source, Recipe) for f in fields(record) if f.name in OF_TEXTS}
    for name, default in {**defaults, **_OF_TEXTS}.items():
        value = getattr(arguments, name, default)
        if value != default and value != []:
            raise InputError(f"{name}: only texts have it, and --images FOLDER was given; got {value!r}")
    check_installed("PIL", "images", extra="vision")
    if arguments.pooling_mode is not None:
        image_pooling_modes(arguments.pooling_mode)
    if arguments.model == STARTER:
        raise InputError(f"images: {STARTER!r} is a model of texts; expected an image encoder")
    images_in(arguments.images)


def check_takes_items(checkpoint: "Checkpoint", arguments: argparse.Namespace) -> None:
    """Reject images for a model of texts, and texts for an image encoder.

    Raises:
        InputError: (a ValueError) the message says what to pass.
    """
    kind = checkpoint.config.model_type
    if has_images(arguments) and checkpoint.modality != "image":
        raise InputError(f"images: {arguments.model} is a model of texts ({kind}); expected an image encoder")
    given = next((name for name in _SOURCES if getattr(arguments, name, None)), None)
    if given is not None and "images" in arguments and checkpoint.modality == "image":
        raise InputError(f"{given}: {arguments.model} is an image encoder ({kind}); pass --images FOLDER")


def read_images(arguments: argparse.Namespace) -> "list[Picture]":
    """The images of the folder, all of which can be read.

    Raises:
        InputError: (a ValueError) files that cannot; the message names the first.
    """
    from midlayer_embed.bulk.encode_folder import read_all

    return read_all(images_in(arguments.images), show_progress=not arguments.quiet)
