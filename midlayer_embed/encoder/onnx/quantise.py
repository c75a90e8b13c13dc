"""An ONNX graph with weights of 8 bits: a quarter of the size, and faster on a CPU.

onnxruntime quantises the matrix products. It would give the table of token embeddings, half of a small model's file, one
scale for all tokens, or leave it as it is; here every token has a scale of its own. What follows the token states
(pooling, transform, normalisation) keeps its floats: a transform weighs some dimensions far more than others.
"""

import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from midlayer_embed.encoder.onnx.names import INPUT_IDS, STATES

# Of `onnxruntime.quantization.quantize_dynamic`.
WEIGHT_TYPE = "QInt8"
PER_CHANNEL = True
REDUCE_RANGE = False
# onnxruntime writes a Gemm, such as those of GPT-2, as a MatMul of this name and an Add before it quantises.
_PRODUCTS = {"MatMul": "{}", "Gemm": "{}_MatMul"}
# The largest int8 of a range that is symmetric around 0.
_LARGEST = 127


def quantise(
    graph: Path,
    target: Path,
    *,
    weight_type: str = WEIGHT_TYPE,
    per_channel: bool = PER_CHANNEL,
    reduce_range: bool = REDUCE_RANGE,
    token_embeddings: bool = True,
) -> None:
    """Write a graph with weights of 8 bits; activations are quantised as they come.

    Args:
        graph: The file of a graph by `write_graph`.
        target: The file to write.
        weight_type: "QInt8" or "QUInt8".
        per_channel: Whether each column of a weight has a scale of its own.
        reduce_range: Whether weights have 7 bits, for processors whose 8-bit products overflow.
        token_embeddings: Whether the table of token embeddings is quantised, too.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(str(graph))
    after = _after_states(model.graph)
    products = [
        _PRODUCTS[node.op_type].format(node.name)
        for node in model.graph.node
        if node.op_type in _PRODUCTS and node.name not in after
    ]
    if token_embeddings:
        _quantise_token_embeddings(model.graph)
    with _quiet_quantiser(), tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        prepared = Path(scratch) / graph.name
        onnx.save(model, str(prepared))
        quantize_dynamic(
            prepared,
            target,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=products,
            weight_type=QuantType[weight_type],
            per_channel=per_channel,
            reduce_range=reduce_range,
        )


def _after_states(graph: Any) -> set[str]:
    """The names of the nodes that work on the token states; a graph's nodes are in order."""
    reached, found = {STATES}, set()
    for node in graph.node:
        if reached.intersection(node.input):
            reached.update(node.output)
            found.add(node.name)
    return found


def _quantise_token_embeddings(graph: Any) -> None:
    """Replace the lookup in a table of floats by one in a table of int8, and one of the scales of its rows."""
    from onnx import TensorProto, helper, numpy_helper

    tables = {tensor.name: tensor for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    nodes = []
    for node in graph.node:
        table = tables.get(node.input[0]) if node.op_type == "Gather" and node.input[1] == INPUT_IDS else None
        if table is None or uses[table.name] > 1 or table.data_type != TensorProto.FLOAT or len(table.dims) != 2:
            nodes.append(node)
            continue
        values = numpy_helper.to_array(table)
        scales = np.abs(values).max(axis=1, keepdims=True) / np.float32(_LARGEST)
        scales[scales == 0] = 1  # a row of zeros, such as that of the padding
        rows = np.rint(values / scales).astype(np.int8)
        graph.initializer.remove(table)
        int8, of_rows = f"{table.name}_int8", f"{table.name}_scales"
        graph.initializer.append(numpy_helper.from_array(rows, int8))
        graph.initializer.append(numpy_helper.from_array(scales, of_rows))
        (out,) = node.output
        nodes += [
            helper.make_node("Gather", [int8, INPUT_IDS], [f"{out}_int8"], name=f"{node.name}_int8"),
            helper.make_node("Cast", [f"{out}_int8"], [f"{out}_cast"], name=f"{node.name}_cast", to=TensorProto.FLOAT),
            helper.make_node("Gather", [of_rows, INPUT_IDS], [f"{out}_scales"], name=f"{node.name}_scales"),
            helper.make_node("Mul", [f"{out}_cast", f"{out}_scales"], [out], name=f"{node.name}_scaled"),
        ]
    del graph.node[:]
    graph.node.extend(nodes)


@contextmanager
def _quiet_quantiser() -> Iterator[None]:
    """It advises to run a step before, which changes nothing here, through the root logger."""
    root = logging.getLogger()
    drop = lambda record: "pre-processing before quantization" not in record.getMessage()  # noqa: E731
    root.addFilter(drop)
    try:
        yield
    finally:
        root.removeFilter(drop)
