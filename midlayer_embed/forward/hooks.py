"""Hooks that hand out the states of each layer as soon as its block returns."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch

from midlayer_embed.models.backbone import Backbone


class LastLayerReached(Exception):
    """Ends a forward pass after the highest requested layer."""


def attach_hooks(
    hooks: ExitStack, backbone: Backbone, layers: Sequence[int], record_layer: Callable[[int, torch.Tensor], None]
) -> None:
    """Add hooks that pass each layer's states to `record_layer(slot, states)` and stop after the highest layer.

    Layer k is the k-th call of a block: models that share weights call one block many times.
    """
    slots = {layer: slot for slot, layer in enumerate(layers)}
    highest = max(layers)
    calls = 0

    def record(layer: int, states: torch.Tensor) -> None:
        if layer in slots:
            record_layer(slots[layer], states)
        if layer == highest:
            raise LastLayerReached

    def before_block_1(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if calls == 0:
            record(0, args[0] if args else kwargs["hidden_states"])

    def after_block(_module: Any, _args: Any, out: Any) -> None:
        nonlocal calls
        calls += 1
        # Some blocks return a tensor, some a tuple that starts with it.
        record(calls, out if isinstance(out, torch.Tensor) else out[0])

    hooks.callback(backbone.blocks[0].register_forward_pre_hook(before_block_1, with_kwargs=True).remove)
    for block in dict.fromkeys(backbone.blocks[:highest]):
        hooks.callback(block.register_forward_hook(after_block).remove)
