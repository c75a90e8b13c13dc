"""Which texts share a forward pass: those of similar length, within a budget of tokens. Of libraries, numpy alone."""

import math
from collections.abc import Iterator

import numpy as np

from midlayer_embed.texts.tokens import TokenIds

# Tokens in a forward pass. A CPU is fastest while a batch stays in its caches; an accelerator needs large batches.
TOKENS_CPU = 2048
TOKENS_ACCELERATOR = 16384
# A text shorter than this share of its batch's longest text starts a new batch, if the batch holds at least this share
# of the budget: padding costs as much as text, but batches too small to keep the cores busy cost time as well.
_LEAST_LENGTH = 0.9
_LEAST_FILL = 1 / 8


def row_batches(lengths: np.ndarray, budget: int, max_rows: int | None = None) -> Iterator[np.ndarray]:
    """The texts of each batch: similar lengths, within a budget of tokens, longest texts first.

    The longest texts come first, so that a batch that does not fit into memory fails at once, and the ETA of a progress
    bar is too late rather than too early. A text longer than the budget is a batch of its own. Texts without tokens are
    left out.

    Args:
        lengths: int (n_texts,), number of tokens of each text.
        budget: Maximum number of tokens in a batch, padding included.
        max_rows: Maximum number of texts in a batch; None: no limit.

    Yields:
        int64 (b,), indices of texts.

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


def padded(rows: np.ndarray, token_ids: TokenIds, pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """The ids of some texts in one array, padded on the right, and its mask.

    Args:
        rows: The texts, of which the first is the longest one.
        token_ids: Those of all texts.
        pad_id: Token that pads short texts; the mask hides it.

    Returns:
        int64 (b, t) ids; int64 (b, t), 1 for tokens and 0 for padding.

    Example:
        >>> ids, mask = padded(np.array([1, 0]), TokenIds.of([[5], [6, 7]]), pad_id=9)
        >>> ids.tolist(), mask.tolist()
        ([[6, 7], [5, 9]], [[1, 1], [1, 0]])
    """
    width = int(token_ids.lengths[rows[0]])
    input_ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    attention_mask = np.zeros((len(rows), width), dtype=np.int64)
    for number, row in enumerate(rows):
        ids = token_ids[row]
        input_ids[number, : len(ids)] = ids
        attention_mask[number, : len(ids)] = 1
    return input_ids, attention_mask
