"""--images FOLDER of encode, profile and select."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from support.vision.tiny_vision import images

from midlayer_embed import ImageLayerwiseEncoder, profile_layers, select_layer
from midlayer_embed.cli.program import main
from midlayer_embed.images.folders import images_in
from midlayer_embed.selection.criteria import selection_summary
from midlayer_embed.selection.curves import profile_table

pytestmark = pytest.mark.model


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "a").mkdir(parents=True)
    for number, image in enumerate(images(9)):
        image.save(folder / ("a" if number % 2 else "") / f"{number}.png")
    return folder


@pytest.fixture
def vit(tiny_image_model: Callable[[str], Path]) -> str:
    return str(tiny_image_model("vit"))


def test_encode_embeds_a_folder(vit: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "v.parquet"
    more = ["--pooling", "cls", "--raw", "--normalize"]
    assert main(["encode", vit, "--images", str(photos), "--layer", "0.67", "--output", str(target), *more]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{target}: 9 vectors of 32 dimensions\n"
    assert captured.err == f"midlayer-embed: {photos}: 9 images\n"
    frame = pl.read_parquet(target)
    names = [*(f"{number}.png" for number in range(0, 9, 2)), *(f"a/{number}.png" for number in range(1, 9, 2))]
    assert frame["file_name"].to_list() == names
    expected = ImageLayerwiseEncoder(vit, pooling_mode="cls", final_norm=False).encode(images_in(photos), [2])[:, 0]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(np.array(frame["embedding"].to_list()), expected, atol=1e-5)


def test_profile_measures_a_folder(vit: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["profile", vit, "--images", str(photos), "--metrics", "prompt_entropy", "infonce", "--max-texts", "7"]
    assert main([*arguments, "--seed", "3", "--out", str(tmp_path / "out")]) == 0
    expected = profile_layers(vit, images_in(photos), ["prompt_entropy", "infonce"], max_texts=7, seed=3)
    assert capsys.readouterr().out.startswith(f"{profile_table(expected)}\nraw states of 7 images\n")
    assert expected.kind == "image"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["profile.parquet", "profile.png"]


def test_select_chooses_over_a_folder(vit: str, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["select", vit, "--images", str(photos), "--criterion", "min-entropy", "--quiet"]) == 0
    expected = selection_summary(select_layer(vit, images_in(photos), "min-entropy"))
    assert capsys.readouterr().out.splitlines()[-len(expected) :] == expected
    assert "by min-entropy over 9 images" in expected[0]
    assert expected[-1] == "few images: 9 different ones say little; pass some hundreds of your own"


def test_what_the_model_does_not_take_is_one_line(
    vit: str, llama_folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.txt").write_text("a text\nanother\n")
    texts, folder, output = str(tmp_path / "texts.txt"), str(photos), ["--output", str(tmp_path / "v.npy")]
    encode = ["--layer", "1", *output]
    wrong = {
        ("encode", vit, "--input", texts, *encode): "input: {vit} is an image encoder (vit); pass --images FOLDER",
        ("profile", vit, "--texts", texts): "texts: {vit} is an image encoder (vit); pass --images FOLDER",
        ("select", vit, "--texts", texts): "texts: {vit} is an image encoder (vit); pass --images FOLDER",
        ("select", vit, "--starter-texts"): "starter_texts: {vit} is an image encoder (vit); pass --images FOLDER",
        ("encode", str(llama_folder), "--images", folder, *encode): "is a model of texts (llama); expected an image",
        ("profile", str(llama_folder), "--images", folder): "is a model of texts (llama); expected an image encoder",
        ("select", str(llama_folder), "--images", folder): "is a model of texts (llama); expected an image encoder",
        ("profile", vit, "--images", folder, "--metrics", "half_retrieval"): "metrics: half_retrieval",
        ("encode", vit, "--images", folder, "--input", texts, *encode): "not allowed with argument --images",
        ("profile", vit, "--images", folder, "--texts", texts): "not allowed with argument --images",
        ("encode", vit, *encode): "one of the arguments --input --images is required",
    }
    for arguments, words in wrong.items():
        capsys.readouterr()
        try:
            code = main(list(arguments))
        except SystemExit as stopped:  # argparse's own
            code = int(stopped.code or 0)
        said = capsys.readouterr().err
        assert code == 2, arguments
        assert words.format(vit=vit) in said, said
        assert len(said.splitlines()) == 1 or "--help" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "texts.txt"]


@pytest.mark.parametrize("command", ["encode", "profile", "select"])
def test_a_broken_file_among_good_ones_is_named(
    command: str, vit: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "a" / "3.png").write_bytes((photos / "a" / "3.png").read_bytes()[:300])
    more = {"encode": ["--layer", "1", "--output", str(tmp_path / "v.npy")], "select": ["--criterion", "min-dime"]}
    assert main([command, vit, "--images", str(photos), *more.get(command, [])]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"midlayer-embed: images: {photos}/a/3.png cannot be read: ")
    assert said.endswith("; 8 of 9 images can be read\n") and len(said.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
