"""midlayer-embed: arguments in, files out. All work is done elsewhere."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from midlayer_embed.cli.parser import Parser, add_file_options, add_model_options, model_options, run
from midlayer_embed.errors import InputError
from midlayer_embed.ground.checks import check_int
from midlayer_embed.layers import parse_layer, parse_layer_or_name
from midlayer_embed.selection.criteria import CRITERIA, LayerSelection, check_criterion, check_layer, needs_texts
from midlayer_embed.terms import METRIC_TABLE

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
    _add_profile(commands)
    _add_select(commands)
    _add_export(commands)
    _add_encode(commands)
    return parser


def _add_text_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Where the texts come from that a layer is measured on."""
    texts = parser.add_argument_group("texts to measure on, without labels")
    source = texts.add_mutually_exclusive_group(required=required)
    source.add_argument("--texts", metavar="FILE", help=".txt (one text a line), .jsonl, .csv or .parquet")
    source.add_argument(
        "--dataset", metavar="ID", help='"wikitext" (paragraphs of 30 tokens or more), a dataset of the hub or a folder'
    )
    source.add_argument(
        "--starter-texts",
        action="store_true",
        help="about 1,000 sentences out of docstrings that are at hand",
    )
    texts.add_argument("--column", metavar="NAME", help="where the texts are (default: the one column of strings)")
    texts.add_argument("--config", metavar="NAME", help="a configuration of the dataset")
    texts.add_argument("--split", default="test", metavar="NAME", help="a split of the dataset (default: test)")
    texts.add_argument("--max-texts", type=int, metavar="N", help="measure N of them, by the seed (default: 1000)")
    texts.add_argument("--min-tokens", type=int, metavar="N", help="leave out texts of fewer tokens")
    texts.add_argument(
        "--rates", default="paper", metavar="RATES", help='how much views are changed: "paper" (default) or "library"'
    )
    texts.add_argument("--seed", type=int, default=0, metavar="N", help="of all that is drawn at random (default: 0)")


def _texts(arguments: argparse.Namespace) -> list[str] | None:
    from midlayer_embed.texts import corpora

    if arguments.texts is not None:
        return corpora.file_texts(arguments.texts, arguments.column)
    if arguments.starter_texts:
        return corpora.starter_texts()
    if arguments.dataset is not None:
        return corpora.dataset_texts(
            arguments.dataset, config=arguments.config, split=arguments.split, column=arguments.column
        )
    return None


