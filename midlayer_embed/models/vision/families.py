"""Table of image encoders: the paths of their blocks and final norm, and the tokens before the patches.

To add an architecture, add a row here and a tiny model to the tests. There is no search by structure for images: which
tokens are patches cannot be seen from shapes.
"""

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, cast

from transformers import PretrainedConfig

from midlayer_embed.errors import InputError
from midlayer_embed.models.families import Family

if TYPE_CHECKING:
    import torch


# By the published attention probes of every layer on ImageNet-100 ("Layer by Layer"): see docs/guides/vision.md.
_LAST = ("last", "an image encoder, whose last layer mostly embeds best, unlike that of a language model")
_EARLIER = (
    "depth:0.75",
    "an autoregressive image encoder, whose published best layer is at three quarters of its depth",
)


@dataclass(frozen=True)
class VisionFamily(Family):
    """Properties of an image encoder, besides those of every family.

    Attributes:
        n_prefix: Number of tokens before the patches: CLS, distillation token, registers.
        has_cls: Whether token 0 is CLS.
        norm_after_pooling: Whether the final norm acts on the mean of the patches, not on each token.
        asks_for_size: Whether the forward pass has to be told that an image has another size than the config's.
        any_size: Whether images may have other sizes than the config's.
    """

    auto: tuple[str, str] | None = _LAST
    n_prefix: int = 0
    has_cls: bool = False
    norm_after_pooling: bool = False
    asks_for_size: bool = False
    any_size: bool = True


# CLS and patches, as in the first ViT.
_VIT = VisionFamily("layers", "layernorm", n_prefix=1, has_cls=True, asks_for_size=True)


def _beit(config: PretrainedConfig) -> VisionFamily:
    # One of two norms exists: of each token, or of the mean of the patches.
    after = bool(config.use_mean_pooling)
    return VisionFamily(
        "layers",
        "pooler.layernorm" if after else "layernorm",
        ends_with_norm=not after,
        n_prefix=1,
        has_cls=True,
        norm_after_pooling=after,
    )


def _dinov2_with_registers(config: PretrainedConfig) -> VisionFamily:
    return VisionFamily("encoder.layer", "layernorm", n_prefix=1 + config.num_register_tokens, has_cls=True)


def _dinov3(config: PretrainedConfig) -> VisionFamily:
    return VisionFamily("model.layer", "norm", n_prefix=1 + config.num_register_tokens, has_cls=True)


def _aimv2(config: PretrainedConfig) -> VisionFamily:
    # Only the models of native resolution compute their positions, and the others do not interpolate them.
    return VisionFamily(
        "encoder.layers",
        "rms_norm",
        model_class="Aimv2VisionModel",
        weights="vision_model.",
        any_size=bool(config.is_native),
    )


_FAMILIES: dict[str, VisionFamily | Callable[[PretrainedConfig], VisionFamily]] = {
    "aim": VisionFamily(
        "trunk.blocks",
        "trunk.post_trunk_norm",
        hidden_states=None,
        model_class="midlayer_embed.models.vision.aim.AimModel",
        auto=_EARLIER,
    ),
    "aimv2_vision_model": _aimv2,
    "beit": _beit,
    # The model itself norms CLS only, for its pooled output.
    "clip_vision_model": VisionFamily(
        "encoder.layers",
        "post_layernorm",
        ends_with_norm=False,
        model_class="CLIPVisionModel",
        n_prefix=1,
        has_cls=True,
        asks_for_size=True,
    ),
    "deit": VisionFamily("layers", "layernorm", n_prefix=2, has_cls=True, asks_for_size=True),
    "dinov2": VisionFamily("encoder.layer", "layernorm", n_prefix=1, has_cls=True),
    "dinov2_with_registers": _dinov2_with_registers,
    "dinov3_vit": _dinov3,
    "ijepa": VisionFamily("layers", "layernorm", asks_for_size=True),
    "siglip_vision_model": VisionFamily(
        "encoder.layers", "post_layernorm", model_class="SiglipVisionModel", asks_for_size=True
    ),
    "vit": _VIT,
    "vit_mae": _VIT,
}
_BEIT_IN_TRAINING = "BeitForMaskedImageModeling"
# Checkpoints of an image encoder and a text encoder, by the image encoder's own type.
_TWO_TOWERS = {"aimv2": "aimv2_vision_model", "clip": "clip_vision_model", "siglip": "siglip_vision_model"}


def known_vision_families() -> list[str]:
    """Sorted `config.model_type`s of the table; those of two towers are listed beside their image encoders.

    Example:
        >>> "vit" in known_vision_families(), "clip" in known_vision_families()
        (True, True)
    """
    return sorted({**_FAMILIES, **_TWO_TOWERS})


