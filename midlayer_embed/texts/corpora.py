"""Texts that a layer is measured on: out of a file, a dataset or the docstrings at hand; which of them, in which order.

Knows tokenizers, but no model. Files are read by `text_files`.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from midlayer_embed.errors import InputError, first_line
from midlayer_embed.forward.batching import check_texts, tokenize
from midlayer_embed.texts.files import find_texts, read_texts

# As in the paper: paragraphs of Wikipedia, no headings, no shorter ones.
WIKITEXT = "wikitext"
WIKITEXT_MIN_TOKENS = 30
_WIKITEXT_ID, _WIKITEXT_CONFIG = "Salesforce/wikitext", "wikitext-103-raw-v1"
# Texts tokenised at a time while looking for some that are long enough.
_CHUNK = 1024


def file_texts(path: str | Path, column: str | None = None) -> list[str]:
    """The texts of a .txt, .jsonl, .csv or .parquet file.

    Args:
        path: As `text_files.find_texts` takes it.
        column: Where the texts are; None: the one column of strings.

    Raises:
        InputError: (a ValueError) no such file or column, or a row that is no text; the message names it.
    """
    return list(read_texts(find_texts(path, column)))


def starter_texts() -> list[str]:
    """English sentences out of the docstrings of the installed numpy, scipy and scikit-learn, without a download.

    Example:
        >>> len(starter_texts()) > 500
        True
    """
    from midlayer_embed.texts.starter_corpus import read_corpus  # imports most of scikit-learn

    return [item.text for item in read_corpus()]


def dataset_texts(
    dataset: str, *, config: str | None = None, split: str = "test", column: str | None = None
) -> list[str]:
    """The texts of a dataset of the hub, or of a folder in a dataset's layout.

    Args:
        dataset: "wikitext" (WikiText-103 without its section headings, as in the paper), a hub id or a folder.
        config: Which of the dataset's configurations.
        split: Which of its splits.
        column: Where the texts are; None: "text", or the one column of strings.

    Raises:
        InputError: (a ValueError) no such dataset, split or column, or the hub cannot be reached.
    """
    try:
        import datasets
    except ImportError:
        raise InputError("dataset: needs the extra: pip install 'midlayer-embed[leaderboard]'") from None
    is_wikitext = dataset == WIKITEXT
    if is_wikitext:
        dataset, config = _WIKITEXT_ID, config or _WIKITEXT_CONFIG
    try:
        table = datasets.load_dataset(dataset, config, split=split)
    except (OSError, ValueError, ConnectionError) as error:
        raise InputError(f"dataset: {dataset!r} (split {split!r}) cannot be loaded: {first_line(error)}") from error
    strings = [name for name, feature in table.features.items() if getattr(feature, "dtype", None) == "string"]
    if column is None:
        column = "text" if "text" in strings else strings[0] if len(strings) == 1 else None
    if column not in strings:
        what = "name a column of strings" if column is None else f"there is no column of strings {column!r}"
        raise InputError(f"column: {what}; {dataset!r} has {', '.join(strings) or 'none'}")
    texts = [text for text in table[column] if text is not None]
    return [text.strip() for text in texts if not is_heading(text)] if is_wikitext else texts


def is_heading(line: str) -> bool:
    """Whether a line of WikiText is the heading of an article or a section.

    Example:
        >>> is_heading(" = = Plot = = "), is_heading("a = b, and b = c")
        (True, False)
    """
    stripped = line.strip()
    return stripped.startswith("= ") and stripped.endswith(" =")


def sample_texts(
    texts: Sequence[str],
    max_texts: int | None,
    *,
    seed: int = 0,
    tokenizer: PreTrainedTokenizerBase,
    min_tokens: int = 1,
    max_length: int = 512,
) -> list[str]:
    """Some of the texts, in an order that depends on the texts and the seed alone.

    So the same texts give the same sample, and the same numbers, in whatever order they come.

    Args:
        texts: Any number of strings. Blank ones are left out; a text that is there twice counts twice.
        max_texts: How many at most; None for all.
        seed: Another seed, another sample and another order.
        tokenizer: Counts tokens.
        min_tokens: Texts of fewer tokens, special ones included, are left out.
        max_length: Tokens a text is cut at.

    Raises:
        InputError: (a ValueError) a bound below 1, or no text is left.
        InputTypeError: (a ValueError and a TypeError) a text that is no string.
    """
    for name, value in (("max_texts", max_texts), ("min_tokens", min_tokens)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise InputError(f"{name}: expected a positive int, got {value!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed: expected an int of 0 or more, got {seed!r}")
    found = check_texts(texts)
    key = str(seed).encode()
    shuffled = sorted(
        (text for text in found if text.strip()),
        key=lambda text: hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=key).digest(),
    )
    chosen: list[str] = []
    for chunk in _chunks(shuffled):
        if max_texts is not None and len(chosen) >= max_texts:
            break
        lengths = tokenize(tokenizer, chunk, max_length).lengths
        chosen += [text for text, length in zip(chunk, lengths, strict=True) if length >= min_tokens]
    if not chosen:
        what = "blank" if not shuffled else f"blank or shorter than {min_tokens} tokens"
        raise InputError(f"texts: expected some text to measure on, got {len(found)} that are all {what}")
    return chosen[:max_texts]


def _chunks(texts: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(texts), _CHUNK):
        yield texts[start : start + _CHUNK]
