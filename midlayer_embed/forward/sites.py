"""Hooks that hand out the states at sites of layers as soon as the forward pass computes them."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import nn

from midlayer_embed.layers import LAYER_SITE
from midlayer_embed.models.sites import BlockSites, Tap


class Place(NamedTuple):
    """A site of a layer.

    Attributes:
        layer: The layer, 1..L; 0 only with the site "resid_post".
        site: One of `midlayer_embed.layers.SITES`.
    """

    layer: int
    site: str = LAYER_SITE

    def __str__(self) -> str:
        return f"layer {self.layer}" if self.site == LAYER_SITE else f"{self.site} of layer {self.layer}"


class AllRecorded(Exception):
    """Ends a forward pass after the last requested state."""


def attach_hooks(
    hooks: ExitStack,
    blocks: Sequence[nn.Module],
    sites: BlockSites | None,
    places: Sequence[Place],
    record: Callable[[int, torch.Tensor], None],
) -> None:
    """Add hooks that pass the states of each place to `record(slot, states)` and stop after the last one.

    Block k is the k-th call of a block: models that share weights call one block many times.

    Args:
        hooks: Removes the hooks.
        blocks: Blocks 1, 2, ... of the model, up to the highest of the places or more, as `Backbone.blocks`.
        sites: Where the sites within a block are; None if unknown.
        places: Distinct places, all of which the model has.
        record: Is called once for each, in the order of the forward pass, with states (b, t, d).
    """
    slots = {place: slot for slot, place in enumerate(places)}
    missing = len(slots)
    calls = 0
    shape: torch.Size | None = None

    def hand_out(place: Place, states: Any) -> None:
        nonlocal missing
        if place not in slots:
            return
        found: torch.Tensor = states if isinstance(states, torch.Tensor) else states[0]
        # Some blocks flatten the texts of a batch before their MLP.
        record(slots[place], found if found.dim() == 3 or shape is None else found.reshape(*shape[:2], -1))
        missing -= 1
        if not missing:
            raise AllRecorded

    def before_block(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal shape
        states = _first(args, kwargs)
        shape = states.shape
        if calls == 0:
            hand_out(Place(0), states)
        hand_out(Place(calls + 1, "resid_pre"), states)

    def after_block(_module: Any, _args: Any, out: Any) -> None:
        nonlocal calls
        calls += 1
        hand_out(Place(calls), out)

    def at_input(site: str) -> Callable[..., None]:
        return lambda _module, args, kwargs: hand_out(Place(calls + 1, site), _first(args, kwargs))

    def at_output(site: str) -> Callable[..., None]:
        return lambda _module, _args, out: hand_out(Place(calls + 1, site), out)

    taps = _taps(sites, places)
    for block in dict.fromkeys(blocks[: max(1, *(place.layer for place in places))]):
        hooks.callback(block.register_forward_pre_hook(before_block, with_kwargs=True).remove)
        for site, tap in taps.items():
            module = block.get_submodule(tap.module)
            if tap.is_input:
                hooks.callback(module.register_forward_pre_hook(at_input(site), with_kwargs=True).remove)
            else:
                hooks.callback(module.register_forward_hook(at_output(site)).remove)
        hooks.callback(block.register_forward_hook(after_block).remove)


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    found: torch.Tensor = args[0] if args else kwargs["hidden_states"]
    return found


def _taps(sites: BlockSites | None, places: Sequence[Place]) -> dict[str, Tap]:
    """Where the sites inside a block are; the block's own input and output are left out."""
    inside: dict[str, Tap] = {}
    for site in dict.fromkeys(place.site for place in places):
        tap = None if sites is None else sites.tap(site)
        if tap is not None and tap.module:
            inside[site] = tap
    return inside
