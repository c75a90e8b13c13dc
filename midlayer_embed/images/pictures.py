"""Images of all kinds as pictures: RGB pixels that are read when they are needed, and a key of the content.

Pixels are those that mteb and transformers see: EXIF orientation applied, the first frame, `convert("RGB")`. Pillow
alone would clip 16-bit grey to white, so that is scaled here. What could mean two things is an error.
"""

import hashlib
import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from midlayer_embed.errors import InputError, InputTypeError, first_line
from midlayer_embed.ground.checks import check_installed
from midlayer_embed.ground.paths import user_path
from midlayer_embed.ground.threads import OneAtATime
from midlayer_embed.ground.whole_files import file_sha256

if TYPE_CHECKING:
    from typing import TypeGuard

    from PIL import Image

# Formats that are read, where this build of Pillow has them. Some others start a program to be read (EPS), or have no
# mark by which other files can be told from them (TGA).
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO")
# Sixteen bits to eight: 65535 / 255.
_16_TO_8 = 257
_KINDS = "a path, encoded bytes, a PIL image, an array (height, width, 3) of uint8, or a dict with bytes or path"
# Warnings are silenced for the whole process, so one thread at a time opens a file; all of them decode.
_OPENING = OneAtATime()


class Made(Protocol):
    """An image that is made when it is needed, such as a view of another one."""

    def pil(self) -> "Image.Image":
        """The image in RGB."""


@dataclass(frozen=True, eq=False)
class Picture:
    """An image, not decoded yet. Two pictures of the same content are equal.

    Attributes:
        key: Hash of the content: of the encoded bytes, of the RGB pixels of an image or array in memory, or of what an
            image is made from.
        name: What messages call it: its number in the list that it came from, and its path.
        source: A path, encoded bytes, a PIL image, or what makes it.
    """

    key: str
    name: str
    source: "Path | bytes | Image.Image | Made"

    def pil(self) -> "Image.Image":
        """The image in RGB, decoded anew.

        Raises:
            InputError: (a ValueError) it cannot be read; the message names it and says why.
        """
        source: Any = self.source
        if isinstance(source, (bytes, Path)):
            with self._opened(source) as image:
                return self._rgb(image)
        return self._rgb(source) if _is_pil(source) else source.pil()

    def check(self) -> None:
        """Decode the image as cheaply as shows that it can be read.

        Raises:
            InputError: (a ValueError) as `pil`.
        """
        if isinstance(self.source, (bytes, Path)):
            with self._opened(self.source) as image:
                image.draft("RGB", (1, 1))  # JPEG alone: reads the whole file, and computes a 64th of the pixels
                self._rgb(image)

    def to_json(self) -> dict[str, str]:
        """What stands for the picture in records: `{"image": key}`."""
        return {"image": self.key}

    def _opened(self, source: Path | bytes) -> "Image.Image":
        from PIL import Image, UnidentifiedImageError

        if isinstance(source, Path):
            _check_file(source, self.name)
        try:
            with _OPENING, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                file = BytesIO(source) if isinstance(source, bytes) else source
                image: Image.Image = Image.open(file, formats=_formats())
        except Image.DecompressionBombError:
            raise self._too_large() from None
        except UnidentifiedImageError:
            raise InputError(f"{self.name} is not an image that can be read: of another format, or broken") from None
        except Exception as error:  # plugins raise anything
            raise self._unreadable(error) from error
        _check_size(image, self.name)
        return image

    def _rgb(self, image: "Image.Image") -> "Image.Image":
        from PIL import Image

        try:
            return _to_rgb(image, self.name)
        except InputError:
            raise
        except Image.DecompressionBombError:
            raise self._too_large() from None
        except Exception as error:  # decoders raise anything
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> InputError:
        return InputError(f"{self.name} cannot be read: {first_line(error)}")

    def _too_large(self) -> InputError:
        from PIL import Image

        return InputError(f"{self.name} has more than {Image.MAX_IMAGE_PIXELS:,} pixels; expected a smaller image")

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if isinstance(other, Picture) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"Picture({self.name}, key={self.key[:12]})"


