"""Pools token states into one vector per text.

The mean is implemented here, since it runs once per layer; the other modes are those of sentence-transformers.
"""

from typing import Protocol

import torch


class Pooler(Protocol):
    """A function that pools the token states of one layer."""

    def __call__(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Pool states (b, t, d) of any float type under a mask (b, t) into (b, d), float32 (float64 for float64)."""
        ...


def masked_mean(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean state of the attended tokens.

    It is a matrix product: unlike multiply-and-sum it needs no copy of the states.

    Args:
        states: (b, t, d).
        mask: (b, t), 1 for tokens, 0 for padding; at least one token a row.

    Returns:
        (b, d), float32 (float64 for float64 states).

    Example:
        >>> masked_mean(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]])).tolist()
        [[2.0]]
    """
    states = _at_least_float32(states)
    weights = mask.to(states.dtype)
    weights = weights / weights.sum(dim=1, keepdim=True)
    return torch.bmm(weights.unsqueeze(1), states).squeeze(1)


def pooler(mode: str, dim: int) -> Pooler:
    """The function that pools by `mode`.

    Args:
        mode: One of `options.POOLING_MODES`.
        dim: Width of a state.
    """
    if mode == "mean":
        return masked_mean
    from sentence_transformers.sentence_transformer.modules import Pooling  # slow to import and rarely needed

    module = Pooling(dim, pooling_mode=mode)

    def pool(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        features = {"token_embeddings": _at_least_float32(states), "attention_mask": mask}
        vectors: torch.Tensor = module(features)["sentence_embedding"]
        return vectors

    return pool


def _at_least_float32(states: torch.Tensor) -> torch.Tensor:
    return states if states.dtype == torch.float64 else states.float()
