"""mteb's ModelMeta of one layer of a model: the name, revision and experiment that its results are stored under."""

from typing import TYPE_CHECKING, Any

from mteb.models.model_meta import ModelMeta, ScoringFunction

from leaderboard.models.labels import label_of
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.models.weights import dtype_name
from midlayer_embed.options import DEFAULT_FINAL_NORM, DEFAULT_POOLING_MODE, Recipe, Source, of_every_layer

if TYPE_CHECKING:
    import torch

# Only settings that differ from these become part of an experiment's name. They are those of a model that says nothing
# about itself.
DEFAULT_SETTINGS: dict[str, Any] = {
    **of_every_layer(Recipe(final_norm=DEFAULT_FINAL_NORM, pooling_mode=DEFAULT_POOLING_MODE)),
    "dtype": Source().dtype,
    "limit": None,
    "store_dtype": "float32",
}

# Those that mteb can read again; it has no others for a ModelMeta.
_SIMILARITIES = {"cosine": ScoringFunction.COSINE, "dot": ScoringFunction.DOT_PRODUCT}


def scoring_settings(recipe: Recipe, dtype: "str | torch.dtype") -> dict[str, Any]:
    """The settings of a model that change its scores: `DEFAULT_SETTINGS` without the options of a sweep.

    Args:
        recipe: From `Checkpoint.resolved`.
        dtype: dtype of the weights.
    """
    return {**of_every_layer(recipe), "dtype": dtype_name(dtype)}


def layer_meta(checkpoint: Checkpoint, layer: int | None, settings: dict[str, Any]) -> ModelMeta:
    """The ModelMeta of one layer.

    Args:
        checkpoint: The model.
        layer: The layer; None for files that belong to all layers.
        settings: A value for each key of `DEFAULT_SETTINGS`.
    """
    experiment: dict[str, Any] = {} if layer is None else {"layer": layer}
    experiment |= {key: value for key, value in settings.items() if value != DEFAULT_SETTINGS[key]}
    return ModelMeta.create_empty(
        overwrites={
            "name": checkpoint.name,
            "revision": checkpoint.revision,
            "embed_dim": checkpoint.embedding_dim(0 if layer is None else layer, settings["pooling_mode"]),
            "max_tokens": settings["max_seq_length"],
            "framework": ["Sentence Transformers", "PyTorch"],
            "similarity_fn_name": _SIMILARITIES.get(checkpoint.own.similarity_fn_name or "cosine"),
            "experiment_kwargs": experiment or None,
        }
    )


def model_label(meta: ModelMeta) -> str:
    """A model's name in tables. It includes the settings that are not the default, because they change the scores.

    Example:
        >>> model_label(ModelMeta.create_empty({"name": "a/b", "experiment_kwargs": {"layer": 3, "final_norm": False}}))
        'a/b (final_norm=False)'
    """
    settings = {key: value for key, value in (meta.experiment_kwargs or {}).items() if key != "layer"}
    return label_of(str(meta.name), settings)
