"""Images of all kinds: the pixels that are read, what counts as the same image, and one line for what is none."""

import io
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from datasets import Image as ImageFeature
from PIL import Image, ImageSequence

from midlayer_embed.errors import InputError, InputTypeError
from midlayer_embed.images.pictures import Picture, check_images

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOURS = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(image: Any) -> np.ndarray:
    """RGB pixels of one image. Libraries' warnings fail."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rgb = check_images([image])[0].pil()
    assert rgb.mode == "RGB"
    return np.asarray(rgb)


def message(images: Any, read: bool = True) -> str:
    """The one line that refuses images."""
    with warnings.catch_warnings(), pytest.raises(InputError) as caught:
        warnings.simplefilter("error")
        pictures = check_images(images)
        if read:
            for picture in pictures:
                picture.pil()
    text = str(caught.value)
    assert "\n" not in text
    return text


def palette(transparency: Any = None) -> bytes:
    image = Image.fromarray(COLOURS).quantize(16)
    return encoded(image, "PNG", **({} if transparency is None else {"transparency": transparency}))


MODES = {
    "RGB": lambda: encoded(Image.fromarray(COLOURS), "PNG"),
    "JPEG": lambda: encoded(Image.fromarray(COLOURS), "JPEG"),
    "grey": lambda: encoded(Image.fromarray(RAMP), "PNG"),
    "black and white": lambda: encoded(Image.fromarray(RAMP).convert("1"), "PNG"),
    "RGBA": lambda: encoded(Image.fromarray(np.dstack([COLOURS, COLOURS[:, :, 0]])), "PNG"),
    "grey with alpha": lambda: encoded(Image.fromarray(RAMP).convert("LA"), "PNG"),
    "palette": palette,
    "palette, one transparent colour": lambda: palette(3),
    "palette, transparent bytes": lambda: palette(bytes(range(16))),
    "CMYK": lambda: encoded(Image.fromarray(COLOURS).convert("CMYK"), "JPEG"),
    "YCbCr": lambda: encoded(Image.fromarray(COLOURS).convert("YCbCr"), "TIFF"),
    "animated": lambda: animated("GIF"),
    "animated WebP": lambda: animated("WEBP"),
}


def animated(kind: str) -> bytes:
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (200, 100, 0)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize("kind", MODES)
def test_images_of_every_mode_have_the_pixels_that_mteb_sees(kind: str) -> None:
    data = MODES[kind]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's of transparent palettes
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(pixels(data), expected)
    np.testing.assert_array_equal(pixels(Image.open(io.BytesIO(data))), expected)


def test_an_animated_image_is_its_first_frame_unless_another_one_is_given() -> None:
    data = animated("GIF")
    assert pixels(data).mean() == pytest.approx(200, abs=2)
    second = next(frame for number, frame in enumerate(ImageSequence.Iterator(Image.open(io.BytesIO(data)))) if number)
    assert pixels(second).mean() == pytest.approx(100, abs=2)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped_to_white(kind: str) -> None:
    deep = Image.fromarray(RAMP.astype(np.uint16) * 257)
    np.testing.assert_array_equal(pixels(encoded(deep, kind))[:, :, 1], RAMP)
    np.testing.assert_array_equal(pixels(deep)[:, :, 0], RAMP)
    np.testing.assert_array_equal(pixels(Image.fromarray(RAMP.astype(np.int32) * 257))[:, :, 0], RAMP)


def test_pictures_of_numbers_have_pillows_scale() -> None:
    np.testing.assert_array_equal(pixels(Image.fromarray(RAMP).convert("F"))[:, :, 0], RAMP)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (RAMP.astype(np.int32), "mode I; expected 0 to 65535, with some above 255: convert it to mode L or I;16"),
        (RAMP.astype(np.int32) * 1000, "from 0 to 255000 of mode I; expected 0 to 65535"),
        (RAMP.astype(np.float32) / 255, "mode F; expected 0 to 255, with some above 1: convert it to mode L"),
        (RAMP.astype(np.float32) - 300, "from -300 to -45 of mode F; expected 0 to 255"),
        (np.full((4, 4), np.nan, np.float32), "mode F; expected 0 to 255"),
    ],
)
def test_pixels_that_could_mean_two_things_are_refused(array: np.ndarray, words: str) -> None:
    assert words in message([Image.fromarray(array)])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_their_exif_says(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(COLOURS), "PNG", exif=exif)
    decoded = ImageFeature().decode_example({"bytes": data, "path": None})
    np.testing.assert_array_equal(pixels(data), np.asarray(decoded))
    np.testing.assert_array_equal(pixels(Image.open(io.BytesIO(data))), np.asarray(decoded))
    np.testing.assert_array_equal(pixels(decoded), np.asarray(decoded))  # and not twice


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (RAMP, np.dstack([RAMP] * 3)),
        (RAMP[:, :, None], np.dstack([RAMP] * 3)),
        (COLOURS, COLOURS),
        (COLOURS[::-1, ::-1], COLOURS[::-1, ::-1]),
        (np.asfortranarray(COLOURS), COLOURS),
        (np.dstack([COLOURS, COLOURS[:, :, 0]]), COLOURS),
        (COLOURS / 255, COLOURS),
        ((COLOURS / 255).astype(np.float16), COLOURS),
        (np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1, 3), np.uint8)),
        (COLOURS[:3, :3], COLOURS[:3, :3]),
    ],
)
def test_arrays_have_their_channels_last(array: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(pixels(array), expected)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (COLOURS.transpose(2, 0, 1), "images[0]: expected an array (height, width) or (height, width, 1, 3 or 4), got"),
        (COLOURS[:, :, :2], "(height, width, 1, 3 or 4), got (12, 20, 2)"),
        (COLOURS.astype(np.int64), "expected an array of uint8, or of floats in [0, 1], got int64"),
        (COLOURS.astype(np.uint16), "got uint16"),
        (COLOURS.astype(np.float32), "expected floats in [0, 1], or uint8, got 0 to 255"),
        (COLOURS / 127.5 - 1, "expected floats in [0, 1], or uint8, got -1 to 1"),
        (np.full((4, 4), np.nan), "expected floats in [0, 1], or uint8, got nan"),
        (np.array(["a"]), "expected an array (height, width)"),
        (np.zeros((0, 4, 3), np.uint8), "expected an image with pixels"),
        (Image.new("RGB", (0, 5)), "0 x 5; expected an image with pixels"),
        (None, "images[0]: expected a path, encoded bytes, a PIL image"),
        (3, "got int"),
        (["a.png"], "got list"),
        (b"", "images[0]: expected an encoded image, got no bytes"),
        (b"no image", "images[0]: data of 8 bytes is not an image that can be read: of another format, or broken"),
        (
            {"bytes": None, "path": None},
            "expected a dict with bytes or path, got one with bytes, path, each of them None",
        ),
        ({"image": 1, "label": 2}, "expected a dict with bytes or path, got one with image, label"),
        ("", "images[0]: expected a path, got an empty string"),
        ("no\0name", "images[0]: a path has no null character"),
        ("https://example.org/cat.png", "does not exist; expected an image file"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(image: Any, words: str) -> None:
    assert words in message([image])


def test_a_tensor_is_refused_with_what_to_pass() -> None:
    import torch

    tensor = torch.zeros(3, 4, 4)
    assert "tensor.permute(1, 2, 0).numpy()" in message([tensor])
    assert "tensor.permute(1, 2, 0).numpy()" in message([np.zeros((2, 2)), tensor])


@pytest.mark.parametrize(
    "image", ["a.png", Path("a.png"), b"abc", Image.new("RGB", (2, 2)), COLOURS, RAMP, {}, 3, None]
)
def test_one_image_is_no_list_of_images(image: Any) -> None:
    with pytest.raises(InputTypeError, match="images: expected a list of images, got .*; put one image in a list"):
        check_images(image)


def test_lists_columns_and_stacks_of_images_are_taken(tmp_path: Path) -> None:
    assert check_images([]) == []
    stack = np.stack([COLOURS, COLOURS[::-1]])
    expected = [picture.key for picture in check_images(list(stack))]
    assert [picture.key for picture in check_images(stack)] == expected
    assert [picture.key for picture in check_images(iter(stack))] == expected
    column = Dataset.from_dict({"image": [Image.fromarray(image) for image in stack]}).cast_column(
        "image", ImageFeature()
    )
    assert [picture.key for picture in check_images(column["image"])] == expected
    undecoded = check_images(column.cast_column("image", ImageFeature(decode=False))["image"])
    assert [np.asarray(picture.pil()).tolist() for picture in undecoded] == stack.tolist()


def test_equal_content_is_one_picture(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(COLOURS), "PNG")
    file, copy = tmp_path / "a.png", tmp_path / "b.png"
    file.write_bytes(data)
    copy.write_bytes(data)
    same = check_images([file, str(copy), data, {"bytes": data, "path": "c.png"}, {"bytes": None, "path": str(file)}])
    assert len(set(same)) == 1
    assert check_images(same) == same
    decoded = check_images([Image.open(file), COLOURS, Image.fromarray(COLOURS), COLOURS / 255])
    assert len(set(decoded)) == 1
    assert decoded[0].to_json() == {"image": decoded[0].key}


def test_different_pixels_are_different_pictures() -> None:
    image = Image.fromarray(COLOURS).quantize(8)
    other = image.copy()
    other.putpalette(image.getpalette()[::-1])  # the same numbers, other colours
    flat = COLOURS.reshape(1, -1, 3)
    assert len(set(check_images([image, other, COLOURS, COLOURS[::-1], flat]))) == 5
    assert check_images([COLOURS])[0] != COLOURS.tobytes()


def test_nothing_is_kept_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(encoded(Image.fromarray(COLOURS), "PNG"))
    picture = check_images([file])[0]
    assert picture.source == file
    assert picture.pil() is not picture.pil()


def test_an_image_in_memory_is_not_changed() -> None:
    image = Image.fromarray(COLOURS).quantize(8)
    image.info["transparency"] = bytes(8)
    picture = check_images([image])[0]
    picture.pil().paste((0, 0, 0), (0, 0, 5, 5))
    assert image.mode == "P" and image.info == {"transparency": bytes(8)}
    assert check_images([image])[0] == picture


def broken_files(folder: Path) -> dict[str, str]:
    """Paths of files that are no images, and what is said of each."""
    whole = encoded(Image.fromarray(np.tile(COLOURS, (10, 10, 1))), "PNG")
    jpeg = encoded(Image.fromarray(np.tile(COLOURS, (10, 10, 1))), "JPEG")
    content = {
        "half.png": (whole[: len(whole) // 2], "cannot be read: image file is truncated"),
        "half.jpg": (jpeg[: len(jpeg) // 2], "cannot be read: image file is truncated"),
        "header.png": (whole[:20], "cannot be read"),
        "text.png": (b"this is no image\n", "is not an image that can be read: of another format, or broken"),
        "empty.png": (b"", "is an empty file; expected an image"),
        "zeros.png": (bytes(500), "is not an image that can be read"),
        "page.tga": (encoded(Image.fromarray(COLOURS), "TGA"), "is not an image that can be read"),
        "page.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image that can be read"),
    }
    for name, (data, _) in content.items():
        (folder / name).write_bytes(data)
    (folder / "folder.png").mkdir()
    return {str(folder / name): words for name, (_, words) in content.items()} | {
        str(folder / "folder.png"): "is a folder; expected an image file",
        str(folder / "missing.png"): "does not exist; expected an image file",
    }


def test_a_broken_file_is_named_in_one_line(tmp_path: Path) -> None:
    for path, words in broken_files(tmp_path).items():
        text = message([COLOURS, path])
        assert text.startswith(f"images[1]: {path}"), text
        assert words in text


def test_a_check_finds_all_that_reading_finds(tmp_path: Path) -> None:
    for path in broken_files(tmp_path):
        with pytest.raises(InputError, match=r"images\[0\]: "):
            check_images([path])[0].check()
    for make in MODES.values():
        check_images([make()])[0].check()


def test_a_file_that_is_replaced_before_it_is_read_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(encoded(Image.fromarray(COLOURS), "PNG"))
    picture = check_images([file])[0]
    file.unlink()
    with pytest.raises(InputError, match=r"images\[0\]: .* does not exist"):
        picture.pil()


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (20_000, 2), (2, 20_000), (20_000, 1_000)])
def test_small_and_wide_images_are_read(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (1, 2, 3))
    found = check_images([encoded(image, "PNG")])[0].pil()
    assert found.size == size
    assert found.getpixel((size[0] - 1, size[1] - 1)) == (1, 2, 3)


@pytest.mark.parametrize("factor", [1.5, 3])
def test_a_bomb_is_one_line(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("L", (100, 100)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(10_000 / factor))
    assert "pixels" in message([data])
    assert "expected at most" in message([np.zeros((100, 100), np.uint8)])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert pixels(data).shape == (100, 100, 3)


def test_several_threads_read_the_same_pixels(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.gif" for number in range(20)]
    for number, file in enumerate(files):
        file.write_bytes(encoded(Image.fromarray(np.roll(COLOURS, number, 0)).quantize(8), "GIF", transparency=2))
    pictures = check_images(files)
    filters = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(Picture.pil, pictures * 5))
    assert [image.tobytes() for image in found] == [picture.pil().tobytes() for picture in pictures] * 5
    assert list(warnings.filters) == filters


def test_without_pillow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(package: str) -> ModuleSpec | None:
        assert package == "PIL"
        return None

    monkeypatch.setattr("midlayer_embed.ground.checks.find_spec", without)
    with pytest.raises(InputError, match=r"images: needs PIL; run: pip install 'midlayer-embed\[vision\]'"):
        check_images([COLOURS])


def test_the_name_of_the_argument_is_in_messages() -> None:
    with pytest.raises(InputError, match=r"^pages\[1\]: "):
        check_images([COLOURS, "missing.png"], "pages")
