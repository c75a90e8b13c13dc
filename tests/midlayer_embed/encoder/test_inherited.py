"""What SentenceTransformer can do, a MidLayerEncoder can do, and what it saves can do it, too.

The oracles are the tokens' own states, pooled in numpy, and sentence-transformers' own functions.
"""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer, quantize_embeddings

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder

PROMPTS = {"query": "He drove to the stadium: ", "document": "The mean of ", "short": "A "}
POOLING_MODES = ["mean", "cls", "lasttoken", "weightedmean", "max"]


def pooled(states: np.ndarray, mode: str, skip: int = 0) -> np.ndarray:
    """One text's states (t, d) to its vector (d,), the first `skip` tokens left out; positions count from the first."""
    kept = states[skip:].astype(np.float64)
    positions = np.arange(skip, len(states)) + 1.0
    return {
        "mean": lambda: kept.mean(axis=0),
        "cls": lambda: kept[0],
        "lasttoken": lambda: kept[-1],
        "weightedmean": lambda: (kept * positions[:, None]).sum(axis=0) / positions.sum(),
        "max": lambda: kept.max(axis=0),
    }[mode]()


def plain_states(folder: Path, texts: list[str]) -> list[np.ndarray]:
    """The states of layer 2 of each text on its own, by stock transformers; the tiny Llama's norm applied."""
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        return [
            model.norm(model(torch.tensor([tokenizer(text)["input_ids"]]), output_hidden_states=True).hidden_states[2])[
                0
            ].numpy()
            for text in texts
        ]


def n_tokens(folder: Path, text: str) -> int:
    from transformers import AutoTokenizer

    return len(AutoTokenizer.from_pretrained(folder)(text)["input_ids"])


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[MidLayerEncoder], SentenceTransformer]:
    """A function that saves an encoder and loads the folder as anybody would."""

    def save_and_load(encoder: MidLayerEncoder) -> SentenceTransformer:
        folder = tmp_path / f"saved-{len(list(tmp_path.iterdir()))}"
        encoder.save_pretrained(str(folder))
        plain = SentenceTransformer(str(folder), device="cpu")
        assert type(plain) is SentenceTransformer
        return plain

    return save_and_load


@pytest.mark.parametrize("mode", POOLING_MODES)
def test_pooling_equals_its_definition_and_the_all_layers_pass_and_is_saved(
    llama_folder: Path, sentences: list[str], mode: str, saved: Callable[..., SentenceTransformer]
) -> None:
    encoder = MidLayerEncoder(llama_folder, 2, pooling_mode=mode)
    expected = [pooled(states, mode) for states in plain_states(llama_folder, sentences)]
    np.testing.assert_allclose(encoder.encode(sentences), expected, atol=1e-5)
    every = LayerwiseEncoder(llama_folder, pooling_mode=mode).encode(sentences, layers=[2])[:, 0]
    np.testing.assert_allclose(encoder.encode(sentences), every, atol=1e-5)
    np.testing.assert_allclose(saved(encoder).encode(sentences), expected, atol=1e-5)


@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize("mode", POOLING_MODES)
def test_a_prompt_is_read_and_is_pooled_or_not(
    llama_folder: Path, sentences: list[str], mode: str, include_prompt: bool, saved: Callable[..., SentenceTransformer]
) -> None:
    encoder = MidLayerEncoder(llama_folder, 2, pooling_mode=mode, include_prompt=include_prompt, prompts=PROMPTS)
    prompt = PROMPTS["query"]
    skip = 0 if include_prompt else n_tokens(llama_folder, prompt)
    states = plain_states(llama_folder, [prompt + text for text in sentences])
    expected = [pooled(state, mode, skip) for state in states]
    plain = saved(encoder)
    assert plain[1].include_prompt is include_prompt
    for model in (encoder, plain):
        np.testing.assert_allclose(model.encode(sentences, prompt=prompt), expected, atol=1e-5)
        np.testing.assert_allclose(model.encode(sentences, prompt_name="query"), expected, atol=1e-5)
    assert np.abs(encoder.encode(sentences) - expected).max() > 0.1


