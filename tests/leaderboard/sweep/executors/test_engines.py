"""Engines are extras: nothing but their own executor knows them, and what they pickle of ours are strings."""

import ast
import json
from pathlib import Path

import pytest

import leaderboard
from leaderboard.sweep.executors.protocol import Worker

_ROOT = Path(leaderboard.__file__).parent


def _imports(path: Path, *, at_import: bool) -> set[str]:
    """First parts of the names of imported packages."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if at_import else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize(("package", "module"), [("ray", "ray.py"), ("submitit", "slurm.py")])
def test_an_engine_is_imported_by_its_executor_alone_and_when_it_is_used(package: str, module: str) -> None:
    paths = [*_ROOT.rglob("*.py"), *(_ROOT.parent / "midlayer_embed").rglob("*.py")]
    assert [path.name for path in paths if package in _imports(path, at_import=False)] == [module]
    assert package not in _imports(_ROOT / "sweep" / "executors" / module, at_import=True)


def test_a_worker_is_strings_for_an_engine() -> None:
    worker = Worker("1-of-2", ("run", "a model"), "a.log", "here", {"OMP_NUM_THREADS": "1"})
    given = worker.as_dict()
    assert json.loads(json.dumps(given)) == given
    assert Worker.from_dict(given) == worker
