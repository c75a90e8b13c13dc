"""The command `export`: saves one layer as an ordinary SentenceTransformer."""

import argparse
import sys
from typing import Any

from midlayer_embed.cli.early import check_model, check_source
from midlayer_embed.cli.export.choosing import chosen_layer
from midlayer_embed.cli.export.gguf import export_to_gguf, is_gguf_export
from midlayer_embed.cli.export.onnx import (
    add_onnx_options,
    add_to_saved_folder,
    check_model_of_graphs,
    check_onnx_options,
    export_with_graphs,
)
from midlayer_embed.cli.options import (
    PROGRAM,
    add_card_options,
    add_text_options,
    card_options,
    check_texts_for,
    check_transform_texts,
    find_model,
    read_transform_texts,
)
from midlayer_embed.cli.parser import (
    FAILED,
    Parser,
    add_file_options,
    add_model_options,
    add_transform_options,
    model_options,
)
from midlayer_embed.encoder.target import ExportFailed, check_target
from midlayer_embed.errors import InputError
from midlayer_embed.ground.paths import user_path
from midlayer_embed.layers import check_is_layer, parse_layer_or_name
from midlayer_embed.selection.criteria import (
    AUTO,
    COMBINED,
    CRITERIA,
    OUTSIDE,
    check_layer,
)


def add_export(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command to the program."""
    export = commands.add_parser(
        "export",
        help="save one layer of a model as an ordinary SentenceTransformer",
        description="Saves one layer of a model as a folder that plain SentenceTransformer loads, without this "
        "package. A fresh process loads the folder and compares vectors before it appears. With --check and no OUT, "
        "MODEL is a folder that was saved before, and nothing is written; with --onnx and no OUT, it gets graphs. If "
        "OUT ends in .gguf, MODEL is a GGUF file, and is cut to the blocks of the layer for llama.cpp; nothing is "
        "quantised again.",
        epilog=f"example: {PROGRAM} export starter smollm2-layer-7 --layer 7 --check",
    )
    export.set_defaults(command=_export)
    add_model_options(export)
    add_file_options(export)
    export.add_argument(
        "folder", nargs="?", metavar="OUT", help="folder to save to, or a .gguf file that MODEL, another one, is cut to"
    )
    export.add_argument(
        "--layer",
        metavar="LAYER",
        help=f"a layer (17, or -1 from the end), a depth (0.7), or a criterion that chooses one: "
        f"{', '.join((AUTO, *CRITERIA, *COMBINED, *OUTSIDE))}",
    )
    export.add_argument("--overwrite", action="store_true", help="replace OUT, or its contents")
    export.add_argument(
        "--check",
        action="store_true",
        help="say what others make of the folder: older sentence-transformers, TEI, vLLM, llama.cpp, transformers",
    )
    add_transform_options(export, default="those to measure on")
    add_text_options(export, required=False, of_proxy=True)
    add_onnx_options(export)
    add_card_options(export).add_argument(
        "--how-chosen",
        metavar="WORDS",
        help="how the layer was chosen, if LAYER is no criterion (default: given by the author)",
    )


def _export(arguments: argparse.Namespace) -> int:
    check_onnx_options(arguments)
    if arguments.onnx and arguments.folder is None:
        code = add_to_saved_folder(arguments)
        return _check(arguments.model) if arguments.check and not code else code
    if arguments.check and arguments.folder is None:
        if arguments.layer is not None:
            raise InputError("OUT: expected a folder to save the layer to, got none")
        return _check(arguments.model)
    if arguments.folder is None or arguments.layer is None:
        missing = "OUT" if arguments.folder is None else "--layer"
        raise InputError(f"{missing}: required to save a layer; only --check of a saved folder does without")
    layer = parse_layer_or_name(arguments.layer)
    check_layer(layer)
    said = card_options(arguments)
    if arguments.how_chosen is not None and (isinstance(layer, str) or not arguments.how_chosen.strip()):
        expected = "words" if not isinstance(layer, str) else f"none, because {layer} chooses the layer"
        raise InputError(f"how_chosen: expected {expected}, got {arguments.how_chosen!r}")
    if is_gguf_export(arguments):
        return export_to_gguf(arguments, layer)
    check_transform_texts(arguments)
    if isinstance(layer, str):
        check_texts_for(layer, arguments)
    else:
        check_source(arguments)
    check_is_layer(arguments.site, "exported")
    check_model(arguments, [] if isinstance(layer, str) else [layer])
    needed = (arguments.model, *arguments.adapters, *filter(None, [arguments.texts, arguments.transform_texts]))
    check_target(arguments.folder, overwrite=arguments.overwrite, needed=needed)
    from midlayer_embed.encoder.export import export_encoder
    from midlayer_embed.encoder.saving import check_can_be_saved
    from midlayer_embed.encoder.sentence_transformer import MidLayerEncoder

    options = model_options(arguments)
    checkpoint = find_model(arguments)
    check_can_be_saved(checkpoint)
    check_model_of_graphs(arguments, checkpoint)
    transform_texts = read_transform_texts(arguments)
    chosen = chosen_layer(arguments, layer, checkpoint, options) if isinstance(layer, str) else layer
    encoder = MidLayerEncoder(checkpoint, chosen, transform_texts=transform_texts, **options)
    card: Any = encoder.model_card_data
    card.how_chosen, card.license, card.base_model = arguments.how_chosen, said["license"], said["base_model"]
    graphs = None
    try:
        if arguments.onnx:
            graphs = export_with_graphs(arguments, encoder, transform_texts)
        difference = (
            graphs.difference if graphs else export_encoder(encoder, arguments.folder, overwrite=arguments.overwrite)
        )
    except ExportFailed as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return FAILED
    print(
        f"{arguments.folder}: layer {encoder.layer} of {encoder.n_layers - 1}; plain SentenceTransformer gives the "
        f"same vectors to {difference:.1g}"
    )
    if graphs is not None:
        print(graphs)
    return _check(arguments.folder) if arguments.check else 0


def _check(folder: str) -> int:
    from midlayer_embed.encoder.serve.readers import read_by_others

    for reading in read_by_others(user_path(folder, "folder")):
        print(reading)
    return 0
