"""Encoders that tests share, and may not change."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.options import Recipe

Encoder = TypeVar("Encoder")


@contextmanager
def unchanged(encoder: Encoder) -> Iterator[Encoder]:
    """Gives an encoder.

    Raises:
        AssertionError: at the end, its weights, hooks or settings are not what they were.
    """
    before = _state(encoder)
    yield encoder
    after = _state(encoder)
    changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    assert not changed, (
        f"a test has changed what tests share: {', '.join(sorted(changed))} of a {type(encoder).__name__}"
    )


def _state(encoder: Any) -> dict[str, str]:
    """Its plain attributes, and of the torch module inside it the weights and hooks."""
    module = encoder.backbone.model if hasattr(encoder, "backbone") else encoder
    plain = (str, int, float, bool, type(None), tuple, list, dict, Recipe, Checkpoint)
    state = {name: repr(value) for name, value in vars(encoder).items() if isinstance(value, plain) and name[:1] != "_"}
    digest = hashlib.sha256()
    for tensor in module.state_dict().values():
        digest.update(tensor.cpu().float().numpy().tobytes())
    state["weights"] = digest.hexdigest()
    for part in module.modules():
        hooks = len(part._forward_hooks) + len(part._forward_pre_hooks)
        state["hooks"] = str(int(state.get("hooks", 0)) + hooks)
    return state
