"""Each option of a model is spelt where it is declared, and nowhere again as a list of keywords."""

import ast
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import torch

from midlayer_embed.options import OF_ONE_LAYER, AnyModelOptions, Recipe, Source

ROOT = Path(__file__).parents[2]
OPTIONS = {option.name for record in (Source, Recipe) for option in fields(record)} - set(OF_ONE_LAYER)
# As many options in one place make a list.
LIST = 4


def _lists(tree: ast.AST) -> Iterator[tuple[int, set[str]]]:
    """The names in each signature, call, literal dictionary and class body, with the line."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            arguments = node.args
            yield node.lineno, {a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
        elif isinstance(node, ast.Call):
            yield node.lineno, {keyword.arg for keyword in node.keywords if keyword.arg}
        elif isinstance(node, ast.Dict):
            yield node.lineno, {key.value for key in node.keys if isinstance(key, ast.Constant)}
        elif isinstance(node, (ast.Tuple, ast.List, ast.Set)):
            yield node.lineno, {item.value for item in node.elts if isinstance(item, ast.Constant)}
        elif isinstance(node, ast.ClassDef):
            yield node.lineno, {item.target.id for item in node.body if isinstance(item, ast.AnnAssign)}  # type: ignore[union-attr]


def test_no_list_of_options_is_spelt_twice() -> None:
    """The two records for Python, and the typed dictionary of both for type checkers."""
    places = []
    for package in ("midlayer_embed", "leaderboard"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for line, names in _lists(ast.parse(path.read_text(encoding="utf-8"))):
                if len(names & OPTIONS) >= LIST:
                    places.append(f"{path.relative_to(ROOT)}:{line} {sorted(names & OPTIONS)}")
    assert len(places) == 3, "\n".join(places)


def test_type_checkers_know_every_option_and_no_other() -> None:
    assert set(get_type_hints(AnyModelOptions, localns={"torch": torch})) == OPTIONS
