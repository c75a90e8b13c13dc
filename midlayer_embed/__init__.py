"""Embeddings from the middle layers of language models.

The names below are imported on first use, so that `import midlayer_embed` (and `--help`) costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from midlayer_embed import metrics
    from midlayer_embed.encoder.onnx.writing import OnnxExport, export_onnx
    from midlayer_embed.encoder.sentence_transformer import MidLayerEncoder
    from midlayer_embed.encoder.serve.gguf_cut import export_gguf
    from midlayer_embed.forward.images import ImageLayerwiseEncoder
    from midlayer_embed.forward.layerwise import LayerwiseEncoder
    from midlayer_embed.models.discovery import register as register_family
    from midlayer_embed.options import Recipe
    from midlayer_embed.recipes.transform import Transform, fit_transform
    from midlayer_embed.saved.encoder import SavedEncoder
    from midlayer_embed.selection.criteria import LayerSelection
    from midlayer_embed.selection.profile import profile_layers
    from midlayer_embed.selection.recipe.choice import RecipeSelection
    from midlayer_embed.selection.recipe_search import select_recipe
    from midlayer_embed.selection.select import select_layer

__version__ = "0.2.0"
__all__ = [
    "ImageLayerwiseEncoder",
    "LayerSelection",
    "LayerwiseEncoder",
    "MidLayerEncoder",
    "OnnxExport",
    "Recipe",
    "RecipeSelection",
    "SavedEncoder",
    "Transform",
    "__version__",
    "export_gguf",
    "export_onnx",
    "fit_transform",
    "metrics",
    "profile_layers",
    "register_family",
    "select_layer",
    "select_recipe",
]

# Where each name is defined: its module, and the name there.
_HOMES = {
    "ImageLayerwiseEncoder": ("midlayer_embed.forward.images", "ImageLayerwiseEncoder"),
    "LayerSelection": ("midlayer_embed.selection.criteria", "LayerSelection"),
    "LayerwiseEncoder": ("midlayer_embed.forward.layerwise", "LayerwiseEncoder"),
    "MidLayerEncoder": ("midlayer_embed.encoder.sentence_transformer", "MidLayerEncoder"),
    "OnnxExport": ("midlayer_embed.encoder.onnx.writing", "OnnxExport"),
    "Recipe": ("midlayer_embed.options", "Recipe"),
    "RecipeSelection": ("midlayer_embed.selection.recipe.choice", "RecipeSelection"),
    "SavedEncoder": ("midlayer_embed.saved.encoder", "SavedEncoder"),
    "Transform": ("midlayer_embed.recipes.transform", "Transform"),
    "export_gguf": ("midlayer_embed.encoder.serve.gguf_cut", "export_gguf"),
    "export_onnx": ("midlayer_embed.encoder.onnx.writing", "export_onnx"),
    "fit_transform": ("midlayer_embed.recipes.transform", "fit_transform"),
    "profile_layers": ("midlayer_embed.selection.profile", "profile_layers"),
    "register_family": ("midlayer_embed.models.discovery", "register"),
    "select_layer": ("midlayer_embed.selection.select", "select_layer"),
    "select_recipe": ("midlayer_embed.selection.recipe_search", "select_recipe"),
}


def __getattr__(name: str) -> Any:
    if name == "metrics":
        return import_module("midlayer_embed.metrics")
    if name in _HOMES:
        module, defined = _HOMES[name]
        return getattr(import_module(module), defined)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
