import errno
import os
import threading
from pathlib import Path

import pytest

from midlayer_embed.errors import InputError
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


@pytest.mark.parametrize("chain", ["file", "other/../link", "dangling", "chain"])
def test_the_file_that_a_link_leads_to_is_written_as_cp_does(tmp_path: Path, chain: str) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    there = folder / ("new.txt" if chain == "dangling" else "a.txt")
    if chain != "dangling":
        there.write_text("old")
    (tmp_path / "link").symlink_to(Path("other") / there.name)  # relative to its own folder
    (tmp_path / "chain").symlink_to(tmp_path / "link")
    given = {"file": there, "dangling": tmp_path / "link"}.get(chain, tmp_path / chain)
    with atomic_file(given) as partial:
        assert partial.parent == folder
        partial.write_text("new")
    assert there.read_text() == "new"
    assert (tmp_path / "link").is_symlink() and (tmp_path / "chain").is_symlink()
    assert list(folder.iterdir()) == [there]


def test_the_folder_that_a_link_leads_to_is_filled(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("there")
    for text in ("one", "two"):
        with atomic_folder(tmp_path / "link", replace=True) as partial:
            (partial / "a").write_text(text)
        assert (tmp_path / "there" / "a").read_text() == text
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "there"]


def test_permissions_and_the_folder_itself_stay(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir(mode=0o750)
    (tmp_path / "a").touch(mode=0o640)
    node = (tmp_path / "f").stat().st_ino
    with atomic_file(tmp_path / "a") as partial, atomic_folder(tmp_path / "f", replace=True) as partial_folder:
        partial.write_text("new")
        (partial_folder / "b").write_text("new")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "f").stat().st_ino == node  # where a shell or a mount is


def test_a_folder_keeps_its_contents_if_the_new_ones_cannot_be_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "old").write_text("old")
    move = os.replace

    def fail(path: Path, target: Path) -> None:
        if Path(target) == tmp_path / "f" / "b":
            raise OSError(errno.EIO, "broken")
        move(path, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="broken"), atomic_folder(tmp_path / "f", replace=True) as partial:
        for name in ("a", "b"):
            (partial / name).write_text("new")
    assert [path.name for path in (tmp_path / "f").iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_added_files_replace_only_those_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "f" / "deep").mkdir(parents=True)
    for name in ("mine", "deep/a", "deep/mine"):
        (tmp_path / "f" / name).write_text("old")
    with atomic_folder(tmp_path / "f", add=True) as partial:
        (partial / "deep").mkdir()
        (partial / "deep" / "a").write_text("new")
    found = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"f/mine": "old", "f/deep/a": "new", "f/deep/mine": "old"}


def test_a_pipe_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    pipe, said = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: said.append(pipe.read_text()))
    reader.start()
    with atomic_file(pipe) as partial:
        partial.write_text("whole")
    reader.join(10)
    assert said == ["whole"] and pipe.is_fifo()


@pytest.fixture
def kept_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The devices of this machine stay, even if the code under test would replace them."""
    move = os.replace

    def guarded(path: Path, target: Path) -> None:
        assert Path(target).parts[1] not in ("dev", "proc"), f"{target} would be replaced"
        move(path, target)

    monkeypatch.setattr(os, "replace", guarded)


@pytest.mark.usefixtures("kept_devices")
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_a_stream_is_written_to_where_it_goes(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    print("before")
    with atomic_file(name) as partial:
        partial.write_text("whole\n")
    print("after")
    assert capfd.readouterr().out == "before\nwhole\nafter\n"


@pytest.mark.usefixtures("kept_devices")
@pytest.mark.parametrize("linked", [False, True])
def test_a_device_stays_one(linked: bool, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/null")
    with atomic_file(tmp_path / "link" if linked else "/dev/null") as partial:
        partial.write_text("nothing")
    assert Path("/dev/null").is_char_device() and (tmp_path / "link").is_symlink()


def test_what_cannot_be_written_is_one_line_with_the_target(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for target in (tmp_path / "file" / "a", Path("/proc/no/such/a")):
        for writing in (atomic_file(target), atomic_folder(target)):
            with pytest.raises(InputError, match=f"{target} cannot be written: "), writing:
                pass
