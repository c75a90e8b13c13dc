"""`export MODEL OUT.gguf`: one layer as a GGUF file, cut from another. A layer by its number needs no torch."""

import argparse
import sys
from dataclasses import fields

from midlayer_embed.cli.early import check_source
from midlayer_embed.cli.export.choosing import chosen_layer
from midlayer_embed.cli.options import PROGRAM, check_texts_for, find_model
from midlayer_embed.cli.parser import FAILED, model_options
from midlayer_embed.encoder.serve.gguf_cut import (
    check_out,
    check_pooling,
    export_gguf,
    find_gguf,
    layer_of_gguf,
    read_gguf,
)
from midlayer_embed.encoder.target import ExportFailed
from midlayer_embed.errors import InputError
from midlayer_embed.ground.checks import check_installed
from midlayer_embed.layers import check_is_layer
from midlayer_embed.models.starter import is_gguf_name
from midlayer_embed.options import Recipe, Source, fold
from midlayer_embed.selection.criteria import LayerSelection

# What a GGUF file takes of the model options, or what is checked by itself; all others are refused.
_TAKEN = {Source: ("device", "gguf_file", "model_name"), Recipe: ("final_norm", "pooling_mode", "site")}
_WHY = {
    Source: "its weights are those of MODEL, as they are",
    Recipe: "llama.cpp pools what the last block gives after the final norm, and no more",
}
_INSTEAD = {
    "template": "; write it around each text yourself",
    "max_seq_length": "; llama-server -ub says how many tokens a text may have",
    "adapters": "; llama-server --lora takes adapters of its own format",
}
# Other options of the command, those of other formats included.
_OTHERS = {
    "transform_texts": "llama.cpp gives the pooled vectors",
    "transform_column": "llama.cpp gives the pooled vectors",
    "license": "it has no model card, and keeps its general.license",
    "base_model": "it has no model card",
    "check": "it is compared with its source whenever it is written",
    "onnx": "it is another format",
    "int8": "it is another format",
    "embedding": "it is another format",
}


def is_gguf_export(arguments: argparse.Namespace) -> bool:
    """Whether OUT is a GGUF file."""
    return is_gguf_name(arguments.folder)


def export_to_gguf(arguments: argparse.Namespace, layer: int | float | str) -> int:
    """Run the command for an OUT that ends in .gguf.

    Args:
        arguments: Those of the command.
        layer: The layer, or the name of a criterion.
    """
    check_is_layer(arguments.site, "exported")
    _check_can_be_said(arguments)
    _, recipe = fold(model_options(arguments))
    check_pooling(recipe.pooling_mode)
    source = find_gguf(arguments.model, arguments.gguf_file)
    check_out(arguments.folder, source, overwrite=arguments.overwrite)
    check_installed("gguf", "export", "gguf")
    layer_of_gguf(read_gguf(source), -1 if isinstance(layer, str) else layer)
    found: int | float | LayerSelection
    if isinstance(layer, str):
        check_texts_for(layer, arguments)
        found = chosen_layer(arguments, layer, find_model(arguments), model_options(arguments))
    else:
        check_source(arguments)
        found = layer
    try:
        cut = export_gguf(
            arguments.model,
            arguments.folder,
            found,
            gguf_file=arguments.gguf_file,
            pooling_mode=recipe.pooling_mode,
            model_name=arguments.model_name,
            how_chosen=arguments.how_chosen,
            overwrite=arguments.overwrite,
            show_progress=not arguments.quiet,
        )
    except ExportFailed as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return FAILED
    without = f", without {', '.join(cut.left_out)}" * bool(cut.left_out)
    print(
        f"{arguments.folder}: layer {cut.layer} of {cut.n_blocks}, {cut.n_bytes / 1e6:.1f} MB{without}; "
        f"llama.cpp pools by {cut.pooling_mode}"
    )
    return 0


def _check_can_be_said(arguments: argparse.Namespace) -> None:
    """Reject options that would change the vectors, or what is said of them, and that a GGUF file cannot say."""
    if arguments.final_norm is False:
        raise InputError("final_norm: llama.cpp pools the states after the final norm; expected --normed, got --raw")
    options = model_options(arguments)
    for record, taken in _TAKEN.items():
        for option in fields(record):
            value = options.get(option.name)
            if option.name not in taken and value not in (None, False, [], option.default):
                why = f"{_WHY[record]}{_INSTEAD.get(option.name, '')}"
                raise InputError(f"{option.name}: a GGUF file cannot say it: {why}; got {value!r}")
    for name, why in _OTHERS.items():
        value = getattr(arguments, name, None)
        if value not in (None, False):
            raise InputError(f"{name}: a GGUF file cannot say it: {why}; got {value!r}")
