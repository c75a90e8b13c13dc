"""Files that are cut, read by llama.cpp: its server runs in this process, out of the wheel of the package xllamacpp.

The package is no dependency: `make test-all` installs it.
"""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed (xllamacpp)")
pytest.importorskip("gguf", reason="the gguf extra is not installed")

import xllamacpp
from support.gguf.tiny import READ_BY_TRANSFORMERS, tiny_gguf

from midlayer_embed import LayerwiseEncoder
from midlayer_embed.encoder.serve.gguf_cut import export_gguf
from midlayer_embed.models.gguf import conversion
from midlayer_embed.models.starter import starter_gguf

pytestmark = [pytest.mark.process, pytest.mark.slow]

_TEXTS = [
    *("The cat sleeps.", "A", "Interest rates rise.", "naïve café, 数据科学 🙂 Ελληνικά", "🙂🙃🙂🙃", "!!!"),
    *(" leading and trailing spaces  ", "def f(x):\n    return x ** 2\n\nprint(f(3))", "x" * 300, "word " * 380),
    "Matrices are factored into a product of an orthogonal and a triangular one, which is slower. " * 20,
]
_TINY_TEXTS = ["hello", "he said: hell", "a b c d e f g h i j k l m n o p"]


def _vectors(path: Path, texts: list[str], pooling: str | None = None) -> np.ndarray:
    """What llama-server --embedding gives, not normalised, (n, dim); by the file's own pooling if none is given."""
    options = xllamacpp.CommonParams()
    options.model.path = str(path)
    options.embedding, options.n_parallel, options.warmup = True, 1, False
    options.n_ctx = options.n_batch = options.n_ubatch = 1024
    options.cpuparams.n_threads = 1
    if pooling is not None:
        options.pooling_type = getattr(xllamacpp.llama_pooling_type, f"LLAMA_POOLING_TYPE_{pooling}")
    server = xllamacpp.Server(options)
    found = []
    for text in texts:
        answer = server.handle_embeddings({"input": text, "model": "m", "embd_normalize": -1})
        answer = json.loads(answer) if isinstance(answer, (str, bytes)) else answer
        found.append(answer["data"][0]["embedding"])
    return np.array(found)


def _cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one * other).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1)


@pytest.fixture(scope="module")
def every_layer() -> np.ndarray:
    """Our vectors of every layer of the starter model, (n, 31, 576)."""
    return LayerwiseEncoder("starter", max_seq_length=1024).encode(_TEXTS)


@pytest.mark.parametrize(("layer", "at_least"), [(1, 0.9998), (7, 0.9995), (15, 0.998), (30, 0.997)])
def test_llama_cpp_gives_the_layer_of_the_starter_model(
    tmp_path: Path, every_layer: np.ndarray, layer: int, at_least: float
) -> None:
    """It computes with activations of 8 bits where weights have 4, so no vector is ours to the last digit."""
    found = _vectors(export_gguf("starter", tmp_path / "cut.gguf", layer).path, _TEXTS)
    cosines = _cosines(found, every_layer[:, layer])
    print(f"layer {layer}: cosines from {cosines.min():.5f}, median {np.median(cosines):.5f}")
    assert cosines.min() >= at_least and np.median(cosines) >= 0.9995
    # vectors of neighbouring layers are alike, too; but this one is the nearest
    distances = np.linalg.norm(every_layer - found[:, None], axis=-1)
    assert (distances.argmin(axis=1) == layer).all()


def test_the_whole_file_gives_the_same_as_its_last_layer(tmp_path: Path) -> None:
    cut = export_gguf("starter", tmp_path / "cut.gguf", -1).path
    np.testing.assert_array_equal(_vectors(cut, _TEXTS[:4]), _vectors(starter_gguf(), _TEXTS[:4], "MEAN"))


# The two disagree on whole files of a random Gemma 3 already.
@pytest.mark.parametrize("architecture", [name for name in READ_BY_TRANSFORMERS if name != "gemma3"])
def test_llama_cpp_gives_every_layer_of_an_architecture_in_full_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    monkeypatch.setattr(conversion, "cache_folder", lambda: tmp_path / "cache")
    source = tiny_gguf(tmp_path / "tiny.gguf", architecture, 3)
    every = LayerwiseEncoder(source).encode(_TINY_TEXTS)
    for layer in (1, 2, 3):
        cut = export_gguf(source, tmp_path / f"{layer}.gguf", layer).path
        # keys and values are kept in float16
        np.testing.assert_allclose(_vectors(cut, _TINY_TEXTS), every[:, layer], atol=0.005)


def test_llama_cpp_needs_no_head_for_next_tokens(tmp_path: Path) -> None:
    untied = tiny_gguf(tmp_path / "untied.gguf", untied=True)
    cut = export_gguf(untied, tmp_path / "cut.gguf", 2)
    assert cut.left_out == ("output.weight",)
    tied = export_gguf(tiny_gguf(tmp_path / "tied.gguf"), tmp_path / "tied-2.gguf", 2).path
    np.testing.assert_array_equal(_vectors(cut.path, _TINY_TEXTS), _vectors(tied, _TINY_TEXTS))


def test_llama_cpp_reads_arrays_that_were_cut(tmp_path: Path) -> None:
    arrays = {"llama.attention.head_count_kv": [4, 4, 4], "llama.feed_forward_length": [128, 128, 128]}
    with_arrays = export_gguf(tiny_gguf(tmp_path / "a.gguf", fields=arrays), tmp_path / "a-2.gguf", 2).path
    plain = export_gguf(tiny_gguf(tmp_path / "b.gguf"), tmp_path / "b-2.gguf", 2).path
    np.testing.assert_array_equal(_vectors(with_arrays, _TINY_TEXTS), _vectors(plain, _TINY_TEXTS))


@pytest.mark.parametrize("pooling_mode", ["mean", "cls", "lasttoken"])
def test_llama_cpp_pools_as_the_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pooling_mode: str) -> None:
    monkeypatch.setattr(conversion, "cache_folder", lambda: tmp_path / "cache")
    source = tiny_gguf(tmp_path / "tiny.gguf")
    cut = export_gguf(source, tmp_path / "cut.gguf", 2, pooling_mode=pooling_mode).path
    ours = LayerwiseEncoder(source, pooling_mode=pooling_mode).encode(_TINY_TEXTS)[:, 2]
    np.testing.assert_allclose(_vectors(cut, _TINY_TEXTS), ours, atol=0.005)
