"""The import contract: no circle, no import up a wing, and words and analysis stand without torch. Read by `ast`."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The wings of each package from the ground up; a module outside of a folder is a wing of its own. A wing imports those
# before it and itself, nothing else; `leaderboard` stands on all of `midlayer_embed`.
WINGS = {
    "midlayer_embed": (
        *("errors", "layers", "terms", "sharing", "ground", "recipes", "options", "metrics"),
        *("images", "models", "texts", "forward", "selection"),
        *("encoder", "saved", "bulk", "families", "cli", "__main__"),
    ),
    "leaderboard": (
        *("config_files", "quiet", "storage", "analysis", "tasks", "models", "scoring", "shards", "results", "report"),
        *("board", "sweep", "experiments", "probes"),
        *("criteria", "registry", "cli", "__main__"),
    ),
}
# Packages that take seconds to import, and who must do without them, whatever they import in turn.
HEAVY = ("torch", "transformers", "sentence_transformers", "mteb", "datasets", "sklearn")
LIGHT = (
    "midlayer_embed",
    "midlayer_embed.errors",
    "midlayer_embed.layers",
    "midlayer_embed.terms",
    "midlayer_embed.options",
    "midlayer_embed.sharing.parts",
    "midlayer_embed.selection.criteria",
    "midlayer_embed.models.starter",
    "midlayer_embed.encoder.serve.readers",
    "midlayer_embed.encoder.target",
    "midlayer_embed.encoder.onnx.early",
    "midlayer_embed.saved.encoder",
    "midlayer_embed.cli",
    "leaderboard.cli",
    "leaderboard.tasks.names",
    # What `leaderboard.registry` imports as soon as mteb is imported: it may be on its way to import mteb itself.
    "leaderboard.tasks.pins",
    "leaderboard.models.known",
    "leaderboard.sweep.arguments",
    "leaderboard.shards.progress",
    "leaderboard.results.arguments",
    "leaderboard.results.files.merging",
    "leaderboard.analysis.association",
    "leaderboard.analysis.layer_means",
    "leaderboard.analysis.regret",
    "leaderboard.analysis.schemes",
    "leaderboard.results.tables",
    # What shows results that are there already.
    "leaderboard.board",
    "leaderboard.results.load",
    "leaderboard.report.figure_rows",
    "leaderboard.report.page",
    "leaderboard.report.terminal",
    "leaderboard.sweep.receipts",
)


def _modules() -> dict[str, ast.Module]:
    found = {}
    for package in WINGS:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


MODULES = _modules()


def _imports(tree: ast.AST, *, at_import: bool = False) -> Iterator[str]:
    """The names of imported modules of ours; of heavy packages their first part.

    Args:
        tree: Of a module.
        at_import: Only what runs when the module is imported: nothing in functions, nothing for type checkers.
    """
    for node in ast.iter_child_nodes(tree):
        if at_import and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if at_import and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in MODULES else node.module
        else:
            yield from _imports(node, at_import=at_import)


def _wing(module: str) -> tuple[int, int]:
    """Where a module stands: the number of its package, and of its wing."""
    package, _, rest = module.partition(".")
    wing = rest.partition(".")[0]
    number = len(WINGS[package]) if not wing else WINGS[package].index(wing)  # the package itself is its face
    return list(WINGS).index(package), number


def _ours(module: str) -> set[str]:
    return {name for name in _imports(MODULES[module]) if name in MODULES} - {module}


def test_every_module_has_a_wing() -> None:
    for module in MODULES:
        _wing(module)


@pytest.mark.parametrize("module", MODULES)
def test_no_import_goes_up(module: str) -> None:
    """Not inside a function, and not for type checkers either."""
    for imported in _ours(module):
        if "." in imported:  # `from package import a_public_name` is for users
            assert _wing(imported) <= _wing(module), f"{module} imports {imported}"


def test_there_is_no_circle() -> None:
    graph = {module: {name for name in _ours(module) if "." in name} for module in MODULES if "." in module}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("module", LIGHT)
def test_what_is_light_imports_nothing_heavy(module: str) -> None:
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        assert name.partition(".")[0] not in HEAVY, f"{module} imports {name}"
        if name in MODULES:
            waiting += _imports(MODULES[name], at_import=True)
            parent = name.rpartition(".")[0]
            waiting += [parent] if parent in MODULES else []


def test_folders_and_modules_stay_small() -> None:
    for package in (*WINGS, "tests", "benchmarks"):
        for folder in [path for path in (ROOT / package).rglob("*") if path.is_dir()] + [ROOT / package]:
            modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
            assert len(modules) <= 13, f"{folder.relative_to(ROOT)} holds {len(modules)} modules"
            for path in modules:
                n_lines = len(path.read_text(encoding="utf-8").splitlines())
                assert n_lines <= 400, f"{path.relative_to(ROOT)} has {n_lines} lines"
