"""The configs of the tiny image encoders: one of each architecture, and what is particular to some; plain data."""

from typing import Any, NamedTuple

N_BLOCKS = 3
DIM = 32
SIZE = 24
PATCH = 8
N_PATCHES = (SIZE // PATCH) ** 2

_IMAGES = {"image_size": SIZE, "patch_size": PATCH, "num_channels": 3}
_COMMON = {
    **_IMAGES,
    **{"hidden_size": DIM, "num_hidden_layers": N_BLOCKS, "num_attention_heads": 4, "intermediate_size": 48},
    "initializer_range": 0.15,
}
# What a text encoder beside an image encoder is made of.
_TEXTS = {
    **{"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 20},
    **{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
}
_DECODER = {f"decoder_{name}": value for name, value in _TEXTS.items() if name.split("_")[0] != "vocab"}
_BEIT = {**_COMMON, "use_relative_position_bias": True}
_BEIT_OF_CLS = {
    **_COMMON,
    "use_mean_pooling": False,
    "use_shared_relative_position_bias": True,
    "use_absolute_position_embeddings": True,
}


def _two_towers(**of_images: Any) -> dict[str, Any]:
    return {"vision_config": {**_COMMON, **of_images}, "text_config": _TEXTS, "projection_dim": 8}


class Tiny(NamedTuple):
    """A tiny image encoder.

    Attributes:
        model_type: Its `config.model_type`.
        entries: Entries of its config.
        n_prefix: Number of tokens before the patches.
        norm: Path of its final norm.
        model_class: Class that is saved, if it has heads.
    """

    model_type: str
    entries: dict[str, Any] = _COMMON
    n_prefix: int = 1
    norm: str = "layernorm"
    model_class: str | None = None

    @property
    def has_cls(self) -> bool:
        return self.n_prefix > 0

    @property
    def pools_first(self) -> bool:
        """Whether its norm acts on the mean of the patches."""
        return self.norm.startswith("pooler.")


# A variant of an architecture is named after what is particular to it.
IMAGE_MODELS: dict[str, Tiny] = {
    "vit": Tiny("vit"),
    "vit-classifier": Tiny("vit", model_class="ViTForImageClassification"),
    "vit-masked": Tiny("vit", {**_COMMON, "encoder_stride": PATCH}, model_class="ViTForMaskedImageModeling"),
    "deit": Tiny("deit", n_prefix=2),
    "deit-teacher": Tiny("deit", n_prefix=2, model_class="DeiTForImageClassificationWithTeacher"),
    "beit": Tiny("beit", _BEIT, norm="pooler.layernorm"),
    "beit-classifier": Tiny("beit", _BEIT, norm="pooler.layernorm", model_class="BeitForImageClassification"),
    "beit-cls": Tiny("beit", _BEIT_OF_CLS),
    "beit-masked": Tiny("beit", {**_BEIT, "use_mask_token": True}, model_class="BeitForMaskedImageModeling"),
    "dinov2": Tiny("dinov2", {**_COMMON, "mlp_ratio": 2}),
    "dinov2-giant": Tiny("dinov2", {**_COMMON, "mlp_ratio": 2, "use_swiglu_ffn": True}),
    "dinov2-registers": Tiny(
        "dinov2_with_registers", {**_COMMON, "mlp_ratio": 2, "num_register_tokens": 4}, n_prefix=5
    ),
    "dinov3": Tiny("dinov3_vit", {**_COMMON, "num_register_tokens": 3}, n_prefix=4, norm="norm"),
    "mae": Tiny("vit_mae"),
    "mae-pretraining": Tiny("vit_mae", {**_COMMON, **_DECODER}, model_class="ViTMAEForPreTraining"),
    "clip": Tiny("clip", _two_towers(), norm="post_layernorm"),
    "clip-vision": Tiny("clip_vision_model", norm="post_layernorm"),
    "clip-projected": Tiny("clip_vision_model", norm="post_layernorm", model_class="CLIPVisionModelWithProjection"),
    "siglip": Tiny("siglip", _two_towers(), n_prefix=0, norm="post_layernorm"),
    "siglip-vision": Tiny("siglip_vision_model", n_prefix=0, norm="post_layernorm"),
    "siglip-headless": Tiny("siglip_vision_model", {**_COMMON, "vision_use_head": False}, 0, "post_layernorm"),
    "aimv2": Tiny("aimv2", _two_towers(), n_prefix=0, norm="rms_norm"),
    "aimv2-vision": Tiny("aimv2_vision_model", n_prefix=0, norm="rms_norm"),
    "aimv2-native": Tiny("aimv2_vision_model", {**_COMMON, "is_native": True, "use_head": False}, 0, "rms_norm"),
    "ijepa": Tiny("ijepa", n_prefix=0),
    "aim": Tiny("aim", {**_COMMON, "intermediate_size": None}, n_prefix=0, norm="trunk.post_trunk_norm"),
    "aim-published": Tiny("aim", {**_COMMON, "intermediate_size": None}, 0, "trunk.post_trunk_norm"),
}
# One of each kind: one token before the patches, several, a tower of two, and one that norms what it has pooled.
IMAGE_FAMILIES = ["vit", "dinov3", "siglip", "beit"]
