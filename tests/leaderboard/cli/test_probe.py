"""The command `probe`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from leaderboard.cli.program import main

RNG = np.random.default_rng(0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve images in folders of their class, with their labels in a file, too."""
    folder = tmp_path / "photos"
    rows = ["file_name,label"]
    for number in range(12):
        name = f"{('cat', 'dog')[number % 2]}/{number}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = RNG.integers(0, 100, (20, 20, 3), dtype=np.uint8) + np.uint8(100 * (number % 2))
        Image.fromarray(pixels).save(folder / name)
        rows.append(f"{name},{'ab'[number % 2]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


def test_files_and_resume(
    photos: Path, tmp_path: Path, tiny_image_model: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    models = [str(tiny_image_model(name)) for name in ("vit", "siglip")]
    out = tmp_path / "probes"
    common = ["--images", str(photos), "--epochs", "2", "--heads", "2", "--out", str(out), "--metrics", "curvature"]
    common += ["--device", "cpu", "--quiet"]
    assert main(["probe", *models, *common, "--window", "2"]) == 0
    printed = capsys.readouterr().out
    assert "Probes of every layer" in printed
    assert "probe.parquet, probe.png, probe.svg, index.html" in printed
    first = pl.read_parquet(out / "probe.parquet")
    assert first["model"].n_unique() == 2
    assert first["n_train"].unique().to_list() == [10]
    parts = {path: path.stat().st_mtime_ns for path in (out / "parts").glob("*.parquet")}
    assert len(parts) == 2
    assert main(["probe", *models, *common, "--window", "2"]) == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "parts").glob("*.parquet")} == parts
    assert pl.read_parquet(out / "probe.parquet").equals(first)


def test_labels_of_a_file_and_images_to_test_on(
    photos: Path, tmp_path: Path, tiny_image_model: Callable[[str], Path]
) -> None:
    out = tmp_path / "probes"
    labels = ["--labels", str(tmp_path / "labels.csv")]
    test = ["--test-images", str(photos), "--test-labels", str(tmp_path / "labels.csv")]
    some = ["--probe", "linear", "--metrics", "none", "--out", str(out), "--device", "cpu", "--quiet"]
    assert main(["probe", str(tiny_image_model("vit")), "--images", str(photos), *labels, *test, *some]) == 0
    table = pl.read_parquet(out / "probe.parquet")
    assert table.select("probe", "n_train", "n_test", "n_classes").unique().rows() == [("linear", 12, 12, 2)]
    assert table["accuracy"].to_list() == [1.0] * len(table)  # what was trained on


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "model: probe needs a MODEL, got none"),
        (["starter"], "images: 'starter' is a model of texts; expected an image encoder"),
        (["a/b", "--probe", "knn"], "probes: expected some of attention, linear, got knn"),
        (["a/b", "--window", "1"], "window: expected an int of at least 2, got 1"),
        (["a/b", "--held-out", "1"], "held_out: expected a share of at least 0 and below 1, got 1.0"),
        (["a/b", "--lr", "0"], "lr: expected a finite number above 0, got 0.0"),
        (["a/b", "--metrics", "colour"], "metrics: expected some of"),
        (["a/b", "--store-budget", "much"], "store_budget: expected bytes such as 20GB, got 'much'"),
        (["a/b", "--labels", "names"], "labels: expected \"folders\" or a .csv file, got 'names'"),
        (["a/b", "--labels", "no.csv"], "no.csv cannot be read: No such file or directory"),
        (["a/b", "--test-labels", "folders"], "test_labels: only --test-images FOLDER has them, and none was given"),
        (["a/b", "--test-images", "nowhere"], "test_images: nowhere does not exist; expected a folder of images"),
        (["a/b", "--pooling", "max"], "pooling_mode: of images mean or cls, or both, got 'max'"),
    ],
)
def test_mistakes_are_told_in_a_line(
    arguments: list[str], message: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", *arguments, "--images", str(photos), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_images_without_a_class_and_broken_ones_are_told(
    photos: Path, tmp_path: Path, tiny_image_model: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["probe", str(tiny_image_model("vit")), "--images", str(photos), "--out", str(tmp_path / "out"), "--quiet"]
    (photos / "cat" / "broken.png").write_bytes(b"no image")
    assert main(call) == 2
    assert "broken.png" in capsys.readouterr().err
    (photos / "cat" / "broken.png").rename(photos / "alone.png")
    assert main(call) == 2
    assert "alone.png is in no folder of its class" in capsys.readouterr().err
