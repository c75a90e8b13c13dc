import re

from hypothesis import given
from hypothesis import strategies as st

from midlayer_embed.texts.word_views import KEPT, dropped, halves


def test_halves_are_the_words_in_two_parts() -> None:
    assert halves("one two three") == ("one", "two three")
    assert halves("  one   two three  four ") == ("one   two", "three  four")
    assert halves("今天天气") == ("今天", "天气")
    for nothing in ("", "   ", "word", " word\n", "字"):
        assert halves(nothing) is None and dropped(nothing, 0) is None


@given(st.text())
def test_both_halves_together_are_the_text(text: str) -> None:
    found = halves(text)
    if found is None:
        assert len(text.split()) < 2
    else:
        assert all(found) and re.sub(r"\s+", "", "".join(found)) == re.sub(r"\s+", "", text)


@given(st.text(), st.integers(0, 3), st.integers(0, 3))
def test_a_copy_has_some_of_the_words_in_their_order(text: str, view: int, seed: int) -> None:
    found = dropped(text, view, seed)
    assert found == dropped(text, view, seed)
    if found is not None:
        rest = iter(re.sub(r"\s+", "", text))
        assert found and all(letter in rest for letter in re.sub(r"\s+", "", found))


def test_a_copy_keeps_the_share_of_the_words() -> None:
    text = " ".join(map(str, range(2000)))
    kept = [(dropped(text, view) or "").split() for view in range(4)]
    assert all(abs(len(words) / 2000 - KEPT) < 0.05 for words in kept)
    assert len({tuple(words) for words in kept}) == 4
    assert dropped(text, 0, seed=1) != dropped(text, 0)


def test_a_copy_is_the_same_in_every_process() -> None:
    text = "Views must not change: numbers that were measured with them are kept in files."
    assert [dropped(text, view, seed=7) for view in range(2)] == [
        "Views must not change: were measured with them are in",
        "must numbers that were measured with them are kept in",
    ]
