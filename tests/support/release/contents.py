"""The files of a source distribution and of a wheel: those of the repository that belong there, and no other."""

from collections.abc import Iterable

PACKAGES = ("midlayer_embed", "leaderboard")
# Folders of the repository that are data of a package: the packages have links to them.
DATA = {"configs": "leaderboard/configs", "skills": "midlayer_embed/.agents/skills"}
# Files without which an installed package does less than it says.
NEEDED = (
    "midlayer_embed/py.typed",
    "midlayer_embed/.agents/skills/midlayer-embed/SKILL.md",
    "leaderboard/py.typed",
    "leaderboard/configs/benchmarks/paper.yaml",
    "leaderboard/configs/published/layer-by-layer.yaml",
    "leaderboard/report/page_files/page.css",
    "leaderboard/report/page_files/page.html.j2",
    "leaderboard/report/page_files/page.js",
)
# Written by the build.
_OF_BUILD = {"PKG-INFO"}


def wheel_differences(members: Iterable[str], tracked: Iterable[str], name: str) -> list[str]:
    """What a wheel has too much or lacks, one line each.

    Args:
        members: The files of the wheel.
        tracked: The files of the repository.
        name: The name of the wheel's own folder, such as "midlayer_embed-0.2.0".
    """
    expected = set()
    for path in tracked:
        top, _, rest = path.partition("/")
        if path not in DATA.values() and top in PACKAGES:
            expected.add(path)
        elif top in DATA:
            expected.add(f"{DATA[top]}/{rest}")
    has = {path for path in members if not path.startswith((f"{name}.dist-info/", f"{name}.data/"))}
    lacking = sorted({*expected, *NEEDED} - has)
    return [*(f"the wheel lacks {path}" for path in lacking), *_too_much("wheel", has - expected)]


def sdist_differences(members: Iterable[str], tracked: Iterable[str], name: str) -> list[str]:
    """What a source distribution has that is not in the repository, and what it lacks of the packages.

    Links of the packages to data are the files that they lead to.

    Args:
        members: The files of the archive.
        tracked: The files of the repository.
        name: The folder that all of them are in.
    """
    known = set(tracked)
    split = [path.partition("/") for path in known]
    copied = {f"{DATA[top]}/{rest}" for top, _, rest in split if top in DATA}
    has = {path.removeprefix(f"{name}/") for path in members}
    needed = {path for path in known if path.split("/")[0] in (*PACKAGES, "tests", "pyproject.toml", "LICENSE")}
    lacking = sorted((needed | copied) - {*DATA.values()} - has)
    return [
        *(f"the source distribution lacks {path}" for path in lacking),
        *_too_much("source distribution", has - known - copied - _OF_BUILD),
    ]


def _too_much(what: str, paths: Iterable[str]) -> list[str]:
    return [f"the {what} has {path}, which is no file of the repository" for path in sorted(paths)]
