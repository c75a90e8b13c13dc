"""`MidLayerEncoder.encode` is SentenceTransformer's, sooner: the same vectors out of less padding and no repeats."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from sentence_transformers import SentenceTransformer

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder

WITH_REPEATS = [5, 0, 0, 7, 3, 5, 1, 2, 6, 4, 0]


def plain(encoder: MidLayerEncoder) -> SentenceTransformer:
    """SentenceTransformer itself around the same modules: the path that ours replaces."""
    return SentenceTransformer(modules=list(encoder), device=str(encoder.device), truncate_dim=encoder.truncate_dim)


@pytest.fixture
def passes() -> Callable[[MidLayerEncoder], list[tuple[int, int, int]]]:
    """A function that counts an encoder's forward passes from now on: (texts, width, tokens) of each."""

    def counted(encoder: MidLayerEncoder) -> list[tuple[int, int, int]]:
        seen: list[tuple[int, int, int]] = []

        def count(_module: Any, args: tuple[dict[str, torch.Tensor]]) -> None:
            rows, width = args[0]["input_ids"].shape
            seen.append((rows, width, int(args[0]["attention_mask"].sum())))

        encoder.register_forward_pre_hook(count)
        return seen

    return counted


@pytest.mark.parametrize("final_norm", [True, False], ids=["normed", "raw"])
def test_vectors_do_not_depend_on_batches_neighbours_or_order(
    any_folder: Path, sentences: list[str], final_norm: bool
) -> None:
    encoder = MidLayerEncoder(any_folder, 2, final_norm=final_norm)
    texts = [sentences[number] for number in WITH_REPEATS]
    inherited = plain(encoder)
    alone = np.concatenate([inherited.encode([text]) for text in texts])
    np.testing.assert_allclose(encoder.encode(texts), inherited.encode(texts), atol=1e-5)
    # Batches are made of texts, whatever is done to their states afterwards: raw states take one kind.
    for batch_size, batch_tokens in [(32, None), (1, None), (3, 40), (32, 64), (2, 1)] if final_norm else [(3, 40)]:
        encoder.batch_tokens = batch_tokens
        np.testing.assert_allclose(encoder.encode(texts, batch_size=batch_size), alone, atol=1e-4)
        np.testing.assert_allclose(encoder.encode(texts[::-1], batch_size=batch_size)[::-1], alone, atol=1e-4)
        np.testing.assert_allclose(encoder.encode(texts[3:7], batch_size=batch_size), alone[3:7], atol=1e-4)


@pytest.mark.parametrize("mode", ["mean", "cls", "lasttoken", "weightedmean", "max"])
def test_every_pooling_mode_gives_what_the_inherited_path_gives(
    llama_folder: Path, sentences: list[str], mode: str
) -> None:
    encoder = MidLayerEncoder(llama_folder, 2, pooling_mode=mode, max_seq_length=9, truncate_dim=20)
    for kwargs in ({}, {"normalize_embeddings": True}, {"truncate_dim": 7}, {"prompt": "He drove: "}):
        vectors = encoder.encode(sentences, **kwargs)
        assert vectors.shape == (8, kwargs.get("truncate_dim", 20))
        np.testing.assert_allclose(vectors, plain(encoder).encode(sentences, **kwargs), atol=1e-5)


def test_each_distinct_text_goes_through_the_model_once(
    llama_folder: Path, sentences: list[str], passes: Callable[..., Any]
) -> None:
    encoder = MidLayerEncoder(llama_folder, 2)
    seen = passes(encoder)
    encoder.encode([sentences[number] for number in WITH_REPEATS * 3])
    assert sum(rows for rows, _, _ in seen) == len(sentences)


def test_a_forward_pass_keeps_to_batch_size_and_batch_tokens(
    llama_folder: Path, sentences: list[str], passes: Callable[..., Any]
) -> None:
    encoder = MidLayerEncoder(llama_folder, 2)
    texts = [f"{text} {number}" for text in sentences for number in range(6)]
    seen = passes(encoder)
    encoder.encode(texts, batch_size=5)
    assert max(rows for rows, _, _ in seen) == 5
    seen.clear()
    encoder.batch_tokens = 60
    encoder.encode(texts)
    assert all(rows * width <= 60 or rows == 1 for rows, width, _ in seen)
    assert max(rows for rows, _, _ in seen) > 5
    seen.clear()
    encoder.encode(texts, prompt="The weather at the stadium: ")  # whose tokens count, too
    assert all(rows * width <= 60 or rows == 1 for rows, width, _ in seen)


def test_less_is_padded_than_by_the_inherited_path(llama_folder: Path, passes: Callable[..., Any]) -> None:
    encoder = MidLayerEncoder(llama_folder, 1)
    encoder.batch_tokens = 64
    # Characters say little of tokens here: those of the first kind were learnt as whole words.
    texts = [" today" * n for n in range(1, 17)] + ["qxzkj" * n for n in range(1, 17)]
    share = []
    for model in (encoder, plain(encoder)):
        seen = passes(model)
        model.encode(texts, batch_size=4)
        share.append(sum(rows * width for rows, width, _ in seen) / sum(tokens for _, _, tokens in seen))
    assert 1 <= share[0] < 1.1
    assert share[0] < share[1] - 0.1


