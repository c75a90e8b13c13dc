"""Augmented views of images: what they depend on, and what they leave alone."""

import random
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from midlayer_embed.errors import InputError
from midlayer_embed.images import views
from midlayer_embed.images.pictures import Picture, check_images
from midlayer_embed.images.views import augmented_pictures

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 256, size, dtype=np.uint8) for size in [(40, 60, 3), (33, 20, 3), (30, 30)]]


def pixels(pictures: list[list[Picture]]) -> list[list[bytes]]:
    return [[picture.pil().tobytes() for picture in view] for view in pictures]


def test_a_view_depends_on_the_image_its_number_and_the_seed_alone() -> None:
    three = pixels(augmented_pictures(IMAGES, 3))
    views._cache._images.clear()
    views._cache.bytes = 0
    one = pixels(augmented_pictures(IMAGES[::-1][:2], 2))
    assert one == [[view[2], view[1]] for view in three[:2]]
    assert pixels(augmented_pictures([IMAGES[0], IMAGES[0]], 1)) == [[three[0][0]] * 2]
    assert len({view for row in three for view in row}) == 9
    other = pixels(augmented_pictures(IMAGES, 3, seed=1))
    assert not {view for row in three for view in row} & {view for row in other for view in row}


def test_views_are_equal_where_their_pixels_are() -> None:
    first, second = augmented_pictures(IMAGES, 2), augmented_pictures(IMAGES, 2)
    assert first == second
    assert len({picture for view in first for picture in view} | set(check_images(IMAGES))) == 9
    assert check_images(first[0]) == first[0]


def test_the_global_random_states_are_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3), np.random.random(3), random.random()  # noqa: NPY002
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    made = pixels(augmented_pictures(IMAGES, 2))
    after = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert repr(before[1:]) == repr(after[1:])
    assert torch.equal(torch.rand(3), expected[0])
    torch.manual_seed(6)
    assert pixels(augmented_pictures(IMAGES, 2)) == made


def test_threads_make_the_same_views() -> None:
    flat = [picture for view in augmented_pictures(IMAGES, 8) for picture in view]
    state = torch.get_rng_state()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(Picture.pil, flat * 3))
    assert [image.tobytes() for image in found] == [picture.pil().tobytes() for picture in flat] * 3
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (3, 3), (8, 8), (20_000, 3), (2, 5_000)])
def test_small_and_narrow_images_have_views(size: tuple[int, int]) -> None:
    image = Image.fromarray(RNG.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    for (view,) in augmented_pictures([image], 6):
        assert view.pil().size == (min(size), min(size))
        assert view.pil().mode == "RGB"


def test_large_images_are_resized_first() -> None:
    ((view,),) = augmented_pictures([np.zeros((900, 1300, 3), np.uint8)], 1)
    assert view.pil().size == (256, 256)


def test_views_crop_mirror_and_recolour() -> None:
    column = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None] * 3 + 30, (64, 64, 3))
    made = [np.asarray(view.pil()).astype(int) for (view,) in augmented_pictures([column], 60)]
    mirrored = [image[:, 0].mean() > image[:, -1].mean() for image in made]
    assert 15 < sum(mirrored) < 45
    assert all(np.abs(image[:, 0].mean() - image[:, -1].mean()) < 3 * 64 * 1.5 for image in made)
    red = np.zeros((32, 32, 3), np.uint8)
    red[:] = (200, 60, 40)
    colours = [np.asarray(view.pil()).reshape(-1, 3) for (view,) in augmented_pictures([red], 60)]
    assert all((np.ptp(colour, axis=0) <= 1).all() for colour in colours)
    grey = [colour for colour in colours if np.ptp(colour[0]) <= 1]
    unchanged = [colour for colour in colours if np.abs(colour[0].astype(int) - (200, 60, 40)).max() <= 1]
    assert 4 <= len(grey) <= 24
    assert 2 <= len(unchanged) <= 24


def test_the_pixels_are_those_that_kornia_makes_of_the_seed() -> None:
    import kornia.augmentation as K

    picture = check_images([IMAGES[0]])[0]
    ((view,),) = augmented_pictures([picture], 1)
    source = view.source
    assert isinstance(source, views._View)
    given = torch.from_numpy(IMAGES[0]).permute(2, 0, 1)[None].float() / 255
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(source.seed[:8], "big") >> 1)
        steps = [
            K.RandomResizedCrop((40, 40), scale=(0.4, 1.0), ratio=(3 / 4, 4 / 3), align_corners=False),
            K.RandomHorizontalFlip(p=0.5),
            K.ColorJitter(0.4, 0.4, 0.2, 0.1, p=0.8),
            K.RandomGrayscale(p=0.2),
        ]
        for step in steps:
            given = step(given)
    expected = (given[0].permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    np.testing.assert_array_equal(np.asarray(view.pil()), expected)


def test_an_image_is_decoded_once_for_all_of_its_views(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.png"
    Image.fromarray(RNG.integers(0, 256, (50, 50, 3), dtype=np.uint8)).save(file)
    read: list[str] = []
    opened = Picture._opened
    monkeypatch.setattr(Picture, "_opened", lambda self, source: read.append(self.name) or opened(self, source))
    for view in augmented_pictures([file], 16):
        view[0].pil()
    assert len(read) == 1


def test_few_images_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = views._Shrunk(max_bytes=2 * 40 * 40 * 3)
    monkeypatch.setattr(views, "_cache", cache)
    for image in RNG.integers(0, 256, (5, 40, 40, 3), dtype=np.uint8):
        augmented_pictures([image], 1)[0][0].pil()
        assert cache.bytes == sum(views._bytes_of(kept) for kept in cache._images.values()) <= cache.max_bytes
    assert len(cache._images) == 2


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"no image")
    ((view,),) = augmented_pictures([file], 1)
    with pytest.raises(InputError, match=rf"images\[0\]: {file}"):
        view.pil()


@pytest.mark.parametrize("wrong", [{"n_views": 0}, {"n_views": 1.5}, {"seed": -1}])
def test_options_out_of_range_are_one_line(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(wrong))}: expected an int"):
        augmented_pictures(IMAGES, **wrong)


def test_without_kornia_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def spec(package: str) -> ModuleSpec | None:
        return None if package == "kornia" else ModuleSpec(package, None)

    monkeypatch.setattr("midlayer_embed.ground.checks.find_spec", spec)
    with pytest.raises(InputError, match=r"augmented views: needs kornia; run: pip install 'midlayer-embed\[vision\]'"):
        augmented_pictures(IMAGES)
