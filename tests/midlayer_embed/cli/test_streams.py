"""Every command of both programs, whatever its standard streams are."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import forks
from support.tiers import slow

_COMMANDS = {
    "midlayer_embed": {
        "version": "--version",
        "help": "select --help",
        "profile": "profile MODEL --texts TEXTS --metrics dataset_entropy effective_rank",
        "select": "select MODEL --texts TEXTS --criterion min-entropy",
        "export": "export MODEL NEW/export --layer 2",
        "encode": "encode MODEL --layer 2 --input TEXTS --output NEW/a.npy",
        "no model": "select NEW/nothing --texts TEXTS",
        "no option": "select --nothing",
    },
    "leaderboard": {
        "help": "run --help",
        "run": "run MODEL --tasks StarterSTS --layers 0,-1 --metrics dataset_entropy --results NEW/results",
        "report": "report --scores SCORES --model org/модель",
        "tasks": "tasks --benchmark starter",
        "no results": "report NEW/nothing",
    },
}
_CASES = [(package, name) for package, commands in _COMMANDS.items() for name in commands]
_SWEEP = ("leaderboard", "run")
_BUT_SLOW = [*(case for case in _CASES if case != _SWEEP), *slow(_SWEEP)]
_MISTAKES = ("no model", "no option", "no results")
# The stranger that tries an export is a fork, too.
_MAIN = """
import sys
from {}.cli import main
if "export" in sys.argv:
    from types import SimpleNamespace
    import midlayer_embed.encoder.export
    from support import forks
    midlayer_embed.encoder.export.subprocess = SimpleNamespace(run=forks.run)
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def words(llama_folder: Path, sentences: list[str], tmp_path: Path) -> dict[str, str]:
    """Places whose names and texts no small encoding can spell."""
    folder = tmp_path / "módel-数学"
    folder.mkdir()
    model = folder / "tiny-ламма"
    model.symlink_to(llama_folder)
    (folder / "texts.txt").write_text("\n".join(sentences), encoding="utf-8")
    rows = [f"org/модель,{layer},{task},STS,0.{layer + 2}" for layer in range(3) for task in ("A", "B")]
    (folder / "s.csv").write_text("\n".join(["model,layer,task,task_type,main_score", *rows]), encoding="utf-8")
    return {
        "MODEL": str(model),
        "TEXTS": str(folder / "texts.txt"),
        "SCORES": str(folder / "s.csv"),
        "NEW": str(folder),
    }


def _command(package: str, name: str, words: dict[str, str]) -> list[str]:
    command = _COMMANDS[package][name]
    for word, place in words.items():
        command = command.replace(word, place)
    return [sys.executable, "-c", _MAIN.format(package), *command.split()]


@contextmanager
def _files(stdout: str, stderr: str, tmp_path: Path) -> Iterator[list[int]]:
    """Open files: "gone" is a pipe without a reader, "full" a full disk, "file" a file."""
    opened = []
    for name, kind in (("out", stdout), ("err", stderr)):
        if kind == "gone":
            reader, number = os.pipe()
            os.close(reader)
        else:
            path = "/dev/full" if kind == "full" else str(tmp_path / name)
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        opened.append(number)
    yield opened
    for number in opened:
        os.close(number)


@pytest.mark.process
@pytest.mark.parametrize(("package", "name"), _BUT_SLOW)
@pytest.mark.parametrize(
    ("stdout", "stderr", "code"), [("gone", "file", 0), ("full", "file", 1), ("file", "gone", 0), ("gone", "gone", 0)]
)
def test_a_stream_that_cannot_be_written_is_no_traceback(
    package: str, name: str, stdout: str, stderr: str, code: int, words: dict[str, str], tmp_path: Path
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    code = 2 if name in _MISTAKES else code
    with _files(stdout, stderr, tmp_path) as (out, err):
        fork = forks.Fork(_command(package, name, words), stdout=out, stderr=err)
        assert fork.wait(120) == code
    if stderr == "file":
        said = (tmp_path / "err").read_text(encoding="utf-8")
        assert "Traceback" not in said and "Exception ignored" not in said
        assert len([line for line in said.splitlines() if "standard output" in line or "full" in line]) == (code == 1)


@pytest.mark.process
@pytest.mark.parametrize(("package", "name"), _BUT_SLOW)
def test_any_encoding_can_say_it(package: str, name: str, words: dict[str, str], tmp_path: Path) -> None:
    """ASCII, of which all the others are more, on both streams."""
    in_ascii = "import sys; [s.reconfigure(encoding='ascii', errors='strict') for s in (sys.stdout, sys.stderr)]"
    command = [sys.executable, "-c", in_ascii + _MAIN.format(package), *_command(package, name, words)[3:]]
    done = forks.run(command)
    assert done.returncode == (2 if name in _MISTAKES else 0), done.stderr
    assert "Traceback" not in done.stderr
    said = done.stderr if name in _MISTAKES else done.stdout
    assert said.strip() and said.isascii()
    if name == "select":
        assert "  ####" in said
    if name == "report":
        assert "----" in said and "org/\\u043c" in said
