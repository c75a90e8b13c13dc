"""From texts to batches: checked, each distinct text once, tokenised once, alike lengths together, padded right.

Knows tokenizers and tensors, but no model.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from midlayer_embed.errors import InputError, InputTypeError


@dataclass(frozen=True)
class Batch:
    """Texts of about the same length.

    Attributes:
        rows: (b,) which of the tokenised texts these are.
        input_ids: (b, t) int64, padded on the right.
        attention_mask: (b, t) int64, 1 for tokens and 0 for padding.
    """

    rows: np.ndarray
    input_ids: torch.Tensor
    attention_mask: torch.Tensor

    @property
    def n_tokens(self) -> int:
        """Tokens of the texts themselves, padding left out."""
        return int(self.attention_mask.sum())


def check_texts(texts: Sequence[str]) -> list[str]:
    """The texts as a list.

    Raises:
        InputTypeError: (a ValueError and a TypeError) not a sequence, or an item that is no string.

    Example:
        >>> check_texts(("a", "b"))
        ['a', 'b']
    """
    if isinstance(texts, (str, bytes)):
        raise InputTypeError(f"texts: expected a list of strings, got {type(texts).__name__}")
    try:
        found = list(texts)
    except TypeError:
        raise InputTypeError(f"texts: expected a list of strings, got {type(texts).__name__}") from None
    for index, text in enumerate(found):
        if not isinstance(text, str):
            raise InputTypeError(f"texts[{index}]: expected a string, got {type(text).__name__}")
    return found


def distinct(texts: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Each distinct text once, in order of first appearance, and where each text went.

    Returns:
        The distinct texts, and an int array (n_texts,) such that `distinct_texts[where[i]] == texts[i]`.

    Example:
        >>> distinct(["b", "a", "b"])
        (['b', 'a'], array([0, 1, 0]))
    """
    number: dict[str, int] = {}
    where = np.fromiter((number.setdefault(text, len(number)) for text in texts), dtype=np.int64, count=len(texts))
    return list(number), where


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int) -> list[list[int]]:
    """Token ids of each text, special tokens included, cut at `max_length` tokens, unpadded."""
    if not texts:  # some tokenizers cannot count to zero
        return []
    encoded = tokenizer(
        list(texts), truncation=True, max_length=max_length, return_attention_mask=False, return_token_type_ids=False
    )
    return list(encoded["input_ids"])


# Tokens a forward pass. A CPU is fastest while a batch stays in its caches; an accelerator wants to be filled.
_TOKENS_CPU = 2048
_TOKENS_ACCELERATOR = 16384
# A text shorter than this share of its batch's longest starts a new batch, if the batch holds this share of the budget:
# padding costs as much as text, but so do batches too small to keep the cores busy.
_LEAST_LENGTH = 0.9
_LEAST_FILL = 1 / 8
# Where tokens are only counted: how many texts' ids are held at once, and how far a text is read for each token it may
# have.
_TEXTS_AT_ONCE = 4096
_CHARACTERS_A_TOKEN = 16


def token_budget(batch_tokens: int | None, device: torch.device) -> int:
    """How many tokens a forward pass shall have, padding included.

    Args:
        batch_tokens: What the user says; None: what suits the device.
        device: Where the model is.

    Raises:
        InputError: (a ValueError) not a positive int.

    Example:
        >>> token_budget(None, torch.device("cpu")), token_budget(64, torch.device("cpu"))
        (2048, 64)
    """
    if batch_tokens is None:
        return _TOKENS_CPU if device.type == "cpu" else _TOKENS_ACCELERATOR
    if isinstance(batch_tokens, bool) or not isinstance(batch_tokens, int) or batch_tokens < 1:
        raise InputError(f"batch_tokens: expected a positive int or None, got {batch_tokens!r}")
    return batch_tokens


def token_counts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int, *, prompt: str = ""
) -> np.ndarray:
    """About how many tokens a forward pass has of each text: what `row_batches` fills batches by.

    Holds the token ids of a few texts at a time, and reads no further into a text than its tokens can be expected to
    reach, so that a book costs no more than the page that is kept of it.

    Args:
        tokenizer: What is to tokenise them.
        texts: Any number of strings.
        max_length: Tokens a text is cut at.
        prompt: What is put in front of each text.

    Returns:
        int64 (n_texts,), special tokens included; 0 for a text without tokens, and for no other.
    """
    counts = np.zeros(len(texts), dtype=np.int64)
    reach = _CHARACTERS_A_TOKEN * max_length
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        stop = start + _TEXTS_AT_ONCE
        some = texts[start:stop]
        token_ids = tokenize(tokenizer, [prompt + text[:reach] for text in some], max_length)
        # What is blank as far as it was read may yet have a token.
        counts[start:stop] = [max(len(ids), len(text) > reach) for ids, text in zip(token_ids, some, strict=True)]
    return counts


def row_batches(lengths: np.ndarray, budget: int, max_rows: int | None = None) -> Iterator[np.ndarray]:
    """Which texts go through the model together: alike lengths, within a budget of tokens, longest texts first.

    Longest first, so that what does not fit into memory fails at once and a progress bar errs on the safe side.
    A text longer than the budget is a batch of its own. Texts without tokens are in no batch.

    Args:
        lengths: int (n_texts,), tokens of each text.
        budget: Tokens a batch, padding included.
        max_rows: Texts a batch at most; None: however many fit.

    Yields:
        int64 (b,), numbers of texts.

    Example:
        >>> [rows.tolist() for rows in row_batches(np.array([3, 0, 10, 3, 9]), budget=20)]
        [[2, 4], [0, 3]]
    """
    order = np.argsort(-lengths, kind="stable")
    order = order[: int(np.count_nonzero(lengths))]
    falling = -lengths[order]
    start = 0
    while start < len(order):
        width = int(lengths[order[start]])
        alike = int(np.searchsorted(falling, -_LEAST_LENGTH * width, side="right"))
        filled = start + math.ceil(_LEAST_FILL * budget / width)
        fit = max(1, min(budget // width, max_rows or len(order)))
        rows = order[start : min(start + fit, max(alike, filled))]
        yield rows
        start += len(rows)


def batches(token_ids: Sequence[Sequence[int]], pad_id: int, budget: int) -> Iterator[Batch]:
    """The batches of `row_batches`, as tensors.

    Args:
        token_ids: As `tokenize` gives them.
        pad_id: The id that fills up short texts; the mask hides it.
        budget: Tokens a batch, padding included.
    """
    lengths = np.fromiter((len(ids) for ids in token_ids), dtype=np.int64, count=len(token_ids))
    for rows in row_batches(lengths, budget):
        yield _padded(rows, [token_ids[row] for row in rows], int(lengths[rows[0]]), pad_id)


def _padded(rows: np.ndarray, token_ids: list[Sequence[int]], width: int, pad_id: int) -> Batch:
    input_ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    attention_mask = np.zeros((len(rows), width), dtype=np.int64)
    for row, ids in enumerate(token_ids):
        input_ids[row, : len(ids)] = ids
        attention_mask[row, : len(ids)] = 1
    return Batch(rows, torch.from_numpy(input_ids), torch.from_numpy(attention_mask))
