"""ONNX graphs of a few families at one layer: what they give, what is in the file, and what is refused."""

import io
import logging
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
import torch
from filelock import FileLock
from sentence_transformers import SentenceTransformer
from support.tiers import sampled
from transformers import GPT2Config, LlamaConfig, Phi3Config

from midlayer_embed import MidLayerEncoder
from midlayer_embed.encoder.export import ExportFailed
from midlayer_embed.encoder.onnx import graph
from midlayer_embed.encoder.onnx.graph import write_graph
from midlayer_embed.encoder.onnx.probes import relative_difference
from midlayer_embed.encoder.onnx.refusals import check_can_be_onnx
from midlayer_embed.errors import InputError

TOLERANCE = 1e-4
TEXTS = ["The weather is lovely today.", "", "word", "Matrices are factored into a product of an orthogonal and a 3.14"]
# A raw layer out of `hidden_states` with a transform; a recurrence over tokens with two poolings.
GRAPHS: dict[str, tuple[int, dict[str, Any]]] = {
    "llama": (1, {"final_norm": False, "transform": "center", "transform_texts": TEXTS * 2}),
    "mamba": (1, {"pooling_mode": "cls+max"}),
}


def run(path: Path, features: Any) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {given.name: features[given.name].numpy() for given in session.get_inputs()})


@pytest.fixture(scope="module")
def written(tiny_model: Callable[[str], Path], shared_folder: Path) -> Callable[[str], tuple[MidLayerEncoder, Path]]:
    """An encoder of `GRAPHS` and its graph, which is written once in a session."""

    def get(name: str) -> tuple[MidLayerEncoder, Path]:
        layer, options = GRAPHS[name]
        encoder = MidLayerEncoder(tiny_model(name), layer, device="cpu", **options)
        path = shared_folder / "graphs" / name / "model.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parents[1] / f"{name}.lock"):
            if not path.exists():
                noise = io.StringIO()
                with redirect_stdout(noise), redirect_stderr(noise):
                    write_graph(encoder, path, embedding=True)
                (path.parents[1] / f"{name}.noise").write_text(noise.getvalue())
        return encoder, path

    return get


@pytest.mark.parametrize("name", sampled(GRAPHS, "llama"))
def test_vectors_and_states_are_those_of_the_encoder(written: Any, name: str) -> None:
    encoder, path = written(name)
    features = encoder.preprocess(TEXTS)
    states, vectors = run(path, features)
    assert relative_difference(vectors, encoder.encode(TEXTS)) < TOLERANCE
    of_tokens = encoder.encode(TEXTS, output_value="token_embeddings")
    for row, (text, expected) in enumerate(zip(TEXTS, of_tokens, strict=True)):
        there = features["attention_mask"][row].numpy() > 0
        if text:
            assert relative_difference(states[row][there], expected[: there.sum()].numpy()) < TOLERANCE
    assert np.isfinite(states).all()


@pytest.mark.parametrize("name", sampled(GRAPHS, "llama"))
def test_a_text_alone_is_as_in_a_batch(written: Any, name: str) -> None:
    encoder, path = written(name)
    together = run(path, encoder.preprocess(TEXTS))[1]
    for row, text in enumerate(TEXTS):
        assert relative_difference(run(path, encoder.preprocess([text]))[1], together[row : row + 1]) < TOLERANCE


@pytest.mark.parametrize("name", sampled(GRAPHS, "llama"))
def test_what_the_file_says(written: Any, name: str) -> None:
    encoder, path = written(name)
    model = onnx.load(path)
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    dim = encoder.get_embedding_dimension()
    assert shapes == {
        "input_ids": ["batch_size", "sequence_length"],
        "attention_mask": ["batch_size", "sequence_length"],
        "last_hidden_state": ["batch_size", "sequence_length", 32],
        "sentence_embedding": ["batch_size", dim],
    }
    # what onnxruntime 1.19 reads, which is in transformers.js 3.0
    assert model.ir_version <= 10
    assert max(entry.version for entry in model.opset_import if entry.domain == "") <= 21
    assert {entry.key: entry.value for entry in model.metadata_props}["layer"] == str(encoder.layer)
    assert model.producer_name == "midlayer-embed"
    said = path.read_bytes()
    assert not any(word in said for word in (b"site-packages", b".py", str(Path.home()).encode(), b"torch"))


@pytest.mark.parametrize("name", sampled(GRAPHS, "llama"))
def test_nothing_is_printed_and_nothing_else_is_left(written: Any, name: str) -> None:
    _, path = written(name)
    assert (path.parents[1] / f"{name}.noise").read_text() == ""
    assert [left.name for left in path.parent.iterdir()] == ["model.onnx"]


def _ready(monkeypatch: pytest.MonkeyPatch, path: Path, factor: float = 1.0) -> None:
    """Let torch.onnx have made the graph of a file, with one weight multiplied."""
    model = onnx_ir.load(path)
    name, weight = next((n, w) for n, w in model.graph.initializers.items() if w.const_value.shape.rank() == 2)
    spoilt = weight.const_value.numpy() * np.float32(factor)
    model.graph.initializers[name].const_value = onnx_ir.tensor(spoilt, name=name)
    monkeypatch.setattr(graph, "_traced", lambda *_: SimpleNamespace(model=model))