def check_images(images: Iterable[Any], name: str = "images") -> list[Picture]:
    """Turn images of all kinds into pictures. Files are read for their keys, and not decoded.

    Args:
        images: PIL images, paths, encoded bytes, values of the `Image` feature of datasets (PIL images, or dicts with
            bytes or path), pictures, or arrays: (height, width), (height, width, 1), (height, width, 3) or
            (height, width, 4), of uint8, or of floats in [0, 1]. Transparency is dropped.
        name: Name of the argument, for messages.

    Returns:
        The pictures, in the order of the images.

    Raises:
        InputTypeError: (a ValueError and a TypeError) not a list of images; the message names the first that is none.
        InputError: (a ValueError) a file is missing, empty or a folder; pixels could mean two things; Pillow is not
            installed.

    Example:
        >>> grey = np.zeros((2, 3), np.uint8)
        >>> check_images([grey])[0].pil().size
        (3, 2)
        >>> len(set(check_images([grey, grey])))
        1
        >>> check_images([grey.astype(int)])
        Traceback (most recent call last):
        midlayer_embed.errors.InputError: images[0]: expected an array of uint8, or of floats in [0, 1], got int64
    """
    check_installed("PIL", name, extra="vision")
    if is_one_image(images) or not isinstance(images, Iterable):
        given = f"an array {images.shape}" if isinstance(images, np.ndarray) else _kind_of(images)
        raise InputTypeError(f"{name}: expected a list of images, got {given}; put one image in a list")
    return [picture_of(image, f"{name}[{number}]") for number, image in enumerate(images)]


def is_one_image(images: Any) -> bool:
    """Whether a value is one image, not a list of them; an array of up to three dimensions is one.

    Example:
        >>> is_one_image(np.zeros((8, 8, 3), np.uint8)), is_one_image("cat.jpg"), is_one_image(["cat.jpg"])
        (True, True, False)
    """
    if isinstance(images, np.ndarray):
        return images.dtype != object and images.ndim < 4
    return _is_image(images)


def picture_of(image: Any, name: str) -> Picture:
    """One image as a picture; see `check_images`.

    Args:
        image: The image.
        name: What messages call it; the path of a file is added.
    """
    if isinstance(image, Picture):
        return image
    if isinstance(image, Mapping):
        image = _value_of(image, name)
    if isinstance(image, (str, os.PathLike)):
        path = user_path(image, name)
        called = f"{name}: {path}"
        _check_file(path, called)
        try:
            return Picture(file_sha256(path), called, path)
        except OSError as error:
            raise InputError(f"{called} cannot be read: {error.strerror}") from None
    if isinstance(image, (bytes, bytearray, memoryview)):
        if not len(image):
            raise InputError(f"{name}: expected an encoded image, got no bytes")
        encoded = bytes(image)
        return Picture(hashlib.sha256(encoded).hexdigest(), f"{name}: data of {len(encoded)} bytes", encoded)
    if isinstance(image, np.ndarray):
        image = _from_array(image, name)
    elif not _is_pil(image):
        raise InputTypeError(f"{name}: expected {_KINDS}, got {_kind_of(image)}")
    called = f"{name}: this image"
    _check_size(image, called)
    found = Picture("", called, image)
    rgb = found.pil()
    header = f"RGB {rgb.width} {rgb.height} ".encode()
    return Picture(hashlib.sha256(header + rgb.tobytes()).hexdigest(), called, image)


def _value_of(value: Mapping[Any, Any], name: str) -> Any:
    """The bytes or the path of a value of datasets' `Image` that is not decoded."""
    given = ", ".join(map(str, value)) or "nothing"
    if set(value) <= {"bytes", "path"}:
        for part in ("bytes", "path"):
            if value.get(part) is not None:
                return value[part]
        given = f"{given}, each of them None" if value else given
    raise InputError(f"{name}: expected a dict with bytes or path, got one with {given}")


