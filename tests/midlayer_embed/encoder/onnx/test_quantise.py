"""Which weights of a graph become int8, on graphs that are small enough to be written by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from midlayer_embed.encoder.onnx.names import ATTENTION_MASK, INPUT_IDS, STATES, VECTORS
from midlayer_embed.encoder.onnx.quantise import quantise, rounding_of_products

_TOKENS, _WIDTH = 50, 16
_DRAWS = np.random.default_rng(0)


def _weight(name: str, *shape: int) -> Any:
    return numpy_helper.from_array(_DRAWS.standard_normal(shape).astype(np.float32), name)


def _graph(path: Path, *, huge: float = 1.0) -> Path:
    """Embeddings, a product, one that takes a huge value to nothing, a Gemm; then a transform."""
    scales = np.ones(_WIDTH, dtype=np.float32)
    scales[3] = huge
    second = _DRAWS.standard_normal((_WIDTH, _WIDTH)).astype(np.float32)
    second[3] /= huge
    nodes = [
        helper.make_node("Gather", ["table", INPUT_IDS], ["x0"], name="lookup"),
        helper.make_node("MatMul", ["x0", "first"], ["x1"], name="plain"),
        helper.make_node("Mul", ["x1", "scales"], ["x2"], name="scaled"),
        helper.make_node("MatMul", ["x2", "second"], ["x3"], name="after_scaled"),
        helper.make_node("Reshape", ["x3", "flat"], ["x4"], name="flattened"),
        helper.make_node("Gemm", ["x4", "third", "bias"], ["x5"], name="gemm", transB=1),
        helper.make_node("Reshape", ["x5", "batch"], [STATES], name="unflattened"),
        helper.make_node("MatMul", [STATES, "transform"], ["x6"], name="of_transform"),
        helper.make_node("ReduceMean", ["x6", "axis"], [VECTORS], name="pooled", keepdims=0),
    ]
    weights = [
        _weight("table", _TOKENS, _WIDTH),
        *(_weight(name, _WIDTH, _WIDTH) for name in ("first", "third", "transform")),
        numpy_helper.from_array(second, "second"),
        _weight("bias", _WIDTH),
        numpy_helper.from_array(scales, "scales"),
        numpy_helper.from_array(np.array([-1, _WIDTH]), "flat"),
        numpy_helper.from_array(np.array([1, -1, _WIDTH]), "batch"),
        numpy_helper.from_array(np.array([1]), "axis"),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, [1, "t"]) for name in (INPUT_IDS, ATTENTION_MASK)]
    outputs = [
        helper.make_tensor_value_info(STATES, TensorProto.FLOAT, [1, "t", _WIDTH]),
        helper.make_tensor_value_info(VECTORS, TensorProto.FLOAT, [1, _WIDTH]),
    ]
    graph = helper.make_graph(nodes, "by hand", inputs, outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))
    return path


_SAMPLES = [
    {INPUT_IDS: np.array([row]), ATTENTION_MASK: np.ones((1, len(row)), dtype=np.int64)}
    for row in ([1, 2, 3, 4], [7, 8], [9, 10, 11, 12, 13, 14])
]


def _run(path: Path) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [session.run([VECTORS], sample)[0] for sample in _SAMPLES]


def _float_weights(path: Path) -> set[str]:
    """The matrices that are still floats."""
    tensors = onnx.load(str(path)).graph.initializer
    return {
        t.name.removesuffix("_Transposed") for t in tensors if t.data_type == TensorProto.FLOAT and len(t.dims) == 2
    }


def test_products_and_token_embeddings_become_int8_and_what_follows_the_states_does_not(tmp_path: Path) -> None:
    graph, target = _graph(tmp_path / "model.onnx"), tmp_path / "model_quantized.onnx"
    quantise(graph, target, _SAMPLES)
    assert _float_weights(graph) == {"table", "first", "second", "third", "transform"}
    assert _float_weights(target) == {"transform"}
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["model.onnx", "model_quantized.onnx"]
    for found, expected in zip(_run(target), _run(graph), strict=True):
        assert 0 < np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)


def test_a_product_whose_input_has_a_huge_value_keeps_its_floats(tmp_path: Path) -> None:
    graph, target = _graph(tmp_path / "model.onnx", huge=1000.0), tmp_path / "model_quantized.onnx"
    quantise(graph, target, _SAMPLES)
    assert "second" in _float_weights(target) and "first" not in _float_weights(target)
    apart = {}
    for coarse in (0.2, float("inf")):  # the second quantises all of them
        quantise(graph, target, _SAMPLES, coarse=coarse)
        pairs = zip(_run(target), _run(graph), strict=True)
        apart[coarse] = max(np.linalg.norm(found - expected) / np.linalg.norm(expected) for found, expected in pairs)
    assert apart[0.2] < 0.05 < 0.2 < apart[float("inf")]


def test_the_rounding_of_a_product_is_that_of_an_input_of_256_steps(tmp_path: Path) -> None:
    model = onnx.load(str(_graph(tmp_path / "model.onnx", huge=1000.0)))
    found = rounding_of_products(model, _SAMPLES, tmp_path)
    assert found.keys() == {"plain", "after_scaled", "gemm_MatMul"}
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    shares = []
    for sample in _SAMPLES:
        values = (tensors["table"][sample[INPUT_IDS][0]] @ tensors["first"]) * tensors["scales"]
        steps = np.linspace(min(values.min(), 0), max(values.max(), 0), 256)
        steps -= steps[np.abs(steps).argmin()]  # zero is one of them
        rounded = steps[np.abs(values[..., None] - steps).argmin(axis=-1)]
        exact = values @ tensors["second"]
        shares += [*(np.linalg.norm(rounded @ tensors["second"] - exact, axis=1) / np.linalg.norm(exact, axis=1))]
    assert found["after_scaled"] == pytest.approx(np.mean(shares), rel=0.1)
    assert found["after_scaled"] > 0.2 > found["plain"]


def test_without_the_token_embeddings_their_table_keeps_its_floats(tmp_path: Path) -> None:
    graph, target = _graph(tmp_path / "model.onnx"), tmp_path / "model_quantized.onnx"
    quantise(graph, target, _SAMPLES, token_embeddings=False)
    assert _float_weights(target) == {"table", "transform"}


def test_where_every_product_is_too_coarse_none_is_quantised(tmp_path: Path) -> None:
    graph, target = _graph(tmp_path / "model.onnx"), tmp_path / "model_quantized.onnx"
    quantise(graph, target, _SAMPLES, coarse=0.0, token_embeddings=False)
    assert _float_weights(target) == _float_weights(graph)
