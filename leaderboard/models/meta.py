"""mteb's ModelMeta of one layer of a model: the name, revision and experiment that its results are stored under."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mteb.models.model_meta import ModelMeta, ScoringFunction

from leaderboard.analysis.variants import default_pooling
from leaderboard.models.labels import label_of
from midlayer_embed.layers import LAYER_SITE
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.models.weights import dtype_name
from midlayer_embed.options import DEFAULT_FINAL_NORM, DEFAULT_POOLING_MODE, Recipe, Source, of_every_layer
from midlayer_embed.recipes.names import template_name

if TYPE_CHECKING:
    import torch

# The parts of a recipe that only one layer has, but that change its scores.
_OF_ONE_LAYER = ("transform", "dim")
# Only settings that differ from these become part of an experiment's name. They are those of a model that says nothing
# about itself.
DEFAULT_SETTINGS: dict[str, Any] = {
    **of_every_layer(Recipe(final_norm=DEFAULT_FINAL_NORM, pooling_mode=DEFAULT_POOLING_MODE)),
    **dict.fromkeys((*_OF_ONE_LAYER, "transform_texts")),
    "dtype": Source().dtype,
    "limit": None,
    "store_dtype": "float32",
}
# What is told apart from a model's name in tables: its recipe has columns of its own.
_OWN_COLUMNS = ("layer", "template", "transform", "transform_texts")

# Those that mteb can read again; it has no others for a ModelMeta.
_SIMILARITIES = {"cosine": ScoringFunction.COSINE, "dot": ScoringFunction.DOT_PRODUCT}


def scoring_settings(recipe: Recipe, dtype: "str | torch.dtype", transform_texts: str | None = None) -> dict[str, Any]:
    """The settings of a model that change its scores: `DEFAULT_SETTINGS` without the options of a sweep.

    Args:
        recipe: From `Checkpoint.resolved`.
        dtype: dtype of the weights.
        transform_texts: What its transform was fitted on: "train", "task" or "corpus:<name>"; None without a transform.
    """
    settings = {**of_every_layer(recipe), **{name: getattr(recipe, name) for name in _OF_ONE_LAYER}}
    return {**settings, "dtype": dtype_name(dtype), "transform_texts": transform_texts}


def default_of(setting: str, template: str | None) -> Any:
    """The value of a setting that is not told: named templates have a pooling of their own."""
    return default_pooling(template) if setting == "pooling_mode" else DEFAULT_SETTINGS[setting]


def layer_meta(checkpoint: Checkpoint, layer: int | None, settings: Mapping[str, Any]) -> ModelMeta:
    """The ModelMeta of one layer.

    Args:
        checkpoint: The model.
        layer: The layer; None for files that belong to all layers.
        settings: A value for each key of `DEFAULT_SETTINGS`.
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


def model_label(meta: ModelMeta) -> str:
    """A model's name in tables. It includes the settings that are not the default, because they change the scores.

    Template and transform are columns of their own.

    Example:
        >>> model_label(ModelMeta.create_empty({"name": "a/b", "experiment_kwargs": {"layer": 3, "final_norm": False}}))
        'a/b (final_norm=False)'
    """
    settings = {key: value for key, value in (meta.experiment_kwargs or {}).items() if key not in _OWN_COLUMNS}
    return label_of(str(meta.name), settings)
