"""The command `submit`: what it hands on, and what it says. What engines do is tested beside them."""

import argparse
import ast
from pathlib import Path
from typing import Any

import pytest

import leaderboard.cli.submit as submit_module
from leaderboard.cli import main
from leaderboard.cli.program import _parser
from leaderboard.cli.run import add_run_options
from leaderboard.cli.submit import arguments_of
from leaderboard.sweep.executors import arguments as executor_arguments

_ENGINE = {"engine", "workers", "devices", "gpus", "cpus", "slurm", "address", "logs", "follow", "dry_run"}


def _options() -> list[argparse.Action]:
    parser = argparse.ArgumentParser(add_help=False)
    add_run_options(parser)
    return [action for action in parser._actions if action.option_strings]


def _typed(action: argparse.Action) -> list[str]:
    """An option as a user may type it, with another value than its default."""
    flag = action.option_strings[0]
    if action.nargs == 0:
        return [flag]
    if action.type in (int, float):
        return [flag, "-7"] if action.dest == "seed" else [flag, "7"]
    if action.nargs == "+":
        return [flag, "an echo of {text}", "b"]
    return [f"{flag}=-1,0"]


def _without(values: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: value for name, value in vars(values).items() if name not in names}


@pytest.mark.parametrize("action", _options(), ids=lambda action: action.dest + action.option_strings[0])
def test_every_option_of_run_is_handed_on(action: argparse.Action) -> None:
    """Each alone, whatever options there are: `run` reads the same of what is handed on."""
    typed = _typed(action)
    given = _parser().parse_args(["submit", "a model", *typed])
    handed_on = arguments_of(given.of_run, given)
    assert len(handed_on) > 1
    expected = _parser().parse_args(["run", "a model", *typed])
    read = _parser().parse_args(["run", *handed_on])
    assert vars(read) == vars(expected)
    assert _without(given, "command", "of_run", *_ENGINE).items() <= vars(read).items()


def test_options_of_run_are_not_spelt_again() -> None:
    tree = ast.parse(Path(submit_module.__file__).read_text())
    spelt = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    flags = {flag for action in _options() for flag in action.option_strings}
    assert spelt & flags == set()


def test_a_dry_run_shows_the_workers_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert main(["submit", "starter", "--workers", "2", "--layers=-1", "--results", "here", "--dry-run"]) == 0
    results = tmp_path / "here"
    assert capsys.readouterr().out.splitlines() == [
        f"midlayer-leaderboard run starter --layers=-1 --results {results} --shard {number}/2" for number in (1, 2)
    ]
    assert list(tmp_path.iterdir()) == []


def test_there_are_as_many_workers_as_devices(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert main(["submit", "starter", "--devices", "all", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["CUDA_VISIBLE_DEVICES=2", "CUDA_VISIBLE_DEVICES=3"]


def test_a_dry_run_of_ray_shows_the_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray")
    arguments = ["submit", "starter", "--engine", "ray", "--workers", "2", "--gpus", "0.5", "--address", "head:6379"]
    assert main([*arguments, "--dry-run"]) == 0
    head, first, _ = capsys.readouterr().out.splitlines()
    assert head.startswith(
        "# the cluster at head:6379; tasks with num_cpus=1, num_gpus=0.5, max_retries=3, max_calls=1"
    )
    assert first.endswith("--shard 1/2")


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_an_engine_that_is_not_installed(
    engine: str, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(executor_arguments, "find_spec", lambda name: None)
    assert main(["submit", "starter", "--engine", engine]) == 2
    said = capsys.readouterr().err
    assert said == f'midlayer-leaderboard: engine: {engine} needs {package}; pip install "midlayer-embed[{engine}]"\n'


def test_slurm_is_submitted_to_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["submit", "starter", "--engine", "slurm"]) == 2
    assert "engine: there is no sbatch on this machine; submit from a login node" in capsys.readouterr().err
    assert main(["submit", "starter", "--engine", "slurm", "--dry-run"]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--slurm", "partition"], "slurm: expected options of sbatch such as partition=gpu, got 'partition'"),
        (["--slurm", "a=b\n#SBATCH"], "slurm: expected options of sbatch"),
        (["--slurm", "mem=1GB", "--slurm", "mem=2GB"], "slurm: mem is given twice"),
        (["--slurm", "array=0-1"], "slurm: array is set by submit"),
        (["--slurm", "time=tomorrow"], "slurm: expected a time"),
        (["--slurm", "cluster=mars"], "slurm: cluster: expected one of slurm, local"),
        (["--gpus", "0.5"], "gpus: SLURM gives whole GPUs, got 0.5"),
        (["--gpus", "many"], "gpus: expected a whole number, or a part of one"),
        (["--devices", "0"], "devices: only --engine local takes it, got --engine slurm; --gpus N asks"),
    ],
)
def test_mistakes_about_slurm(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("submitit")
    assert main(["submit", "starter", "--engine", "slurm", "--dry-run", *options]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1
