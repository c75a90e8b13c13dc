from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from midlayer_embed.texts.tokens import check_texts, distinct, token_counts, tokenize

TEXTS = ["a", "b é"]


@pytest.mark.parametrize(
    "texts",
    [
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        pl.Series(TEXTS),
        iter(TEXTS),
        dict.fromkeys(TEXTS).keys(),
    ],
    ids=lambda texts: type(texts).__name__,
)
def test_every_ordered_collection_of_strings_is_texts(texts: Any) -> None:
    assert check_texts(texts) == TEXTS


@pytest.mark.parametrize(
    "texts",
    [
        "text",
        b"text",
        {"a": 1},
        {"a"},
        frozenset("a"),
        pl.DataFrame({"a": ["b"]}),
        np.array("a"),
        np.array([["a"]]),
        None,
        3,
    ],
    ids=lambda texts: type(texts).__name__,
)
def test_what_is_no_list_of_texts_is_named(texts: Any) -> None:
    with pytest.raises(TypeError, match=f"^texts: expected a list of strings, got {type(texts).__name__}$"):
        check_texts(texts)


@pytest.mark.parametrize("text", [None, float("nan"), b"x", 3, ["x"]], ids=str)
def test_an_item_that_is_no_string_is_named_by_its_index(text: Any) -> None:
    with pytest.raises(TypeError, match=rf"^texts\[1\]: expected a string, got {type(text).__name__}$"):
        check_texts(["a", text])


def test_half_a_surrogate_pair_is_named_by_its_place() -> None:
    with pytest.raises(ValueError, match=r"^texts\[1\]: character 3 is half of a surrogate pair, '\\udc00'$"):
        check_texts(["a 🙂", "é \udc00"])


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_counts_are_those_of_the_tokenizer(tiny_folders: dict[str, Path], sentences: list[str], family: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_folders[family])
    texts = [*sentences, "", " "]
    for prompt in ("", "a prompt: "):
        expected = [len(tokenizer(prompt + text, truncation=True, max_length=9)["input_ids"]) for text in texts]
        assert token_counts(tokenizer, texts, 9, prompt=prompt).tolist() == expected
    assert token_counts(tokenizer, [], 9).tolist() == []


def test_a_tokenizer_gets_some_texts_at_a_time_and_four_bytes_of_a_token_are_kept() -> None:
    class Words:
        most = 0

        def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
            self.most = max(self.most, len(texts))
            return {"input_ids": [[int(word) for word in text.split()] for text in texts]}

    words = Words()
    texts = [" ".join(map(str, range(number % 7))) for number in range(10_000)]
    found = tokenize(words, texts, 8)  # type: ignore[arg-type]
    assert words.most <= 4096
    assert found.flat.nbytes == 4 * sum(len(text.split()) for text in texts)
    assert [found[row].tolist() for row in range(len(texts))] == [
        [int(word) for word in text.split()] for text in texts
    ]
    assert tokenize(words, [], 8).lengths.tolist() == []  # type: ignore[arg-type]


def test_counting_reads_no_further_than_it_must() -> None:
    class Reader:
        longest = 0

        def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
            self.longest = max(self.longest, *map(len, texts))
            return {"input_ids": [[1] * min(len(text.split()), 8) for text in texts]}

    reader = Reader()
    texts = ["word " * 100_000, " " * 100_000 + "word", "", "two words"]
    assert token_counts(reader, texts, 8).tolist() == [8, 1, 0, 2]  # type: ignore[arg-type]
    assert reader.longest < 1000


@given(st.lists(st.text(max_size=2)))
def test_distinct_texts_and_where_they_went(texts: list[str]) -> None:
    unique, where = distinct(texts)
    assert len(set(unique)) == len(unique)
    assert [unique[number] for number in where] == texts
    assert where.dtype == np.int64
