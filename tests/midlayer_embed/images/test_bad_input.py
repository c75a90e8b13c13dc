"""What may be wrong with images, or seem so, through an image encoder: the right vectors, or one line."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.vision.tiny_vision import images

from midlayer_embed import ImageLayerwiseEncoder, profile_layers
from midlayer_embed.errors import InputError

pytestmark = pytest.mark.model


@pytest.fixture
def every(tiny_image_model: Callable[[str], Path]) -> ImageLayerwiseEncoder:
    return ImageLayerwiseEncoder(tiny_image_model("vit"))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _upside_down(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 3
    return encoded(image, exif=exif)


COLOUR = images(1)[0]
GREY = COLOUR.convert("L")
UNUSUAL: dict[str, tuple[Any, Image.Image]] = {
    "grey": (GREY, GREY.convert("RGB")),
    "16-bit grey": (Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257), GREY.convert("RGB")),
    "CMYK": (COLOUR.convert("CMYK"), COLOUR.convert("CMYK").convert("RGB")),
    "CMYK, a file": (encoded(COLOUR.convert("CMYK"), "TIFF"), COLOUR.convert("CMYK").convert("RGB")),
    "animated": (encoded(COLOUR, "PNG", save_all=True, append_images=images(2, seed=1)), COLOUR),
    "transparent": (encoded(Image.fromarray(np.dstack([np.asarray(COLOUR), np.asarray(GREY)]))), COLOUR),
    "palette": (COLOUR.quantize(9), COLOUR.quantize(9).convert("RGB")),
    "1 x 1": (np.full((1, 1, 3), 77, np.uint8), Image.new("RGB", (1, 1), (77, 77, 77))),
    "20,000 pixels wide": (encoded(COLOUR.resize((20_000, 40))), COLOUR.resize((20_000, 40))),
    "upside down by EXIF": (_upside_down(COLOUR), COLOUR.transpose(Image.Transpose.ROTATE_180)),
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_images_have_the_vectors_of_their_rgb_pixels(kind: str, every: ImageLayerwiseEncoder) -> None:
    given, plain = UNUSUAL[kind]
    found = every.encode([given, *images(2, seed=5)])
    np.testing.assert_array_equal(found[0], every.encode([plain, *images(2, seed=5)])[0])
    assert np.isfinite(found).all()


def test_no_image_has_no_vector(every: ImageLayerwiseEncoder) -> None:
    assert every.encode([]).shape == (0, 4, 32)
    with pytest.raises(InputError, match="images: expected at least one, got none"):
        profile_layers(every, [])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is an empty file; expected an image"),
        (b"no image", "is not an image that can be read: of another format, or broken"),
        (encoded(images(1, width=200, height=200)[0])[:3000], "cannot be read: image file is truncated"),
        (encoded(images(1, width=200, height=200)[0], "JPEG")[:3000], "cannot be read: image file is truncated"),
    ],
)
def test_a_broken_file_is_one_line_that_names_it(
    content: bytes, words: str, every: ImageLayerwiseEncoder, tmp_path: Path
) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(content)
    calls: list[Callable[[], Any]] = [
        lambda: every.encode([COLOUR, file]),
        lambda: profile_layers(every, [COLOUR, file], ["dime"]),
        lambda: list(every.token_batches([COLOUR, file])),
    ]
    for call in calls:
        with pytest.raises(InputError) as caught:
            call()
        assert f"images[1]: {file} {words}" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [1, 2, 8])
def test_tiny_images_can_be_measured(size: int, every: ImageLayerwiseEncoder) -> None:
    noise = np.random.default_rng(0).integers(0, 20, (12, size, size))
    tiny = (noise + 20 * np.arange(12)[:, None, None]).astype(np.uint8)  # all different
    profile = profile_layers(every, list(tiny))
    assert all(np.isfinite(curve).all() for curve in profile.values.values())
    assert profile.n_different_texts == 12
