"""Augmented views of a text: its words split and mistyped by nlpaug, as the paper's invariance metrics want them.

A view is a function of the text, the number of the view, the seed and the rates, and of nothing else. Not for:
embedding the views, or augmenting a training set.
"""

from __future__ import annotations

import functools
import hashlib
import os
import random
import sys
import textwrap
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from midlayer_embed.errors import InputError
from midlayer_embed.ground.checks import check_int, check_optional_int
from midlayer_embed.ground.progress import progress

# What each of nlpaug's three augmenters is told. All of its own rates are 0.3, too, but it stops at ten words of a text
# and ten characters of a word, so that a long text is hardly changed at all.
_UNCAPPED_WORDS = {"aug_p": 0.3, "aug_max": None}
_UNCAPPED_CHARACTERS = {"aug_word_p": 0.3, "aug_word_max": None, "aug_char_p": 0.3, "aug_char_max": None}
_RATES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "paper": (_UNCAPPED_WORDS, _UNCAPPED_CHARACTERS),
    "library": ({}, {}),
}
RATES: tuple[str, ...] = tuple(_RATES)

# Raise when the same nlpaug would give other views than before.
_FORMAT_VERSION = 1
# nlpaug's time grows with the square of a text's length. Rates without a cap are the same for a part as for the whole.
_PIECE_CHARACTERS = 2000
# Characters to be changed (each 10 to 20 microseconds) from which two processes, with 2 seconds to start, pay.
_WORTH_WORKERS = 300_000
# Characters a worker is given at a time, and after which a progress bar moves.
_CHUNK_CHARACTERS = 20_000
_BAR_AFTER = 1  # seconds: what takes less shows no bar


def augmented_views(
    texts: Sequence[str],
    n_views: int = 2,
    *,
    seed: int = 0,
    rates: str = "paper",
    workers: int | None = None,
    show_progress: bool = False,
) -> list[list[str]]:
    """Augmented copies of texts: nlpaug's SplitAug, RandomCharAug and KeyboardAug, one after the other.

    All views are augmented; none is the text itself. View v of a text is the same whatever other texts there are, in
    whatever order, however many views or workers are asked for, in every process, under the same versions of nlpaug
    (1.1) and of Python's `random`. So equal texts have equal views. The global random states of Python and numpy are
    neither used nor changed. Views that were made before come from memory (at most 256 MB of them are kept, nothing is
    written to disk).

    What nlpaug does to a text, besides: white space of any kind becomes one space, and punctuation is set apart from
    words ("3.14" becomes "3. 14"). Only words of four or more characters are changed, so that a text without such a
    word is its own view but for its spaces. Characters are swapped for ASCII ones, whatever the script; a run of
    letters without a space, as in Chinese, is one word. A view has as many characters as its text, spaces aside. An
    empty text, or one of white space alone, is its own view.

    Args:
        texts: The texts, of any length; with rates="paper" those of more than 2,000 characters are augmented in pieces.
        n_views: Views of each text, from 1; as many as the metrics need (see `terms.n_views`).
        seed: Other seeds, other views.
        rates: "paper": three tenths of the words are split, then three tenths of the words lose three tenths of their
            characters to random ones, then the same again to neighbours on the keyboard; numbers are rounded up.
            "library": nlpaug's defaults, the same but for its caps, 10 words a text and 10 characters a word.
        workers: Processes. None: one a core where there is enough to do, else none.
        show_progress: A bar with an ETA on stderr.

    Returns:
        `views[v][i]`, view v of text i: n_views lists of n_texts strings.

    Raises:
        InputError: (a ValueError) nlpaug is not installed, or an argument is out of range.
        InputTypeError: (a ValueError and a TypeError) texts are not a list of strings.

    Source: Skean et al. 2025, appendix D; Ma, "NLP Augmentation", 2019.

    Example:
        >>> texts = ["The quick brown fox jumps over the lazy dog."]
        >>> views = augmented_views(texts, n_views=16)
        >>> len(views), len(views[0])
        (16, 1)
        >>> views[:2] == augmented_views(texts)
        True
    """
    from midlayer_embed.forward.batching import check_texts  # torch: what a worker process does without

    texts = check_texts(texts)
    n_views = check_int("n_views", n_views, 1)
    seed = check_int("seed", seed, 0)
    workers = check_optional_int("workers", workers, 1)
    if rates not in RATES:
        raise InputError(f"rates: expected one of {', '.join(RATES)}, got {rates!r}")
    wanted = list(dict.fromkeys((text, view, seed, rates) for text in texts for view in range(n_views)))
    made = {key: view for key in wanted if (view := _made.get(key)) is not None}
    missing = [key for key in wanted if key not in made]
    for key, view in _make(missing, workers, show_progress):
        made[key] = view
        _made.put(key, view)
    return [[made[text, view, seed, rates] for text in texts] for view in range(n_views)]


_Key = tuple[str, int, int, str]  # text, number of the view, seed, rates


