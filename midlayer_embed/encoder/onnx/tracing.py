"""The modules of an encoder as a function of arrays that torch.onnx can write: what families need for that.

Everything here is undone when the graph is written: the encoder stays as it was.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from inspect import unwrap
from types import MethodType
from typing import Any
from unittest.mock import patch

import torch
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import nn
from torch._higher_order_ops.scan import scan

from midlayer_embed.encoder.onnx.names import ATTENTION_MASK, INPUT_IDS

# Attention whose mask is a sum with finite numbers: no NaN where a token attends to nothing, and ONNX Runtime fuses
# its products.
_PLAIN_ATTENTION = "eager"
# How far states may be apart, relative to the largest, where kinds of attention differ in nothing but rounding.
_SAME_ATTENTION = 1e-5


class Traced(nn.Module):
    """An encoder as a function of the token ids (b, t) and their mask (b, t), both int64.

    It returns the token states (b, t, d) and, if asked for, the vectors (b, dim). The vector of a text without tokens
    is what the modules after pooling make of zeros, as in `MidLayerEncoder.encode`.
    """

    def __init__(self, modules: Sequence[nn.Module], embedding: bool, truncate_dim: int | None) -> None:
        super().__init__()
        self.transformer: Any = modules[0]
        self.after = nn.ModuleList(modules[1:] if embedding else ())
        self.truncate_dim = truncate_dim

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The states, and the vectors if they were asked for."""
        features = self.transformer({INPUT_IDS: input_ids, ATTENTION_MASK: attention_mask})
        states = features["token_embeddings"]
        if not len(self.after):
            return (states,)
        for module in self.after:
            features = module(features)
            if isinstance(module, Pooling):
                has_tokens = attention_mask.sum(dim=1, keepdim=True) > 0
                pooled = features["sentence_embedding"]
                features["sentence_embedding"] = torch.where(has_tokens, pooled, torch.zeros_like(pooled))
        return states, features["sentence_embedding"][:, : self.truncate_dim]


@contextmanager
def traceable(model: Any, states_of: Callable[[], list[torch.Tensor]]) -> Iterator[None]:
    """Within the block, a base model computes the same by operations that torch.onnx can write.

    Args:
        model: The base model, in eval mode.
        states_of: States of some texts, (n, d) each, by the model as it is when this is called.
    """
    homes = {sys.modules[type(module).__module__] for module in model.modules()}
    with ExitStack() as undo:
        undo.enter_context(_plain_attention(model, states_of))
        for module in model.modules():
            undo.enter_context(_fixed_rotation(module))
        for home in homes:
            for name, rewritten in _REWRITTEN.items():
                if (original := getattr(home, name, None)) is not None:
                    undo.enter_context(patch.object(home, name, rewritten(original)))
        yield


@contextmanager
def _plain_attention(model: Any, states_of: Callable[[], list[torch.Tensor]]) -> Iterator[None]:
    """Within the block, attention is plain products, unless that gives other states.

    It does in Falcon with ALiBi, where transformers adds the bias once in one kind of attention, twice in the other.
    """
    before = getattr(model.config, "_attn_implementation", None)
    if before in (None, _PLAIN_ATTENTION):
        yield
        return
    expected = states_of()
    try:
        model.set_attn_implementation(_PLAIN_ATTENTION)
        pairs = zip(states_of(), expected, strict=True)
        if any((found - as_before).abs().max() > _SAME_ATTENTION * as_before.abs().max() for found, as_before in pairs):
            model.set_attn_implementation(before)
        yield
    finally:
        model.set_attn_implementation(before)


@contextmanager
def _fixed_rotation(module: Any) -> Iterator[None]:
    """Within the block, rotary positions are not chosen anew by the length of a batch.

    `refusals` has seen to it that no batch is as long as that.
    """
    if not hasattr(module, "rope_type"):
        yield
        return
    with patch.object(module, "forward", MethodType(unwrap(type(module).forward), module)):
        yield


def _by_scan(original: Callable[..., Any]) -> Callable[..., Any]:
    """Mamba's recurrence over tokens as a Scan of ONNX, in place of a loop that is as long as the traced texts."""

    def selective_scan(
        hidden_states: torch.Tensor,
        dt: torch.Tensor,
        A: torch.Tensor,
        B: torch.Tensor,
        C: torch.Tensor,
        D: torch.Tensor,
        z: torch.Tensor,
        delta_bias: torch.Tensor,
        **_: Any,
    ) -> torch.Tensor:
        def step(
            state: torch.Tensor, token: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
        ) -> tuple[torch.Tensor, torch.Tensor]:
            dt_t, u_t, B_t, C_t = token
            after = torch.exp(A * dt_t[:, :, None]) * state + (dt_t * u_t)[:, :, None] * B_t[:, None, :]
            return after, (after * C_t[:, None, :]).sum(dim=-1)

        dt = nn.functional.softplus(dt + delta_bias[:, None])
        tokens = (dt.permute(2, 0, 1), hidden_states.permute(2, 0, 1), B.permute(2, 0, 1), C.permute(2, 0, 1))
        before = torch.zeros_like(hidden_states[:, :, :1]).expand(-1, -1, A.shape[-1]).clone()
        _last, outputs = scan(step, before, tokens)
        outputs = outputs.permute(1, 2, 0) + hidden_states * D[:, None]
        return outputs * nn.functional.silu(z)

    return selective_scan


def _in_one_chunk(original: Callable[..., Any]) -> Callable[..., Any]:
    """Mamba-2's recurrence over one chunk as long as the batch, whose padding would depend on that length."""

    def chunk_scan(hidden_states: torch.Tensor, *args: Any, chunk_size: int, **kwargs: Any) -> Any:
        return original(hidden_states, *args, chunk_size=hidden_states.shape[1], **kwargs)

    return chunk_scan


def _bias_of_positions(original: Callable[..., Any]) -> Callable[..., Any]:
    """Falcon's ALiBi, whose bfloat16 products ONNX Runtime does not have: their exact values, rounded alike."""

    def build(attention_mask: torch.Tensor, num_heads: int, dtype: torch.dtype) -> torch.Tensor:
        of_a_token = original(torch.ones((1, 2), dtype=torch.int64), num_heads, torch.float32)
        slopes = of_a_token[:, 0, 1]
        places = (attention_mask.cumsum(dim=-1) - 1) * attention_mask
        products = slopes[None, :, None] * _as_bfloat16(places[:, None, :].float())
        return _as_bfloat16(products).reshape(-1, 1, attention_mask.shape[1]).to(dtype)

    return build


def _as_bfloat16(values: torch.Tensor) -> torch.Tensor:
    """Values rounded to the 8 significant bits of bfloat16, in float32."""
    return values.to(torch.bfloat16).to(torch.float32)


# Functions of transformers' modules that are looked up by name when they are called.
_REWRITTEN: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "build_alibi_tensor": _bias_of_positions,
    "mamba2_chunk_scan": _in_one_chunk,
    "mamba_selective_scan": _by_scan,
}
