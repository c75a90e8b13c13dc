"""Augments one text with nlpaug, from a seed: its words are split, then mistyped.

In worker processes nlpaug is imported with torch and transformers hidden in `sys.modules`. nlpaug imports both for
augmenters that are not used here, which takes 10 seconds per worker; without them, it takes one.
"""

import functools
import hashlib
import random
import sys
import textwrap
from importlib import import_module
from typing import Any

from midlayer_embed.errors import InputError

# Arguments of nlpaug's augmenters. All of its default rates are 0.3, too, but it stops at ten words of a text and ten
# characters of a word, so a long text is hardly changed.
_UNCAPPED_WORDS = {"aug_p": 0.3, "aug_max": None}
_UNCAPPED_CHARACTERS = {"aug_word_p": 0.3, "aug_word_max": None, "aug_char_p": 0.3, "aug_char_max": None}
_RATES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "paper": (_UNCAPPED_WORDS, _UNCAPPED_CHARACTERS),
    "library": ({}, {}),
}
RATES: tuple[str, ...] = tuple(_RATES)

# Increment when views change for the same version of nlpaug.
_FORMAT_VERSION = 1
# nlpaug takes quadratic time in the length of a text. Rates without a cap are the same for a piece as for the whole.
PIECE_CHARACTERS = 2000


class Augmenter:
    """nlpaug's SplitAug, RandomCharAug and KeyboardAug in sequence, with a random state of their own.

    Args:
        rates: One of `RATES`.
        in_worker: Whether this process only works for another one, so that torch and transformers may be hidden.
    """

    def __init__(self, rates: str, *, in_worker: bool = False) -> None:
        split_class, character_class, keyboard_class, sequential_class = load_classes(in_worker)
        words, characters = _RATES[rates]
        augmenters = [split_class(**words), character_class(**characters), keyboard_class(**characters)]
        self._random = random.Random()
        for augmenter in augmenters:
            augmenter.sample = self._sample  # augmenters make all of their random draws with this method
        self._flow = sequential_class(augmenters)
        self._in_pieces = rates == "paper"

    def view(self, text: str, number: int, seed: int) -> str:
        """View `number` of a text. It depends only on the text, the number, the seed and the rates."""
        if not text.strip():  # nlpaug returns no string for "", and "" for white space
            return text
        # Python and nlpaug treat a lone surrogate as a character, too.
        key = f"{_FORMAT_VERSION}:{seed}:{number}:{text}".encode("utf-8", "surrogatepass")
        self._random.seed(int.from_bytes(hashlib.sha256(key).digest(), "big"))
        pieces = split_pieces(text) if self._in_pieces else [text]
        return " ".join(view for piece in pieces if (view := self._flow.augment(piece)[0]))

    def _sample(self, items: list[Any] | int, number: int | None = None) -> Any:
        """Some items of a list; for an int, the length of a word, a position inside the word at which to split it."""
        if isinstance(items, int):
            return self._random.randrange(1, items - 1)
        return self._random.sample(items, number or 0)


def split_pieces(text: str) -> list[str]:
    """Split a text at white space into pieces of at most `PIECE_CHARACTERS`. Longer words are cut.

    Example:
        >>> split_pieces("a short text")
        ['a short text']
    """
    return textwrap.wrap(text, PIECE_CHARACTERS, expand_tabs=False, replace_whitespace=False, break_on_hyphens=False)


@functools.cache
def load_classes(in_worker: bool) -> tuple[type[Any], type[Any], type[Any], type[Any]]:
    """Import SplitAug, RandomCharAug, KeyboardAug and Sequential.

    Importing one of them imports all of nlpaug, and with it torch and transformers: 10 seconds, or 0.3 if they are
    imported already. nlpaug works without them. So a worker process marks them as not installed during the import
    (`sys.modules[name] = None`) and then removes nlpaug from `sys.modules`, so that other code in the process can
    import all of it.

    Args:
        in_worker: Whether to hide torch and transformers, where they are not imported yet.

    Raises:
        InputError: (a ValueError) nlpaug, or a package that it needs, is not installed.
    """
    hidden = [name for name in ("torch", "transformers") if in_worker and name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: not installed
    try:
        word, char, keyboard, flow = map(
            import_module,
            (
                "nlpaug.augmenter.word.split",
                "nlpaug.augmenter.char.random",
                "nlpaug.augmenter.char.keyboard",
                "nlpaug.flow.sequential",
            ),
        )
    except ImportError as error:
        raise InputError(f"augmented views need nlpaug ({error}); run: pip install 'midlayer-embed[select]'") from error
    finally:
        for name in hidden:
            del sys.modules[name]
        if hidden:
            for name in [name for name in sys.modules if name.partition(".")[0] == "nlpaug"]:
                del sys.modules[name]
    return word.SplitAug, char.RandomCharAug, keyboard.KeyboardAug, flow.Sequential
