"""midlayer-embed: arguments in, files out. All work is done elsewhere."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from midlayer_embed.command_line import Parser, add_file_options, add_model_options, model_options, run
from midlayer_embed.errors import InputError
from midlayer_embed.layers import parse_layer

PROGRAM = "midlayer-embed"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: Instead of the program's own.

    Returns:
        The exit code.
    """
    return run(_parser(), arguments)


def _parser() -> Parser:
    parser = Parser(prog=PROGRAM, description="Embeddings from the middle layers of language models.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    _add_encode(commands)
    _add_export(commands)
    return parser


def _add_encode(commands: "argparse._SubParsersAction[Parser]") -> None:
    encode = commands.add_parser(
        "encode",
        help="embed a file of texts with one layer",
        description="Embeds a file of texts with one layer of a model. Files may be larger than memory. A run that is "
        "cut goes on where it stopped when the same command is run again.",
        epilog=f"example: {PROGRAM} encode starter --layer 7 --input texts.txt --output vectors.npy",
    )
    encode.set_defaults(command=_encode)
    add_model_options(encode)
    add_file_options(encode)
    encode.add_argument("--layer", required=True, metavar="LAYER", help="17, or -1 from the end, or a depth: 0.7")
    files = encode.add_argument_group("files")
    files.add_argument(
        "--input",
        required=True,
        metavar="FILE",
        help=".txt (one text a line; a blank line is an empty text), .jsonl, .csv or .parquet, all UTF-8",
    )
    files.add_argument(
        "--column",
        metavar="NAME",
        help="where the texts of a .jsonl, .csv or .parquet file are (default: its one column of strings)",
    )
    files.add_argument(
        "--output",
        required=True,
        metavar="FILE",
        help=".npy (float32, texts x dimensions, in the order of the texts), "
        "or .jsonl or .parquet (each text beside its embedding)",
    )
    files.add_argument(
        "--overwrite", action="store_true", help="replace an output that is there, once the new is whole"
    )
    vectors = encode.add_argument_group("vectors")
    vectors.add_argument("--normalize", action="store_true", help="scale each vector to length 1")
    vectors.add_argument(
        "--batch-tokens", type=int, metavar="N", help="tokens a forward pass (default: what suits the device)"
    )
    vectors.add_argument(
        "--seed", type=int, default=0, metavar="N", help="changes nothing: embedding draws no random numbers"
    )


def _encode(arguments: argparse.Namespace) -> None:
    # Tokenizers leave their threads idle, with a warning, where they fear a fork; nothing forks here.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    layer = parse_layer(arguments.layer)
    if arguments.seed < 0:
        raise InputError(f"seed: expected 0 or more, got {arguments.seed}")
    from midlayer_embed.encode_file import encode_file

    n_texts, dim = encode_file(
        arguments.model,
        layer,
        arguments.input,
        arguments.output,
        column=arguments.column,
        normalize=arguments.normalize,
        batch_tokens=arguments.batch_tokens,
        overwrite=arguments.overwrite,
        **model_options(arguments),
        show_progress=not arguments.quiet,
    )
    print(f"{arguments.output}: {n_texts} vectors of {dim} dimensions")


def _add_export(commands: "argparse._SubParsersAction[Parser]") -> None:
    export = commands.add_parser(
        "export",
        help="save one layer of a model as an ordinary SentenceTransformer",
        description="Saves one layer of a model as a folder that plain SentenceTransformer loads, without this "
        "package. The folder is tried in a fresh process before it appears.",
        epilog=f"example: {PROGRAM} export starter smollm2-layer-7 --layer 7",
    )
    export.set_defaults(command=_export)
    add_model_options(export)
    add_file_options(export)
    export.add_argument("folder", metavar="OUT", help="where to save it; empty, or not there yet")
    export.add_argument("--layer", required=True, metavar="LAYER", help="17, or -1 from the end, or a depth: 0.7")
    export.add_argument("--overwrite", action="store_true", help="replace what OUT holds")
    export.add_argument("--seed", type=int, default=0, metavar="N", help="changes nothing: nothing is drawn at random")


def _export(arguments: argparse.Namespace) -> None:
    layer = parse_layer(arguments.layer)
    from midlayer_embed.encoder import MidLayerEncoder
    from midlayer_embed.export import check_target, export_encoder

    check_target(Path(arguments.folder), overwrite=arguments.overwrite)
    encoder = MidLayerEncoder(arguments.model, layer, **model_options(arguments))
    difference = export_encoder(encoder, arguments.folder, overwrite=arguments.overwrite)
    print(
        f"{arguments.folder}: layer {encoder.layer} of {encoder.n_layers - 1}; plain SentenceTransformer gives the "
        f"same vectors to {difference:.1g}"
    )


if __name__ == "__main__":
    sys.exit(main())
