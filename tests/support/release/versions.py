"""Where the version is written, and whether all places agree."""

import re
from collections.abc import Sequence
from pathlib import Path

# A section of a version, with its date; the section above it is for what is not released.
_SECTION = re.compile(r"^## (?P<version>\d+\.\d+\.\d+)(?: - (?P<date>\d{4}-\d{2}-\d{2}))?$", re.MULTILINE)
_UNRELEASED = re.compile(r"^## Unreleased$(?P<text>.*?)(?=^## )", re.MULTILINE | re.DOTALL)


def version_of(root: Path) -> str:
    """The version of the package."""
    return _found(root / "midlayer_embed" / "__init__.py", r'^__version__ = "(.+)"$')


def disagreements(root: Path, tags: Sequence[str] = ()) -> list[str]:
    """What does not fit the version of the package, one line each.

    Args:
        root: The checkout.
        tags: Tags of versions on the commit, such as "v0.2.0".
    """
    version, changelog = version_of(root), (root / "CHANGELOG.md").read_text(encoding="utf-8")
    citation = _found(root / "CITATION.cff", r"^version: (.+)$")
    released = _found(root / "CITATION.cff", r"^date-released: \"?([\d-]+)\"?$")
    section = _SECTION.search(changelog)
    top, date = (section["version"], section["date"]) if section else ("no version", None)
    unreleased = _UNRELEASED.search(changelog)
    found = []
    if citation != version:
        found.append(f"CITATION.cff says version {citation}, midlayer_embed {version}")
    if top != version:
        found.append(f"the top section of CHANGELOG.md is of {top}, midlayer_embed is {version}")
    if date != released:
        found.append(f"CHANGELOG.md dates {top} {date}, CITATION.cff {released}")
    if tags and unreleased and unreleased["text"].strip():
        found.append(f"CHANGELOG.md has unreleased changes above {top}, which is tagged")
    return found + [f"the tag is {tag}, midlayer_embed is {version}" for tag in tags if tag != f"v{version}"]


def _found(path: Path, pattern: str) -> str:
    found = re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else "nothing"
