"""What `make release-check` would notice, and that what is here passes the part of it that needs no build."""

import subprocess
from pathlib import Path

import pytest
from support.release.contents import DATA, NEEDED, sdist_differences, wheel_differences
from support.release.versions import disagreements, version_of

import midlayer_embed

_ROOT = Path(__file__).parents[2]
_NAME = "midlayer_embed-1.2.0"
_OF_CHANGELOG = "the top section of CHANGELOG.md is of 1.2.0, midlayer_embed is 1.3.0"
_UNRELEASED = "CHANGELOG.md has unreleased changes above 1.2.0, which is tagged"
_TRACKED = (
    "README.md",
    "pyproject.toml",
    "midlayer_embed/__init__.py",
    "leaderboard/__init__.py",
    *DATA.values(),  # links
    "configs/models/bert.yaml",
    "tests/conftest.py",
    *(path for path in NEEDED if not path.startswith(tuple(DATA.values()))),
    *(path.replace(there, here) for path in NEEDED for here, there in DATA.items() if path.startswith(there)),
)


def _wheel() -> list[str]:
    packed = [path for path in _TRACKED if path.split("/")[0] in ("midlayer_embed", "leaderboard")]
    return [
        *(path for path in packed if path not in DATA.values()),
        "leaderboard/configs/models/bert.yaml",
        *(path for path in NEEDED if path.startswith(tuple(DATA.values()))),
        f"{_NAME}.dist-info/METADATA",
    ]


def _sdist() -> list[str]:
    copied = [path for path in _wheel() if path.startswith(tuple(f"{link}/" for link in DATA.values()))]
    kept = [path for path in _TRACKED if path not in DATA.values() and path.split("/")[0] not in DATA]
    paths = [*kept, *copied, "PKG-INFO"]
    return [f"{_NAME}/{path}" for path in paths]


def _checkout(folder: Path, *, version: str, citation: str, section: str, unreleased: str = "") -> Path:
    (folder / "midlayer_embed").mkdir()
    (folder / "midlayer_embed" / "__init__.py").write_text(f'__version__ = "{version}"\n')
    (folder / "CITATION.cff").write_text(f'version: {citation}\ndate-released: "2026-01-02"\n')
    (folder / "CHANGELOG.md").write_text(f"# Changelog\n\n## Unreleased\n\n{unreleased}\n## {section}\n\n## 1.1.0\n")
    return folder


@pytest.mark.unit
def test_versions_agree_here() -> None:
    assert version_of(_ROOT) == midlayer_embed.__version__
    assert disagreements(_ROOT) == []


@pytest.mark.unit
@pytest.mark.parametrize(
    ("changed", "tags", "said"),
    [
        ({}, ["v1.2.0"], []),
        ({"citation": "1.1.0"}, [], ["CITATION.cff says version 1.1.0, midlayer_embed 1.2.0"]),
        ({"section": "1.2.0"}, [], ["CHANGELOG.md dates 1.2.0 None, CITATION.cff 2026-01-02"]),
        ({"version": "1.3.0", "citation": "1.3.0"}, [], [_OF_CHANGELOG]),
        ({}, ["v1.2.1"], ["the tag is v1.2.1, midlayer_embed is 1.2.0"]),
        ({"unreleased": "- Something.\n"}, [], []),
        ({"unreleased": "- Something.\n"}, ["v1.2.0"], [_UNRELEASED]),
    ],
)
def test_versions_that_disagree_are_named(
    tmp_path: Path, changed: dict[str, str], tags: list[str], said: list[str]
) -> None:
    right = {"version": "1.2.0", "citation": "1.2.0", "section": "1.2.0 - 2026-01-02"}
    assert disagreements(_checkout(tmp_path, **{**right, **changed}), tags) == said


@pytest.mark.unit
def test_archives_of_the_repository_alone_are_right() -> None:
    assert wheel_differences(_wheel(), _TRACKED, _NAME) == []
    assert sdist_differences(_sdist(), _TRACKED, _NAME) == []


@pytest.mark.unit
@pytest.mark.parametrize("path", ["midlayer_embed/.env", "results/mine.json", "leaderboard/__pycache__/a.pyc"])
def test_files_that_are_not_of_the_repository_are_named(path: str) -> None:
    assert wheel_differences([*_wheel(), path], _TRACKED, _NAME) == [
        f"the wheel has {path}, which is no file of the repository"
    ]
    assert sdist_differences([*_sdist(), f"{_NAME}/{path}"], _TRACKED, _NAME) == [
        f"the source distribution has {path}, which is no file of the repository"
    ]


@pytest.mark.unit
@pytest.mark.parametrize("path", [*NEEDED, "leaderboard/configs/models/bert.yaml", "midlayer_embed/__init__.py"])
def test_files_that_are_missing_are_named(path: str) -> None:
    left = [member for member in _wheel() if member != path]
    assert wheel_differences(left, _TRACKED, _NAME) == [f"the wheel lacks {path}"]
    left = [member for member in _sdist() if member != f"{_NAME}/{path}"]
    assert sdist_differences(left, _TRACKED, _NAME) == [f"the source distribution lacks {path}"]


@pytest.mark.process
def test_what_a_wheel_needs_is_in_the_repository() -> None:
    listed = subprocess.run(
        ["git", "-C", str(_ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    )
    needed = {next((path.replace(t, h) for h, t in DATA.items() if path.startswith(t)), path) for path in NEEDED}
    assert needed <= set(listed.stdout.split("\0"))
