"""What must not change by accident: public names, options of every command, experiment names, results, saved folders.

The expected values are the .json files beside this module. A change that is meant is made there by hand, or by
`UPDATE_GOLDEN=1 python -m pytest tests/golden`, and explained in the commit.
"""

import argparse
import importlib
import inspect
import json
import os
import re
import shutil
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from support.tiny_tasks import TinySTS

import leaderboard
import midlayer_embed
from leaderboard import load_results, run_sweep
from midlayer_embed import LayerwiseEncoder, MidLayerEncoder

_HERE = Path(__file__).parent


def _check(name: str, found: Any) -> None:
    """Compares with the golden file; rewrites it where UPDATE_GOLDEN is set."""
    path = _HERE / f"{name}.json"
    text = json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert json.loads(text) == json.loads(path.read_text(encoding="utf-8"))


def _keywords(function: Callable[..., Any]) -> dict[str, list[str]]:
    """Every parameter with its default; annotations are left out, since Python versions spell them differently."""
    found: dict[str, list[str]] = {"by position": [], "by keyword": []}
    for parameter in inspect.signature(function).parameters.values():
        by = "by keyword" if parameter.kind is inspect.Parameter.KEYWORD_ONLY else "by position"
        default = "" if parameter.default is inspect.Parameter.empty else f"={parameter.default!r}"
        stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        found[by].append(f"{stars}{parameter.name}{default}")
    return {**found, "by keyword": sorted(found["by keyword"])}  # where no order can be seen


def _public(package: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in package.__all__:
        value = getattr(package, name)
        if inspect.isclass(value):
            members = {
                member: _keywords(inspect.getattr_static(value, member).__func__)
                if isinstance(inspect.getattr_static(value, member), (classmethod, staticmethod))
                else _keywords(attribute)
                if callable(attribute)
                else "attribute"
                for member, attribute in inspect.getmembers(value)
                if not member.startswith("_") and _is_ours(value, member)
            }
            found[name] = {"": _keywords(value), **members}
        elif callable(value):
            found[name] = _keywords(value)
        else:
            found[name] = type(value).__name__
    return found


def _is_ours(value: type, member: str) -> bool:
    """Whether a class of these packages, not one of its libraries, defines a member."""
    home = next((base for base in value.__mro__ if member in vars(base)), None)
    return home is not None and home.__module__.startswith(("midlayer_embed", "leaderboard"))


def test_public_names_and_keywords() -> None:
    metrics = {name: _keywords(value) for name, value in vars(midlayer_embed.metrics).items() if callable(value)}
    _check(
        "public", {"midlayer_embed": _public(midlayer_embed), "leaderboard": _public(leaderboard), "metrics": metrics}
    )


def test_names_that_are_promised_elsewhere_can_be_imported() -> None:
    for place in (
        "midlayer_embed.cli:main",
        "leaderboard.cli:main",
        "midlayer_embed.families:register",
    ):
        module, _, name = place.partition(":")
        assert callable(getattr(importlib.import_module(module), name))
    assert callable(importlib.import_module("leaderboard.report.card").model_card)
    programs = {entry.name: entry for entry in entry_points(group="console_scripts")}
    for program in ("midlayer-embed", "midlayer-leaderboard"):
        assert callable(programs[program].load())


def _options(parser: argparse.ArgumentParser) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= {f"command {name}": _options(command) for name, command in action.choices.items()}
        elif not isinstance(action, argparse._HelpAction):
            found[" ".join(action.option_strings) or action.dest] = {
                "default": action.default,
                "metavar": action.metavar,
                "nargs": action.nargs,
                "required": action.required,
            }
    return found


@pytest.fixture
def parsers(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], argparse.ArgumentParser]:
    """The parser that a package's `main` parses with."""
    seen: list[argparse.ArgumentParser] = []
    parse = argparse.ArgumentParser.parse_args

    def recorded(parser: argparse.ArgumentParser, *arguments: Any, **keywords: Any) -> Any:
        seen.append(parser)
        return parse(parser, *arguments, **keywords)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", recorded)

    def parser_of(package: str) -> argparse.ArgumentParser:
        with pytest.raises(SystemExit):
            importlib.import_module(f"{package}.cli").main(["--help"])
        return seen[-1]

    return parser_of


def test_options_of_every_command(parsers: Callable[[str], argparse.ArgumentParser]) -> None:
    """The wording is free; names, metavars and defaults are not."""
    _check("commands", {package: _options(parsers(package)) for package in ("midlayer_embed", "leaderboard")})


@pytest.mark.parametrize("package", ["midlayer_embed", "leaderboard"])
def test_help_of_every_command_has_an_example_and_every_option(
    package: str, parsers: Callable[[str], argparse.ArgumentParser], capsys: pytest.CaptureFixture[str]
) -> None:
    parser = parsers(package)
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            importlib.import_module(f"{package}.cli").main([name, "--help"])
        assert exit_.value.code == 0
        said = capsys.readouterr().out
        assert "example: " in said
        for action in command._actions:
            if action.help is argparse.SUPPRESS:  # accepted, but of no effect
                continue
            assert all(option in said for option in action.option_strings)
            assert action.help