def test_queries_documents_and_the_default_prompt(
    llama_folder: Path,
    sentences: list[str],
    saved: Callable[..., SentenceTransformer],
    llama_2: MidLayerEncoder,
) -> None:
    encoder = MidLayerEncoder(llama_folder, 2, prompts=PROMPTS, default_prompt_name="short")
    plain = saved(encoder)
    assert plain.prompts == encoder.prompts == PROMPTS
    assert plain.default_prompt_name == "short"

    def with_prompt(prompt: str) -> np.ndarray:
        return llama_2.encode([prompt + text for text in sentences])

    for model in (encoder, plain):
        np.testing.assert_allclose(model.encode_query(sentences), with_prompt(PROMPTS["query"]), atol=1e-5)
        np.testing.assert_allclose(model.encode_document(sentences), with_prompt(PROMPTS["document"]), atol=1e-5)
        np.testing.assert_allclose(model.encode(sentences), with_prompt(PROMPTS["short"]), atol=1e-5)
        np.testing.assert_allclose(model.encode(sentences, prompt=""), with_prompt(""), atol=1e-5)
    with pytest.raises(ValueError, match="'no such' not found"):
        MidLayerEncoder(llama_folder, 2, prompts=PROMPTS, default_prompt_name="no such")


def test_vectors_are_cut_where_told(
    llama_folder: Path,
    sentences: list[str],
    saved: Callable[..., SentenceTransformer],
    llama_2: MidLayerEncoder,
) -> None:
    whole = llama_2.encode(sentences)
    encoder = MidLayerEncoder(llama_folder, 2, truncate_dim=10)
    for model in (encoder, saved(encoder)):
        assert model.get_embedding_dimension() == 10
        np.testing.assert_allclose(model.encode(sentences), whole[:, :10], atol=1e-6)
        np.testing.assert_allclose(model.encode(sentences, truncate_dim=4), whole[:, :4], atol=1e-6)
        with model.truncate_embeddings(3):
            np.testing.assert_allclose(model.encode(sentences), whole[:, :3], atol=1e-6)
        with model.truncate_embeddings(None):
            np.testing.assert_allclose(model.encode(sentences), whole, atol=1e-6)
        cut = whole[:, :10] / np.linalg.norm(whole[:, :10], axis=1, keepdims=True)
        np.testing.assert_allclose(model.encode(sentences, normalize_embeddings=True), cut, atol=1e-6)


@pytest.mark.parametrize("precision", ["float32", "int8", "uint8", "binary", "ubinary"])
def test_every_precision(
    sentences: list[str],
    precision: Any,
    llama_2: MidLayerEncoder,
) -> None:
    vectors = llama_2.encode(sentences)
    found = llama_2.encode(sentences, precision=precision)
    assert found.dtype == {"binary": "int8", "ubinary": "uint8"}.get(precision, precision)
    if precision.endswith("binary"):
        bits = np.packbits(vectors > 0, axis=1)
        np.testing.assert_array_equal(found, bits if precision == "ubinary" else (bits - 128).view(np.int8))
    else:
        np.testing.assert_array_equal(found, quantize_embeddings(vectors, precision=precision))


def test_results_of_every_kind(
    sentences: list[str],
    llama_2: MidLayerEncoder,
) -> None:
    vectors = llama_2.encode(sentences)
    tensor = llama_2.encode(sentences, convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor, vectors)
    rows = llama_2.encode(sentences, convert_to_numpy=False)
    assert isinstance(rows, list) and all(isinstance(row, torch.Tensor) for row in rows)
    np.testing.assert_array_equal(torch.stack(rows), vectors)
    single = llama_2.encode(sentences[0])
    assert single.shape == (32,)
    np.testing.assert_allclose(single, vectors[0], atol=1e-6)
    assert llama_2.encode(sentences[0], convert_to_tensor=True).shape == (32,)
    assert llama_2.encode([], convert_to_tensor=True).shape == (0,)


def test_states_of_the_tokens(
    llama_folder: Path,
    sentences: list[str],
    llama_2: MidLayerEncoder,
) -> None:
    repeated = [sentences[4], *sentences, sentences[0]]
    expected = plain_states(llama_folder, repeated)
    for found, states in zip(llama_2.encode(repeated, output_value="token_embeddings"), expected, strict=True):
        np.testing.assert_allclose(found, states, atol=1e-5)
    features = llama_2.encode(repeated, output_value=None)
    assert len(features) == len(repeated)
    for found, states in zip(features, expected, strict=True):
        np.testing.assert_allclose(found["sentence_embedding"], states.mean(axis=0), atol=1e-5)
        assert int(found["attention_mask"].sum()) == len(states)
    assert llama_2.encode(sentences[0], output_value=None)["sentence_embedding"].shape == (32,)


@pytest.fixture(scope="module")
def pool_encoder(llama_folder: Path) -> MidLayerEncoder:
    return MidLayerEncoder(llama_folder, 2, prompts=PROMPTS, include_prompt=False)


