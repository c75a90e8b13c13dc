"""Reads the config of a checkpoint of texts or of images; of images, that of the encoder. No weights are read."""

from transformers import AutoConfig, PreTrainedConfig, PretrainedConfig

from midlayer_embed.errors import InputError
from midlayer_embed.models.vision.aim_config import from_published, is_published_aim
from midlayer_embed.models.vision.families import image_encoder_config, vision_family_of
from midlayer_embed.options import Source


def read_config(location: str, source: Source) -> PretrainedConfig:
    """Read the config of a checkpoint.

    Args:
        location: A folder or a Hub id.
        source: Its revision, and what else the user asks for.

    Returns:
        The config; of a checkpoint of images and texts (CLIP), that of its image encoder.

    Raises:
        InputError: (a ValueError) an image model is asked for what only text models have, or takes no RGB images.
        Exception: What transformers raises for a config that it cannot read.
    """
    revision = source.revision or "main"
    entries, _ = PreTrainedConfig.get_config_dict(location, revision=revision)
    if is_published_aim(entries):
        config: PretrainedConfig = from_published(entries)
    else:
        config = AutoConfig.from_pretrained(location, revision=revision, trust_remote_code=source.trust_remote_code)
    if vision_family_of(config) is None:
        return config
    if source.adapters:
        raise InputError(f"adapters: only text models take them, and this is an image model ({config.model_type})")
    if source.bidirectional:
        raise InputError(
            f"bidirectional: expected a causal text model; every patch attends to all others in an image model "
            f"({config.model_type})"
        )
    config = image_encoder_config(config)
    if (channels := getattr(config, "num_channels", 3)) != 3:
        raise InputError(
            f"model: {location} takes images of {channels} channels; only images in RGB, of 3, are supported"
        )
    return config
