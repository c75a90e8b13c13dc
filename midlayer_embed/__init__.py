"""Embeddings from the middle layers of language models.

The names below are loaded on first use, so that `import midlayer_embed` (and `--help`) costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from midlayer_embed import metrics
    from midlayer_embed.encoder import MidLayerEncoder
    from midlayer_embed.layerwise import LayerwiseEncoder

__version__ = "0.1.0"
__all__ = ["LayerwiseEncoder", "MidLayerEncoder", "__version__", "metrics"]

_HOMES = {"MidLayerEncoder": "midlayer_embed.encoder", "LayerwiseEncoder": "midlayer_embed.layerwise"}


def __getattr__(name: str) -> Any:
    if name == "metrics":
        return import_module("midlayer_embed.metrics")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