@pytest.mark.parametrize("package", ["midlayer_embed", "leaderboard"])
def test_help_says_every_default(package: str, parsers: Callable[[str], argparse.ArgumentParser]) -> None:
    (commands,) = (action for action in parsers(package)._actions if isinstance(action, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        for action in command._actions:
            if action.help is argparse.SUPPRESS or action.nargs == 0 or action.default in (None, []):
                continue
            values = action.default if isinstance(action.default, list) else [action.default]
            said = action.help or ""
            assert "default" in said and all(str(value) in said for value in values), f"{name} {action.option_strings}"


_WITH_A_SEED = ("profile", "select", "recipe", "export", "run", "submit", "report", "regret", "experiment", "probe")


def test_version_and_verbose_are_offered_and_a_seed_without_effect_is_not(
    parsers: Callable[[str], argparse.ArgumentParser], capsys: pytest.CaptureFixture[str]
) -> None:
    for package, program in (("midlayer_embed", "midlayer-embed"), ("leaderboard", "midlayer-leaderboard")):
        (commands,) = (action for action in parsers(package)._actions if isinstance(action, argparse._SubParsersAction))
        capsys.readouterr()
        with pytest.raises(SystemExit, match="^0$"):
            importlib.import_module(f"{package}.cli").main(["--version"])
        assert capsys.readouterr().out == f"{program} {midlayer_embed.__version__}\n"
        for name, command in commands.choices.items():
            help_ = command.format_help()
            assert "--verbose" in help_ and "--quiet" in help_
            assert ("--seed" in help_) is (name in _WITH_A_SEED)
            assert "seed" in {action.dest for action in command._actions}  # but every command takes one


_OPTIONS: dict[str, Any] = {"metrics": ["dataset_entropy", "curvature"], "show_progress": False}
_SETTINGS: list[dict[str, Any]] = [
    {},
    {"limit": 10},
    {"store_dtype": "float16"},
    {"final_norm": False, "pooling_mode": "lasttoken", "max_seq_length": 16},
    {"dtype": "float64"},
]


def test_experiment_names(llama_folder: Path, tmp_path: Path) -> None:
    found = {}
    for number, settings in enumerate(_SETTINGS):
        root = tmp_path / str(number)
        run_sweep(llama_folder, TinySTS(), root, layers=[0, -1], **_OPTIONS, **settings)
        revision = LayerwiseEncoder(llama_folder).checkpoint.revision
        found[json.dumps(settings)] = sorted(
            str(path.relative_to(root)).replace(revision, "REVISION")
            for path in (*root.glob("results/**/*"), *root.glob("metrics/**/*"))
            if path.is_file()
        )
    _check("experiments", found)


def _without_numbers(value: Any) -> Any:
    """Structure, keys and words of a result; numbers that depend on the CPU, times and versions are masked."""
    if isinstance(value, dict):
        masked = ("versions", "evaluation_time", "mteb_version", "date", "kg_co2_emissions")
        return {key: "masked" if key in masked else _without_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_numbers(item) for item in value]
    if isinstance(value, float):
        return "a number"
    if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{12,64}", value):
        return "a hash"
    return value


def test_result_file(llama_folder: Path, tmp_path: Path) -> None:
    run_sweep(llama_folder, TinySTS(), tmp_path, layers=[1], **_OPTIONS)
    (folder,) = tmp_path.glob("results/*/*/experiments/layer_1")
    found = {path.name: _without_numbers(json.loads(path.read_text())) for path in folder.glob("*.json")}
    _check("result", found)


def test_a_results_folder_of_an_earlier_version_is_finished(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`tests/golden/results` was written by the code of 1cdb247; only the revision, a hash of files, is made to fit."""
    revision = LayerwiseEncoder(llama_folder).checkpoint.revision
    folder = tmp_path / "results"
    shutil.copytree(_HERE / "results", folder)
    for path in sorted(folder.rglob("REVISION"), reverse=True):
        for file in path.rglob("*.json*"):
            file.write_text(file.read_text().replace("REVISION", revision))
        path.rename(path.with_name(revision))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}
    assert len(before) == 8  # a result and the meta of each of four layers

    def must_not_load(*_: Any, **__: Any) -> None:
        raise AssertionError("a finished sweep loads no weights")

    monkeypatch.setattr(LayerwiseEncoder, "from_checkpoint", must_not_load)
    board = run_sweep(llama_folder, TinySTS(), folder, metrics="none", show_progress=False)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert board.scores["layer"].to_list() == [0, 1, 2, 3]
    assert board.scores.equals(load_results(folder).scores)
    assert board.metrics.height == 4 * 6  # entropy raw and under four divisors, and curvature, of each layer


def test_saved_folder(llama_folder: Path, tmp_path: Path) -> None:
    MidLayerEncoder(llama_folder, 2).save_pretrained(str(tmp_path / "saved"))
    found: dict[str, Any] = {}
    for path in sorted(path for path in (tmp_path / "saved").rglob("*") if path.is_file()):
        name = path.relative_to(tmp_path / "saved").as_posix()
        found[name] = None
        if name == "README.md":
            found[name] = path.read_text(encoding="utf-8").split("---")[1].splitlines()
        elif path.suffix == ".json" and not name.startswith("tokenizer"):
            content = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(content, dict):
                for key in ("transformers_version", "__version__", "requirements"):
                    content.pop(key, None)
            found[name] = content
    _check("saved", found)
