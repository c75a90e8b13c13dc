"""Embeddings from the middle layers of language models.

The names below are loaded on first use, so that `import midlayer_embed` (and `--help`) costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from midlayer_embed import metrics
    from midlayer_embed.encoder import MidLayerEncoder
    from midlayer_embed.layerwise import LayerwiseEncoder
    from midlayer_embed.profile import profile_layers
    from midlayer_embed.selection import LayerSelection, select_layer

__version__ = "0.1.0"
__all__ = [
    "LayerSelection",
    "LayerwiseEncoder",
    "MidLayerEncoder",
    "__version__",
    "metrics",
    "profile_layers",
    "select_layer",
]

_HOMES = {
    "LayerSelection": "midlayer_embed.selection",
    "LayerwiseEncoder": "midlayer_embed.layerwise",
    "MidLayerEncoder": "midlayer_embed.encoder",
    "profile_layers": "midlayer_embed.profile",
    "select_layer": "midlayer_embed.selection",
}


def __getattr__(name: str) -> Any:
    if name == "metrics":
        return import_module("midlayer_embed.metrics")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
