"""Batches to compare a graph with torch on, what each makes of them, and how far that is apart."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import nn

from midlayer_embed.encoder.onnx.names import ATTENTION_MASK, INPUT_IDS

# Texts and tokens of the batches, besides the longest.
_SHAPES = ((1, 1), (1, 7), (3, 17), (5, 64))
# The longest batch has no more tokens than this, unless a window of attention is longer.
_LONGEST = 512
_BEHIND_A_WINDOW = 16
# Below this share of its largest value, a typical value of a vector is taken for rounding.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Batch:
    """A padded batch.

    Attributes:
        ids: Token ids, (b, t), int64.
        mask: 1 where there is a token, else 0; (b, t), int64.
    """

    ids: np.ndarray
    mask: np.ndarray

    @property
    def feeds(self) -> dict[str, np.ndarray]:
        """The inputs of a graph by name."""
        return {INPUT_IDS: self.ids, ATTENTION_MASK: self.mask}

    def rows(self, *rows: int) -> "Batch":
        """Some texts of the batch."""
        return Batch(self.ids[list(rows)], self.mask[list(rows)])


def probe_batches(transformer: Any) -> list[Batch]:
    """Batches of other sizes than the traced one: ragged, padded on the right and on the left, with an empty text.

    Args:
        transformer: The Transformer module, for its vocabulary, padding and limit.
    """
    config, tokenizer = transformer.model.config.get_text_config(), transformer.tokenizer
    limit = int(transformer.max_seq_length or _LONGEST)
    window = max((size for size in _windows(config)), default=0)
    longest = min(limit, max(_LONGEST, window + _BEHIND_A_WINDOW if window else 0))
    kept = set(getattr(tokenizer, "all_special_ids", ()))
    plain = np.array([i for i in range(min(int(config.vocab_size), 50_000)) if i not in kept])
    pad = int(getattr(tokenizer, "pad_token_id", None) or 0)
    draws = np.random.default_rng(0)
    batches = []
    for n_texts, n_tokens in dict.fromkeys((n, min(t, limit)) for n, t in (*_SHAPES, (2, longest))):
        lengths = draws.integers(1, n_tokens + 1, n_texts)
        lengths[0] = n_tokens
        right = (np.arange(n_tokens) < lengths[:, None]).astype(np.int64)
        ids = plain[draws.integers(0, len(plain), right.shape)]
        batches.append(Batch(np.where(right, ids, pad), right))
        if 1 < n_texts < _SHAPES[-1][0] and n_tokens < longest:
            left, one_empty = right[:, ::-1].copy(), right.copy()
            one_empty[1] = 0
            batches += [Batch(np.where(mask, ids, pad), mask) for mask in (left, one_empty)]
    return batches


def _windows(config: Any) -> Iterator[int]:
    for name in ("sliding_window", "local_attention", "attention_window", "attention_chunk_size"):
        size = getattr(config, name, None)
        if isinstance(size, int):
            yield size


@torch.inference_mode()
def torch_outputs(modules: Sequence[nn.Module], truncate_dim: int | None, batch: Batch) -> list[np.ndarray]:
    """Token states (b, t, d) and vectors (b, dim) of a batch, by the modules of an encoder, as `encode` gives them.

    The vector of a text without tokens is what the modules after pooling make of zeros.
    """
    features: dict[str, Any] = {name: torch.from_numpy(value) for name, value in batch.feeds.items()}
    states = None
    for module in modules:
        features = module(features)
        if isinstance(module, Pooling):
            features["sentence_embedding"][batch.mask.sum(axis=1) == 0] = 0
        if states is None:
            states = features["token_embeddings"].numpy()
    assert states is not None
    return [states, features["sentence_embedding"][:, :truncate_dim].numpy()]


def relative_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """How far vectors (n, d) are apart, relative to their size: the largest of two shares over all of them.

    One is the norm of the difference over the norm of the vector. The raw states of decoders have a few huge values,
    which hide all others from it, so the other one is the median difference over the median value.

    Example:
        >>> round(relative_difference(np.array([[3.0, 4.0], [1.0, 1.0]]), np.array([[3.0, 4.5], [1.0, 1.0]])), 3)
        0.092
    """
    if not expected.size:
        return 0.0
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return float("inf")
    apart, size = (np.abs(each.astype(np.float64)) for each in (found - expected, expected))
    smallest = np.finfo(np.float32).tiny
    in_norm = np.linalg.norm(apart, axis=1) / np.maximum(np.linalg.norm(size, axis=1), smallest)
    typical = np.maximum(np.median(size, axis=1), np.maximum(_ROUNDING * size.max(axis=1), smallest))
    return float(max(in_norm.max(), (np.median(apart, axis=1) / typical).max()))
