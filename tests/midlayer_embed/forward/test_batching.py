from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from midlayer_embed.forward.batching import batches, row_batches
from midlayer_embed.texts.tokens import TokenIds, check_texts, distinct, token_counts, tokenize

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


_TOKEN_IDS = st.lists(st.lists(st.integers(1, 9), max_size=12), max_size=20)


@given(_TOKEN_IDS, st.integers(1, 40))
def test_every_text_with_tokens_is_in_one_batch_unharmed(token_ids: list[list[int]], budget: int) -> None:
    seen: dict[int, list[int]] = {}
    for batch in batches(TokenIds.of(token_ids), pad_id=0, budget=budget):
        for row, ids, mask in zip(batch.rows, batch.input_ids, batch.attention_mask, strict=True):
            assert row not in seen
            seen[int(row)] = ids[mask.bool()].tolist()
            n = int(mask.sum())
            assert mask[:n].all()  # padded on the right
            assert (ids[n:] == 0).all()
    assert seen == {row: ids for row, ids in enumerate(token_ids) if ids}


@given(_TOKEN_IDS, st.integers(1, 40))
def test_batches_keep_to_the_budget_longest_first(token_ids: list[list[int]], budget: int) -> None:
    widths = []
    for batch in batches(TokenIds.of(token_ids), pad_id=0, budget=budget):
        rows, width = batch.input_ids.shape
        assert rows == 1 or rows * width <= budget
        widths.append(width)
    assert widths == sorted(widths, reverse=True)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=200), st.integers(64, 4096))
def test_little_is_padded(lengths: list[int], budget: int) -> None:
    for batch in batches(TokenIds.of([[7] * length for length in lengths]), pad_id=0, budget=budget):
        width = batch.input_ids.shape[1]
        shortest = int(batch.attention_mask.sum(dim=1).min())
        tight = shortest >= 0.9 * width
        small = (batch.input_ids.shape[0] - 1) * width <= budget / 8
        assert tight or small


@given(st.lists(st.integers(0, 12), max_size=30), st.integers(1, 40), st.integers(1, 5))
def test_batches_hold_no_more_rows_than_asked(lengths: list[int], budget: int, most: int) -> None:
    found = list(row_batches(np.array(lengths, dtype=np.int64), budget, most))
    assert all(1 <= len(rows) <= most for rows in found)
    assert sorted(row for rows in found for row in rows) == [row for row, length in enumerate(lengths) if length]


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