def _measuring_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `_add_text_options` was given, as keywords of `profile_layers`; what was not given is left to that."""
    from midlayer_embed.texts.corpora import WIKITEXT, WIKITEXT_MIN_TOKENS

    options = {"rates": arguments.rates, "seed": arguments.seed, "show_progress": not arguments.quiet}
    if arguments.max_texts is not None:
        options["max_texts"] = arguments.max_texts
    if arguments.min_tokens is not None:
        options["min_tokens"] = arguments.min_tokens
    elif arguments.dataset == WIKITEXT:
        options["min_tokens"] = WIKITEXT_MIN_TOKENS
    return options


def _add_profile(commands: "argparse._SubParsersAction[Parser]") -> None:
    labels = [metric.label for metric in METRIC_TABLE.values()]
    slowest = max(METRIC_TABLE.values(), key=lambda metric: metric.n_views)
    profile = commands.add_parser(
        "profile",
        help="measure every layer over texts, without labels",
        description=f"Measures every layer of a model over texts: {', '.join(labels)}. {slowest.label} takes "
        f"{slowest.n_views} of the {slowest.n_views + 1} forward passes; leave it out to be quick.",
        epilog=f"example: {PROGRAM} profile starter --starter-texts --max-texts 200 --out profile",
    )
    profile.set_defaults(command=_profile)
    add_model_options(profile, raw=True)
    add_file_options(profile)
    _add_text_options(profile, required=True)
    profile.add_argument(
        "--metrics", nargs="+", metavar="METRIC", help=f"some of {', '.join(METRIC_TABLE)} (default: all)"
    )
    profile.add_argument("--out", metavar="FOLDER", help="also write profile.parquet and profile.png there")


def _profile(arguments: argparse.Namespace) -> None:
    from midlayer_embed.selection.curves import check_folder_for_pictures, draw_profile, profile_table
    from midlayer_embed.selection.profile import profile_layers

    if arguments.out is not None:
        check_folder_for_pictures(Path(arguments.out))
    profile = profile_layers(
        arguments.model,
        _texts(arguments) or [],
        metrics=arguments.metrics or list(METRIC_TABLE),
        **_measuring_options(arguments),
        **model_options(arguments),
    )
    print(profile_table(profile))
    if arguments.out is not None:
        folder = Path(arguments.out)
        profile.to_parquet(folder / "profile.parquet")
        draw_profile(profile, folder / "profile.png")
        print(f"{folder}: profile.parquet, profile.png")


def _add_select(commands: "argparse._SubParsersAction[Parser]") -> None:
    select = commands.add_parser(
        "select",
        help="choose a layer over texts, without labels",
        description="Chooses a layer of a model by texts like those that shall be embedded, without labels.",
        epilog=f"example: {PROGRAM} select starter --starter-texts --criterion min-dime",
    )
    select.set_defaults(command=_select)
    add_model_options(select, raw=True)
    add_file_options(select)
    _add_text_options(select, required=False)
    select.add_argument(
        "--criterion",
        default="min-dime",
        metavar="NAME",
        help=f"one of {', '.join(CRITERIA)} (default: min-dime); or last, middle, depth:0.7, which need no texts",
    )
    select.add_argument("--no-layer-zero", action="store_true", help="the embeddings are not eligible")


def _select(arguments: argparse.Namespace) -> None:
    from midlayer_embed.selection.curves import curve_bars, selection_summary
    from midlayer_embed.selection.select import select_layer

    check_criterion(arguments.criterion)
    selection = select_layer(
        arguments.model,
        _texts_for(arguments.criterion, arguments),
        criterion=arguments.criterion,
        layer_zero=not arguments.no_layer_zero,
        **_measuring_options(arguments),
        **model_options(arguments),
    )
    if selection.values is not None:
        print(curve_bars(selection))
    print("\n".join(selection_summary(selection)))


def _texts_for(criterion: str, arguments: argparse.Namespace) -> list[str] | None:
    """The texts that a criterion measures, if it measures any."""
    if not needs_texts(criterion):
        return None
    texts = _texts(arguments)
    if texts is None:
        raise InputError(
            f"texts: {criterion} measures texts, so some are needed: --texts FILE, --dataset ID or --starter-texts"
        )
    return texts


def _add_encode(commands: "argparse._SubParsersAction[Parser]") -> None:
    encode = commands.add_parser(
        "encode",
        help="embed a file of texts with one layer",
        description="Embeds a file of texts with one layer of a model. Files may be larger than memory. A run that is "
        "cut goes on where it stopped when the same command is run again.",
        epilog=f"example: {PROGRAM} encode starter --layer 7 --input texts.txt --output vectors.npy",
    )
    encode.set_defaults(command=_encode, resumes=True)
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
    check_int("seed", arguments.seed, 0)
    from midlayer_embed.bulk.encode_file import encode_file

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
    export.add_argument(
        "--layer",
        required=True,
        metavar="LAYER",
        help=f"17, or -1 from the end, or a depth: 0.7, or chosen by a criterion over texts: {', '.join(CRITERIA)}",
    )
    export.add_argument("--overwrite", action="store_true", help="replace what OUT holds")
    _add_text_options(export, required=False)


def _export(arguments: argparse.Namespace) -> None:
    from midlayer_embed.encoder.export import check_target, export_encoder
    from midlayer_embed.encoder.sentence_transformer import MidLayerEncoder
    from midlayer_embed.selection.curves import selection_summary
    from midlayer_embed.selection.select import select_layer

    layer = parse_layer_or_name(arguments.layer)
    check_layer(layer)
    check_target(Path(arguments.folder), overwrite=arguments.overwrite)
    options = model_options(arguments)
    chosen: int | float | LayerSelection
    if isinstance(layer, str):
        chosen = select_layer(
            arguments.model,
            _texts_for(layer, arguments),
            criterion=layer,
            **_measuring_options(arguments),
            **{**options, "final_norm": None},
        )
        print("\n".join(selection_summary(chosen)))
    else:
        chosen = layer
    encoder = MidLayerEncoder(arguments.model, chosen, **options)
    difference = export_encoder(encoder, arguments.folder, overwrite=arguments.overwrite)
    print(
        f"{arguments.folder}: layer {encoder.layer} of {encoder.n_layers - 1}; plain SentenceTransformer gives the "
        f"same vectors to {difference:.1g}"
    )


if __name__ == "__main__":
    sys.exit(main())
