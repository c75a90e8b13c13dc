"""The command `encode`: embeds a file of texts, or a folder of images, with one layer."""

import argparse
import os

from midlayer_embed.cli.early import check_model
from midlayer_embed.cli.images import add_image_option, check_image_options, has_images
from midlayer_embed.cli.options import PROGRAM, check_transform_texts, find_model, read_transform_texts
from midlayer_embed.cli.parser import (
    Parser,
    add_file_options,
    add_model_options,
    add_transform_options,
    model_options,
)
from midlayer_embed.ground.checks import check_optional_int
from midlayer_embed.ground.interrupts import tell_interrupt
from midlayer_embed.ground.paths import user_path
from midlayer_embed.layers import parse_layer
from midlayer_embed.options import OF_ONE_LAYER


def add_encode(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command to the program."""
    encode = commands.add_parser(
        "encode",
        help="embed a file of texts, or a folder of images, with one layer",
        description="Embeds a file of texts, or a folder of images, with one layer of a model. Both may be larger than "
        "memory. Run the same command again to resume a run that was interrupted.",
        epilog=f"example: {PROGRAM} encode starter --layer 7 --input texts.txt --output vectors.npy",
    )
    encode.set_defaults(command=_encode, resumes=True)
    add_model_options(encode)
    add_file_options(encode)
    encode.add_argument(
        "--layer", required=True, metavar="LAYER", help="a layer (17, or -1 from the end) or depth (0.7)"
    )
    add_transform_options(encode)
    files = encode.add_argument_group("files")
    source = files.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--input",
        metavar="FILE",
        help=".txt (one text per line; a blank line is an empty text), .jsonl, .csv, .tsv or .parquet, all UTF-8; also "
        "compressed, .txt.gz",
    )
    add_image_option(source, "; in the order of their paths")
    files.add_argument(
        "--column",
        metavar="NAME",
        help="column of the texts in a .jsonl, .csv, .tsv or .parquet file (default: its only column of strings that "
        "are not all numbers, dates or ids)",
    )
    files.add_argument(
        "--output",
        required=True,
        metavar="FILE",
        help=".npy (float32, texts or images x dimensions, in their order), or .jsonl or .parquet (each row of the "
        "input, with all of its columns, or the file_name of each image, and its embedding)",
    )
    files.add_argument(
        "--overwrite", action="store_true", help="replace an existing output, once the new one is complete"
    )
    vectors = encode.add_argument_group("vectors")
    vectors.add_argument("--normalize", action="store_true", help="normalise each vector to length 1")
    vectors.add_argument(
        "--batch-tokens", type=int, metavar="N", help="tokens in a forward pass (default: depends on the device)"
    )


def _encode(arguments: argparse.Namespace) -> None:
    # Tokenizers stop using threads, with a warning, once a process may fork; nothing forks here.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    layer = parse_layer(arguments.layer)
    check_optional_int("batch_tokens", arguments.batch_tokens, 1)
    check_image_options(arguments)
    check_transform_texts(arguments)
    check_model(arguments, [layer])
    if has_images(arguments):
        n_items, dim = _encode_images(arguments, layer)
    else:
        n_items, dim = _encode_texts(arguments, layer)
    print(f"{arguments.output}: {n_items} vectors of {dim} dimensions")


def _encode_images(arguments: argparse.Namespace, layer: int | float) -> tuple[int, int]:
    from midlayer_embed.bulk.encode_folder import encode_folder, find_images
    from midlayer_embed.bulk.vector_files import check_target

    check_target(arguments.output, find_images(arguments.images), overwrite=arguments.overwrite)
    with tell_interrupt(lambda: "no image was embedded in this run"):
        return encode_folder(
            find_model(arguments),
            layer,
            arguments.images,
            arguments.output,
            normalize=arguments.normalize,
            batch_tokens=arguments.batch_tokens,
            overwrite=arguments.overwrite,
            **{name: value for name, value in model_options(arguments).items() if name not in OF_ONE_LAYER},
            show_progress=not arguments.quiet,
        )


def _encode_texts(arguments: argparse.Namespace, layer: int | float) -> tuple[int, int]:
    from midlayer_embed.bulk.encode_file import encode_file
    from midlayer_embed.bulk.vector_files import check_target
    from midlayer_embed.texts.files import find_texts

    texts, fitted_on = find_texts(arguments.input, arguments.column), arguments.transform_texts
    check_target(
        arguments.output,
        texts,
        overwrite=arguments.overwrite,
        needed=None if fitted_on is None else user_path(fitted_on, "transform_texts"),
    )

    with tell_interrupt(lambda: "no text was embedded in this run"):
        return encode_file(
            find_model(arguments),
            layer,
            arguments.input,
            arguments.output,
            column=arguments.column,
            normalize=arguments.normalize,
            batch_tokens=arguments.batch_tokens,
            overwrite=arguments.overwrite,
            transform_texts=read_transform_texts(arguments),
            **model_options(arguments),
            show_progress=not arguments.quiet,
        )
