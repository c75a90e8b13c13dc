"""mteb's ModelMeta of one layer of a model: the name, revision and experiment that its results are stored under."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mteb.models.model_meta import ModelMeta, ScoringFunction

from leaderboard.models.labels import OF_ONE_LAYER, default_of
from midlayer_embed.layers import LAYER_SITE
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.models.weights import dtype_name
from midlayer_embed.options import Recipe, of_every_layer
from midlayer_embed.recipes.names import template_name

if TYPE_CHECKING:
    import torch

# Those that mteb can read again; it has no others for a ModelMeta.
_SIMILARITIES = {"cosine": ScoringFunction.COSINE, "dot": ScoringFunction.DOT_PRODUCT}


def scoring_settings(recipe: Recipe, dtype: "str | torch.dtype", transform_texts: str | None = None) -> dict[str, Any]:
    """The settings of a model that change its scores: `labels.DEFAULT_SETTINGS` without the options of a sweep.

    Args:
        recipe: From `Checkpoint.resolved`.
        dtype: dtype of the weights.
        transform_texts: What its transform was fitted on: "train", "task" or "corpus:<name>"; None without a transform.
    """
    settings = {**of_every_layer(recipe), **{name: getattr(recipe, name) for name in OF_ONE_LAYER}}
    return {**settings, "dtype": dtype_name(dtype), "transform_texts": transform_texts}


def layer_meta(checkpoint: Checkpoint, layer: int | None, settings: Mapping[str, Any]) -> ModelMeta:
    """The ModelMeta of one layer.

    Args:
        checkpoint: The model.
        layer: The layer; None for files that belong to all layers.
        settings: A value for each key of `leaderboard.models.labels.DEFAULT_SETTINGS`.
    """
    experiment: dict[str, Any] = {} if layer is None else {"layer": layer}
    template = settings.get("template")
    experiment |= {key: value for key, value in settings.items() if value != default_of(key, template)}
    if template is not None:
        experiment["template"] = template_name(template)
    dim = checkpoint.embedding_dim(
        0 if layer is None else layer, settings["pooling_mode"], settings.get("site", LAYER_SITE)
    )
    is_image = checkpoint.modality == "image"
    return ModelMeta.create_empty(
        overwrites={
            "name": checkpoint.name,
            "revision": checkpoint.revision,
            "embed_dim": dim if settings.get("dim") is None else min(dim, settings["dim"]),
            "max_tokens": settings["max_seq_length"],
            "framework": ["PyTorch"] if is_image else ["Sentence Transformers", "PyTorch"],
            "modalities": [checkpoint.modality],
            "similarity_fn_name": _SIMILARITIES.get(checkpoint.own.similarity_fn_name or "cosine"),
            "experiment_kwargs": experiment or None,
        }
    )
