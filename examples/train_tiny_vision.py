"""Three tiny image models, trained on handwritten digits in three minutes: a ViT, an MAE and an AIM.

A machine without the Hub has no image models; these have learnt something, each from another task, and scikit-learn
ships the digits. They see the images that StarterImageClassification trains on, and none that a task is scored on:

    python examples/train_tiny_vision.py models/tiny-vision

Each becomes an ordinary folder: transformers loads `vit` and `mae`, and `ImageLayerwiseEncoder` loads `aim`, too. The
digits are written beside them, as PNG files in the folders `digits/train` and `digits/test`, one folder a label.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample, pixel_unshuffle
from transformers import (
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
    ViTMAEConfig,
    ViTMAEForPreTraining,
)

from leaderboard.experiments.optimizing import optimize
from leaderboard.tasks.images.starter import StarterImageClassification, StarterImageClustering
from midlayer_embed.ground.atomic import atomic_folder
from midlayer_embed.ground.checks import check_int
from midlayer_embed.ground.paths import target_folder
from midlayer_embed.ground.quiet import quiet_transformers
from midlayer_embed.ground.whole_files import write_json
from midlayer_embed.models.vision.aim import AimConfig, AimModel

_RECORD = "training.json"
_DECAY = 0.05
# Of the random affine map of each training image: radians, relative size, share of the width.
_TURN, _ZOOM, _SHIFT = 0.15, 0.1, 0.06
_MASKED = 0.75  # as in the paper of MAE
# Draws a batch with the generator and gives its loss.
Loss = Callable[[torch.Generator], torch.Tensor]


@dataclass(frozen=True)
class Training:
    """The settings of a model.

    Attributes:
        n_steps: Number of steps of the optimizer.
        n_blocks: Number of blocks, L.
        hidden_size: Width of the states.
        n_heads: Number of attention heads.
        image_size: Height and width in pixels; the processor enlarges the images of 8 x 8 pixels to it.
        patch_size: Height and width of a patch, in pixels.
        batch_size: Number of images in a step.
        learning_rate: The highest one.
        seed: Seed of the weights, of the order of the images and of their random changes.
    """

    n_steps: int
    n_blocks: int = 8
    hidden_size: int = 64
    n_heads: int = 4
    image_size: int = 24
    patch_size: int = 4
    batch_size: int = 64
    learning_rate: float = 2e-3
    seed: int = 0

    @property
    def n_patches(self) -> int:
        """Number of patches of an image."""
        return (self.image_size // self.patch_size) ** 2

    def config(self) -> dict[str, Any]:
        """The entries that the configs of all families share."""
        return {
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.n_blocks,
            "num_attention_heads": self.n_heads,
            "intermediate_size": 4 * self.hidden_size,
            "image_size": self.image_size,
            "patch_size": self.patch_size,
            "initializer_range": 0.08,  # narrow states need larger weights than the usual 0.02, or learn nothing
        }


class Digits:
    """The images that models are trained on.

    Args:
        training: The settings.
        processor: Makes the pixels, as it will when the model is used.
    """

    def __init__(self, training: Training, processor: ViTImageProcessorPil) -> None:
        content = StarterImageClassification.content()["train"]
        images = [_image(image).convert("RGB") for image in content["image"]]
        self.pixels: torch.Tensor = processor(images, return_tensors="pt")["pixel_values"]
        self.labels = torch.tensor(content["label"])
        self.batch_size = training.batch_size

    def draw(self, draws: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Images, each turned, zoomed and shifted a little, and which digits they are."""
        rows = torch.randint(len(self.pixels), (self.batch_size,), generator=draws)
        turn, zoom, across, down = 2 * torch.rand(4, self.batch_size, generator=draws) - 1
        turn, zoom = _TURN * turn, 1 + _ZOOM * zoom
        maps = torch.stack(
            [
                *(zoom * turn.cos(), -zoom * turn.sin(), 2 * _SHIFT * across),
                *(zoom * turn.sin(), zoom * turn.cos(), 2 * _SHIFT * down),
            ],
            dim=1,
        ).view(-1, 2, 3)
        pixels = self.pixels[rows]
        grid = affine_grid(maps, list(pixels.shape), align_corners=False)
        # Black is -1 after the processor, and what lies outside of an image is black.
        return grid_sample(pixels + 1, grid, align_corners=False) - 1, self.labels[rows]


def vit(training: Training, digits: Digits) -> tuple[nn.Module, PreTrainedModel, Loss]:
    """Says which digit it sees; supervised."""
    model = ViTForImageClassification(ViTConfig(**training.config(), num_labels=10))

    def loss(draws: torch.Generator) -> torch.Tensor:
        pixels, labels = digits.draw(draws)
        return cross_entropy(model(pixel_values=pixels).logits, labels)

    return model, model, loss


def mae(training: Training, digits: Digits) -> tuple[nn.Module, PreTrainedModel, Loss]:
    """Paints three quarters of the patches that it does not see, each normalised."""
    decoder = {
        "decoder_hidden_size": training.hidden_size,
        "decoder_num_hidden_layers": 2,
        "decoder_num_attention_heads": training.n_heads,
        "decoder_intermediate_size": 4 * training.hidden_size,
    }
    config = ViTMAEConfig(**training.config(), **decoder, mask_ratio=_MASKED, norm_pix_loss=True)
    model = ViTMAEForPreTraining(config)
    # transformers 5.23 leaves the fixed positions of a new model at zero. Encoder and decoder have the same width here.
    model.decoder.initialize_weights(training.n_patches)
    model.vit.embeddings.position_embeddings.data.copy_(model.decoder.decoder_pos_embed)

    def loss(draws: torch.Generator) -> torch.Tensor:
        pixels, _ = digits.draw(draws)
        noise = torch.rand(len(pixels), training.n_patches, generator=draws)
        found: torch.Tensor = model(pixel_values=pixels, noise=noise).loss
        return found

    return model, model, loss


