"""Folders of images into files of vectors: the rows, what is read, and runs that are cut."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image
from support.vision.tiny_vision import images

from midlayer_embed import ImageLayerwiseEncoder
from midlayer_embed.bulk import appending
from midlayer_embed.bulk import encode_folder as module
from midlayer_embed.bulk.encode_folder import encode_folder
from midlayer_embed.bulk.vector_files import partial_folder
from midlayer_embed.errors import InputError
from midlayer_embed.images.folders import images_in, row_names
from midlayer_embed.images.pictures import Picture

pytestmark = pytest.mark.model

N_IMAGES = 13


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Images of several sizes and formats in two folders, two of which have the same content."""
    folder = tmp_path / "photos"
    for number in range(N_IMAGES - 1):
        image = images(1, seed=number, width=30 + number, height=40)[0]
        path = folder / ("b" if number % 2 else "a") / f"{number:02}{'.png' if number % 3 else '.jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    shutil.copy(folder / "a" / "04.png", folder / "z.png")
    return folder


@pytest.fixture
def vit(tiny_image_model: Callable[[str], Path]) -> Path:
    return tiny_image_model("vit")


def vectors_of(target: Path) -> np.ndarray:
    if target.suffix == ".npy":
        return np.asarray(np.load(target))
    frame = pl.read_ndjson(target) if target.suffix == ".jsonl" else pl.read_parquet(target)
    return np.array(frame["embedding"].to_list(), dtype=np.float32)


@pytest.mark.parametrize("suffix", [".npy", ".jsonl", ".parquet"])
def test_rows_equal_encode_in_the_order_of_the_paths(
    vit: Path, photos: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_IMAGES", 5)
    target = tmp_path / f"v{suffix}"
    assert encode_folder(vit, 2, photos, target) == (N_IMAGES, 32)
    paths = images_in(photos)
    expected = ImageLayerwiseEncoder(vit).encode(paths, layers=[2])[:, 0]
    np.testing.assert_allclose(vectors_of(target), expected, atol=1e-5)
    if suffix != ".npy":
        frame = pl.read_ndjson(target) if suffix == ".jsonl" else pl.read_parquet(target)
        assert frame.columns == ["file_name", "embedding"]
        assert frame["file_name"].to_list() == row_names(photos, paths)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", f"v{suffix}"]


@pytest.mark.parametrize(
    ("options", "layer"), [({"pooling_mode": "cls", "final_norm": False}, 0), ({"pooling_mode": "cls+mean"}, -1)]
)
def test_options_are_those_of_the_encoder(
    vit: Path, photos: Path, tmp_path: Path, options: dict[str, Any], layer: int
) -> None:
    encode_folder(vit, layer, photos, tmp_path / "v.npy", normalize=True, batch_tokens=20, **options)
    expected = ImageLayerwiseEncoder(vit, **options).encode(images_in(photos), layers=[layer])[:, 0]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), expected, atol=1e-5)


