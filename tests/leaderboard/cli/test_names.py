"""What a model in a folder is called in results, and what its card says of it."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from support.tiny_tasks import TinySTS

from leaderboard import load_results, run_sweep
from leaderboard.cli.program import main


@pytest.mark.parametrize(("name", "shown"), [("mine", "local/mine"), ("org/mine", "org/mine")])
def test_a_folder_has_its_name_in_results_and_card(llama_folder: Path, tmp_path: Path, name: str, shown: str) -> None:
    options = {"layers": [0, 3], "metrics": "none", "show_progress": False}
    board = run_sweep(llama_folder, [TinySTS()], tmp_path / "results", model_name=name, **options)
    assert set(board.scores["model"]) == {shown}
    assert set(load_results(tmp_path / "results").scores["model"]) == {shown}
    said = ["--license", "apache-2.0", "--base-model", "org/base", "--out", str(tmp_path / "README.md")]
    assert main(["card", str(tmp_path / "results"), "--layer", "3", *said]) == 0
    card = ModelCard.load(tmp_path / "README.md")
    assert (card.data.license, card.data.base_model) == ("apache-2.0", "org/base")
    assert "path/to/mine" in card.text  # it is no model of the Hub, whatever its name


def test_the_command_takes_a_name(llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(llama_folder), "--name", "a/b/c", "--results", str(tmp_path / "results")]) == 2
    assert "model_name: expected a name such as 'org/name' or 'name', got 'a/b/c'" in capsys.readouterr().err
