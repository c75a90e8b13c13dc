"""Tiny image encoders, built from configs, so that no test needs a hub; and images to embed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModel, PreTrainedModel

from midlayer_embed.models.vision.aim import AimConfig, AimModel
from support.vision.architectures import IMAGE_MODELS, PATCH, SIZE, Tiny

torch.set_num_threads(1)

# What starts as zeros, ones or the same for all of its kind, and would not show whether it is used.
_PLAIN_AT_FIRST = ("norm", "bias", "token", "position", "class_embedding", "lambda", "probe")
_PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": SIZE, "width": SIZE},
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.45],
    "image_std": [0.25, 0.3, 0.2],
}


def save_image_model(name: str, folder: Path, **entries: Any) -> Path:
    """Save one of `IMAGE_MODELS` with its image processor, with some entries of its config changed."""
    tiny = IMAGE_MODELS[name]
    tiny = tiny._replace(entries={**tiny.entries, **entries})
    model = build_image_model(tiny)
    if name == "aim-published":
        _save_as_published(model, folder)
    else:
        model.save_pretrained(folder)
        save_processor(folder)
    return folder


def build_image_model(tiny: Tiny) -> Any:
    """The model, random but reproducible, of weights that all show."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(tiny.model_type, **tiny.entries)
    if tiny.model_class:
        model: PreTrainedModel = getattr(transformers, tiny.model_class)(config)
    else:
        model = AimModel(config) if isinstance(config, AimConfig) else AutoModel.from_config(config)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if any(part in parameter_name.lower() for part in _PLAIN_AT_FIRST):
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def save_processor(folder: Path, **entries: Any) -> None:
    """Save the image processor of the tiny models, with some entries changed."""
    (folder / "preprocessor_config.json").write_text(json.dumps({**_PROCESSOR, **entries}), encoding="utf-8")


def _save_as_published(model: Any, folder: Path) -> None:
    """As AIM's authors publish: with the classifier on top, the entries of their config, and no image processor."""
    folder.mkdir(parents=True)
    config = model.config
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    weights |= {f"head.{name}.weight": torch.zeros(4, config.hidden_size) for name in ("k", "v", "linear")}
    save_file(weights, folder / "model.safetensors")
    entries = {
        **{"img_size": SIZE, "patch_size": PATCH, "num_channels": 3, "embed_dim": config.hidden_size},
        **{"num_blocks": config.num_hidden_layers, "num_heads": config.num_attention_heads},
        **{"probe_layers": 2, "num_classes": 4},
    }
    (folder / "config.json").write_text(json.dumps(entries), encoding="utf-8")


def images(n: int, *, seed: int = 0, width: int = 40, height: int = 30) -> list[Image.Image]:
    """Random images, all different."""
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)) for _ in range(n)]


def pixel_values(n: int, *, seed: int = 0, height: int = SIZE, width: int = SIZE) -> torch.Tensor:
    """Random pixel values (n, 3, height, width)."""
    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(seed))
