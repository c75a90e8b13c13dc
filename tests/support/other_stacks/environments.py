"""Environments of older sentence-transformers, without a second torch: they see the few libraries below ours."""

import subprocess
import sys
import venv
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
# Name of a stack: the packages that differ from ours. Each transformers is of the time of its sentence-transformers.
STACKS = {
    "st3.4": ("sentence-transformers==3.4.1", "transformers==4.48.3", "tokenizers>=0.21,<0.22", "huggingface-hub<1"),
    "st4.1": ("sentence-transformers==4.1.0", "transformers==4.51.3", "tokenizers>=0.21,<0.22", "huggingface-hub<1"),
    "st5.1": ("sentence-transformers==5.1.2", "transformers==4.57.6", "tokenizers>=0.22,<0.23", "huggingface-hub<1"),
    # knows the new names, but not `requirements`
    "st5.7": ("sentence-transformers==5.7.0", "transformers==4.57.6", "tokenizers>=0.22,<0.23", "huggingface-hub<1"),
    # reads `requirements`, and its transformers are older than what some layers need
    "st6.0": (
        "sentence-transformers==6.0.0",
        "transformers==5.2.0",
        "tokenizers>=0.22,<0.23",
        "huggingface-hub<2",
        "httpx",
        "httpcore",
    ),
}
# Readers of ONNX graphs. Optimum is for transformers below 4.58.
READERS = {
    "onnx": (
        *("sentence-transformers==5.7.0", "transformers==4.57.6", "tokenizers>=0.22,<0.23", "huggingface-hub<1"),
        *("optimum==2.1.0", "optimum-onnx==0.1.0"),
    ),
}
# What an old huggingface-hub needs beside what ours does, and Optimum.
BELOW = ("requests", "pillow", "onnx", "onnxruntime")


def python_of(stack: str) -> str:
    """The interpreter of a stack, which is installed into .venv-stacks the first time."""
    folder = ROOT / ".venv-stacks" / stack
    python, done = folder / "bin" / "python", folder / ".installed"
    shared = [f"{name}=={metadata.version(name)}" for name in sorted(_shared_names())]
    packages = {**STACKS, **READERS}[stack]
    wanted = "\n".join([sys.version, *packages, *shared])
    if not done.exists() or done.read_text() != wanted:
        venv.create(folder, clear=True, symlinks=True)
        libraries = next((folder / "lib").glob("python*")) / "site-packages"
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--target", str(libraries), *packages], check=True, capture_output=True)
        for name in _shared_names():
            _link(name, libraries)
        done.write_text(wanted)
    return str(python)


def python_with(folder: Path, names: Sequence[str]) -> str:
    """The interpreter of a new environment that has some of our packages, what these need, and nothing else.

    Args:
        folder: Where the environment is made.
        names: The packages.
    """
    venv.create(folder, symlinks=True)
    libraries = next((folder / "lib").glob("python*")) / "site-packages"
    for name in _needed(names):
        _link(name, libraries)
    return str(folder / "bin" / "python")


def _shared_names() -> set[str]:
    """Our packages that a stack takes as they are: what its libraries need, but not those libraries."""
    own = {Requirement(line).name for packages in (*STACKS.values(), *READERS.values()) for line in packages}
    return _needed([*own, *BELOW]) - own


def _needed(names: Iterable[str]) -> set[str]:
    """Packages and what they need, as far as it is installed here."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            needed = metadata.requires(name) or ()
        except metadata.PackageNotFoundError:  # needed on another platform
            continue
        found.add(name)
        for requirement in map(Requirement, needed):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name.lower().replace("_", "-"))
    return found


def _link(name: str, libraries: Path) -> None:
    files = metadata.files(name) or ()
    for top in sorted({file.parts[0] for file in files} - {"..", "__pycache__"}):
        here = libraries / top
        if not here.exists():
            here.symlink_to(metadata.distribution(name).locate_file(top))
