"""The options of `export` that write ONNX graphs: into the folder of an export, or into one that was saved before."""

import argparse
from dataclasses import fields
from typing import TYPE_CHECKING

from midlayer_embed.cli.early import check_texts
from midlayer_embed.cli.options import PROGRAM, has_source, read_texts
from midlayer_embed.cli.parser import FAILED, model_options
from midlayer_embed.encoder.onnx.early import check_packages, check_saved_folder
from midlayer_embed.encoder.onnx.refusals import check_can_be_onnx
from midlayer_embed.errors import InputError
from midlayer_embed.ground.streams import say
from midlayer_embed.options import Recipe, Source

if TYPE_CHECKING:
    from midlayer_embed.encoder.onnx.writing import OnnxExport
    from midlayer_embed.encoder.sentence_transformer import MidLayerEncoder
    from midlayer_embed.models.checkpoint import Checkpoint

_MORE = ("embedding", "int8")
# Options of a layer that is to be saved, beside those of the model: a saved folder is as it is.
_OF_SAVING = ("layer", "how_chosen", "license", "base_model", "transform_texts", "transform_column")


def add_onnx_options(export: argparse.ArgumentParser) -> None:
    """Add the options to the command."""
    group = export.add_argument_group("ONNX graphs, for readers without torch (pip install 'midlayer-embed[onnx]')")
    group.add_argument(
        "--onnx",
        action="store_true",
        help="also write onnx/model.onnx, which gives token states; without OUT into MODEL, a saved folder",
    )
    group.add_argument(
        "--embedding",
        action="store_true",
        help="the graph gives vectors as well: with pooling, transform and normalisation inside",
    )
    group.add_argument(
        "--int8",
        action="store_true",
        help="also write onnx/model_quantized.onnx, with weights of 8 bits, and say what they cost: on the texts to "
        "measure on, those of the transform, or starter texts",
    )


def check_onnx_options(arguments: argparse.Namespace) -> None:
    """Check the options of `add_onnx_options` before anything slow is imported.

    Raises:
        InputError: (a ValueError) the message names what is wrong.
    """
    if not arguments.onnx:
        for name in _MORE:
            if getattr(arguments, name):
                raise InputError(f"{name}: only --onnx takes it, and it was not given")
        return
    if (arguments.folder or "").endswith(".gguf"):
        raise InputError(f"onnx: expected a folder for the graphs, got {arguments.folder!r}")
    check_packages()
    if arguments.int8 and has_source(arguments):
        check_texts(arguments)
    if arguments.folder is None:
        _check_nothing_of_saving(arguments)
        check_saved_folder(arguments.model, overwrite=arguments.overwrite)


def check_model_of_graphs(arguments: argparse.Namespace, checkpoint: "Checkpoint") -> None:
    """Reject a model that ONNX cannot express before its weights are read.

    Raises:
        InputError: (a ValueError) the message says why.
    """
    limit = arguments.max_seq_length or checkpoint.own.max_seq_length
    if arguments.onnx and limit is not None:  # else the tokenizer has a say, and `write_graph` asks once more
        check_can_be_onnx(checkpoint.config, limit)


def add_to_saved_folder(arguments: argparse.Namespace) -> int:
    """Add graphs to a folder that was saved before, and print what they are. Returns the exit code."""
    from midlayer_embed.encoder.onnx.writing import export_onnx
    from midlayer_embed.encoder.target import ExportFailed

    options = {name: getattr(arguments, name) for name in (*_MORE, "overwrite")}
    try:
        written = export_onnx(arguments.model, texts=read_texts(arguments) if arguments.int8 else None, **options)
    except ExportFailed as error:
        say(f"{PROGRAM}: {error}")
        return FAILED
    print(written)
    return 0


def export_with_graphs(
    arguments: argparse.Namespace, encoder: "MidLayerEncoder", transform_texts: list[str] | None
) -> "OnnxExport":
    """Save an encoder with graphs.

    Args:
        arguments: Those of the command.
        encoder: The encoder.
        transform_texts: The texts that its transform was fitted on.
    """
    from midlayer_embed.encoder.onnx.writing import export_onnx

    texts = (read_texts(arguments) or transform_texts) if arguments.int8 else None
    options = {name: getattr(arguments, name) for name in (*_MORE, "overwrite")}
    return export_onnx(encoder, arguments.folder, texts=texts, **options)


def _check_nothing_of_saving(arguments: argparse.Namespace) -> None:
    """Reject what says how a layer is saved, where none is."""
    defaults = {option.name: option.default for record in (Source, Recipe) for option in fields(record)}
    given = {name: value for name, value in model_options(arguments).items() if value and value != defaults[name]}
    given |= {name: value for name in _OF_SAVING if (value := getattr(arguments, name)) is not None}
    for name, value in given.items():
        raise InputError(
            f"{name}: only a layer that is saved has it; without OUT, MODEL is a saved folder, got {value!r}"
        )
