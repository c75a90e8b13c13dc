"""ONNX graphs of every architecture, layer, norm and recipe: the vectors and states of the encoder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Normalize
from support.architectures import ARCHITECTURES, N_BLOCKS
from support.tiny_models import save_with_modules

from midlayer_embed import MidLayerEncoder
from midlayer_embed.encoder.onnx.graph import write_graph
from midlayer_embed.encoder.onnx.probes import relative_difference
from midlayer_embed.errors import InputError

pytestmark = [pytest.mark.slow, pytest.mark.model]
TOLERANCE = 1e-4
# An empty text, which has no tokens in a decoder; and more tokens than the windows of the tiny models.
TEXTS = ["The weather is lovely today.", "", "word", "Matrices are factored into a product. " * 4]
POOLINGS = ("mean", "cls", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens", "max+weightedmean+lasttoken")


def _compare(encoder: MidLayerEncoder, path: Path, tolerance: float = TOLERANCE) -> None:
    """The graph of an encoder gives its vectors, and its states where there are tokens."""
    assert write_graph(encoder, path, embedding=True) < tolerance
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    features = encoder.preprocess(TEXTS)
    states, vectors = session.run(None, {name.name: features[name.name].numpy() for name in session.get_inputs()})
    assert relative_difference(vectors, encoder.encode(TEXTS)) < tolerance
    with torch.inference_mode():
        expected = encoder[0](dict(features))["token_embeddings"].numpy()
    there = features["attention_mask"].numpy() > 0
    assert relative_difference(states[there], expected[there]) < tolerance
    assert np.isfinite(states).all()


@pytest.mark.parametrize("layer", range(N_BLOCKS + 1))
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_layer_of_every_architecture(
    tiny_model: Callable[[str], Path], tmp_path: Path, name: str, layer: int
) -> None:
    written = 0
    for final_norm in (True, False):
        try:
            encoder = MidLayerEncoder(tiny_model(name), layer, final_norm=final_norm, device="cpu")
        except InputError:  # no stock form, so nothing to save either
            continue
        if final_norm or encoder.checkpoint.family.final_norm is not None:
            _compare(encoder, tmp_path / "model.onnx")
            written += 1
    assert written


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_every_pooling(tiny_model: Callable[[str], Path], tmp_path: Path, name: str, pooling: str) -> None:
    _compare(MidLayerEncoder(tiny_model(name), 2, pooling_mode=pooling, device="cpu"), tmp_path / "model.onnx")


@pytest.mark.parametrize("template", ["eol", "echo"])
@pytest.mark.parametrize("transform", [("whiten", 8), ("standardize", None), ("remove:1", None)])
def test_recipes(llama_folder: Path, tmp_path: Path, template: str, transform: tuple[str, int | None]) -> None:
    texts = [f"{text} {number}" for text in TEXTS for number in range(20)]
    name, dim = transform
    encoder = MidLayerEncoder(
        llama_folder, 2, template=template, transform=name, transform_texts=texts, dim=dim, device="cpu"
    )
    _compare(encoder, tmp_path / "model.onnx", 10 * TOLERANCE)


def test_own_modules_and_truncation(llama_folder: Path, tmp_path: Path) -> None:
    after = (lambda dim: Dense(dim, 24), lambda _: LayerNorm(24), lambda _: Normalize())
    folder = save_with_modules(llama_folder, tmp_path / "own", *after, truncate_dim=16)
    encoder = MidLayerEncoder(folder, -1, device="cpu")
    assert encoder.encode(TEXTS).shape == (len(TEXTS), 16)
    _compare(encoder, tmp_path / "model.onnx", 10 * TOLERANCE)


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral", "gemma3", "qwen2"])
def test_bidirectional_decoders(tiny_model: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    _compare(MidLayerEncoder(tiny_model(name), 2, bidirectional=True, device="cpu"), tmp_path / "model.onnx")


@pytest.mark.parametrize("name", ["llama", "mamba", "falcon-alibi", "t5"])
def test_padding_on_the_left(tiny_model: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    encoder = MidLayerEncoder(tiny_model(name), 2, device="cpu")
    encoder.tokenizer.padding_side = "left"
    _compare(encoder, tmp_path / "model.onnx")


def test_adapters_that_are_merged_and_those_that_are_not(
    llama_folder: Path, make_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    adapter = make_adapter(llama_folder)
    merged = MidLayerEncoder(llama_folder, 2, adapters=[adapter], device="cpu")
    _compare(merged, tmp_path / "model.onnx")
    added = MidLayerEncoder(llama_folder, 2, device="cpu")
    added.load_adapter(str(adapter))
    np.testing.assert_allclose(added.encode(TEXTS), merged.encode(TEXTS), atol=1e-5)
    _compare(added, tmp_path / "model.onnx")


def test_half_precision_becomes_a_graph_in_float32(llama_folder: Path, tmp_path: Path) -> None:
    half = MidLayerEncoder(llama_folder, 2, dtype="bfloat16", device="cpu")
    assert write_graph(half, tmp_path / "model.onnx", embedding=True) < TOLERANCE
    assert next(half.parameters()).dtype == torch.bfloat16
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    features = half.preprocess(TEXTS)
    vectors = session.run(None, {name.name: features[name.name].numpy() for name in session.get_inputs()})[1]
    expected = half.encode(TEXTS, convert_to_tensor=True).float().numpy()
    assert vectors.dtype == np.float32
    assert 1e-5 < relative_difference(vectors, expected) < 5e-2


def test_nothing_is_said_on_the_terminal(llama_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    encoder = MidLayerEncoder(llama_folder, 1, device="cpu").train()
    capfd.readouterr()
    write_graph(encoder, tmp_path / "model.onnx", embedding=False)
    assert capfd.readouterr() == ("", "")
    assert encoder.training
    assert encoder[0].model.training
    assert encoder[0].model.config._attn_implementation == "sdpa"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_scaled_rotary_positions_up_to_where_they_depend_on_length(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    scaling = {"rope_type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [2.0] * 4}
    rope = {**scaling, "rope_theta": 1e4}
    folder = make_model("phi3", rope_parameters=rope, original_max_position_embeddings=64)
    _compare(MidLayerEncoder(folder, 2, max_seq_length=64, device="cpu"), tmp_path / "model.onnx")
    with pytest.raises(InputError, match="above 64 tokens"):
        write_graph(MidLayerEncoder(folder, 2, max_seq_length=65, device="cpu"), tmp_path / "b.onnx", embedding=True)
