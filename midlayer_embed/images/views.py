"""Augmented views of images for the invariance metrics, made by kornia when they are needed.

A view depends only on the image, the number of the view and the seed. This is not meant to augment training data.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from midlayer_embed.ground.checks import check_installed, check_int
from midlayer_embed.ground.threads import OneAtATime
from midlayer_embed.images.pictures import Picture, check_images

if TYPE_CHECKING:
    from PIL import Image

# Those of DINO's global crops (Caron et al., 2021): an area of 40% to 100%, flipped or not, and then in 8 of 10 views
# other colours, in 2 of 10 none. Its blur and solarisation are left out: most models read so few pixels that a blur
# changes little.
_SCALE, _RATIO = (0.4, 1.0), (3 / 4, 4 / 3)
_FLIP, _JITTER, _GREY = 0.5, 0.8, 0.2
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = 0.4, 0.4, 0.2, 0.1
# Short side that larger images are resized to first. Models read 224 pixels or so.
_SHORT_SIDE = 256
# Increment when views change for the same version of kornia.
_FORMAT_VERSION = 1
_CACHE_BYTES = 256 * 2**20
# kornia draws from torch's global generator; one thread at a time sets it, and sets it back.
_DRAWING = OneAtATime()


def augmented_pictures(images: Iterable[Any], n_views: int = 2, *, seed: int = 0) -> list[list[Picture]]:
    """Augment images with kornia: a random crop, a flip, and other colours.

    All views are augmented; none is the original image. View v of an image does not depend on the other images, their
    order, the number of views or the thread, given the same versions of kornia and torch. The global random states are
    not changed. Views are made when they are read, and not kept.

    A view is square, its side the short side of the image, at most 256 pixels: a crop of 40% to 100% of the area at an
    aspect ratio of 3/4 to 4/3, mirrored in half of the views; brightness, contrast (0.4 each), saturation (0.2) and hue
    (0.1) are changed in 80% of the views, and 20% are grey.

    Args:
        images: Images as `check_images` takes them.
        n_views: Number of views per image, from 1.
        seed: Seed of the views.

    Returns:
        n_views lists of n_images pictures: `views[v][i]` is view v of image i.

    Raises:
        InputError: (a ValueError) kornia or Pillow is not installed, an image is invalid, or an argument is out of
            range.

    Source: Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", 2021, appendix; after Grill et
        al., "Bootstrap Your Own Latent", 2020.

    Example:
        >>> import numpy as np
        >>> image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
        >>> views = augmented_pictures([image], n_views=16)
        >>> len(views), views[0][0].pil().size
        (16, (32, 32))
        >>> views[:2] == augmented_pictures([image])
        True
    """
    pictures = check_images(images)
    n_views = check_int("n_views", n_views, 1)
    seed = check_int("seed", seed, 0)
    check_installed("kornia", "augmented views", extra="vision")
    return [[_view_of(picture, view, seed) for picture in pictures] for view in range(n_views)]


@dataclass(frozen=True)
class _View:
    """The source of a picture: one view of another one."""

    picture: Picture
    seed: bytes

    def pil(self) -> "Image.Image":
        return _augment(_shrunk(self.picture), self.seed)


def _view_of(picture: Picture, number: int, seed: int) -> Picture:
    digest = hashlib.sha256(f"view {_FORMAT_VERSION}:{seed}:{number}:{picture.key}".encode())
    return Picture(digest.hexdigest(), picture.name, _View(picture, digest.digest()))


def _augment(image: "Image.Image", seed: bytes) -> "Image.Image":
    import kornia.augmentation as K
    import numpy as np
    import torch
    from PIL import Image

    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    side = min(image.size)
    generator = torch.default_generator
    with _DRAWING:
        state = generator.get_state()
        try:
            generator.manual_seed(int.from_bytes(seed[:8], "big") >> 1)
            steps: list[Any] = [
                K.RandomResizedCrop((side, side), scale=_SCALE, ratio=_RATIO, align_corners=False),
                K.RandomHorizontalFlip(p=_FLIP),
                K.ColorJitter(_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE, p=_JITTER),
                K.RandomGrayscale(p=_GREY),
            ]
            shapes = [pixels.shape, *[torch.Size((1, 3, side, side))] * 3]
            draws = [step.forward_parameters(shape) for step, shape in zip(steps, shapes, strict=True)]
        finally:
            generator.set_state(state)
    with torch.inference_mode():
        for step, drawn in zip(steps, draws, strict=True):
            pixels = step(pixels, params=drawn)
    values = (pixels[0].clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(values.permute(1, 2, 0).contiguous().numpy())


def _shrunk(picture: Picture) -> "Image.Image":
    """The image at the size that views are cut from. Recent ones are kept, since an image has several views."""
    from PIL import Image

    found = _cache.get(picture.key)
    if found is None:
        found = picture.pil()
        factor = _SHORT_SIDE / min(found.size)
        if factor < 1:
            width, height = (max(1, round(side * factor)) for side in found.size)
            found = found.resize((width, height), Image.Resampling.BICUBIC)
        _cache.put(picture.key, found)
    return found


class _Shrunk:
    """The most recently used images, up to a number of bytes."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._images: OrderedDict[str, Image.Image] = OrderedDict()
        self._lock = OneAtATime()

    def get(self, key: str) -> "Image.Image | None":
        with self._lock:
            if key in self._images:
                self._images.move_to_end(key)
            return self._images.get(key)

    def put(self, key: str, image: "Image.Image") -> None:
        with self._lock:
            if key not in self._images:
                self._images[key] = image
                self.bytes += _bytes_of(image)
            while self.bytes > self.max_bytes:
                self.bytes -= _bytes_of(self._images.popitem(last=False)[1])


def _bytes_of(image: "Image.Image") -> int:
    return image.width * image.height * 3


_cache = _Shrunk(_CACHE_BYTES)
