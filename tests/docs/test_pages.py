"""README and documentation do what they say: every block is copied, from an empty folder and an empty home.

A page is read from top to bottom, so it has to make what it uses. A block that needs more than an installation says so
in its first line, `# needs the Hub`, and meets a stand-in of it. What a page shows is compared with what came out; the
tolerance stands beside it. See `support.reading`.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from packaging.requirements import Requirement
from support import forks
from support.folders.starter_cache import StarterCache
from support.hubs import LibraryHub, serving
from support.other_stacks.environments import BELOW, READERS
from support.reading.pages import (
    NEEDS,
    Block,
    blocks,
    figures,
    is_like,
    is_rounded_on,
    missing_lines,
    numbers,
    shown_values,
    visible,
)
from support.reading.reader import Done, Reader
from support.reading.stand_ins import (
    environment_of_hub,
    environment_of_network,
    fill_hub,
    make_repository,
    write_programs,
)

ROOT = Path(__file__).parents[2]
_SKILL = ROOT / "midlayer_embed/.agents/skills/midlayer-embed/SKILL.md"
PAGES = [ROOT / "README.md", _SKILL, *sorted((ROOT / "docs").rglob("*.md"))]
_CODE = ("sh", "python")
# Run by the strangers of `make test-all`, in tests/midlayer_embed/encoder/onnx: this language, and what needs Optimum.
_OF_STRANGERS = "js"

# What stands for what a block needs.
STAND_INS = {
    "the Hub": "a server on this machine, with tiny models and datasets",
    "the network": "a repository on this machine; pip looks at what is installed",
    "a bucket": "none: the command line is parsed",
    "minutes": "none: the command line is parsed, and `make test-all` runs it",
    "hours": "none: the command line is parsed",
    "Optimum": "none: a test of `make test-all` runs it, in an environment of its own",
    "a cluster": "none: the command line is parsed; tests of executors have clusters of this machine",
}
# Pages whose commands take ten seconds and more: `make test-all` runs them.
SLOW = (
    *(
        "choose-a-layer",
        "choose-a-recipe",
        "clusters",
        "embed-files",
        "experiments",
        "extreme-prompts",
        "light-reader",
        "llm2vec",
        "measure-every-layer",
        "model-card",
        "mteb",
        "notebooks",
        "offline-data",
        "one-layer",
        "onnx",
        "recipes",
    ),
    *("install", "report", "run-tasks", "serve-layer-k", "starter-benchmark", "training-and-scale", "vision"),
    *("README", "SKILL"),  # `make release-check` runs them besides, from the wheel
)
# All that is not run as it is written, with how it is tried instead, and why.
EXCEPTIONS = {
    "make test": ("dry run", "it runs this test"),
    "make lint": ("dry run", "CI runs it before the tests"),
    "make docs": ("dry run", "CI runs it before the tests"),
    "make bench": ("dry run", "it takes half an hour; what it writes is in the repository"),
    "pip install sentence-transformers<6 optimum-onnx onnxruntime transformers<4.58": (
        "the stack `onnx`",
        "it cannot stand beside ours; strangers of `make test-all` are in an environment with such versions",
    ),
}
# What printed a table, but is not run with its page, and why.
_WIKITEXT = "midlayer-leaderboard experiment {} --metrics metrics_wikitext.csv.gz --model {} --out experiments"
_PAPER = "midlayer-leaderboard report --scores scores_as_published.csv.gz --metrics metrics.csv.gz"
ELSEWHERE = {
    _PAPER: "the paper's tables are no part of the repository; `make test-all` runs it where they are",
    f"{_PAPER} --model Pythia-410m": "the same",
    _WIKITEXT.format("checkpoints", "Pythia-410m"): "the same",
    _WIKITEXT.format(
        "compare_models", "Pythia-14m Pythia-70m Pythia-160m Pythia-410m Pythia-1b Pythia-6.9b"
    ): "the same",
    _WIKITEXT.format("compare_models", "Llama3-8B LLM2Vec-mntp-unsup-simcse-8B LLM2Vec-mntp-supervised-8B"): "the same",
    "midlayer-embed select starter --starter-texts": "a minute and more; `make test-all` runs it",
}
# Programs behind figures in running text, and who compares these.
MEASURED = {
    "python -m benchmarks.evaluation.nearest_text DATA_DIR --layers all": "a test of `make test-all`, below",
    "python -m benchmarks.recipes DATA_DIR --tasks STSBenchmark": "nobody: it takes an hour and real data of MTEB",
    "python -m benchmarks.recipes DATA_DIR --dtype bfloat16 --layers 0 3 6 9 12 15 18 21 24 27 30": "nobody: the same",
    "python -m benchmarks.recipe_choice DATA_DIR --criteria half-and-drop "
    "--layers 0 3 6 9 12 15 18 21 24 27 28 29 30": "nobody: the same",
    "python -m benchmarks.selection_study DATA_DIR --models starter minilm mpnet=FOLDER e5=FOLDER "
    "gemma=FOLDER:FILE.gguf --templates none": "nobody: the same",
    "python -m benchmarks.serving.onnx_parity --layers 1": "nobody: it takes minutes; `make test-all` compares more",
    "python -m benchmarks.evaluation.whole_leaderboard": "`make bench` runs it, and the page quotes what that wrote",
    "python -m benchmarks.serving.onnx_loss": "nobody: it takes minutes; a test holds the starter model to its row",
    "python -m benchmarks.serving.onnx_loss --settings": "nobody: the same",
    "python -m benchmarks.evaluation.scoring": "`make bench` runs it, and the page quotes what that wrote",
    "python -m benchmarks.evaluation.selection_on_mteb DATA_DIR": "nobody: it takes 40 minutes and real data of MTEB",
    "python -m benchmarks.serving.quality_and_cost": "`make bench` runs it, and the page quotes what that wrote",
    "python -m benchmarks.evaluation.store_dtype": "nobody: it takes two sweeps",
    "python -m benchmarks.evaluation.shard_costs DATA_DIR": "a test of `make test-all` compares the sizes",
    "python -m benchmarks.scale": "a test in tests/benchmarks, with what it has written; the page quotes that",
    "python -m benchmarks.gpu": "a test runs it on the CPU; no figure is quoted",
}
# What is shown, but not printed by a command, and why.
NOT_PRINTED = {
    "docs/concepts/architecture.md": "folders, which another test looks for",
    "docs/guides/run-tasks.md": "the path of a result file, which another test looks for",
}


def _name(value: object) -> str:
    return value.relative_to(ROOT).as_posix() if isinstance(value, Path) else str(value)


def _all_blocks() -> list[Block]:
    return [block for page in PAGES for block in blocks(page, ROOT)]


def _languages(page: Path) -> set[str]:
    return {block.language for block in blocks(page, ROOT)}


def _plain(command: str) -> str:
    """A command without the comment behind it, on one line."""
    return " ".join(shlex.split(command.replace("\\\n", " "), comments=True))


class _Parsed(BaseException):
    pass


def _parse(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a command's own parser read it."""
    program, *arguments = shlex.split(command.replace("\\\n", " "), comments=True)
    module = {"midlayer-embed": "midlayer_embed.cli", "midlayer-leaderboard": "leaderboard.cli"}[program]
    parse = argparse.ArgumentParser.parse_args

    def only_parse(*args: Any) -> None:
        parse(*args)
        raise _Parsed

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
        with pytest.raises(_Parsed):
            import_module(module).main(arguments)


