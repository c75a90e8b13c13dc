"""Folders of images: which files count, in which order, and their labels."""

import os
from pathlib import Path

import pytest

from midlayer_embed.errors import InputError
from midlayer_embed.images.folders import images_in, labels_by_folder, labels_from_csv, row_names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten files, six of which are images."""
    root = tmp_path / "photos"
    for name in (
        *("dog/b.JPG", "dog/a.png", "cat/10.webp", "cat/9.jpeg", "cat/old/1.tiff", "cat-2/1.gif"),
        *("notes.txt", ".hidden.png", ".thumbs/a.png", "__MACOSX/dog/._a.png"),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


NAMES = ["cat/10.webp", "cat/9.jpeg", "cat/old/1.tiff", "cat-2/1.gif", "dog/a.png", "dog/b.JPG"]


def test_images_are_in_the_order_of_their_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert row_names(folder, images_in(folder)) == NAMES
    monkeypatch.chdir(folder.parent)
    assert images_in("photos") == images_in(folder)


def test_a_link_to_a_folder_is_followed_once(folder: Path) -> None:
    (folder / "dog" / "loop").symlink_to(folder)
    (folder / "more").symlink_to(folder / "cat")
    names = row_names(folder, images_in(folder))
    assert len(names) == len(NAMES)
    assert {Path(name).name for name in names} == {Path(name).name for name in NAMES}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", "images: missing does not exist; expected a folder of images"),
        ("notes.txt", "images: notes.txt is a file; expected a folder of images"),
        ("empty", r"images: empty holds no image; expected files that end in \.png, \.jpg, "),
        ("texts", r"images: texts holds no image; expected files that end in \.png, \.jpg, "),
        ("", "images: expected a path, got an empty string"),
    ],
)
def test_a_folder_without_images_is_one_line(
    name: str, words: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    Path("empty").mkdir()
    Path("texts").mkdir()
    Path("texts", "a.txt").write_text("a")
    with pytest.raises(InputError, match=f"^{words}"):
        images_in(name)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a folder that this user may not read")
def test_a_folder_that_cannot_be_read_is_one_line(folder: Path) -> None:
    (folder / "dog").chmod(0)
    try:
        with pytest.raises(InputError, match="dog cannot be read"):
            images_in(folder)
    finally:
        (folder / "dog").chmod(0o700)


def test_the_label_of_an_image_is_its_folder(folder: Path) -> None:
    images = images_in(folder)
    assert labels_by_folder(folder, images) == ["cat", "cat", "cat", "cat-2", "dog", "dog"]
    (folder / "x.png").write_bytes(b"x")
    with pytest.raises(InputError, match=r"labels: .*x\.png is in no folder of its class; expected .*/<class>/x\.png"):
        labels_by_folder(folder, images_in(folder))


@pytest.mark.parametrize("column", ["file_name", "file", "path", "image"])
def test_labels_are_read_from_a_csv_file(column: str, folder: Path) -> None:
    file = folder.parent / "labels.csv"
    rows = [f"./{name},label {number}" for number, name in enumerate(NAMES)]
    file.write_text("\n".join([f"{column},label", *reversed(rows)]), encoding="utf-8-sig")
    assert labels_from_csv(file, folder, images_in(folder)) == [f"label {number}" for number in range(len(NAMES))]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected the columns file_name and label in .*, got none"),
        ("name,label\n", "expected the columns file_name and label in .*, got name, label"),
        ("file_name,class\n", "got file_name, class"),
        ("file_name,label\ndog/c.png,dog\n", "row 1: dog/c.png is no image of"),
        ("file_name,label\ndog/a.png,\n", "row 1: dog/a.png has no label"),
        ("file_name,label\ndog/a.png\n", "row 1: dog/a.png has no label"),
        ("file_name,label\ndog/a.png,a\ndog/a.png,b\n", "row 2: dog/a.png has two labels, a and b"),
        ("file_name,label\ndog/a.png,a\n", "has no label of cat/10.webp"),
        ("file_name,label\n\udcff,a\n", "is not a CSV file in UTF-8"),
    ],
)
def test_labels_that_do_not_fit_are_one_line(text: str, words: str, folder: Path) -> None:
    file = folder.parent / "labels.csv"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=f"^labels: .*{words}"):
        labels_from_csv(file, folder, images_in(folder))
    with pytest.raises(InputError, match="cannot be read"):
        labels_from_csv(folder.parent / "missing.csv", folder, images_in(folder))