def aim(training: Training, digits: Digits) -> tuple[nn.Module, PreTrainedModel, Loss]:
    """Predicts the next patch, normalised, from those before it and a prefix of random length."""
    model = AimModel(AimConfig(**training.config()))
    width = training.hidden_size
    n_values = 3 * training.patch_size**2
    head = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, n_values))

    def loss(draws: torch.Generator) -> torch.Tensor:
        pixels, _ = digits.draw(draws)
        target = pixel_unshuffle(pixels, training.patch_size).flatten(2).mT  # (batch, patches, values of a patch)
        variance, mean = torch.var_mean(target, dim=-1, keepdim=True)
        target = (target - mean) / (variance + 1e-6).sqrt()
        prefix = torch.randint(1, training.n_patches, (len(pixels),), generator=draws)
        states = model(pixels, is_causal=True, prefix_length=prefix).last_hidden_state
        errors = (head(states[:, :-1]) - target[:, 1:]).square().mean(dim=-1)
        predicted = torch.arange(1, training.n_patches) >= prefix[:, None]  # the prefix is seen, so not predicted
        return errors[predicted].mean()

    return nn.ModuleList([model, head]), model, loss


# The models by the names of their folders, with the number of steps.
MODELS = {"vit": (vit, 500), "mae": (mae, 900), "aim": (aim, 400)}


def train(
    folder: str | Path, name: str, training: Training | None = None, *, show_progress: bool = False
) -> list[float]:
    """Train one of the models and save it. One that is there already, of the same settings, is left as it is.

    Args:
        folder: Where the folder of the model goes, under its name.
        name: "vit", "mae" or "aim".
        training: The settings; None: those of the name.
        show_progress: Show a bar with the loss on stderr.

    Returns:
        The training loss of each step: nats for the ViT, mean squared errors of normalised pixels for the others.

    Raises:
        InputError: (a ValueError) a number of the settings is below 1.

    Example:
        >>> import tempfile
        >>> len(train(tempfile.mkdtemp(), "vit", Training(n_steps=2, n_blocks=1)))
        2
    """
    build, n_steps = MODELS[name]
    training = training or Training(n_steps)
    for field, value in asdict(training).items():
        if field not in ("learning_rate", "seed"):
            check_int(field, value, 1)
    out = target_folder(folder, "folder") / name
    asked = {**asdict(training), "images": StarterImageClassification.content_sha256()}
    if (losses := _finished(out, asked)) is not None:
        return losses
    size = {"height": training.image_size, "width": training.image_size}
    processor = ViTImageProcessorPil(size=size, do_convert_rgb=True)
    digits = Digits(training, processor)
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
        torch.manual_seed(training.seed)
        trained, saved, loss_of = build(training, digits)
    steps = optimize(
        trained.train(),
        loss_of,
        training.n_steps,
        training.learning_rate,
        decay=_DECAY,
        seed=training.seed,
        description=f"Training {name}",
        show_progress=show_progress,
    )
    losses = [loss for _, loss in steps]
    with atomic_folder(out, replace=True) as partial, quiet_transformers():
        saved.save_pretrained(partial)
        processor.save_pretrained(partial)
        write_json(partial / _RECORD, {"training": asked, "losses": losses})
    return losses


def write_digits(folder: str | Path) -> None:
    """Write the digits as PNG files, `digits/train/LABEL/ROW.png` and the same in `digits/test`.

    The 897 to train on are those that the models are trained on. The 900 to test on are all others: those that the
    starter tasks classify, then those that they cluster.

    Args:
        folder: Where the folder `digits` goes; one that is there already is left as it is.
    """
    out = target_folder(folder, "folder") / "digits"
    if out.is_dir():
        return
    with atomic_folder(out) as partial:
        classified, clustered = StarterImageClassification.content(), StarterImageClustering.content()
        for split, parts in {"train": [classified["train"]], "test": [classified["test"], clustered["test"]]}.items():
            labelled = (pair for part in parts for pair in zip(part["image"], part["label"], strict=True))
            for row, (image, label) in enumerate(labelled):
                place = partial / split / str(label)
                place.mkdir(parents=True, exist_ok=True)
                _image(image).save(place / f"{row:04}.png")


def _image(greys: list[list[int]]) -> Image.Image:
    return Image.fromarray(np.array(greys, dtype=np.uint8))


def _finished(folder: Path, asked: dict[str, object]) -> list[float] | None:
    """The losses of a model that is there already with these settings. Its folder appears as a whole."""
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        return list(record["losses"]) if record["training"] == asked else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Train a tiny ViT, MAE and AIM on scikit-learn's digits.")
    parser.add_argument("folder", metavar="OUT", help="where the folders vit, mae and aim go")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="which ones (default: all)")
    parser.add_argument("--steps", type=int, metavar="N", help="steps of each (default: " + _defaults() + ")")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed (default: 0)")
    arguments = parser.parse_args()
    write_digits(arguments.folder)
    for name in arguments.models:
        training = Training(arguments.steps or MODELS[name][1], seed=arguments.seed)
        losses = train(arguments.folder, name, training, show_progress=True)
        print(f"{name}: training loss {losses[0]:.2f} to {np.mean(losses[-20:]):.2f}")


def _defaults() -> str:
    return ", ".join(f"{name} {n_steps}" for name, (_, n_steps) in MODELS.items())


if __name__ == "__main__":
    main()
