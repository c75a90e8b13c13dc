"""Runs the notebooks of this folder and writes them back with their outputs.

    python examples/notebooks/run.py [NOTEBOOK ...]

`make notebooks` runs all of them. Each runs in an empty folder, in a kernel of its own. What is written depends on the
numbers alone: there are no times, no paths of this machine, and pictures are small enough for a repository.
"""

import argparse
import base64
import io
import json
import os
import resource
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from PIL import Image

from midlayer_embed.ground.atomic import atomic_file

FOLDER = Path(__file__).parent
NOTEBOOKS = [FOLDER / f"{name}.ipynb" for name in ("find_layer_and_recipe", "own_leaderboard", "reproduce_the_paper")]
# A kernel that is started as `python -m ipykernel_launcher` is.
KERNEL = (sys.executable, "-m", "ipykernel_launcher")
# Without ipywidgets, tqdm warns in a notebook as soon as it is imported. There are no bars here.
QUIET = {"PYTHONWARNINGS": "ignore:IProgress not found"}
# The variable that names the folder of the paper's published tables. Where it is not set, cells with the tag keep the
# outputs that they have: these tables are no part of the repository.
PAPER_TABLES, PAPER_TABLES_TAG = "PAPER_TABLES", "paper-tables"
# Seconds for a cell: on a busy machine with one core.
_TIMEOUT = 900
# Pixels across, for a picture that is shown half as wide on a sharp screen.
_WIDTH = 1200
_COLOURS = 64
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def run(
    path: Path, folder: Path, *, kernel: tuple[str, ...] = KERNEL, env: Mapping[str, str] | None = None
) -> nbformat.NotebookNode:
    """Runs all cells of a notebook.

    Args:
        path: The notebook, which is not changed.
        folder: The working directory of its kernel.
        kernel: The command that starts a kernel, without the file of its connection, which follows.
        env: The environment of the kernel; None: that of this process.

    Returns:
        The notebook with its outputs, tidied.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    environment = {**(os.environ if env is None else env), **QUIET}
    if PAPER_TABLES in environment:  # the kernel runs in another folder
        environment[PAPER_TABLES] = os.path.abspath(environment[PAPER_TABLES])
    kept = {} if PAPER_TABLES in environment else _outputs_of_tables(notebook)
    with tempfile.TemporaryDirectory() as specs:
        spec = {"argv": [*kernel, "-f", "{connection_file}"], "display_name": "Python 3", "language": "python"}
        file = Path(specs, "python3", "kernel.json")
        file.parent.mkdir()
        file.write_text(json.dumps(spec))
        known = KernelSpecManager(kernel_dirs=[specs], ensure_native_kernel=False)
        manager = AsyncKernelManager(
            kernel_name="python3",
            kernel_spec_manager=known,
            connection_file=str(Path(specs, "connection.json")),
            transport="ipc",  # files: no port of this machine is opened
        )
        client = NotebookClient(notebook, km=manager, timeout=_TIMEOUT, record_timing=False)
        client.execute(cwd=str(folder), env=environment, cleanup_kc=True)
    for number, outputs in kept.items():
        notebook.cells[number].outputs = outputs
    return tidied(notebook)


def _outputs_of_tables(notebook: nbformat.NotebookNode) -> dict[int, Any]:
    """The stored outputs of the cells that need the paper's published tables."""
    cells = enumerate(notebook.cells)
    return {number: cell.outputs for number, cell in cells if PAPER_TABLES_TAG in cell.metadata.get("tags", [])}


def tidied(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook without what differs from run to run, and with small pictures."""
    notebook.metadata = nbformat.from_dict(_METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({"tags": cell.metadata["tags"]} if "tags" in cell.metadata else {})
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = _small(output.data["image/png"])
    return notebook


def _small(picture: str) -> str:
    """A picture in base64 with fewer pixels and colours: charts have few of these."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    if image.width > _WIDTH:
        image = image.resize((_WIDTH, round(image.height * _WIDTH / image.width)), Image.Resampling.LANCZOS)
    small = io.BytesIO()
    image.quantize(_COLOURS, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def write(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Writes a notebook as Jupyter would, with a line break at the end."""
    with atomic_file(path) as partial:
        nbformat.write(notebook, partial)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Run notebooks and write them back with their outputs.")
    parser.add_argument("notebooks", nargs="*", type=Path, default=NOTEBOOKS, metavar="NOTEBOOK")
    arguments: Any = parser.parse_args()
    for path in arguments.notebooks:
        before = _cpu_seconds()
        with tempfile.TemporaryDirectory() as folder:
            write(run(path, Path(folder)), path)
        seconds = _cpu_seconds() - before
        print(f"{path.name}: {seconds:.0f} CPU seconds, {path.stat().st_size / 1000:.0f} kB", flush=True)


def _cpu_seconds() -> float:
    """Of the kernels that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
