"""Token states to one vector a text. The mean is ours: it runs once a layer. The rest is sentence-transformers'."""

from typing import Protocol

import torch

from midlayer_embed.errors import InputError

POOLING_MODES = ("mean", "cls", "lasttoken", "weightedmean", "max")


class Pooler(Protocol):
    """How the states of one layer become vectors."""

    def __call__(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """States (b, t, d) of any float type and a mask (b, t) to vectors (b, d), float32 (float64 for float64)."""
        ...


def masked_mean(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean state of the tokens that the mask keeps.

    A matrix product: unlike multiply-and-sum it needs no copy of the states.

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
    """How `mode` pools.

    Args:
        mode: One of `POOLING_MODES`.
        dim: Width of a state.

    Raises:
        InputError: (a ValueError) no such mode.
    """
    check_pooling_mode(mode)
    if mode == "mean":
        return masked_mean
    from sentence_transformers.sentence_transformer.modules import Pooling  # slow to import, and seldom needed

    module = Pooling(dim, pooling_mode=mode)

    def pool(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        features = {"token_embeddings": _at_least_float32(states), "attention_mask": mask}
        vectors: torch.Tensor = module(features)["sentence_embedding"]
        return vectors

    return pool


def check_pooling_mode(mode: str) -> None:
    """Refuses what is no pooling mode.

    Raises:
        InputError: (a ValueError) the message lists the modes there are.
    """
    if mode not in POOLING_MODES:
        raise InputError(f"pooling_mode: expected one of {', '.join(POOLING_MODES)}, got {mode!r}")


def _at_least_float32(states: torch.Tensor) -> torch.Tensor:
    return states if states.dtype == torch.float64 else states.float()