# --- What the pages are


def test_every_block_is_run_or_shown() -> None:
    assert [str(block) for block in _all_blocks() if block.language not in (*_CODE, _OF_STRANGERS, "text")] == []


def test_every_mark_is_one_that_is_known_and_every_stand_in_is_used() -> None:
    needed = {need for block in _all_blocks() for need in block.needs}
    assert needed == set(STAND_INS) <= set(NEEDS)
    # In one way only: nobody writes it elsewhere in a block.
    elsewhere = [str(block) for block in _all_blocks() if "# needs " in block.text.partition("\n")[2]]
    assert elsewhere == []


def test_every_exception_is_used() -> None:
    commands = {_plain(command) for block in _all_blocks() if block.language == "sh" for command in block.commands}
    assert [command for command in EXCEPTIONS if command not in commands] == []
    assert set(ELSEWHERE) <= {block.source for block in _all_blocks()}


def test_programs_behind_figures_are_there() -> None:
    named = {name for page in PAGES for name in re.findall(r"`(python -m benchmarks[^`]*)`", visible(page))}
    assert named == set(MEASURED)
    modules = [name.split()[2] for name in named]
    assert [name for name in modules if not (ROOT / name.replace(".", "/")).with_suffix(".py").is_file()] == []


def test_what_is_shown_says_who_printed_it() -> None:
    unsaid = {block.page for block in _all_blocks() if block.language == "text" and not block.source}
    assert unsaid == set(NOT_PRINTED)


