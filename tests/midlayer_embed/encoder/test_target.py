from pathlib import Path

import pytest

from midlayer_embed.encoder.target import check_target


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an older export."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / "old"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "modules.json").touch()
    return folder


def test_overwriting_replaces_an_older_export(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_target(old, overwrite=True, needed=["org/model", "starter", old.parent / "elsewhere"]) == old
    monkeypatch.chdir(old)  # the folder itself stays
    assert check_target(".", overwrite=True).samefile(old)


@pytest.mark.parametrize("inside", [".", "model", "a/b"])
def test_overwriting_never_removes_what_the_export_is_made_from(old: Path, inside: str) -> None:
    needed, link = old / inside, old.parent / "link"
    needed.mkdir(parents=True, exist_ok=True)
    link.symlink_to(old)
    for out, model in ((old, needed), (link, needed), (old, link / inside)):
        with pytest.raises(ValueError, match=rf"^export: the folder {out} holds {model}, which overwrite"):
            check_target(out, overwrite=True, needed=[model])


def test_overwriting_never_removes_the_working_directory_or_the_home_folder(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(old / "1_Pooling")
    with pytest.raises(ValueError, match=r"^export: the folder \.\. holds the working directory, which overwrite"):
        check_target("..", overwrite=True)
    monkeypatch.chdir(old.parent)
    monkeypatch.setenv("HOME", str(old))
    with pytest.raises(ValueError, match="^export: the folder old holds .*old, which overwrite"):
        check_target("old", overwrite=True)
