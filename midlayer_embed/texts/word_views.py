"""Views of a text made of its own words: its two halves, and copies that lack some of the words.

A criterion that has to find one view by the other asks whether a layer keeps what a text is about.
"""

import hashlib
import random
import re
from collections.abc import Sequence
from typing import Literal

# Words are separated by white space; in scripts that are written without it, a character is a word: Thai, Lao, Burmese,
# Khmer, Japanese, Chinese.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
_WORD = re.compile(f"[{_UNSPACED}]|[^\\s{_UNSPACED}]+")
KEPT = 0.6  # the share of the words that a copy keeps


def halves(text: str) -> tuple[str, str] | None:
    """The first and the second half of the words of a text; the second is the longer one of an odd number.

    Args:
        text: A text; its white space is kept inside the halves.

    Returns:
        The halves; None if the text has fewer than two words. In scripts that are written without spaces, such as
        Chinese, each character counts as a word.

    Example:
        >>> halves("the cat  sat on the mat")
        ('the cat  sat', 'on the mat')
        >>> halves("cat") is None
        True
    """
    words = list(_WORD.finditer(text))
    if len(words) < 2:
        return None
    middle = words[len(words) // 2].start()
    return text[:middle].strip(), text[middle:].strip()


def dropped(text: str, view: int, seed: int = 0) -> str | None:
    """A copy of a text in which each word is kept with probability 0.6, and at least one is.

    It depends only on the text, the number of the view and the seed.

    Args:
        text: A text.
        view: Number of the view, from 0.
        seed: Seed of the draws.

    Returns:
        The words that were kept, in order; None if the text has fewer than two words (see `halves`).

    Example:
        >>> dropped("the cat sat on the mat", view=0) == dropped("the cat sat on the mat", view=0)
        True
    """
    words = list(_WORD.finditer(text))
    if len(words) < 2:
        return None
    key = f"{seed}:{view}:{text}".encode("utf-8", "surrogatepass")
    draws = random.Random(int.from_bytes(hashlib.sha256(key).digest(), "big"))
    kept = [number for number in range(len(words)) if draws.random() < KEPT] or [draws.randrange(len(words))]
    ends = [0, *(word.end() for word in words)]
    # each word with the space before it, if there is any
    return "".join(text[ends[number] : words[number].end()] for number in kept).strip()


def word_views(
    texts: Sequence[str], kind: Literal["halves", "dropped"], seed: int = 0
) -> tuple[list[int], list[list[str]]]:
    """Two views of each text that has two words or more.

    Args:
        texts: Texts of any length.
        kind: The two "halves" of a text, or two copies with "dropped" words.
        seed: Seed of the draws; halves need none.

    Returns:
        The indices of the texts that have views, and the two lists of their views.

    Example:
        >>> word_views(["one two", "three", "four five six"], "halves")
        ([0, 2], [['one', 'four'], ['two', 'five six']])
    """
    rows, found = [], []
    for row, text in enumerate(texts):
        first, second = (
            (halves(text) or (None, None)) if kind == "halves" else (dropped(text, 0, seed), dropped(text, 1, seed))
        )
        if first is not None and second is not None:
            rows.append(row)
            found.append((first, second))
    return rows, [[pair[view] for pair in found] for view in range(2)]
