import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from midlayer_embed.ground.paths import target_file, target_folder, user_path


def test_a_path_is_absolute_with_the_home_folder_in_place_of_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for given, found in {
        "a b/ü": tmp_path / "a b" / "ü",
        "~": tmp_path / "home",
        "~/x": tmp_path / "home" / "x",
        "~nobody-of-that-name/x": tmp_path / "~nobody-of-that-name" / "x",
        "a~b": tmp_path / "a~b",
        str(tmp_path): tmp_path,
    }.items():
        assert user_path(given) == user_path(Path(given)) == found


@pytest.mark.parametrize("given", ["", "a\0b", None, 3, b"bytes"])
def test_what_is_no_path_is_said_with_its_argument(given: object) -> None:
    with pytest.raises(ValueError, match=r"^out: "):
        user_path(given, "out")  # type: ignore[arg-type]


def test_links_and_dots_mean_what_the_system_means_by_them(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "er")
    (tmp_path / "deep" / "here").touch()
    assert user_path(tmp_path / "link" / ".." / "here").is_file()  # not what is beside the link


def test_a_target_that_cannot_be_written_is_told_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "read-only").mkdir()
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "read-only" not in str(path) and allowed(path, mode))
    for check, name, why in (
        (target_file, ".", "expected a file, got a folder"),
        (target_file, "new/", "expected a file, got a folder"),
        (target_file, "file/x", f"{tmp_path / 'file'} is not a folder"),
        (target_file, "circle", f"{tmp_path / 'circle'} is a link that leads to itself"),
        (target_folder, "circle/a", f"{tmp_path / 'circle'} is a link that leads to itself"),
        (target_file, "read-only/a/b", f"{tmp_path / 'read-only'} is read-only"),
        (target_folder, "file", "it is a file; expected a folder"),
        (target_folder, "file/x", f"{tmp_path / 'file'} is not a folder"),
        (target_folder, "read-only", f"{tmp_path / 'read-only'} is read-only"),
    ):
        path = f"{tmp_path}/{name}"
        with pytest.raises(ValueError, match=f"^{re.escape(f'out: {path} cannot be written: {why}')}$"):
            check(path, "out")
    assert target_file(tmp_path / "new" / "file", "out") == tmp_path / "new" / "file"
    assert not (tmp_path / "new").exists()


def test_a_path_that_the_system_refuses_is_told_with_its_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"^out: x+ cannot be reached: File name too long$"):
        user_path("x" * 300, "out")
    stat = Path.stat

    def refused(path: Path, **options: bool) -> os.stat_result:
        if path.parent.name == "locked":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refused)  # root may enter every folder
    for check in (user_path, target_file, target_folder):
        with pytest.raises(ValueError, match="^out: .*locked/x cannot be reached: Permission denied$"):
            check(tmp_path / "locked" / "x", "out")


@pytest.mark.parametrize("check", [target_file, target_folder])
@pytest.mark.parametrize(
    "given", ["s3://bucket/x", "https://example.org/x", Path("s3://bucket/x"), "memory://x", "simplecache::s3://b/x"]
)
def test_a_url_is_no_target(check: Callable[[str | Path, str], Path], given: str | Path) -> None:
    why = f"out: {given} cannot be written: it is a URL; expected a path on this machine"
    with pytest.raises(ValueError, match=f"^{re.escape(why)}$"):
        check(given, "out")


def test_a_colon_makes_no_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for given in ("a:b", "./s3:/x", "1:/x", f"{tmp_path}/s3://x"):
        assert target_file(given) == user_path(given)
