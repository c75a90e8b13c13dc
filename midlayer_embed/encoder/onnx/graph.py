"""Writes one ONNX graph of an encoder: token ids and their mask in, token states out, and, if asked for, the vectors.

A graph that is there has been compared with torch: on batches of other shapes than the one that was traced.
"""

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Transformer
from torch import nn

import midlayer_embed
from midlayer_embed.encoder.onnx.names import DIMENSIONS, INPUTS, LARGEST_FILE, STATES, VECTORS, WEIGHTS_BESIDE
from midlayer_embed.encoder.onnx.probes import Batch, probe_batches, relative_difference, torch_outputs
from midlayer_embed.encoder.onnx.refusals import check_can_be_onnx
from midlayer_embed.encoder.onnx.tracing import Traced, traceable
from midlayer_embed.encoder.saving import saved_form
from midlayer_embed.encoder.sentence_transformer import MidLayerEncoder
from midlayer_embed.encoder.target import ExportFailed
from midlayer_embed.errors import InputError, first_line
from midlayer_embed.ground.atomic import atomic_folder
from midlayer_embed.ground.quiet import log_level, quiet_transformers

# onnxruntime-node 1.19 of transformers.js 3.0 reads up to 21. Later operators have not been faster: in 23, torch.onnx
# writes a RotaryEmbedding that ONNX Runtime 1.32 refuses.
_OPSET = 18
# Dimensions of 1 would be taken for constants, and equal ones for the same.
_EXAMPLE = (2, 9)
_WORD = re.compile(r"\w+")
_LOGGERS = ("onnxscript", "onnx_ir", "torch.export", "torch.fx", "torch.onnx")

# How far a graph may be from torch, relative to the size of a vector; see `relative_difference`.
TOLERANCE = 1e-4
# A transform magnifies what rounds otherwise.
_SLACK_BEHIND_WEIGHTS = 10


def write_graph(encoder: SentenceTransformer, path: Path, *, embedding: bool) -> float:
    """Write the graph of an encoder, in float32, and compare it with torch.

    Its inputs are `input_ids` and `attention_mask`, int64 of (batch_size, sequence_length). Its first output is
    `last_hidden_state`, (batch_size, sequence_length, width): the states of the layer, whichever output of transformers
    has them. The encoder stays as it is: on its device, with its dtype, in training mode or not.

    Args:
        encoder: A Transformer and a Pooling, and what follows them.
        path: The file to write; a graph above 2 GB has its weights in a second file, which ends in `_data`.
        embedding: Whether the graph has a second output, `sentence_embedding` (batch_size, dim): the vectors, with
            pooling, transform, normalisation and truncation inside. The vector of a text without tokens is that of
            `MidLayerEncoder.encode`.

    Returns:
        How far the outputs are from torch's over some batches, relative to their size. States of padding are not
        compared.

    Raises:
        InputError: (a ValueError) ONNX cannot express the encoder, or the file cannot be written.
        ExportFailed: (a RuntimeError) the graph cannot be run, or its outputs differ. No file is left.

    Example:
        >>> write_graph(MidLayerEncoder("starter", 7), Path("model.onnx"), embedding=True)         # doctest: +SKIP
        4.4e-06
    """
    modules: list[Any] = list(encoder.children())
    _check(encoder, modules, embedding)
    with saved_form(encoder, path.parent), _in_float32(modules) as plain, _quiet():
        batches = probe_batches(plain[0])
        program = _traced(encoder, plain, embedding, batches)
        _divide_by_roots(program.model)
        _describe(program.model, encoder)
        with atomic_folder(path.parent, add=True) as partial:
            _save(program.model, partial / path.name)
            del program
            difference = _difference(partial / path.name, plain, encoder.truncate_dim, batches)
            for name, apart in difference.items():
                slack = _SLACK_BEHIND_WEIGHTS if name == VECTORS and _magnifies(plain) else 1
                if not apart <= slack * TOLERANCE:
                    raise ExportFailed(
                        f"onnx: the graph's {name} differs from torch by {apart:.2g}, relative to its size; nothing is "
                        "written"
                    )
            has_weights_beside = (partial / (path.name + WEIGHTS_BESIDE)).exists()
    if not has_weights_beside:  # those of a larger graph that was here before
        path.with_name(path.name + WEIGHTS_BESIDE).unlink(missing_ok=True)
    return max(difference.values())


