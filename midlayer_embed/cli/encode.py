"""The command `encode`: embeds files of texts, or a folder of images, with one layer."""

import argparse
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midlayer_embed.cli.devices import add_process_options, check_process_options, run_on_devices
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
from midlayer_embed.errors import InputError
from midlayer_embed.ground.checks import check_optional_int
from midlayer_embed.ground.interrupts import tell_interrupt
from midlayer_embed.ground.paths import user_path
from midlayer_embed.layers import parse_layer
from midlayer_embed.options import OF_ONE_LAYER
from midlayer_embed.sharing.attached import end_with_parent
from midlayer_embed.sharing.parts import Part, parse_part

if TYPE_CHECKING:
    from midlayer_embed.bulk.encode_corpus import Outcome

logger = logging.getLogger(__name__)

# Of the files of vectors; the parts of a corpus have the first by default.
FORMATS = ("npy", "jsonl", "parquet")


def add_encode(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command to the program."""
    encode = commands.add_parser(
        "encode",
        help="embed files of texts, or a folder of images, with one layer",
        description="Embeds a file of texts, a corpus of many files, or a folder of images, with one layer of a model. "
        "All may be larger than memory. Run the same command again to resume a run that was interrupted.",
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
        nargs="+",
        metavar="FILE",
        help=".txt (one text per line; a blank line is an empty text), .jsonl, .csv, .tsv or .parquet, all UTF-8; also "
        "compressed, .txt.gz; or a corpus: a folder, several files, or a pattern in quotes",
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
        "input, with all of its columns, or the file_name of each image, and its embedding); of a corpus: a folder of "
        "parts, one for each file",
    )
    files.add_argument(
        "--format", choices=FORMATS, metavar="FORMAT", help=f"of the parts: {', '.join(FORMATS)} (default: npy)"
    )
    files.add_argument(
        "--overwrite", action="store_true", help="replace an existing output, once the new one is complete"
    )
    add_process_options(encode)
    vectors = encode.add_argument_group("vectors")
    vectors.add_argument("--normalize", action="store_true", help="normalise each vector to length 1")
    vectors.add_argument(
        "--batch-tokens", type=int, metavar="N", help="tokens in a forward pass (default: depends on the device)"
    )


def _encode(arguments: argparse.Namespace) -> int | None:
    # Tokenizers stop using threads, with a warning, once a process may fork; nothing forks here.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    layer = parse_layer(arguments.layer)
    check_optional_int("batch_tokens", arguments.batch_tokens, 1)
    check_image_options(arguments)
    check_transform_texts(arguments)
    check_model(arguments, [layer])
    in_parts = _is_in_parts(arguments)
    check_process_options(arguments, in_parts)
    if in_parts:
        return _encode_corpus(arguments, layer)
    encode = _encode_images if has_images(arguments) else _encode_texts
    n_items, dim = encode(arguments, layer)
    print(f"{arguments.output}: {n_items} vectors of {dim} dimensions")
    return None


def _is_in_parts(arguments: argparse.Namespace) -> bool:
    """Whether the output is a folder of parts: that of a corpus, or of whatever is given with --format."""
    if has_images(arguments):
        return False
    from midlayer_embed.bulk.corpus import is_corpus

    return arguments.format is not None or is_corpus(arguments.input)


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

    (source,) = arguments.input
    texts = find_texts(source, arguments.column)
    check_target(arguments.output, texts, overwrite=arguments.overwrite, needed=_fitted_on(arguments))

    with tell_interrupt(lambda: "no text was embedded in this run"):
        return encode_file(
            find_model(arguments),
            layer,
            source,
            arguments.output,
            column=arguments.column,
            overwrite=arguments.overwrite,
            **_vector_options(arguments),
        )


def _encode_corpus(arguments: argparse.Namespace, layer: int | float) -> int | None:
    from midlayer_embed.bulk.encode_corpus import CorpusJob

    if arguments.share is not None:
        end_with_parent()
    shard = None if arguments.shard is None else parse_part(arguments.shard)
    output, format_ = arguments.output, arguments.format or FORMATS[0]
    if output.lower().endswith(tuple(f".{name}" for name in FORMATS)) and not os.path.isdir(output):
        raise InputError(f"output: expected a folder for the parts of several files, got {output}; see --format")
    if shard is None and os.environ.get("SLURM_ARRAY_TASK_COUNT", "1") != "1":
        logger.info("this task of an array does all of the corpus; --shard auto does its part alone")
    job = CorpusJob(
        arguments.input,
        output,
        column=arguments.column,
        suffix=f".{format_}",
        shard=shard,
        share=arguments.share and parse_part(arguments.share),
        overwrite=arguments.overwrite,
        needed=_fitted_on(arguments),
    )
    if arguments.devices is not None and arguments.share is None:
        if (code := run_on_devices(arguments, job, shard)) != 0:
            return code
        outcome = job.outcome()
    else:
        with tell_interrupt(lambda: "no text was embedded in this run"):
            outcome = job.run(find_model(arguments), layer, **_vector_options(arguments))
    if arguments.share is None:
        _tell(output, shard, outcome)
    return None


def _tell(output: str, shard: Part | None, outcome: "Outcome") -> None:
    """Say what is in the folder of parts."""
    if outcome.manifest is not None:
        parts, rows, dim = (outcome.manifest[name] for name in ("parts", "rows", "dim"))
        print(f"{output}: {len(parts)} part{'s' * (len(parts) != 1)}, {rows} vectors of {dim} dimensions")
        return
    of_dim = "" if outcome.dim is None else f" of {outcome.dim} dimensions"
    parts = [f"{n} part{'s' * (n != 1)}" for n in (outcome.n_parts, len(outcome.missing))]
    print(f"{output}, shard {shard or Part()}: {parts[0]}, {outcome.n_vectors} vectors{of_dim}; {parts[1]} to come")


def _fitted_on(arguments: argparse.Namespace) -> Path | None:
    """The file of the transform's texts, which must not be written over."""
    return None if arguments.transform_texts is None else user_path(arguments.transform_texts, "transform_texts")


def _vector_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the vectors of texts depend on besides the layer."""
    return {
        "normalize": arguments.normalize,
        "batch_tokens": arguments.batch_tokens,
        "transform_texts": read_transform_texts(arguments),
        "show_progress": not arguments.quiet,
        **model_options(arguments),
    }