@pytest.fixture(scope="module")
def pool(pool_encoder: MidLayerEncoder) -> Iterator[dict[str, Any]]:
    started = pool_encoder.start_multi_process_pool(["cpu", "cpu"])
    yield started
    pool_encoder.stop_multi_process_pool(started)


@pytest.mark.process
def test_several_processes_give_what_one_gives(
    pool_encoder: MidLayerEncoder, pool: dict[str, Any], sentences: list[str]
) -> None:
    texts = [*sentences, sentences[0], *sentences[::-1]]
    for kwargs in (
        {},
        {"chunk_size": 4, "prompt_name": "query"},
        {"chunk_size": 100, "normalize_embeddings": True, "truncate_dim": 9},
        {"chunk_size": 4, "precision": "binary"},
        {"chunk_size": 4, "convert_to_tensor": True},
    ):
        found = pool_encoder.encode(texts, pool=pool, **kwargs)
        kwargs.pop("chunk_size", None)
        np.testing.assert_allclose(found, pool_encoder.encode(texts, **kwargs), atol=1e-5)  # type: ignore[arg-type]
    tokens = pool_encoder.encode(texts, pool=pool, output_value="token_embeddings")
    assert [len(states) for states in tokens] == [
        len(states) for states in pool_encoder.encode(texts, output_value="token_embeddings")
    ]
    np.testing.assert_allclose(pool_encoder.encode_query(texts, pool=pool), pool_encoder.encode_query(texts), atol=1e-5)
    with pytest.raises(ValueError, match="chunk_size"):
        pool_encoder.encode(texts, pool=pool, chunk_size=0)


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_every_similarity(
    llama_folder: Path, sentences: list[str], name: str, saved: Callable[..., SentenceTransformer]
) -> None:
    encoder = MidLayerEncoder(llama_folder, 2, similarity_fn_name=name)
    x = encoder.encode(sentences).astype(np.float64)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    difference = x[:, None] - x[None]
    expected = {
        "cosine": unit @ unit.T,
        "dot": x @ x.T,
        "euclidean": -np.sqrt((difference**2).sum(axis=2)),
        "manhattan": -np.abs(difference).sum(axis=2),
    }[name]
    for model in (encoder, saved(encoder)):
        assert model.similarity_fn_name == name
        np.testing.assert_allclose(model.similarity(x, x), expected, atol=1e-3, rtol=1e-5)
        np.testing.assert_allclose(model.similarity_pairwise(x, x[::-1].copy()), np.diag(expected[:, ::-1]), atol=1e-4)


def test_a_copy_is_one_of_its_own(llama_folder: Path, sentences: list[str]) -> None:
    encoder = MidLayerEncoder(llama_folder, 2, prompts=PROMPTS)
    before = encoder.encode(sentences)
    twin = copy.deepcopy(encoder)
    assert (twin.layer, twin.depth, twin.prompts) == (encoder.layer, encoder.depth, encoder.prompts)
    np.testing.assert_array_equal(twin.encode(sentences), before)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert not np.allclose(twin.encode(sentences), before)
    np.testing.assert_array_equal(encoder.encode(sentences), before)


def test_casts_and_moves(llama_folder: Path, sentences: list[str], saved: Callable[..., SentenceTransformer]) -> None:
    encoder = MidLayerEncoder(llama_folder, 2)
    before = encoder.encode(sentences)
    assert encoder.half().dtype == torch.float16
    assert encoder.encode(sentences).dtype == np.float16
    np.testing.assert_allclose(encoder.encode(sentences), before, atol=0.05)
    assert encoder.to(torch.bfloat16).dtype == torch.bfloat16
    assert encoder.to("cpu", torch.float32).device == torch.device("cpu")
    np.testing.assert_allclose(encoder.encode(sentences), before, atol=0.1)
    assert encoder.half().float().dtype == torch.float32
    np.testing.assert_allclose(saved(encoder.half()).float().encode(sentences), before, atol=0.1)


def test_encode_leaves_training_mode_and_gradients_alone(llama_folder: Path, sentences: list[str]) -> None:
    encoder = MidLayerEncoder(llama_folder, 2)
    encoder.train()
    assert not encoder.encode(sentences, convert_to_tensor=True).requires_grad
    assert not encoder.training  # as SentenceTransformer's
    encoder.train()
    features = encoder.preprocess(sentences)
    assert encoder(features)["sentence_embedding"].requires_grad