def _check(encoder: SentenceTransformer, modules: list[Any], embedding: bool) -> None:
    if not modules or not isinstance(modules[0], Transformer):
        first = type(modules[0]).__name__ if modules else "nothing"
        raise InputError(f"onnx: expected an encoder that begins with a Transformer, got {first}")
    if isinstance(encoder, MidLayerEncoder):
        limit = encoder.max_seq_length
    else:
        limit = int(modules[0].max_seq_length or 0)
    check_can_be_onnx(modules[0].model.config, limit)
    pools_prompts = getattr(modules[1], "include_prompt", True) if len(modules) > 1 else True
    if embedding and not pools_prompts and any(encoder.prompts.values()):
        raise InputError(
            "embedding: the pooling leaves out the tokens of a prompt, and a graph does not know how many they are; "
            "expected an encoder without prompts, or one that pools them (include_prompt)"
        )


@contextmanager
def _in_float32(modules: Sequence[nn.Module]) -> Iterator[list[Any]]:
    """The modules in float32 on the CPU, in eval mode: themselves, as they were afterwards, or copies."""
    weights = [weight for module in modules for weight in (*module.parameters(), *module.buffers())]
    if any(w.device.type != "cpu" or (w.is_floating_point() and w.dtype != torch.float32) for w in weights):
        yield [deepcopy(module).to("cpu").float().eval() for module in modules]
        return
    training = [part for module in modules for part in module.modules() if part.training]
    try:
        for module in modules:
            module.eval()
        yield list(modules)
    finally:
        for part in training:
            part.training = True


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing on the terminal of what torch.onnx tells about its work."""
    with warnings.catch_warnings(), quiet_transformers(), log_level(logging.ERROR, *_LOGGERS):
        warnings.simplefilter("ignore")
        yield


def _traced(encoder: SentenceTransformer, modules: list[Any], embedding: bool, batches: list[Batch]) -> Any:
    """The graph as torch.onnx makes it, not yet saved."""

    def states() -> list[torch.Tensor]:
        small = [batch for batch in batches if batch.mask.shape[0] > 1 and batch.mask.shape[1] < 64]
        found = [torch_outputs(modules, None, batch)[0][batch.mask > 0] for batch in small]
        return [torch.from_numpy(each) for each in found]

    ids = torch.from_numpy(np.resize(batches[-1].ids, _EXAMPLE))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    shape = {axis: torch.export.Dim(name) for axis, name in enumerate(DIMENSIONS)}
    try:
        with traceable(modules[0].model, states), torch.no_grad():
            traced = Traced(modules, embedding, encoder.truncate_dim).eval()
            exported = torch.export.export(traced, (ids, mask), dynamic_shapes=(shape, shape), strict=False)
            program = torch.onnx.export(
                exported,
                dynamo=True,
                verbose=False,
                opset_version=_OPSET,
                input_names=list(INPUTS),
                output_names=[STATES, VECTORS][: 1 + embedding],
            )
    except Exception as error:  # whatever torch.export meets in the code of a model
        kind = modules[0].model.config.model_type
        raise InputError(f"onnx: torch.onnx cannot express this {kind} model: {_reason(error)}") from error
    assert program is not None  # with dynamo=True
    return program


def _reason(error: Exception) -> str:
    """The first line of what went wrong at the bottom."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    return first_line(error)


