"""The config of an AIM: as transformers writes configs, and as the authors of AIM published theirs."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

# The entries of a published config.json, which has no model_type, and what they are called here.
_PUBLISHED = {
    "embed_dim": "hidden_size",
    "num_blocks": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "img_size": "image_size",
    "patch_size": "patch_size",
    "num_channels": "num_channels",
}
_NEEDED = {"embed_dim", "num_blocks", "num_heads"}
_MLP_RATIO = 4


@strict
class AimConfig(PreTrainedConfig):
    """Config of an `AimModel`. The defaults are those of AIM-600M.

    Attributes:
        hidden_size: Width of a state; a multiple of 4 (positions) and of the number of heads.
        num_hidden_layers: L, the number of blocks.
        num_attention_heads: Heads of each block.
        intermediate_size: Width of each MLP; None: four times that of a state.
        image_size: Height and width of the images it was trained on, in pixels.
        patch_size: Height and width of a patch, in pixels.
        num_channels: Channels of an image.
        layer_norm_eps: Epsilon of every norm.

    Example:
        >>> AimConfig(hidden_size=64, num_attention_heads=2).intermediate_size
        256
    """

    model_type = "aim"

    hidden_size: int = 1536
    num_hidden_layers: int = 24
    num_attention_heads: int = 12
    intermediate_size: int | None = None
    image_size: int | list[int] | tuple[int, int] = 224
    patch_size: int | list[int] | tuple[int, int] = 14
    num_channels: int = 3
    layer_norm_eps: float = 1e-6
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        if self.intermediate_size is None and isinstance(self.hidden_size, int):
            self.intermediate_size = _MLP_RATIO * self.hidden_size
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]


AutoConfig.register("aim", AimConfig, exist_ok=True)


def is_published_aim(entries: Mapping[str, Any]) -> bool:
    """Whether a config.json is one of the published AIMs'.

    Example:
        >>> is_published_aim({"embed_dim": 1536, "num_blocks": 24, "num_heads": 12}), is_published_aim({})
        (True, False)
    """
    return "model_type" not in entries and entries.keys() >= _NEEDED


def from_published(entries: Mapping[str, Any]) -> AimConfig:
    """The config of a published AIM. What only its classifier reads (probe_layers, num_classes) is left out.

    Example:
        >>> from_published({"embed_dim": 1536, "num_blocks": 24, "num_heads": 12, "img_size": 224}).hidden_size
        1536
    """
    return AimConfig(**{ours: entries[theirs] for theirs, ours in _PUBLISHED.items() if theirs in entries})
