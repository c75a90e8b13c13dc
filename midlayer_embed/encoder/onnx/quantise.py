"""An ONNX graph with weights of 8 bits: a quarter of the size, and faster on a CPU.

onnxruntime rounds the inputs of a product as they come, to 256 steps between the least and the largest of a batch. In
language models some products have inputs of which a few are a hundred times as large as the rest: one step then hides
the rest, so those keep their floats. So does what follows the token states: a transform magnifies what is rounded.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from midlayer_embed.encoder.onnx.names import INPUT_IDS, LARGEST_FILE, STATES, WEIGHTS_BESIDE

# Of `onnxruntime.quantization.quantize_dynamic`.
WEIGHT_TYPE = "QInt8"
PER_CHANNEL = True
REDUCE_RANGE = False
# The error of a product, over its length, at which the rounding of its input is too coarse.
COARSE = 0.2
# onnxruntime writes a Gemm, such as those of GPT-2, as a MatMul of this name and an Add before it quantises.
_PRODUCTS = {"MatMul": "{}", "Gemm": "{}_MatMul"}
_STEPS = 255

Feeds = Mapping[str, np.ndarray]


def quantise(
    graph: Path,
    target: Path,
    samples: Sequence[Feeds],
    *,
    weight_type: str = WEIGHT_TYPE,
    per_channel: bool = PER_CHANNEL,
    reduce_range: bool = REDUCE_RANGE,
    coarse: float = COARSE,
    token_embeddings: bool = True,
) -> None:
    """Write a graph with weights of 8 bits; activations are quantised as they come.

    Args:
        graph: The file of a graph by `write_graph`.
        target: The file to write.
        samples: Inputs of the graph by name, one text each, which tell what is too coarse.
        weight_type: "QInt8" or "QUInt8".
        per_channel: Whether each column of a weight has a scale of its own.
        reduce_range: Whether weights have 7 bits, for processors whose 8-bit products overflow.
        coarse: The error at which a product keeps its floats; see `rounding_of_products`.
        token_embeddings: Whether the table of token embeddings is quantised, too.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(str(graph))
    with _quiet_quantiser(), tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        rounding = rounding_of_products(model, samples, Path(scratch))
        names = [name for name, share in rounding.items() if share < coarse]
        if token_embeddings:
            names += [n.name for n in model.graph.node if n.op_type == "Gather" and n.input[1] == INPUT_IDS]
        unpacked = Path(scratch) / "quantised.onnx"
        quantize_dynamic(
            model,
            unpacked,
            op_types_to_quantize=["MatMul", "Gather"],
            nodes_to_quantize=names or ["none"],  # an empty list stands for all
            weight_type=QuantType[weight_type],
            per_channel=per_channel,
            reduce_range=reduce_range,
            use_external_data_format=_size(model) > LARGEST_FILE,
        )
        _save(onnx.load(str(unpacked)), target)


def rounding_of_products(model: Any, samples: Sequence[Feeds], scratch: Path) -> dict[str, float]:
    """What rounding the input of each product up to the token states, as onnxruntime does, makes of its output.

    Args:
        model: The graph.
        samples: As for `quantise`.
        scratch: A folder for a file.

    Returns:
        For each product, by the name that it will have, the length of the error over that of the output: the mean over
        tokens. Products without weights, as in attention, are left out.
    """
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    after = _after_states(model.graph)
    products = [
        node
        for node in model.graph.node
        if node.op_type in _PRODUCTS and node.name not in after and node.input[1] in weights
    ]
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    inputs = sorted({node.input[0] for node in products})
    known = {output.name for output in watched.graph.output}
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inputs if name not in known
    )
    file = scratch / "watched.onnx"
    _save(watched, file)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    found = [dict(zip(inputs, session.run(inputs, dict(sample)), strict=True)) for sample in samples]
    shares = {}
    for node in products:
        weight = numpy_helper.to_array(weights[node.input[1]])
        if any(attribute.name == "transB" and attribute.i for attribute in node.attribute):
            weight = weight.T
        errors = [_error_by_rounding(values[node.input[0]], weight) for values in found]
        shares[_PRODUCTS[node.op_type].format(node.name)] = float(np.concatenate(errors).mean())
    return shares


def _error_by_rounding(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Per token, the length of the error of a product over that of the product, if its input has 256 steps."""
    flat = values.reshape(-1, values.shape[-1])
    step = (max(float(flat.max()), 0.0) - min(float(flat.min()), 0.0)) / _STEPS
    rounded = np.rint(flat / (step or 1.0)) * step
    sizes = np.linalg.norm(flat @ weight, axis=1)
    shares: np.ndarray = np.linalg.norm((rounded - flat) @ weight, axis=1) / np.maximum(
        sizes, np.finfo(np.float32).tiny
    )
    return shares


def _after_states(graph: Any) -> set[str]:
    """The names of the nodes that work on the token states; a graph's nodes are in order."""
    reached, found = {STATES}, set()
    for node in graph.node:
        if reached.intersection(node.input):
            reached.update(node.output)
            found.add(node.name)
    return found


def _size(model: Any) -> int:
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


def _save(model: Any, file: Path) -> None:
    """Write a graph, a large one with its weights in a file beside it, as `write_graph` does."""
    import onnx

    if _size(model) > LARGEST_FILE:
        onnx.save(model, str(file), save_as_external_data=True, location=file.name + WEIGHTS_BESIDE)
    else:
        onnx.save(model, str(file))


@contextmanager
def _quiet_quantiser() -> Iterator[None]:
    """It advises through the root logger to infer shapes and to optimise first, which torch.onnx has done."""
    root = logging.getLogger()

    def is_wanted(record: logging.LogRecord) -> bool:
        return "pre-processing before quantization" not in record.getMessage()

    root.addFilter(is_wanted)
    try:
        yield
    finally:
        root.removeFilter(is_wanted)