class _Memory:
    """The views that were last made or asked for, up to a number of bytes."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._views: OrderedDict[_Key, str] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: _Key) -> str | None:
        with self._lock:
            if key in self._views:
                self._views.move_to_end(key)
            return self._views.get(key)

    def put(self, key: _Key, view: str) -> None:
        with self._lock:
            if key not in self._views:
                self._views[key] = view
                self.bytes += _size(key, view)
            while self.bytes > self.max_bytes:
                self.bytes -= _size(*self._views.popitem(last=False))


def _size(key: _Key, view: str) -> int:
    """Bytes of an entry; a text is counted with each of its views."""
    return sys.getsizeof(key[0]) + sys.getsizeof(view) + sys.getsizeof(key) + 128


_made = _Memory(max_bytes=256 * 2**20)


def _make(keys: list[_Key], workers: int | None, show_progress: bool) -> Iterator[tuple[_Key, str]]:
    """The views of the keys, in their order."""
    if not keys:
        return
    if find_spec("nlpaug") is None:
        raise InputError("augmented views need nlpaug; run: pip install 'midlayer-embed[select]'")
    chunks = list(_chunks(keys))
    n_workers = min(_n_workers(keys) if workers is None else workers, len(chunks))
    done: Iterable[list[str]]
    if n_workers == 1:
        done = map(_views, chunks)
    else:
        import joblib

        # Loky's processes: not forked (a model's threads may be running), no `if __name__ == "__main__"` needed.
        parallel = joblib.Parallel(n_jobs=n_workers, backend="loky", return_as="generator", max_nbytes=None)
        done = parallel(joblib.delayed(_views)(chunk, os.getpid()) for chunk in chunks)
    with progress(len(keys), "views", "view", show_progress, delay=_BAR_AFTER) as bar:
        for chunk, views in zip(chunks, done, strict=True):
            yield from zip(chunk, views, strict=True)
            bar.update(len(chunk))


def _n_workers(keys: list[_Key]) -> int:
    if sum(len(text) for text, *_ in keys) < _WORTH_WORKERS:
        return 1
    import joblib

    return int(joblib.cpu_count())


def _chunks(keys: list[_Key]) -> Iterator[list[_Key]]:
    chunk: list[_Key] = []
    characters = 0
    for key in keys:
        chunk.append(key)
        characters += len(key[0])
        if characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _views(keys: list[_Key], asking_process: int | None = None) -> list[str]:
    """The views of a chunk, in this process or in a worker of the process that asks."""
    flows = {rates: _Flow(rates, in_worker=asking_process not in (None, os.getpid())) for *_, rates in keys}
    return [flows[rates].view(text, number, seed) for text, number, seed, rates in keys]


class _Flow:
    """nlpaug's three augmenters in sequence, drawing from a random state of their own.

    Args:
        rates: One of `RATES`.
        in_worker: Whether this process does nothing but work for another one.
    """

    def __init__(self, rates: str, *, in_worker: bool = False) -> None:
        split_class, character_class, keyboard_class, sequential_class = _nlpaug(in_worker)
        words, characters = _RATES[rates]
        augmenters = [split_class(**words), character_class(**characters), keyboard_class(**characters)]
        self._random = random.Random()
        for augmenter in augmenters:
            augmenter.sample = self._sample  # every draw of an augmenter is by this method of its base class
        self._flow = sequential_class(augmenters)
        self._in_pieces = rates == "paper"

    def view(self, text: str, number: int, seed: int) -> str:
        if not text.strip():  # nlpaug would make no string of "", and "" of white space
            return text
        # A lone surrogate is a character, too, to Python and to nlpaug.
        written = f"{_FORMAT_VERSION}:{seed}:{number}:{text}".encode("utf-8", "surrogatepass")
        self._random.seed(int.from_bytes(hashlib.sha256(written).digest(), "big"))
        pieces = _pieces(text) if self._in_pieces else [text]
        return " ".join(view for piece in pieces if (view := self._flow.augment(piece)[0]))

    def _sample(self, what: list[Any] | int, number: int | None = None) -> Any:
        """Some items of a list, or a place to split a word of so many characters, neither of its ends."""
        if isinstance(what, int):
            return self._random.randrange(1, what - 1)
        return self._random.sample(what, number or 0)


def _pieces(text: str) -> list[str]:
    """The text in pieces cut at white space; a word longer than a piece is cut."""
    return textwrap.wrap(text, _PIECE_CHARACTERS, expand_tabs=False, replace_whitespace=False, break_on_hyphens=False)


@functools.cache
def _nlpaug(in_worker: bool) -> tuple[type[Any], type[Any], type[Any], type[Any]]:
    """SplitAug, RandomCharAug, KeyboardAug and Sequential.

    Importing any of them imports all of nlpaug, and with it torch and transformers for augmenters we do not use: 10
    seconds, or 0.3 where a model has been loaded before. nlpaug does without the two where they are not installed, in
    one second; to a worker process they are made to look so while it imports.

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
        if hidden:  # whoever else uses this worker gets the whole nlpaug
            for name in [name for name in sys.modules if name.partition(".")[0] == "nlpaug"]:
                del sys.modules[name]
    return word.SplitAug, char.RandomCharAug, keyboard.KeyboardAug, flow.Sequential