@pytest.mark.parametrize(
    "inputs",
    [
        "one text",
        ("a", "tuple"),
        np.array(["an", "array", "an"]),
        [("a pair", "of texts"), ("another", "pair")],
        [{"text": "a dict"}, {"text": "another one"}],
        [],
    ],
    ids=["string", "tuple", "array", "pairs", "dicts", "none"],
)
def test_inputs_of_every_kind_give_what_the_inherited_path_gives(
    inputs: Any,
    llama_2: MidLayerEncoder,
) -> None:
    expected = plain(llama_2).encode(inputs)
    vectors = llama_2.encode(inputs)
    assert (vectors.shape, vectors.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


@pytest.mark.parametrize("inputs", [[None], [b"bytes"], [[1, 2, 3]], 5, ["a", None]])
def test_inputs_of_no_kind_are_refused_as_by_the_inherited_path(
    inputs: Any,
    llama_2: MidLayerEncoder,
) -> None:
    with pytest.raises(Exception) as expected:  # noqa: PT011
        plain(llama_2).encode(inputs)
    with pytest.raises(expected.type, match="Unsupported|NoneType|^texts"):
        llama_2.encode(inputs)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["fine", None], r"^texts\[1\]: expected a string, got NoneType$"),
        (["fine", float("nan")], r"^texts\[1\]: expected a string, got float$"),
        (["fine", b"bytes"], r"^texts\[1\]: expected a string, got bytes$"),
        (["fine", "é", "a\ud800b"], r"^texts\[2\]: character 2 is half of a surrogate pair, '\\ud800'$"),
        ("\udfff", r"^texts\[0\]: character 1 is half of a surrogate pair, '\\udfff'$"),
        (pl.Series(["a", "b"]), "^texts: expected a list of strings, got Series; pass a list$"),
        ((text for text in "ab"), "^texts: expected a list of strings, got generator; pass a list$"),
        (pl.DataFrame({"text": ["a"]}), "^texts: expected a list of strings, got DataFrame; pass a list$"),
    ],
    ids=["none", "nan", "bytes", "in a word", "alone", "series", "generator", "frame"],
)
def test_what_is_no_text_is_named_by_its_place(inputs: Any, message: str, llama_2: MidLayerEncoder) -> None:
    with pytest.raises(ValueError, match=message):
        llama_2.encode(inputs)


@pytest.mark.parametrize(
    "kind", [tuple, np.array, lambda texts: np.array(texts, dtype=object), lambda texts: [*map(np.str_, texts)]]
)
def test_sequences_of_strings_are_texts(kind: Any, sentences: list[str], llama_2: MidLayerEncoder) -> None:
    np.testing.assert_array_equal(llama_2.encode(kind(sentences)), llama_2.encode(sentences))


@pytest.mark.parametrize("mode", ["mean", "cls", "lasttoken", "weightedmean", "max"])
def test_texts_without_tokens_are_zero_vectors(llama_folder: Path, sentences: list[str], mode: str) -> None:
    encoder = MidLayerEncoder(llama_folder, 2, pooling_mode=mode)
    np.testing.assert_array_equal(encoder.encode(["", ""], normalize_embeddings=True), np.zeros((2, 32)))
    mixed = encoder.encode(["", sentences[0], ""])
    np.testing.assert_array_equal(mixed[[0, 2]], np.zeros((2, 32)))
    np.testing.assert_allclose(mixed[1], encoder.encode(sentences[0]), atol=1e-6)
    every = LayerwiseEncoder(llama_folder, pooling_mode=mode).encode(["", sentences[0], ""], layers=[2])[:, 0]
    np.testing.assert_allclose(mixed, every, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_precisions_come_out_as_from_the_inherited_path(
    llama_folder: Path,
    sentences: list[str],
    dtype: str,
    llama_2: MidLayerEncoder,
) -> None:
    encoder = MidLayerEncoder(llama_folder, 2, dtype=dtype)
    for kwargs in ({}, {"convert_to_tensor": True}):
        vectors, expected = encoder.encode(sentences, **kwargs), plain(encoder).encode(sentences, **kwargs)
        assert vectors.dtype == expected.dtype
        torch.testing.assert_close(torch.as_tensor(vectors), torch.as_tensor(expected), atol=0.05, rtol=0.05)
    np.testing.assert_allclose(encoder.encode(sentences), llama_2.encode(sentences), atol=0.1)


def test_progress_rises_to_1_and_short_work_shows_no_bar_off_a_terminal(
    llama_folder: Path, sentences: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = MidLayerEncoder(llama_folder, 1)
    encoder.batch_tokens = 40
    shares: list[float] = []
    encoder.on_progress = shares.append
    encoder.encode(sentences, show_progress_bar=True)
    assert shares == sorted(shares)
    assert len(shares) > 2
    assert shares[-1] == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("batch_tokens", [0, -1, True, 2.5])
def test_bad_budgets_are_refused(llama_folder: Path, batch_tokens: Any) -> None:
    encoder = MidLayerEncoder(llama_folder, 1)
    encoder.batch_tokens = batch_tokens
    with pytest.raises(ValueError, match="batch_tokens: expected an int of at least 1"):
        encoder.encode(["a"])


def test_bad_arguments_are_refused_as_by_the_inherited_path(llama_folder: Path) -> None:
    encoder = MidLayerEncoder(llama_folder, 1)
    for kwargs, message in (
        ({"batch_size": 0}, "batch_size must be a positive integer"),
        ({"prompt_name": "no such"}, "'no such' not found"),
        ({"precision": "int3"}, "Precision 'int3'"),
        ({"colour": "red"}, "colour"),
    ):
        with pytest.raises(ValueError, match=message):
            encoder.encode(["a"], **kwargs)  # type: ignore[arg-type]
