"""Checks the parts that need no torch under another Python: `python tests/other_pythons.py PYTHON...`.

torch and the libraries on top of it are gigabytes per Python, so `make test` runs the suite under one. This check is
quick: the whole tree compiles, light modules import, their doctests pass, and every command answers --help.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
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


def main(pythons: list[str]) -> int:
    """Returns the exit code: 0, or 1 if a check fails under one of the interpreters."""
    failed = []
    for python in pythons:
        version = _version(python)
        if version is None:
            print(f"{python}: not installed here, skipped")
        elif _passes(python):
            print(f"{version}: passed")
        else:
            failed.append(version)
            print(f"{version}: failed")
    return 1 if failed else 0


def _version(python: str) -> str | None:
    if shutil.which(python) is None:
        return None
    found = subprocess.run([python, "--version"], capture_output=True, text=True)
    return found.stdout.strip() if found.returncode == 0 else None


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
        for step in steps:
            done = subprocess.run(step, cwd=ROOT, capture_output=True, text=True)
            if done.returncode != 0:
                print(" ".join(step), done.stdout, done.stderr, sep="\n")
                return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
