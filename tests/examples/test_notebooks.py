"""The notebooks run as they are shipped, in an empty folder and an empty home, and give the outputs that they show.

A kernel is a fork (see `support.forks`): starting one costs nothing, where importing the libraries takes ten seconds.
"""

import base64
import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import nbformat
import pytest
from PIL import Image
from support import forks
from support.folders.starter_cache import StarterCache
from support.reading.pages import is_like

from examples.notebooks.run import FOLDER, NOTEBOOKS, PAPER_TABLES, PAPER_TABLES_TAG, run, tidied

# How far numbers may be from those that a notebook shows: other processors round differently.
WITHIN = "2%"
# Outputs that are compared. Of pictures there have to be as many.
_TEXTS = ("text/plain", "text/html", "text/markdown")
_KERNEL = "from ipykernel.kernelapp import launch_new_instance; launch_new_instance()"
# A tag of cells whose choice is a close call, as the notebook says: on another processor, another recipe may be ahead.
_CLOSE_CALL = "close-call"
# Bytes of all notebooks, pictures included.
_MOST = 600_000

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def _code(notebook: nbformat.NotebookNode) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _shown(cell: Any) -> Iterator[tuple[str, str]]:
    """What a cell shows, each with its kind; of a picture only that it is there."""
    for output in cell.outputs:
        if output.output_type == "stream":
            yield output.name, output.text
        for kind, content in sorted(output.get("data", {}).items()):
            yield kind, content if kind in _TEXTS else ""


def differences(stored: nbformat.NotebookNode, fresh: nbformat.NotebookNode) -> list[str]:
    """Where the outputs of a notebook are not those of a run."""
    found = []
    for number, (cell, again) in enumerate(zip(_code(stored), _code(fresh), strict=True)):
        shown, printed = list(_shown(cell)), list(_shown(again))
        if [kind for kind, _ in shown] != [kind for kind, _ in printed]:
            found.append(f"cell {number}: shows {[kind for kind, _ in shown]}, gives {[kind for kind, _ in printed]}")
            continue
        if _CLOSE_CALL in cell.metadata.get("tags", []):
            continue
        for (kind, old), (_, new) in zip(shown, printed, strict=True):
            lines, others = (list(filter(str.strip, text.splitlines())) for text in (old, new))
            pairs = zip(lines, others, strict=False)
            wrong = [f"{a!r}, not {b!r}" for a, b in pairs if not is_like(a, b, WITHIN)]
            if len(lines) != len(others):
                wrong.append(f"{len(lines)} lines, not {len(others)}")
            found += [f"cell {number}, {kind}: shows {said}" for said in wrong]
    return found


@pytest.mark.process
@every_notebook
def test_a_notebook_runs_and_gives_what_it_shows(
    path: Path,
    tmp_path: Path,
    shared_folder: Path,
    once: Callable[[str, Callable[[], Any]], Any],
    request: pytest.FixtureRequest,
) -> None:
    home, folder = tmp_path / "home", tmp_path / "a folder"
    folder.mkdir()
    StarterCache(shared_folder, once).give(home)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", PAPER_TABLES))}
    environment |= {"HOME": str(home), "PYTHONPATH": str(FOLDER.parents[1]), "HF_HOME": str(home / "huggingface")}
    notebook = nbformat.read(path, as_version=4)
    if any(PAPER_TABLES_TAG in cell.metadata.get("tags", []) for cell in notebook.cells):
        with suppress(pytest.skip.Exception):  # without them, these cells keep their outputs
            environment[PAPER_TABLES] = str(request.getfixturevalue("paper_folder"))
    fresh = run(path, folder, kernel=(forks.as_python(), "-c", _KERNEL), env=environment)
    assert differences(notebook, fresh) == []


@pytest.mark.unit
@every_notebook
def test_a_notebook_is_shipped_with_outputs_and_without_noise(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert tidied(deepcopy(notebook)).metadata == notebook.metadata
    cells = _code(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "run: make notebooks"
    kinds = {kind for cell in cells for kind, _ in _shown(cell)}
    assert kinds <= {"stdout", *_TEXTS, "image/png"} and "image/png" in kinds
    assert {name for cell in notebook.cells for name in cell.metadata} <= {"tags"}
    said = "\n".join(text for cell in cells for _, text in _shown(cell))
    assert re.findall(r"/(?:home|root|tmp|usr|Users|work)/\S*|site-packages|[Ww]arning|it/s\b", said) == []


@pytest.mark.unit
def test_the_notebooks_are_small() -> None:
    assert sorted(FOLDER.glob("*.ipynb")) == sorted(NOTEBOOKS)
    assert sum(path.stat().st_size for path in NOTEBOOKS) <= _MOST


@pytest.mark.unit
def test_another_number_word_or_picture_is_a_difference() -> None:
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    assert differences(notebook, deepcopy(notebook)) == []
    number = next(n for n, cell in enumerate(_code(notebook)) if any(kind == "stdout" for kind, _ in _shown(cell)))
    for old, new in (("%", " percent"), ("layer", "layers"), ("1", "9")):
        other = deepcopy(notebook)
        output = _code(other)[number].outputs[0]
        assert old in output.text
        output.text = output.text.replace(old, new)
        assert differences(notebook, other)
    other = deepcopy(notebook)
    _code(other)[number].outputs = []
    assert differences(notebook, other) == [f"cell {number}: shows ['stdout'], gives []"]


@pytest.mark.unit
def test_times_go_and_pictures_become_small() -> None:
    draw = Image.effect_noise((3000, 300), 50).convert("RGB")
    picture = io.BytesIO()
    draw.save(picture, "PNG")
    output = nbformat.v4.new_output("display_data", {"image/png": base64.b64encode(picture.getvalue()).decode()})
    times = {"execution": {"iopub.status.busy": "2026-01-01T00:00:00Z"}, "tags": ["a"]}
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("1", metadata=times, outputs=[output])],
        metadata={"language_info": {"name": "python", "version": sys.version}},
    )
    (cell,) = tidied(notebook).cells
    assert (cell.metadata, notebook.metadata.language_info) == ({"tags": ["a"]}, {"name": "python"})
    small = base64.b64decode(cell.outputs[0].data["image/png"])
    assert Image.open(io.BytesIO(small)).size == (1200, 120) and len(small) < len(picture.getvalue())


@pytest.mark.process
def test_without_the_papers_tables_their_cells_keep_their_outputs(tmp_path: Path) -> None:
    said = nbformat.v4.new_output("stream", name="stdout", text="from the tables\n")
    cells = [
        nbformat.v4.new_code_cell("print('run')", outputs=[said]),
        nbformat.v4.new_code_cell(
            f"import os; print(os.environ.get('{PAPER_TABLES}'))", outputs=[said], metadata={"tags": [PAPER_TABLES_TAG]}
        ),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "a.ipynb")
    environment = {name: value for name, value in os.environ.items() if name != PAPER_TABLES}
    kernel = (forks.as_python(), "-c", _KERNEL)
    for name, last in ((None, "from the tables\n"), (PAPER_TABLES, f"{Path('x').absolute()}\n")):
        done = run(tmp_path / "a.ipynb", tmp_path, kernel=kernel, env={**environment, **({name: "x"} if name else {})})
        assert [cell.outputs[0].text for cell in done.cells] == ["run\n", last]