def test_each_distinct_image_is_embedded_once_and_only_up_to_its_layer(
    vit: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.vit.modeling_vit import ViTLayer

    embedded: list[int] = []
    real = ViTLayer.forward

    def counted(block: Any, hidden_states: Any, *arguments: Any, **keywords: Any) -> Any:
        embedded.append(len(hidden_states))
        return real(block, hidden_states, *arguments, **keywords)

    monkeypatch.setattr(ViTLayer, "forward", counted)
    encode_folder(vit, 1, photos, tmp_path / "v.npy")
    assert sum(embedded) == N_IMAGES - 1
    found = np.load(tmp_path / "v.npy")
    names = row_names(photos, images_in(photos))
    assert np.array_equal(found[names.index("a/04.png")], found[names.index("z.png")])


def test_broken_files_are_told_before_the_weights_are_read(
    vit: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageLayerwiseEncoder, "_load_backbone", lambda *_: pytest.fail("weights were read"))
    whole = (photos / "b" / "07.png").read_bytes()
    (photos / "b" / "07.png").write_bytes(whole[: len(whole) // 2])
    (photos / "b" / "08.png").write_bytes(b"no image")
    words = r"images: .*/b/07\.png cannot be read: .*; 12 of 14 images can be read$"
    with pytest.raises(InputError, match=words):
        encode_folder(vit, 2, photos, tmp_path / "v.npy")
    shutil.rmtree(photos / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
    for path in images_in(photos):
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"is an empty file; expected an image; 0 of 8 images can be read"):
        encode_folder(vit, 2, photos, tmp_path / "v.npy")


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("siglip", {"pooling_mode": "cls"}, "pooling_mode: this siglip_vision_model model has no CLS token"),
        ("vit", {"pooling_mode": "lasttoken"}, "pooling_mode: of images mean or cls, or both, got 'lasttoken'"),
        ("vit", {"dtype": "int8"}, "dtype: expected float32"),
        ("vit", {"device": "toaster"}, "device: "),
        ("vit", {"batch_tokens": 0}, "batch_tokens: expected an int of at least 1"),
    ],
)
def test_wrong_options_are_told_before_images_are_read(
    model: str,
    options: dict[str, Any],
    words: str,
    tiny_image_model: Callable[[str], Path],
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tiny_image_model(model)
    monkeypatch.setattr(Picture, "check", lambda _: pytest.fail("images were read"))
    with pytest.raises(InputError, match=words):
        encode_folder(folder, 1, photos, tmp_path / "v.npy", **options)


def test_a_model_of_texts_is_refused(llama_folder: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"images: .* is a model of texts \(llama\); expected an image encoder"):
        encode_folder(llama_folder, 1, photos, tmp_path / "v.npy")


def test_an_image_that_changes_underway_is_told(
    vit: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ImageLayerwiseEncoder.encode

    def meddling(encoder: Any, given: list[Picture], *arguments: Any, **keywords: Any) -> np.ndarray:
        Image.new("RGB", (50, 50)).save(photos / "b" / "01.png")
        return real(encoder, given, *arguments, **keywords)

    monkeypatch.setattr(ImageLayerwiseEncoder, "encode", meddling)
    with pytest.raises(InputError, match=r"b/01\.png was changed while the images were read"):
        encode_folder(vit, 2, photos, tmp_path / "v.npy")
    assert not (tmp_path / "v.npy").exists()


class _Killed(Exception):
    pass


def _killed_after(n: int, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]) -> list[int]:
    """Lets so many batches be embedded; the list grows by the size of each."""
    real, seen = ImageLayerwiseEncoder.encode, []

    def counted(encoder: Any, given: list[Picture], *arguments: Any, **keywords: Any) -> np.ndarray:
        if len(seen) == n:
            raise error
        seen.append(len(given))
        return real(encoder, given, *arguments, **keywords)

    monkeypatch.setattr(ImageLayerwiseEncoder, "encode", counted)
    return seen


@pytest.mark.parametrize("error", [KeyboardInterrupt, _Killed])
def test_a_run_that_was_cut_goes_on_to_the_same_bytes(
    vit: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    monkeypatch.setattr(module, "CHUNK_IMAGES", 8)
    monkeypatch.setattr(appending, "SAVE_SECONDS", 0)
    encode_folder(vit, 2, photos, tmp_path / "whole.npy", batch_tokens=20)
    target = tmp_path / "v.npy"
    n_embedded = 0
    for n in (1, 2, 2):
        with monkeypatch.context() as patch:
            seen = _killed_after(n, patch, error)
            with pytest.raises(error):
                encode_folder(vit, 2, photos, target, batch_tokens=20)
            n_embedded += sum(seen)
        assert not target.exists()
    with monkeypatch.context() as patch:
        seen = _killed_after(1000, patch, error)
        encode_folder(vit, 2, photos, target, batch_tokens=20)
    assert target.read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert n_embedded == 10 and n_embedded + sum(seen) == N_IMAGES  # two images of the same content are in two chunks
    assert not partial_folder(target).exists()


@pytest.mark.parametrize("change", ["another image", "another name", "pooling_mode", "processor", "layer"])
def test_other_images_or_settings_start_over(
    change: str,
    vit: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = Path(shutil.copytree(vit, tmp_path / "vit"))
    monkeypatch.setattr(appending, "SAVE_SECONDS", 0)
    with monkeypatch.context() as patch:
        _killed_after(2, patch, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            encode_folder(model, 2, photos, tmp_path / "v.npy", batch_tokens=20)
    options: dict[str, Any] = {"layer": 1} if change == "layer" else {"layer": 2}
    if change == "another image":
        images(1, seed=99)[0].save(photos / "b" / "01.png")
    elif change == "another name":
        (photos / "b" / "01.png").rename(photos / "b" / "011.png")
    elif change == "pooling_mode":
        options["pooling_mode"] = "cls"
    elif change == "processor":
        config = json.loads((model / "preprocessor_config.json").read_text())
        (model / "preprocessor_config.json").write_text(json.dumps({**config, "image_mean": [0.1, 0.2, 0.3]}))
    with caplog.at_level(logging.WARNING):
        layer = options.pop("layer")
        encode_folder(model, layer, photos, tmp_path / "v.npy", batch_tokens=20, **options)
    assert "starting over: the 5 vectors of an earlier run differ in" in caplog.text  # two of the same content
    expected = ImageLayerwiseEncoder(model, **options).encode(images_in(photos), layers=[layer])[:, 0]
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), expected, atol=1e-5)


def test_what_is_in_the_way_is_told(vit: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "v.npy").write_bytes(b"mine")
    with pytest.raises(InputError, match="exists already; use --overwrite to replace it"):
        encode_folder(vit, 2, photos, tmp_path / "v.npy")
    encode_folder(vit, 2, photos, tmp_path / "v.npy", overwrite=True)
    assert np.load(tmp_path / "v.npy").shape == (N_IMAGES, 32)