def test_the_folders_that_the_architecture_shows_are_there() -> None:
    (block,) = (block for block in _all_blocks() if block.page == "docs/concepts/architecture.md")
    package, folders = Path(), []
    for line in block.text.splitlines():
        name = line.split()[0]
        package = package if line.startswith(" ") else Path(name)
        folders.append(package if not line.startswith(" ") else package / name)
    assert folders and [folder for folder in folders if not (ROOT / folder).exists()] == []


# --- What they say


def _printed_by(source: str) -> str | None:
    """The text of a file of the repository that figures are from; None if they are from a command."""
    path = ROOT / source
    return path.read_text(encoding="utf-8") if "/" in source and " " not in source and path.is_file() else None


@pytest.mark.parametrize("page", [page for page in PAGES if figures(page)], ids=_name)
def test_figures_are_those_of_their_source(page: Path) -> None:
    text = visible(page)
    for found in figures(page):
        source = _printed_by(found.source)
        assert source is not None, f"{found.source} is no file of the repository"
        lines = source.splitlines()
        for quote in found.quotes:
            assert numbers(quote), f"{quote!r} has no number"
            assert any(quote in line for line in lines), f"{found.source} does not say {quote!r}"
            assert is_rounded_on(text, quote), f"the page does not have the first number of {quote!r}"


# --- What they do


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory, make_adapter: Callable[..., Path]) -> Iterator[LibraryHub]:
    with serving(LibraryHub()) as served:
        fill_hub(served, tmp_path_factory.mktemp("hub"), make_adapter)
        yield served


@pytest.fixture(scope="session")
def online_python(hub: LibraryHub) -> Iterator[str]:
    """A program that stands for an interpreter, and takes the stand-in for the Hub."""
    ours = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    with forks.another_server({**ours, **environment_of_hub(hub)}) as program:
        yield program


@pytest.fixture
def reader(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    hub: LibraryHub,
    online_python: str,
    shared_folder: Path,
    once: Callable[[str, Callable[[], Any]], Any],
) -> Iterator[Reader]:
    """Of the page of the test: an interpreter is started for each command of the README that does without the Hub.

    Elsewhere forks do: that every program starts from nothing is shown by one page.
    """
    is_readme = request.node.callspec.params["page"].name == "README.md"
    home, cache = tmp_path / "home", StarterCache(shared_folder, once)
    if not is_readme:
        cache.give(home)
    clone = make_repository(tmp_path_factory.mktemp("repository"))
    environments = {"the Hub": environment_of_hub(hub), "the network": environment_of_network(clone)}
    offline_python = sys.executable if is_readme else forks.as_python()
    with Reader(tmp_path, offline_python, online_python, environments, write_programs(tmp_path / "programs")) as opened:
        yield opened
    if is_readme:
        cache.take(home)


