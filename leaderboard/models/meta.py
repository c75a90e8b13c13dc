"""What mteb is told about a layer of a model: the name, revision and experiment under which its results stand."""

from typing import Any

from mteb.models.model_meta import ModelMeta, ScoringFunction

from midlayer_embed.models.backbone import Checkpoint

# What `run_sweep` does unless told otherwise. Only what differs becomes part of an experiment's name.
DEFAULT_SETTINGS: dict[str, Any] = {
    "final_norm": True,
    "pooling_mode": "mean",
    "max_seq_length": None,
    "dtype": "float32",
    "limit": None,
    "store_dtype": "float32",
}


def layer_meta(checkpoint: Checkpoint, layer: int | None, settings: dict[str, Any]) -> ModelMeta:
    """The meta of one layer.

    Args:
        checkpoint: The model.
        layer: Its layer, or None for what belongs to all layers.
        settings: As `DEFAULT_SETTINGS`.
    """
    experiment: dict[str, Any] = {} if layer is None else {"layer": layer}
    experiment |= {key: value for key, value in settings.items() if value != DEFAULT_SETTINGS[key]}
    return ModelMeta.create_empty(
        overwrites={
            "name": checkpoint.name,
            "revision": checkpoint.revision,
            "embed_dim": int(checkpoint.config.get_text_config().hidden_size),
            "max_tokens": settings["max_seq_length"],
            "framework": ["Sentence Transformers", "PyTorch"],
            "similarity_fn_name": ScoringFunction.COSINE,
            "experiment_kwargs": experiment or None,
        }
    )


def model_label(meta: ModelMeta) -> str:
    """A model's name in tables: with the settings that are not the default, for their scores are another model's.

    Example:
        >>> model_label(ModelMeta.create_empty({"name": "a/b", "experiment_kwargs": {"layer": 3, "final_norm": False}}))
        'a/b (final_norm=False)'
    """
    settings = {key: value for key, value in (meta.experiment_kwargs or {}).items() if key != "layer"}
    shown = ", ".join(f"{key}={value}" for key, value in sorted(settings.items()))
    return f"{meta.name} ({shown})" if shown else str(meta.name)