def test_a_graph_that_gives_other_vectors_is_not_written(
    written: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    encoder, path = written("llama")
    target = tmp_path / "onnx" / "model.onnx"
    _ready(monkeypatch, path, 1.01)
    with pytest.raises(ExportFailed, match="last_hidden_state differs from torch by"):
        write_graph(encoder, target, embedding=True)
    assert list(tmp_path.rglob("*")) == []


def test_an_older_graph_stays_if_the_new_one_fails(
    written: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    encoder, path = written("llama")
    target = tmp_path / "model.onnx"
    target.write_text("older")
    _ready(monkeypatch, path, 1.01)
    with pytest.raises(ExportFailed):
        write_graph(encoder, target, embedding=True)
    assert target.read_text() == "older"


def test_weights_of_a_large_graph_are_in_a_second_file(
    written: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    encoder, path = written("llama")
    target = tmp_path / "onnx" / "model.onnx"
    with monkeypatch.context() as patched:
        _ready(patched, path)
        patched.setattr(graph, "LARGEST_FILE", 1000)
        write_graph(encoder, target, embedding=True)
    assert sorted(file.name for file in target.parent.iterdir()) == ["model.onnx", "model.onnx_data"]
    assert target.stat().st_size < path.stat().st_size / 2
    features = encoder.preprocess(TEXTS)
    np.testing.assert_array_equal(run(target, features)[1], run(path, features)[1])
    # a smaller graph in its place has no use for them
    _ready(monkeypatch, path)
    write_graph(encoder, target, embedding=True)
    assert [file.name for file in target.parent.iterdir()] == ["model.onnx"]


def test_an_encoder_is_as_it_was(written: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _, path = written("llama")
    encoder = MidLayerEncoder(written("llama")[0].checkpoint, 1, final_norm=False, device="cpu")
    before = encoder.encode(TEXTS)
    weights = {name: weight.clone() for name, weight in encoder.state_dict().items()}
    attention = encoder[0].model.config._attn_implementation
    level = logging.getLogger("torch.onnx").level
    _ready(monkeypatch, path, 1.01)
    encoder.train()
    encoder[1].eval()
    with pytest.raises(ExportFailed):
        write_graph(encoder, tmp_path / "model.onnx", embedding=True)
    assert encoder[0].training
    assert encoder[0].model.training
    assert not encoder[1].training
    assert encoder[0].model.config._attn_implementation == attention
    assert logging.getLogger("torch.onnx").level == level
    for name, weight in encoder.state_dict().items():
        assert torch.equal(weight, weights[name])
    np.testing.assert_array_equal(encoder.encode(TEXTS), before)


def test_rotary_positions_that_depend_on_the_longest_text_are_refused() -> None:
    longrope = {"rope_type": "longrope", "short_factor": [1.0] * 48, "long_factor": [2.0] * 48, "rope_theta": 1e4}
    phi3 = Phi3Config(
        rope_parameters={**longrope, "original_max_position_embeddings": 4096}, max_position_embeddings=131072
    )
    check_can_be_onnx(phi3, 4096)
    with pytest.raises(InputError, match=r"max_seq_length: above 4096 tokens .* expected at most 4096, got 4097"):
        check_can_be_onnx(phi3, 4097)
    llama = LlamaConfig(rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4})
    check_can_be_onnx(llama, llama.max_position_embeddings)
    with pytest.raises(InputError, match="depend on the longest text"):
        check_can_be_onnx(llama, llama.max_position_embeddings + 1)
    check_can_be_onnx(LlamaConfig(), 10**6)
    check_can_be_onnx(GPT2Config(), 1024)


def test_a_model_that_branches_on_its_values_is_refused(llama_folder: Path, tmp_path: Path) -> None:
    encoder = MidLayerEncoder(llama_folder, 1, device="cpu")
    encoder[0].model.norm.register_forward_hook(lambda _module, _given, states: states if states.sum() > 0 else -states)
    with pytest.raises(InputError, match="onnx: torch.onnx cannot express this llama model: ") as caught:
        write_graph(encoder, tmp_path / "model.onnx", embedding=False)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_vectors_without_the_tokens_of_a_prompt_are_refused(llama_folder: Path, tmp_path: Path) -> None:
    encoder = MidLayerEncoder(llama_folder, 1, include_prompt=False, prompts={"query": "search: "}, device="cpu")
    with pytest.raises(InputError, match="embedding: the pooling leaves out the tokens of a prompt"):
        write_graph(encoder, tmp_path / "model.onnx", embedding=True)


def test_a_site_within_a_block_is_refused(llama_folder: Path, tmp_path: Path) -> None:
    encoder = MidLayerEncoder(llama_folder, 1, site="mlp_out", device="cpu")
    with pytest.raises(InputError, match="SiteTransformer"):
        write_graph(encoder, tmp_path / "model.onnx", embedding=True)


def test_an_encoder_without_a_transformer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected an encoder that begins with a Transformer, got Identity"):
        write_graph(SentenceTransformer(modules=[torch.nn.Identity()]), tmp_path / "model.onnx", embedding=True)


def test_a_difference_of_small_values_counts_beside_huge_ones() -> None:
    expected = np.full((1, 9), 1.0)
    expected[0, 0] = 1e4
    assert relative_difference(expected, expected) == 0
    assert relative_difference(expected + 0.01, expected) == pytest.approx(0.01, rel=1e-3)
    assert relative_difference(np.full((1, 9), np.nan), expected) == float("inf")
    assert relative_difference(np.zeros((2, 3)), np.zeros((2, 3))) == 0