def image_encoder_config(config: PretrainedConfig) -> PretrainedConfig:
    """The config of a checkpoint's image encoder, as it embeds.

    That is the image tower of two; MAE without masking; BEiT before finetuning with the norm that it has.

    Args:
        config: Config of the checkpoint. It is returned as it is if nothing is to change, and never changed.

    Example:
        >>> from transformers import CLIPConfig, ViTMAEConfig
        >>> image_encoder_config(CLIPConfig()).model_type, image_encoder_config(ViTMAEConfig()).mask_ratio
        ('clip_vision_model', 0.0)
    """
    if config.model_type in _TWO_TOWERS:
        quantized = getattr(config, "quantization_config", None)
        config = cast(PretrainedConfig, config.vision_config)
        if quantized is not None:
            config = deepcopy(config)
            config.quantization_config = quantized
    elif config.model_type == "vit_mae":  # it masks whenever it runs, not only in training
        config = deepcopy(config)
        config.mask_ratio = 0.0
    elif config.model_type == "beit" and _BEIT_IN_TRAINING in (config.architectures or ()):
        config = deepcopy(config)
        config.use_mean_pooling = False  # whatever it says, the norm of such a checkpoint is of each token
    return config


def vision_family_of(config: PretrainedConfig) -> VisionFamily | None:
    """The family of an image encoder's config (of a two-tower config, its image tower's); None if it is not known.

    Example:
        >>> from transformers import DeiTConfig, LlamaConfig
        >>> vision_family_of(DeiTConfig()).n_prefix, vision_family_of(LlamaConfig())
        (2, None)
    """
    family = _FAMILIES.get(_TWO_TOWERS.get(config.model_type, config.model_type))
    return family(image_encoder_config(config)) if callable(family) else family


def n_patches(config: PretrainedConfig, height: int | None = None, width: int | None = None) -> int:
    """The number of patches that an image encoder makes of an image; rows and columns that fill no patch are cut off.

    Args:
        config: Config of the image encoder.
        height: Height of the processed image, in pixels; None: the config's.
        width: Width of the processed image, in pixels; None: the config's.

    Example:
        >>> from transformers import ViTConfig
        >>> n_patches(ViTConfig(), 224, 224)  # of 16 x 16 pixels
        196
    """
    own, patch = height_and_width(config.image_size), height_and_width(config.patch_size)
    return prod(
        (mine if pixels is None else pixels) // size
        for pixels, mine, size in zip((height, width), own, patch, strict=True)
    )


def forward_arguments(config: PretrainedConfig, pixel_values: "torch.Tensor") -> dict[str, Any]:
    """The arguments with which an image encoder keeps all patches, in their order, whatever the size of the images.

    Args:
        config: Config of the image encoder, as `image_encoder_config` gives it.
        pixel_values: (n_images, 3, height, width), in the dtype of the model.

    Returns:
        Keywords for the model: the pixels, MAE's noise (which orders the patches), and whether to interpolate positions
        for images of another size than the config's.

    Raises:
        InputError: (a ValueError) images of a size that the model cannot take.

    Example:
        >>> import torch
        >>> from transformers import ViTMAEConfig
        >>> arguments = forward_arguments(ViTMAEConfig(), torch.zeros(2, 3, 224, 224))
        >>> sorted(arguments), tuple(arguments["noise"].shape)
        (['noise', 'pixel_values'], (2, 196))
    """
    import torch

    family = vision_family_of(config)
    assert family is not None, config.model_type
    height, width = pixel_values.shape[-2:]
    patches = n_patches(config, height, width)
    if not patches:
        raise InputError(
            f"images: expected at least one patch of {_spelt(config.patch_size)} pixels, got images of "
            f"{height} x {width} pixels"
        )
    arguments: dict[str, Any] = {"pixel_values": pixel_values}
    if (height, width) != height_and_width(config.image_size):
        if not family.any_size:
            raise InputError(
                f"images: this {config.model_type} takes images of {_spelt(config.image_size)} pixels, got "
                f"{height} x {width}"
            )
        if family.asks_for_size:
            arguments["interpolate_pos_encoding"] = True
    if config.model_type == "vit_mae":  # float32: bfloat16 counts to 256 only
        order = torch.arange(patches, dtype=torch.float32, device=pixel_values.device)
        arguments["noise"] = order.expand(len(pixel_values), -1)
    return arguments


def height_and_width(size: Any) -> tuple[int, int]:
    """The height and width that a config means by a size: one number for both, or the two.

    Example:
        >>> height_and_width(224), height_and_width([224, 112])
        ((224, 224), (224, 112))
    """
    height, width = size if isinstance(size, Iterable) else (size, size)
    return int(height), int(width)


def _spelt(size: Any) -> str:
    height, width = height_and_width(size)
    return f"{height} x {width}"