def _run(command: str, block: Block, reader: Reader, shared_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Done:
    plain = _plain(command)
    if {"a bucket", "a cluster", "minutes", "hours"} & set(block.needs):
        _parse(command, monkeypatch)
        return Done(0, "", "", {})
    how = EXCEPTIONS.get(plain, ("",))[0]
    if how == "the stack `onnx`":
        asked = {asked.name: asked.specifier for asked in map(Requirement, shlex.split(plain)[2:])}
        pins = {pin.name: next(iter(pin.specifier)).version for pin in map(Requirement, READERS["onnx"])}
        assert asked.keys() - pins.keys() <= set(BELOW)
        assert all(asked[name].contains(pins[name]) for name in asked.keys() & pins.keys())
        return Done(0, "", "", {})
    extra = {"MAKEFLAGS": "n"} if how == "dry run" else {}
    # The five tasks take minutes: who comes second goes on with the results of who came first.
    is_sweep = plain == "make leaderboard" or "run starter --benchmark starter" in plain
    results, kept = reader.cwd / "results" / "starter", shared_folder / "starter-results"
    with FileLock(f"{kept}.lock") if is_sweep else nullcontext():
        if is_sweep and kept.exists() and not results.exists():
            shutil.copytree(kept, results)
        done = reader.command(command, needs=block.needs, extra=extra)
        if is_sweep and done.code == 0 and not kept.exists():
            shutil.copytree(results, kept)
    return done


@pytest.mark.process
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.slow if page.stem in SLOW else ())
        for page in PAGES
        if set(_CODE) & _languages(page)
    ],
    ids=_name,
)
def test_a_page_does_what_it_says(
    page: Path, reader: Reader, shared_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: dict[str, str] = {}
    for block in blocks(page, ROOT):
        if block.language == "sh":
            for command in block.commands:
                done = _run(command, block, reader, shared_folder, monkeypatch)
                assert done.code == 0, f"{block}: {command}\nexit code {done.code}\n{done.stdout}\n{done.stderr}"
                printed[_plain(command)] = printed["the command above"] = done.stdout
        elif block.language == "python" and "Optimum" not in block.needs:
            done = reader.python(block.text, needs=block.needs)
            assert done.code == 0, f"{block}:\n{block.text}\n{done.stderr}"
            printed["the code above"] = done.stdout
            for line, said in shown_values(block.text).items():
                assert is_like(said, done.values[line], "1%"), f"{block}, line {line}: gives {done.values[line]}"
        elif block.language == "text" and block.source:
            if block.source in ELSEWHERE:
                continue
            output = printed.get(block.source, _printed_by(block.source))
            assert output is not None, f"{block}: {block.source!r} is not run on this page"
            missing = missing_lines(block.text, output, block.within)
            assert missing == [], f"{block}: {block.source} printed\n{output}"


# --- What takes too long for every change


@pytest.mark.real
@pytest.mark.process
def test_the_front_page_tells_how_often_the_nearest_text_is_of_the_same_intent(mteb_mirror: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.evaluation.nearest_text", str(mteb_mirror), "--layers", "all"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = dict(re.findall(r"^(\S.*?)  +([\d.]+)$", done.stdout, re.MULTILINE))
    layers = {int(name.split()[2]): float(value) for name, value in found.items() if ", layer " in name}
    assert max(layers, key=lambda layer: layers[layer]) == 5
    printed = [found["all-MiniLM-L6-v2"], found["TF-IDF"], layers[5], layers[1], layers[30]]
    table = visible(ROOT / "docs" / "index.md").partition("| embedding | % |")[2].partition("\n\n")[0]
    shown = re.findall(r"\| ([\d.]+) \|$", table, re.MULTILINE)
    assert [float(value) for value in shown] == pytest.approx([float(value) for value in printed], abs=0.5)


@pytest.mark.real
@pytest.mark.process
@pytest.mark.parametrize("block", [block for block in _all_blocks() if block.source in ELSEWHERE], ids=_name)
def test_what_is_not_run_with_its_page_prints_what_the_page_shows(
    block: Block, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    program, *arguments = shlex.split(block.source)
    if {"--scores", "--metrics"} & set(arguments):  # tables of the paper, in a folder that is not to be written
        for path in request.getfixturevalue("paper_folder").iterdir():
            (tmp_path / path.name).symlink_to(path)
    module = {"midlayer-embed": "midlayer_embed", "midlayer-leaderboard": "leaderboard"}[program]
    width = max(80, *map(len, block.text.splitlines()))  # of the terminal in which the page's table was printed
    as_wide = f"import os, sys; os.environ['COLUMNS'] = '{width}'"
    code = f"{as_wide}; from {module}.cli import main; sys.exit(main(sys.argv[1:]))"
    printed = forks.run_code(code, *arguments, cwd=tmp_path, timeout=1800)
    assert missing_lines(block.text, printed, block.within) == [], printed
