"""Image processors: from RGB images to the pixel values that a model takes, exactly those of transformers.

Always the processors of Pillow and numpy, so that an image has the same pixel values with and without torchvision.
"""

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoImageProcessor
from transformers.models.auto.image_processing_auto import get_image_processor_config

from midlayer_embed.errors import InputError, first_line
from midlayer_embed.ground.checks import check_installed
from midlayer_embed.ground.quiet import quiet_transformers
from midlayer_embed.images.pictures import Picture
from midlayer_embed.models.checkpoint import LOADING_ERRORS, Checkpoint
from midlayer_embed.models.vision.dinov3_processor import IMAGENET_MEAN, IMAGENET_STD, Dinov3Processor

if TYPE_CHECKING:
    from PIL import Image

_FILE = "preprocessor_config.json"
# What transformers ends some messages with: a list of all its models, and where code can be read.
_ENDS_OF_MESSAGES = (". Should have ", ". You can inspect ")
# Threads that decode and resize at a time; each holds one decoded image.
_MOST_THREADS = 8
# The published AIM checkpoints have no processor of their own. Their authors evaluate with the centre 7/8 of the image,
# resized with bicubic interpolation, and ImageNet's mean and standard deviation.
_AIM_CROP = 0.875
_NAME_OF_DINOV3 = "DINOv3ViTImageProcessor"


@dataclass(frozen=True)
class Processor:
    """A model's image processor.

    Attributes:
        processor: The processor of transformers.
        location: Folder or Hub id that it comes from, for messages.
    """

    processor: Any
    location: str

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What it does to an image, for records."""
        return dict(self.processor.to_dict())

    def pixels(self, images: "Sequence[Image.Image]") -> torch.Tensor:
        """Pixel values of images that the processor makes equally large.

        Args:
            images: RGB images of any size.

        Returns:
            float32 (b, 3, height, width). An image has the same values in every batch.

        Raises:
            InputError: (a ValueError) an image cannot be processed, or the processor leaves them different sizes.
        """
        found = [self._values(image, f"images[{number}]") for number, image in enumerate(images)]
        sizes = sorted({tuple(values.shape[1:]) for values in found})
        if len(sizes) > 1:
            raise InputError(
                f"images: the image processor of {self.location} makes images of different sizes, such as {sizes[0]} "
                f"and {sizes[-1]}; expected images of one size"
            )
        return torch.stack(found)

    def pixels_of(self, pictures: Sequence[Picture]) -> list[torch.Tensor]:
        """Pixel values of pictures, which are decoded and processed by several threads.

        Returns:
            float32 (3, height, width) for each picture. Most processors make all of them equally large.

        Raises:
            InputError: (a ValueError) a picture cannot be read or processed; the message names the first one.
        """

        def values(picture: Picture) -> torch.Tensor:
            return self._values(picture.pil(), picture.name)

        threads = min(len(pictures), os.cpu_count() or 1, _MOST_THREADS)
        if threads < 2:
            return [values(picture) for picture in pictures]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(values, pictures))

    def _values(self, image: "Image.Image", name: str) -> torch.Tensor:
        self._check_room(image, name)
        try:
            found = self.processor(images=[image], return_tensors="np")["pixel_values"]
        except (ValueError, TypeError, ArithmeticError, LookupError, RuntimeError, MemoryError) as error:
            raise InputError(
                f"{name}: {image.width} x {image.height} pixels cannot be processed for {self.location}: "
                f"{first_line(error)}"
            ) from error
        values = np.asarray(found)
        if values.ndim != 4 or values.shape[:2] != (1, 3):
            raise InputError(
                f"model: the image processor of {self.location} makes pixel values of shape {values.shape} of one "
                "image; expected (1, 3, height, width)"
            )
        return torch.from_numpy(np.ascontiguousarray(values[0], dtype=np.float32))

    def _check_room(self, image: "Image.Image", name: str) -> None:
        """Reject an image so narrow that it would fill the memory once its short side is as long as the model's."""
        from PIL import Image

        size = getattr(self.processor, "size", None) or {}
        short, longest = size.get("shortest_edge"), size.get("longest_edge")
        if not getattr(self.processor, "do_resize", False) or not short or longest or Image.MAX_IMAGE_PIXELS is None:
            return
        width, height = sorted((image.width, image.height))
        if short * short * height / width > Image.MAX_IMAGE_PIXELS:
            raise InputError(
                f"{name}: {image.width} x {image.height} pixels are too narrow for {self.location}, which resizes the "
                f"short side to {short}: that makes more than {Image.MAX_IMAGE_PIXELS:,} pixels"
            )


def load_processor(checkpoint: Checkpoint) -> Processor:
    """Load the image processor of a checkpoint.

    Args:
        checkpoint: From `find_checkpoint`, of an image model.

    Raises:
        InputError: (a ValueError) it is missing or cannot be read, or Pillow is not installed.
    """
    check_installed("PIL", "model", extra="vision")
    location, kwargs = checkpoint.location, checkpoint.loading_kwargs()
    try:
        with quiet_transformers():
            found = get_image_processor_config(location, revision=kwargs["revision"])
            if found:
                processor = _load(found, checkpoint)
            elif checkpoint.config.model_type == "aim":
                processor = _processor_of_aim(checkpoint.config)
            else:
                raise InputError(
                    f"model: {location} has no {_FILE}, so how its images are resized and normalised is unknown"
                )
    except InputError:
        raise
    except LOADING_ERRORS as error:
        why = first_line(error)
        for end in _ENDS_OF_MESSAGES:
            why = why.partition(end)[0]
        raise InputError(f"model: the image processor of {location} cannot be loaded: {why}") from error
    return Processor(processor, location)


def _load(config: dict[str, Any], checkpoint: Checkpoint) -> Any:
    name = config.get("image_processor_type", config.get("feature_extractor_type")) or ""
    if str(name).startswith(_NAME_OF_DINOV3) or (not name and checkpoint.config.model_type == "dinov3_vit"):
        return Dinov3Processor.from_dict(config)
    load: Any = AutoImageProcessor.from_pretrained
    return load(checkpoint.location, **checkpoint.loading_kwargs(), backend="pil")


def _processor_of_aim(config: Any) -> Any:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    size = int(getattr(config, "image_size", None) or 224)
    return CLIPImageProcessorPil(
        size={"shortest_edge": math.ceil(size / _AIM_CROP)},
        crop_size={"height": size, "width": size},
        image_mean=list(IMAGENET_MEAN),
        image_std=list(IMAGENET_STD),
    )