def _from_array(array: np.ndarray, name: str) -> "Image.Image":
    from PIL import Image

    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise InputError(
            f"{name}: expected an array (height, width) or (height, width, 1, 3 or 4), got {tuple(array.shape)}"
        )
    if not array.size:
        raise InputError(f"{name}: expected an image with pixels, got an array {tuple(array.shape)}")
    if np.issubdtype(array.dtype, np.floating):
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):  # so also for NaN
            raise InputError(f"{name}: expected floats in [0, 1], or uint8, got {low:g} to {high:g}")
        array = np.rint(array.astype(np.float64) * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise InputError(f"{name}: expected an array of uint8, or of floats in [0, 1], got {array.dtype}")
    return Image.fromarray(np.ascontiguousarray(array[:, :, 0] if array.shape[2:] == (1,) else array))


def _to_rgb(image: "Image.Image", name: str) -> "Image.Image":
    """A new RGB image, upright."""
    from PIL import ImageOps

    image.load()
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        orientation = image.getexif().get(0x0112, 1)
    if orientation in range(2, 9):
        image = ImageOps.exif_transpose(image)
    if image.mode == "RGB":
        return image.copy()
    if image.mode.startswith("I;16"):
        return _scaled(np.asarray(image) / _16_TO_8)
    if image.mode == "I":
        return _scaled(_pixels(image, name, most=65535, ambiguous=255, other="L or I;16") / _16_TO_8)
    if image.mode == "F":
        return _scaled(_pixels(image, name, most=255, ambiguous=1, other="L"))
    if image.mode == "P" and "transparency" in image.info:  # Pillow warns that it is dropped
        image = image.copy()
        del image.info["transparency"]
    return image.convert("RGB")


def _pixels(image: "Image.Image", name: str, *, most: int, ambiguous: int, other: str) -> np.ndarray:
    """The pixels of a mode whose range is not part of it."""
    pixels = np.asarray(image, dtype=np.float64)
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= most) or 0 < high <= ambiguous:
        raise InputError(
            f"{name} has pixels from {low:g} to {high:g} of mode {image.mode}; expected 0 to {most}, with some above "
            f"{ambiguous}: convert it to mode {other}"
        )
    return pixels


def _scaled(pixels: np.ndarray) -> "Image.Image":
    from PIL import Image

    return Image.fromarray(np.rint(pixels).astype(np.uint8)).convert("RGB")


def _check_file(path: Path, name: str) -> None:
    if path.is_dir():
        raise InputError(f"{name} is a folder; expected an image file")
    if not path.exists():
        raise InputError(f"{name} does not exist; expected an image file")
    if not path.is_file():
        raise InputError(f"{name} is not a file; expected an image file")
    if path.stat().st_size == 0:
        raise InputError(f"{name} is an empty file; expected an image")


def _check_size(image: "Image.Image", name: str) -> None:
    """Reject images without pixels, and those that Pillow warns of: they fill the memory when they are decoded."""
    from PIL import Image

    if not image.width or not image.height:
        raise InputError(f"{name} is {image.width} x {image.height}; expected an image with pixels")
    if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise InputError(
            f"{name} is {image.width} x {image.height}; expected at most {Image.MAX_IMAGE_PIXELS:,} pixels, Pillow's "
            "limit (PIL.Image.MAX_IMAGE_PIXELS)"
        )


@cache
def _formats() -> list[str]:
    from PIL import Image

    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _is_pil(value: Any) -> "TypeGuard[Image.Image]":
    pillow = sys.modules.get("PIL.Image")  # before it is imported, there is no such image
    return pillow is not None and isinstance(value, pillow.Image)


def _is_image(value: Any) -> bool:
    """Whether a value is one image. An array is not decided here."""
    if isinstance(value, Mapping):
        return True
    return isinstance(value, (str, bytes, bytearray, memoryview, os.PathLike, Picture)) or _is_pil(value)


def _kind_of(value: Any) -> str:
    kind = type(value).__name__
    if kind == "Tensor":
        return "a tensor; pass an array with the channels last: tensor.permute(1, 2, 0).numpy()"
    return repr(value) if isinstance(value, str) else kind
