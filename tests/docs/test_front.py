"""What a newcomer reads first: it is short, its links lead somewhere, and its commands, names and targets exist."""

import argparse
import ast
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import leaderboard
import midlayer_embed

_ROOT = Path(__file__).parents[2]
_README = _ROOT / "README.md"
_SKILL = _ROOT / "midlayer_embed/.agents/skills/midlayer-embed/SKILL.md"
_DOCS = sorted((_ROOT / "docs").rglob("*.md"))
_PAGES = [
    _README,
    *(_ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "llms.txt")),
    _SKILL,
    *_DOCS,
]
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROGRAMS = {"midlayer-embed": "midlayer_embed.cli", "midlayer-leaderboard": "leaderboard.cli"}


def _ids(value: object) -> str:
    return value.relative_to(_ROOT).as_posix() if isinstance(value, Path) else str(value)


def _blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in _FENCE.findall(page.read_text(encoding="utf-8")) if found == language]


def _commands() -> list[str]:
    """The lines of all pages that start one of our programs, without the comments behind them."""
    found = []
    for page in _PAGES:
        for block in _blocks(page, "sh"):
            lines = block.replace("\\\n", " ").splitlines()
            found += [line for line in lines if line.split(" ")[0] in _PROGRAMS]
    return list(dict.fromkeys(found))


def test_the_readme_is_a_front_page() -> None:
    lines = _README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 145
    first_screen = "\n".join(lines[:40])
    for words in ("pip install midlayer-embed", "make leaderboard", "make test", "When not to use it"):
        assert words in first_screen


@pytest.mark.parametrize("page", _PAGES, ids=_ids)
def test_links_into_the_repository_lead_to_files(page: Path) -> None:
    found = []
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        here = re.fullmatch(r"https://github\.com/midlayer-embed/midlayer-embed/(?:blob|tree)/main/(.+)", link)
        if here is not None:
            found.append(_ROOT / here[1])
        elif not link.startswith(("https://", "http://", "mailto:")):
            found.append(page.parent / link)
    assert [path for path in found if not path.exists()] == []


def test_the_front_pages_say_the_same_of_when_not_to_use_it() -> None:
    table = _README.read_text(encoding="utf-8").partition("| | STSB |")[2].partition("\n<!--")[0]
    assert "TF-IDF" in table and table in (_ROOT / "docs" / "index.md").read_text(encoding="utf-8")


def test_llms_txt_links_every_guide_and_concept() -> None:
    linked = set(_LINK.findall((_ROOT / "llms.txt").read_text(encoding="utf-8")))
    pages = {_ids(page) for page in _DOCS if page.parent.name in ("guides", "concepts")}
    assert pages and pages <= linked


def test_the_skill_has_the_front_matter_that_agents_read() -> None:
    _, front_matter, text = _SKILL.read_text(encoding="utf-8").split("---\n", 2)
    said = yaml.safe_load(front_matter)
    assert said["name"] == _SKILL.parent.name == "midlayer-embed" and 0 < len(said["description"]) <= 1024
    assert len(text.splitlines()) < 120  # agents read all of it
    assert "skills/midlayer-embed/SKILL.md" in (_ROOT / "llms.txt").read_text(encoding="utf-8")


def test_the_table_of_the_readme_is_that_of_the_guide() -> None:
    guide = (_ROOT / "docs" / "guides" / "starter-benchmark.md").read_text(encoding="utf-8")
    table = next(block for block in _blocks(_README, "text") if "best layer" in block)
    rows = [line.strip() for line in table.splitlines()]
    assert [row for row in rows if row not in guide] == []


@pytest.mark.parametrize("command", _commands())
def test_commands_are_accepted(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program, *arguments = shlex.split(command, comments=True)
    parse = argparse.ArgumentParser.parse_args

    class Parsed(BaseException):
        pass

    def only_parse(*args: object) -> None:
        parse(*args)  # type: ignore[call-overload]
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
    with pytest.raises(Parsed):
        import_module(_PROGRAMS[program]).main(arguments)


@pytest.mark.parametrize("page", [page for page in _PAGES if _blocks(page, "python")], ids=_ids)
def test_python_is_valid_and_imports_public_names(page: Path) -> None:
    public = {"midlayer_embed": set(midlayer_embed.__all__), "leaderboard": set(leaderboard.__all__)}
    for block in _blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module in public:
                assert {alias.name for alias in node.names} <= public[node.module]


def test_modules_that_the_contributing_guide_names_exist() -> None:
    named = re.findall(r"`((?:\w+/)+\w+\.\w+)`", (_ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert named and [path for path in named if not (_ROOT / path).is_file()] == []


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (_ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {name for page in _PAGES for name in re.findall(r"`make ([a-z-]+)`", page.read_text(encoding="utf-8"))}
    named |= {
        name for page in _PAGES for block in _blocks(page, "sh") for name in re.findall(r"^make ([a-z-]+)", block, re.M)
    }
    assert {"leaderboard", "test", "docs"} <= named <= targets


def test_the_citation_has_what_cff_requires() -> None:
    citation = yaml.safe_load((_ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "title", "message", "authors"} <= citation.keys()
    assert citation["version"] == midlayer_embed.__version__
    (paper,) = citation["references"]
    assert paper["title"].startswith("Layer by Layer") and len(paper["authors"]) == 7


def test_both_packages_are_typed_in_the_wheel() -> None:
    pyproject = (_ROOT / "pyproject.toml").read_text(encoding="utf-8")
    packages = re.search(r"^\[tool\.hatch\.build\.targets\.wheel\]\npackages = (\[.*\])$", pyproject, re.MULTILINE)
    assert packages is not None and "Typing :: Typed" in pyproject
    assert ast.literal_eval(packages[1]) == ["midlayer_embed", "leaderboard"]
    for package in ast.literal_eval(packages[1]):
        assert (_ROOT / package / "py.typed").is_file()
