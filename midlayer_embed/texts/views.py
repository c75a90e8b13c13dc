"""Augmented views of texts for the paper's invariance metrics, built in parallel and cached in memory.

A view depends only on the text, the number of the view, the seed and the rates. This is not meant to augment training
data.
"""

import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec

from midlayer_embed.errors import InputError
from midlayer_embed.ground.checks import check_int, check_optional_int
from midlayer_embed.ground.progress import progress
from midlayer_embed.ground.workers import safe_imports
from midlayer_embed.texts.views_nlpaug import RATES, Augmenter

# From this many characters (10 to 20 microseconds each), two processes are faster although they take 2 s to start.
_WORTH_WORKERS = 300_000
# Characters per task of a worker, and per step of the progress bar.
_CHUNK_CHARACTERS = 20_000
_BAR_AFTER = 1  # seconds; shorter work shows no bar


def augmented_views(
    texts: Sequence[str],
    n_views: int = 2,
    *,
    seed: int = 0,
    rates: str = "paper",
    workers: int | None = None,
    show_progress: bool = False,
) -> list[list[str]]:
    """Augment texts with nlpaug's SplitAug, RandomCharAug and KeyboardAug, one after the other.

    All views are augmented; none is the original text. View v of a text does not depend on the other texts, their
    order, the number of views, the number of workers or the process, given the same versions of nlpaug (1.1) and of
    Python's `random`. So equal texts have equal views. The global random states of Python and numpy are neither used
    nor changed. Recent views are cached in memory (at most 256 MB, nothing on disk).

    nlpaug also normalises texts: any white space becomes one space, and punctuation is separated from words ("3.14"
    becomes "3. 14"). It changes only words of four or more characters, so a text without such a word is its own view,
    except for spaces. Replacement characters are ASCII, whatever the script; a run of letters without a space, as in
    Chinese, is one word. A view has as many characters as its text, not counting spaces. An empty text, or one of
    white space alone, is its own view.

    Args:
        texts: Texts of any length. With rates="paper", texts of more than 2,000 characters are augmented in pieces.
        n_views: Number of views per text, from 1; metrics say how many they need (`terms.n_views`).
        seed: Seed of the views.
        rates: "paper": 30% of the words are split, then in 30% of the words 30% of the characters are replaced by
            random ones, then in 30% of the words 30% by neighbours on the keyboard; numbers are rounded up. "library":
            nlpaug's defaults, the same with caps of 10 words per text and 10 characters per word.
        workers: Number of processes. None: one per core if there is enough work, else no extra process.
        show_progress: Whether to show a progress bar with an ETA on stderr.

    Returns:
        n_views lists of n_texts strings: `views[v][i]` is view v of text i.

    Raises:
        InputError: (a ValueError) nlpaug is not installed, or an argument is out of range.
        InputTypeError: (a ValueError and a TypeError) texts is not a list of strings.

    Source: Skean et al. 2025, appendix D; Ma, "NLP Augmentation", 2019.

    Example:
        >>> texts = ["The quick brown fox jumps over the lazy dog."]
        >>> views = augmented_views(texts, n_views=16)
        >>> len(views), len(views[0])
        (16, 1)
        >>> views[:2] == augmented_views(texts)
        True
    """
    from midlayer_embed.texts.tokens import check_texts  # imports torch, which workers do not need

    texts = check_texts(texts)
    n_views = check_int("n_views", n_views, 1)
    seed = check_int("seed", seed, 0)
    workers = check_optional_int("workers", workers, 1)
    check_rates(rates)
    wanted = list(dict.fromkeys((text, view, seed, rates) for text in texts for view in range(n_views)))
    made = {key: view for key in wanted if (view := _cache.get(key)) is not None}
    missing = [key for key in wanted if key not in made]
    for key, view in _build_views(missing, workers, show_progress):
        made[key] = view
        _cache.put(key, view)
    return [[made[text, view, seed, rates] for text in texts] for view in range(n_views)]


def check_rates(rates: str) -> None:
    """Reject rates of augmentation that do not exist.

    Raises:
        InputError: (a ValueError) the message lists them.
    """
    if rates not in RATES:
        raise InputError(f"rates: expected one of {', '.join(RATES)}, got {rates!r}")


_ViewKey = tuple[str, int, int, str]  # text, number of the view, seed, rates


class _ViewCache:
    """The most recently used views, up to a number of bytes."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._views: OrderedDict[_ViewKey, str] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: _ViewKey) -> str | None:
        with self._lock:
            if key in self._views:
                self._views.move_to_end(key)
            return self._views.get(key)

    def put(self, key: _ViewKey, view: str) -> None:
        with self._lock:
            if key not in self._views:
                self._views[key] = view
                self.bytes += _entry_bytes(key, view)
            while self.bytes > self.max_bytes:
                self.bytes -= _entry_bytes(*self._views.popitem(last=False))


def _entry_bytes(key: _ViewKey, view: str) -> int:
    """Size of an entry; a text counts once per view."""
    return sys.getsizeof(key[0]) + sys.getsizeof(view) + sys.getsizeof(key) + 128


_cache = _ViewCache(max_bytes=256 * 2**20)


def _build_views(keys: list[_ViewKey], workers: int | None, show_progress: bool) -> Iterator[tuple[_ViewKey, str]]:
    """Build the views of the keys, in order."""
    if not keys:
        return
    if find_spec("nlpaug") is None:
        raise InputError("augmented views need nlpaug; run: pip install 'midlayer-embed[select]'")
    chunks = list(_split_chunks(keys))
    n_workers = min(_count_workers(keys) if workers is None else workers, len(chunks))
    done: Iterable[list[str]]
    if n_workers == 1:
        done = map(_build_chunk, chunks)
    else:
        import joblib

        # loky does not fork (threads of a model may be running) and needs no `if __name__ == "__main__"`.
        parallel = joblib.Parallel(n_jobs=n_workers, backend="loky", return_as="generator", max_nbytes=None)
        with safe_imports():  # they start with this call
            done = parallel(joblib.delayed(_build_chunk)(chunk, os.getpid()) for chunk in chunks)
    with progress(len(keys), "views", "view", show_progress, delay=_BAR_AFTER) as bar:
        for chunk, views in zip(chunks, done, strict=True):
            yield from zip(chunk, views, strict=True)
            bar.update(len(chunk))


def _count_workers(keys: list[_ViewKey]) -> int:
    if sum(len(text) for text, *_ in keys) < _WORTH_WORKERS:
        return 1
    import joblib

    return int(joblib.cpu_count())


def _split_chunks(keys: list[_ViewKey]) -> Iterator[list[_ViewKey]]:
    chunk: list[_ViewKey] = []
    characters = 0
    for key in keys:
        chunk.append(key)
        characters += len(key[0])
        if characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _build_chunk(keys: list[_ViewKey], parent: int | None = None) -> list[str]:
    """Build the views of a chunk, in this process or in a worker of the process with id `parent`."""
    augmenters = {rates: Augmenter(rates, in_worker=parent not in (None, os.getpid())) for *_, rates in keys}
    return [augmenters[rates].view(text, number, seed) for text, number, seed, rates in keys]
