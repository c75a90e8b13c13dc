"""Pools token states into one vector per text.

The mean is implemented here, since it runs once per layer; the other modes are those of sentence-transformers.
"""

from functools import cache
from typing import Any, Protocol

import torch

from midlayer_embed.metrics.trajectory import without_first
from midlayer_embed.options import pooling_modes

_HAS_OUT_DTYPE = "dtype" in torch.ops.aten.bmm.overloads()  # type: ignore[no-untyped-call]


class Pooler(Protocol):
    """A function that pools the token states of one layer."""

    def __call__(self, states: torch.Tensor, mask: torch.Tensor, prompt_length: int = 0) -> torch.Tensor:
        """Pool states (b, t, d) of any float type under a mask (b, t) into (b, n_modes * d), float32 (or float64).

        The first `prompt_length` tokens of each text are left out.
        """
        ...


def masked_mean(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean state of the attended tokens.

    It is a matrix product: unlike multiply-and-sum it needs no copy of the states.

    Args:
        states: (b, t, d).
        mask: (b, t), 1 for tokens, 0 for padding.

    Returns:
        (b, d), float32 (float64 for float64 states); zero for a row without tokens.

    Example:
        >>> masked_mean(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]])).tolist()
        [[2.0]]
    """
    if _sums_in_float32(states):
        # the mask is exact in half precision, and the products are summed in float32 without a copy of the states
        sums = torch.bmm(mask.to(states.dtype).unsqueeze(1), states, out_dtype=torch.float32).squeeze(1)
        return sums / mask.sum(dim=1, keepdim=True).clamp(min=1)
    states = _at_least_float32(states)
    weights = mask.to(states.dtype)
    weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.bmm(weights.unsqueeze(1), states).squeeze(1)


def pooler(mode: str, dim: int) -> Pooler:
    """The function that pools by `mode`.

    Args:
        mode: As `Recipe.pooling_mode`; the vectors of several modes are concatenated.
        dim: Width of a state.
    """

    @cache
    def module() -> Any:
        from sentence_transformers.sentence_transformer.modules import Pooling  # slow to import and rarely needed

        return Pooling(dim, pooling_mode=pooling_modes(mode), include_prompt=False)

    def pool(states: torch.Tensor, mask: torch.Tensor, prompt_length: int = 0) -> torch.Tensor:
        if mode == "mean":
            return masked_mean(states, without_first(mask, prompt_length) if prompt_length else mask)
        features = {"token_embeddings": _at_least_float32(states), "attention_mask": mask}
        vectors: torch.Tensor = module()({**features, "prompt_length": prompt_length})["sentence_embedding"]
        return vectors

    return pool


def _sums_in_float32(states: torch.Tensor) -> bool:
    """Whether there are matrix products of these states with float32 sums: torch has them for CUDA since 2.8."""
    is_half = states.dtype in (torch.bfloat16, torch.float16)
    return is_half and states.is_cuda and torch.version.hip is None and _HAS_OUT_DTYPE


def _at_least_float32(states: torch.Tensor) -> torch.Tensor:
    return states if states.dtype == torch.float64 else states.float()
