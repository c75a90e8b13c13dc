"""`export MODEL OUT.gguf`: one layer as a GGUF file, cut from another. A layer by its number needs no torch."""

import argparse
import sys

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
from midlayer_embed.options import Source, fold
from midlayer_embed.selection.criteria import LayerSelection

# What a GGUF file cannot say, by the names of the options, and why.
_NOT_SAID = {
    "template": "llama.cpp puts nothing around a text; write it there yourself",
    "transform": "llama.cpp gives the pooled vectors",
    "transform_texts": "llama.cpp gives the pooled vectors",
    "transform_column": "llama.cpp gives the pooled vectors",
    "dim": "llama.cpp gives all dimensions",
    "max_seq_length": "llama.cpp cuts no text; llama-server -ub says how many tokens one may have",
    "bidirectional": "llama.cpp attends as the architecture does",
    "adapters": "the weights stay as they are; llama-server --lora takes adapters of its own format",
    "revision": "a file has none",
    "license": "it has no model card, and keeps its general.license",
    "base_model": "it has no model card",
    "check": "it is compared with its source whenever it is written",
    # of the other formats
    "onnx": "it is another format",
    "int8": "the weights keep their types",
    "embedding": "llama.cpp pools, too",
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
    if arguments.dtype != Source.dtype:
        raise InputError(f"dtype: the weights of a GGUF file keep their types; expected none, got {arguments.dtype!r}")
    for name, why in _NOT_SAID.items():
        value = getattr(arguments, name, None)
        if value not in (None, False, []):
            raise InputError(f"{name}: a GGUF file cannot say it: {why}; got {value!r}")
