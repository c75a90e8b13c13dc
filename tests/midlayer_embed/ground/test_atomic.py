from pathlib import Path

import pytest

from midlayer_embed.ground.atomic import atomic_file, atomic_folder


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(target) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.txt"
    for text in ("one", "two"):
        with atomic_file(target) as partial:
            partial.write_text(text)
    assert target.read_text() == "two"
    assert list(target.parent.iterdir()) == [target]


def test_a_failed_folder_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "f") as partial:
        (partial / "a").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_replaced_whole_when_asked(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "old").write_text("old")
    with atomic_folder(tmp_path / "f", replace=True) as partial:
        (partial / "new").write_text("new")
    assert [path.name for path in (tmp_path / "f").iterdir()] == ["new"]
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "f", replace=True):
        raise RuntimeError
    assert [path.name for path in (tmp_path / "f").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_the_first_folder_stays(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with atomic_folder(tmp_path / "f") as partial:
            (partial / "a").write_text(text)
    assert (tmp_path / "f" / "a").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
