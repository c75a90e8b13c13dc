"""From token ids to batches: texts of similar length together, padded on the right. Works without a model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from midlayer_embed.forward.row_batches import TOKENS_ACCELERATOR, TOKENS_CPU, padded, row_batches
from midlayer_embed.ground.checks import check_int
from midlayer_embed.texts.tokens import TokenIds


@dataclass(frozen=True)
class Batch:
    """Texts of similar length.

    Attributes:
        rows: (b,) indices of the texts.
        input_ids: (b, t) int64, padded on the right.
        attention_mask: (b, t) int64, 1 for tokens and 0 for padding.
        not_pooled: (b,) number of tokens at the start of each text that are not pooled.
    """

    rows: np.ndarray
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    not_pooled: np.ndarray

    @property
    def mask(self) -> torch.Tensor:
        """(b, t), 1 for the tokens that count."""
        return self.attention_mask

    @property
    def units(self) -> int:
        """Number of tokens without padding."""
        return int(self.attention_mask.sum())

    @property
    def n_items(self) -> int:
        """Number of texts."""
        return len(self.rows)

    @property
    def n_tokens(self) -> int:
        """Number of tokens, padding included."""
        return self.input_ids.numel()

    def arguments(self) -> dict[str, Any]:
        """The keywords of the model's forward pass."""
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask, "use_cache": False}

    def with_tensors(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        """The same batch with other tensors."""
        return replace(self, input_ids=change(self.input_ids), attention_mask=change(self.attention_mask))

    def halves(self) -> "tuple[Batch, Batch]":
        """The texts in two parts, of which the first is the larger one, each as wide as its longest text."""
        middle = (len(self.rows) + 1) // 2
        return self._part(slice(middle)), self._part(slice(middle, None))

    def _part(self, which: slice) -> "Batch":
        mask = self.attention_mask[which]
        width = int(mask.sum(dim=1).max())
        return Batch(self.rows[which], self.input_ids[which, :width], mask[:, :width], self.not_pooled[which])


def token_budget(batch_tokens: int | None, device: torch.device) -> int:
    """Number of tokens in a forward pass, padding included.

    Args:
        batch_tokens: The number requested by the user; None: a default for the device.
        device: Device of the model.

    Raises:
        InputError: (a ValueError) not an int of at least 1.

    Example:
        >>> token_budget(None, torch.device("cpu")), token_budget(64, torch.device("cpu"))
        (2048, 64)
    """
    if batch_tokens is None:
        return TOKENS_CPU if device.type == "cpu" else TOKENS_ACCELERATOR
    return check_int("batch_tokens", batch_tokens, 1)


def batches(token_ids: TokenIds, pad_id: int, budget: int, not_pooled: np.ndarray | None = None) -> Iterator[Batch]:
    """The batches of `row_batches`, as tensors.

    Args:
        token_ids: From `tokenize`.
        pad_id: Token that pads short texts; the mask hides it.
        budget: Maximum number of tokens in a batch, padding included.
        not_pooled: From `prompt_lengths`, if prompts are not pooled.
    """
    skipped = np.zeros_like(token_ids.lengths) if not_pooled is None else not_pooled
    for rows in row_batches(token_ids.lengths, budget):
        input_ids, attention_mask = map(torch.from_numpy, padded(rows, token_ids, pad_id))
        yield Batch(rows, input_ids, attention_mask, skipped[rows])
