"""Prompts of token ids, against loops over tokens; on random ids and on tokenizers of every kind."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.architectures import SENTENCES
from transformers import AutoTokenizer

from midlayer_embed.errors import InputError
from midlayer_embed.recipes.template import put_template
from midlayer_embed.texts.prompts import cut_tokens, fixed_tokens, plain_vocabulary, randomize_tokens, repeat_tokens
from midlayer_embed.texts.tokens import TokenIds, tokenize

_QUICK = settings(max_examples=60, deadline=None)
_PROMPTS = st.lists(st.lists(st.integers(0, 9), max_size=12), max_size=5)
_VOCABULARY = np.arange(100, 110, dtype=np.int32)
# 0 and 9 stand for special tokens.
_MAKERS: dict[str, Callable[..., TokenIds]] = {
    "repeat": lambda ids, p, **k: repeat_tokens(ids, p, np.isin(ids.flat, [0, 9]), **k),
    "one": lambda ids, p, **k: repeat_tokens(ids, p, np.isin(ids.flat, [0, 9]), one_token=True, **k),
    "random": lambda ids, p, **k: randomize_tokens(ids, p, np.isin(ids.flat, [0, 9]), _VOCABULARY, **k),
}
_EVERY = pytest.mark.parametrize("make", _MAKERS.values(), ids=_MAKERS)


def _lists(ids: TokenIds) -> list[list[int]]:
    return [ids[row].tolist() for row in range(len(ids.lengths))]


@_EVERY
@_QUICK
@given(prompts=_PROMPTS, p=st.floats(0, 1), seed=st.integers(0, 5))
def test_special_tokens_and_lengths_stay_and_p_0_is_the_text(
    make: Callable[..., TokenIds], prompts: list[list[int]], p: float, seed: int
) -> None:
    ids = TokenIds.of(prompts)
    assert _lists(make(ids, 0.0, seed=seed)) == prompts
    for before, after in zip(prompts, _lists(make(ids, p, seed=seed)), strict=True):
        assert len(before) == len(after)
        for old, new in zip(before, after, strict=True):
            assert new == old if old in (0, 9) else new not in (0, 9)
    assert _lists(ids) == prompts  # not changed in place


@_EVERY
@_QUICK
@given(prompts=_PROMPTS, low=st.floats(0, 1), high=st.floats(0, 1))
def test_what_a_low_p_replaces_a_higher_one_replaces_alike(
    make: Callable[..., TokenIds], prompts: list[list[int]], low: float, high: float
) -> None:
    low, high = sorted([low, high])
    ids = TokenIds.of(prompts)
    few, many = make(ids, low).flat, make(ids, high).flat
    changed = few != ids.flat
    np.testing.assert_array_equal(many[changed], few[changed])


@_EVERY
@_QUICK
@given(prompts=_PROMPTS, order=st.randoms())
def test_a_prompt_is_the_same_among_any_others(
    make: Callable[..., TokenIds], prompts: list[list[int]], order: object
) -> None:
    together = _lists(make(TokenIds.of(prompts), 0.5, seed=3))
    rows = list(range(len(prompts)))
    order.shuffle(rows)  # type: ignore[attr-defined]
    assert _lists(make(TokenIds.of([prompts[row] for row in rows]), 0.5, seed=3)) == [together[row] for row in rows]
    for prompt, changed in zip(prompts, together, strict=True):
        assert _lists(make(TokenIds.of([prompt]), 0.5, seed=3)) == [changed]


@_QUICK
@given(prompts=_PROMPTS, seed=st.integers(0, 5))
def test_repeated_tokens_are_of_the_prompt(prompts: list[list[int]], seed: int) -> None:
    ids = TokenIds.of(prompts)
    repeated, one = (_lists(_MAKERS[name](ids, 1.0, seed=seed)) for name in ("repeat", "one"))
    for before, after, alike in zip(prompts, repeated, one, strict=True):
        free = set(before) - {0, 9}
        assert set(after) - {0, 9} <= free
        assert len(set(alike) - {0, 9}) == min(1, len(free))


def test_shares_and_replacements_are_as_likely_as_they_should_be() -> None:
    ids = TokenIds.of([list(range(1, 9))] * 1 + [[1 + (k + m) % 8 for k in range(800)] for m in range(10)])
    fixed = np.zeros(len(ids.flat), dtype=bool)
    made = randomize_tokens(ids, 0.3, fixed, _VOCABULARY).flat
    replaced = made >= 100
    assert replaced.mean() == pytest.approx(0.3, abs=0.02)
    assert np.bincount(made[replaced] - 100, minlength=10) / replaced.sum() == pytest.approx(np.full(10, 0.1), abs=0.02)
    other = randomize_tokens(ids, 0.3, fixed, _VOCABULARY, seed=1).flat >= 100
    assert (other & replaced).mean() == pytest.approx(0.09, abs=0.02)  # another seed draws anew
    repeated = repeat_tokens(ids, 1.0, fixed).flat[8:]
    assert np.bincount(repeated, minlength=9)[1:] / len(repeated) == pytest.approx(np.full(8, 1 / 8), abs=0.02)


@_QUICK
@given(prompts=_PROMPTS, length=st.integers(2, 9), n_end=st.integers(0, 1))
def test_a_cut_is_what_a_loop_cuts(prompts: list[list[int]], length: int, n_end: int) -> None:
    expected = []
    for prompt in prompts:
        tail = prompt[len(prompt) - n_end :]
        expected.append(prompt if len(prompt) <= length else prompt[: length - n_end] + tail)
    cut = cut_tokens(TokenIds.of(prompts), length, n_end)
    assert _lists(cut) == expected
    assert len(cut.flat) == cut.lengths.sum()


def test_a_cut_keeps_a_token_of_the_text() -> None:
    with pytest.raises(InputError, match="length: expected more than the 1 tokens at the end, got 1"):
        cut_tokens(TokenIds.of([[1, 2, 3]]), 1, n_end=1)


@pytest.mark.model
@pytest.mark.parametrize(("name", "start", "end"), [("bert", 1, 1), ("t5", 0, 1), ("llama", 0, 0), ("roberta", 1, 1)])
def test_tokens_that_a_tokenizer_adds_are_fixed_and_a_cut_is_the_tokenizers(
    tiny_model: Callable[[str], Path], name: str, start: int, end: int
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model(name))
    special = tokenizer.convert_ids_to_tokens(next(iter(tokenizer.all_special_ids)))
    texts = [*SENTENCES, f"spelt {special} out", ""]
    ids = tokenize(tokenizer, texts, 100)
    fixed = TokenIds(fixed_tokens(ids, tokenizer), ids.lengths)
    for row in range(len(texts)):
        inner = fixed[row].tolist()[start : len(fixed[row]) - end]
        assert fixed[row].sum() == start + end + inner.count(True)
        assert inner == [number in tokenizer.all_special_ids for number in ids[row][start : len(inner) + start]]
    for length in (4, 7):
        expected = tokenize(tokenizer, texts, length)
        np.testing.assert_array_equal(cut_tokens(ids, length, end).flat, expected.flat)


@pytest.mark.model
def test_a_vocabulary_has_no_special_tokens_and_none_without_an_embedding(tiny_model: Callable[[str], Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("bert"))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<a>"]})
    tokenizer.add_tokens(["plain word"])
    found = plain_vocabulary(tokenizer)
    names = set(tokenizer.convert_ids_to_tokens(found.tolist()))
    assert names == set(tokenizer.get_vocab()) - {"[PAD]", "[CLS]", "[SEP]", "<a>"}
    assert plain_vocabulary(tokenizer, 50).tolist() == [number for number in found.tolist() if number < 50]
    with pytest.raises(InputError, match="no tokens but special ones"):
        plain_vocabulary(tokenizer, 3)


@pytest.mark.model
def test_a_tokenizer_with_a_template_is_refused(tiny_model: Callable[[str], Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("llama"))
    put_template(tokenizer, "eol")
    with pytest.raises(InputError, match="puts more than special tokens around a text"):
        fixed_tokens(tokenize(tokenizer, ["a"], 100), tokenizer)
