from pathlib import Path

import numpy as np
import pytest

from midlayer_embed import MidLayerEncoder
from midlayer_embed.bulk import encode_texts

WITH_REPEATS = [5, 0, 0, 7, 3, 5, 1, 2, 6, 4, 0]


@pytest.mark.parametrize("final_norm", [True, False], ids=["normed", "raw"])
def test_vectors_equal_those_of_encode(tiny_folder: Path, sentences: list[str], final_norm: bool) -> None:
    encoder = MidLayerEncoder(tiny_folder, 2, final_norm=final_norm)
    texts = [sentences[number] for number in WITH_REPEATS]
    np.testing.assert_allclose(encode_texts(encoder, texts, batch_tokens=40), encoder.encode(texts), atol=1e-5)


@pytest.mark.parametrize("mode", ["cls", "lasttoken", "weightedmean", "max"])
def test_vectors_equal_those_of_encode_under_every_pooling(llama_folder: Path, sentences: list[str], mode: str) -> None:
    encoder = MidLayerEncoder(llama_folder, 2, pooling_mode=mode, max_seq_length=9, truncate_dim=20)
    vectors = encode_texts(encoder, sentences)
    assert vectors.shape == (8, 20)
    np.testing.assert_allclose(vectors, encoder.encode(sentences), atol=1e-5)
    normalized = encode_texts(encoder, sentences, normalize=True)
    np.testing.assert_allclose(normalized, encoder.encode(sentences, normalize_embeddings=True), atol=1e-5)


def test_empty_texts_and_no_texts_are_defined(llama_folder: Path, sentences: list[str]) -> None:
    encoder = MidLayerEncoder(llama_folder, 2)
    np.testing.assert_array_equal(encode_texts(encoder, ["", ""], normalize=True), np.zeros((2, 32)))
    np.testing.assert_allclose(encode_texts(encoder, ["", sentences[0]]), encoder.encode(["", sentences[0]]), atol=1e-5)
    assert encode_texts(encoder, []).shape == (0, 32)


def test_half_precision_gives_float32(llama_folder: Path, sentences: list[str]) -> None:
    encoder = MidLayerEncoder(llama_folder, 2, dtype="bfloat16")
    vectors = encode_texts(encoder, sentences)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, MidLayerEncoder(llama_folder, 2).encode(sentences), atol=0.1)


def test_progress_rises_to_1(llama_folder: Path, sentences: list[str]) -> None:
    shares: list[float] = []
    encode_texts(MidLayerEncoder(llama_folder, 1), sentences, batch_tokens=40, on_progress=shares.append)
    assert shares == sorted(shares)
    assert len(shares) > 2
    assert shares[-1] == 1


@pytest.mark.parametrize("batch_tokens", [0, -1, True, 2.5])
def test_bad_budgets_are_refused(llama_folder: Path, batch_tokens: object) -> None:
    with pytest.raises(ValueError, match="batch_tokens: expected a positive int"):
        encode_texts(MidLayerEncoder(llama_folder, 1), ["a"], batch_tokens=batch_tokens)  # type: ignore[arg-type]


def test_texts_that_are_none_are_refused(llama_folder: Path) -> None:
    with pytest.raises(TypeError, match=r"texts\[1\]: expected a string"):
        encode_texts(MidLayerEncoder(llama_folder, 1), ["a", None])  # type: ignore[list-item]
