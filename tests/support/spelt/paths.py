"""The ways in which a user may give a path, each to be tried at every door."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.tiers import sampled

WAYS = sampled(
    ("relative", "dots", "tilde", "space and ü", "brackets", "link", "link above", "slash"),
    *("tilde", "brackets", "link"),
)
_NAMES = {"space and ü": "a ü b", "brackets": "a [1] {b,c} *?"}  # the second is a pattern of other names


class Spelt:
    """Paths in a folder, as a user in that folder gives them.

    Args:
        way: One of `WAYS`, of which some are tried by `make test-all` only.
        folder: Becomes the working directory and the home folder.
        monkeypatch: pytest's.
    """

    def __init__(self, way: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.way, self.folder = way, folder
        self.real = folder / _NAMES.get(way, "real")
        self.real.mkdir()
        (folder / "above").symlink_to(self.real)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("HOME", str(folder))

    def given(self, name: str) -> str:
        """How the user spells the path of a file or folder, which may be still to come: `real / name`."""
        if self.way == "link":  # of the file or folder itself; it dangles until that is written
            (self.folder / f"link-{name}").symlink_to(self.real / name)
        spelt: dict[str, Callable[[], str]] = {
            "relative": lambda: f"real/{name}",
            "dots": lambda: f"./real/../real/{name}",
            "tilde": lambda: f"~/real/{name}",
            **dict.fromkeys(_NAMES, lambda: f"{self.real.name}/{name}"),
            "link": lambda: f"link-{name}",
            "link above": lambda: f"above/{name}",
            "slash": lambda: f"real/{name}" + "/" * ("." not in name),
        }
        return spelt[self.way]()

    def copy(self, source: Path, name: str) -> str:
        """A copy of a folder, and how the user spells its path."""
        shutil.copytree(source, self.real / name)
        return self.given(name)