def _divide_by_roots(model: Any) -> None:
    """Write x * (1 / sqrt(v)) as x / sqrt(v), by which ONNX Runtime knows a norm and computes it in one pass."""
    import onnx_ir  # slow to import

    for product in [node for node in model.graph if node.op_type == "Mul"]:
        for factor, other in zip(product.inputs, reversed(product.inputs), strict=True):
            inverse = factor.producer()
            root = inverse.inputs[0] if inverse is not None and inverse.op_type == "Reciprocal" else None
            if root is None or root.producer() is None or root.producer().op_type != "Sqrt":
                continue
            result = onnx_ir.Value(name=f"{product.outputs[0].name}_divided")
            quotient = onnx_ir.node("Div", [other, root], outputs=[result])
            quotient.outputs[0].shape, quotient.outputs[0].type = product.outputs[0].shape, product.outputs[0].type
            model.graph.insert_before(product, quotient)
            onnx_ir.convenience.replace_all_uses_with(product.outputs[0], quotient.outputs[0])
            model.graph.remove(product, safe=True)
            if not inverse.outputs[0].uses():
                model.graph.remove(inverse, safe=True)
            break


def _describe(model: Any, encoder: SentenceTransformer) -> None:
    """Say in the graph where it is from, and drop what torch.onnx says of each node: paths and lines of this machine."""
    for graph in (model.graph, *model.functions.values()):
        for node in graph.all_nodes() if hasattr(graph, "all_nodes") else graph:
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()
        graph.metadata_props.clear()
        graph.doc_string = None
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    _name_dimensions(model.graph)
    model.producer_name, model.producer_version = "midlayer-embed", midlayer_embed.__version__
    model.doc_string = None
    model.metadata_props.clear()
    first: Any = encoder[0]
    said: dict[str, Any] = {"model_type": first.model.config.model_type, "max_seq_length": first.max_seq_length}
    if isinstance(encoder, MidLayerEncoder):
        recipe = encoder.recipe
        said |= {"model": encoder.checkpoint.hub_id or encoder.checkpoint.name, "layer": encoder.layer}
        said |= {"pooling_mode": recipe.pooling_mode, "template": recipe.template, "transform": recipe.transform}
    model.metadata_props.update({key: str(value) for key, value in said.items() if value is not None})


def _name_dimensions(graph: Any) -> None:
    """Call the dimensions of the arrays what `DIMENSIONS` calls those of the inputs, not s17 and s42."""
    import onnx_ir  # slow to import

    names = {str(dim): name for dim, name in zip(graph.inputs[0].shape, DIMENSIONS, strict=True)}
    values = [*graph.inputs, *graph.outputs, *(value for node in graph.all_nodes() for value in node.outputs)]
    for value in values:
        if value.shape is not None:
            value.shape = onnx_ir.Shape(
                dim if isinstance(dim, int) else _WORD.sub(lambda word: names.get(word[0], word[0]), str(dim))
                for dim in value.shape
            )


def _save(model: Any, path: Path) -> None:
    import onnx_ir  # slow to import

    size = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    beside = path.name + WEIGHTS_BESIDE if size > LARGEST_FILE else None
    onnx_ir.save(model, path, external_data=beside)


def _magnifies(modules: Sequence[nn.Module]) -> bool:
    return any(isinstance(module, (Dense, LayerNorm)) for module in modules)


def _difference(
    path: Path, modules: Sequence[nn.Module], truncate_dim: int | None, batches: list[Batch]
) -> dict[str, float]:
    """The largest relative difference of each output of a graph from torch."""
    import onnxruntime  # slow to import

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        largest = dict.fromkeys(names, 0.0)
        for batch in batches:
            expected = torch_outputs(modules, truncate_dim, batch)
            found = dict(zip(names, session.run(None, batch.feeds), strict=True))
            if not np.isfinite(found[STATES]).all():  # they would poison whoever sums them by the mask
                largest[STATES] = float("inf")
            at_tokens = batch.mask > 0
            pairs = {STATES: (found[STATES][at_tokens], expected[0][at_tokens])}
            if VECTORS in found:
                pairs[VECTORS] = (found[VECTORS], expected[1])
            for name, (here, there) in pairs.items():
                largest[name] = max(largest[name], relative_difference(here, there))
    except Exception as error:  # ONNX Runtime raises nothing more specific
        raise ExportFailed(f"onnx: ONNX Runtime cannot run the graph: {first_line(error)}") from error
    return largest
