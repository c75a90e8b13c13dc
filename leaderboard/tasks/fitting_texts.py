"""Texts or pictures without labels that a transform is fitted on: other splits of a task, or a corpus of texts.

Draws them; encodes nothing. A draw depends only on the texts and the seed, not on their order or on duplicates, and
takes little memory. Of a large table of images a part is read, so there it depends on their order, too.
"""

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from datasets import Dataset
from mteb.abstasks.abstask import AbsTask

from leaderboard.tasks.images.pictures import image_columns, pictures_in
from leaderboard.tasks.items import Item, content_of
from leaderboard.tasks.names import TASK, TRAIN, corpus_name
from midlayer_embed.errors import InputError
from midlayer_embed.texts.corpora import file_texts
from midlayer_embed.texts.files import errors_about
from midlayer_embed.texts.tokens import check_texts

# Maximum number of distinct texts that a transform is fitted on.
FIT_TEXTS = 5000
# Rows of a table that are read at a time.
_ROWS = 4096
# What columns are made of that an encoder is given.
_KINDS = ("text", "image")
_Item = TypeVar("_Item", bound=Item)


@dataclass(frozen=True)
class FitOn:
    """What transforms are fitted on.

    Attributes:
        name: "train": the splits of the task that are not evaluated; "task": the evaluated texts; "corpus:<name>".
        texts: The texts of a corpus, drawn already, in a fixed order.
    """

    name: str
    texts: tuple[str, ...] = ()

    @property
    def is_corpus(self) -> bool:
        """Whether these are texts of the user, the same for every task."""
        return self.name not in (TRAIN, TASK)


def fit_on(transform_texts: str | Path | Sequence[str], fit_texts: int = FIT_TEXTS, seed: int = 0) -> FitOn:
    """What the argument `transform_texts` asks for.

    Args:
        transform_texts: "train", "task", a file of texts, or texts.
        fit_texts: Maximum number of distinct texts.
        seed: Seed of the draw.

    Raises:
        InputError: (a ValueError) no such file, or no text that is not blank.

    Example:
        >>> fit_on("task"), fit_on(["b", "a", "b"]).texts
        (FitOn(name='task', texts=()), ('a', 'b'))
    """
    if isinstance(transform_texts, str) and transform_texts in (TRAIN, TASK):
        return FitOn(transform_texts)
    is_file = isinstance(transform_texts, (str, Path))
    if isinstance(transform_texts, (str, Path)):
        with errors_about("transform_texts"):
            texts = file_texts(transform_texts)
    else:
        texts = check_texts(transform_texts, "transform_texts")
    found = tuple(draw(texts, fit_texts, seed))
    if not found:
        raise InputError("transform_texts: expected texts that are not blank, got none")
    return FitOn(corpus_name(Path(str(transform_texts)).name if is_file else None, sha256_of(found)), found)


def draw(items: Iterable[_Item], n: int, seed: int) -> list[_Item]:
    """At most `n` of the distinct texts that are not blank, or of the distinct pictures, drawn by the seed, sorted.

    Example:
        >>> draw(["b", "a", " ", "b"], 5, seed=0), len(draw(map(str, range(100)), 5, seed=0))
        (['a', 'b'], 5)
    """
    key = str(seed).encode()
    kept: dict[bytes, _Item] = {}
    for item in items:
        content = content_of(item)
        if content.strip():
            kept[hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16, key=key).digest()] = item
            if len(kept) >= 4 * n:
                kept = {digest: kept[digest] for digest in heapq.nsmallest(n, kept)}
    return sorted((kept[digest] for digest in heapq.nsmallest(n, kept)), key=content_of)


def sha256_of(texts: Iterable[str]) -> str:
    """Hash of texts in their order."""
    found = hashlib.sha256()
    for text in texts:
        found.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return found.hexdigest()


def other_items(task: AbsTask, n: int = FIT_TEXTS, seed: int = 0) -> Iterator[Item]:
    """The texts or pictures of a loaded task's splits that are not evaluated, all columns; no labels are read.

    There are none where mteb loads only evaluated splits, as for retrieval and reranking.

    Args:
        task: The task.
        n: Number of pictures of a column that are read at most; the files of a training split can be large.
        seed: Seed of the choice of these.
    """
    columns = [name for name, kind in getattr(task, "_get_content_columns", dict)().items() if kind in _KINDS]
    data: Any = task.dataset
    for subset in task.hf_subsets:
        is_plain = subset == "default" and subset not in data
        for split, table in (data if is_plain else data.get(subset, {})).items():
            if split not in task.eval_splits and isinstance(table, Dataset):
                images = [name for name in image_columns(table) if name in columns]
                yield from _texts_of(table, [name for name in columns if name not in images])
                rows = sorted(np.random.default_rng(seed).permutation(len(table))[:n].tolist())
                for name in images:
                    yield from pictures_in(table, name, (split,) if is_plain else (subset, split), rows)


def _texts_of(table: Dataset, columns: Sequence[str]) -> Iterator[str]:
    found = [name for name in columns if name in table.column_names]
    if not found:
        return
    for rows in table.select_columns(found).iter(batch_size=_ROWS):
        for value in (value for name in found for value in rows[name]):
            several = value if isinstance(value, list) else [value]  # a row can hold lists of texts
            yield from (text for text in several if isinstance(text, str))
