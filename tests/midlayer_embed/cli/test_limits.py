"""What a model cannot do is one line and exit code 2, in every command, and nothing is written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from midlayer_embed.cli.program import main

pytestmark = pytest.mark.model

_COMMANDS = {
    "encode": ["--layer", "1", "--input", "TEXTS", "--output", "OUT"],
    "export": ["OUT", "--layer", "1"],
    "export a chosen layer": ["OUT", "--layer", "min-entropy", "--texts", "TEXTS"],
    "profile": ["--texts", "TEXTS", "--out", "OUT"],
    "select": ["--texts", "TEXTS", "--criterion", "min-entropy"],
}


def _above_the_positions(_: Path) -> tuple[list[str], str]:
    return ["--max-seq-length", "129"], "max_seq_length: this bert model has 128 positions, got 129"


def _own_limit_above_the_positions(folder: Path) -> tuple[list[str], str]:
    kinds = {"Transformer": "", "Pooling": "1_Pooling"}
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in kinds.items()]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 512}')
    return [], f"max_seq_length: this bert model has 128 positions, the own limit of {folder} is 512"


def _below_the_special_tokens(_: Path) -> tuple[list[str], str]:
    return ["--max-seq-length", "1"], "max_seq_length: the tokenizer adds 2 tokens to every text, got 1"


def _a_token_more(folder: Path) -> tuple[list[str], str]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["zzz"])
    tokenizer.save_pretrained(folder)
    return [], "has 401 tokens, up to 'zzz', but the model has embeddings for 400"


@pytest.mark.parametrize(
    "spoil", [_above_the_positions, _own_limit_above_the_positions, _below_the_special_tokens, _a_token_more]
)
@pytest.mark.parametrize("command", _COMMANDS)
def test_what_a_model_cannot_do_is_one_line_and_exit_2(
    command: str,
    spoil: Callable[[Path], tuple[list[str], str]],
    tiny_folders: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Path(shutil.copytree(tiny_folders["bert"], tmp_path / "model"))
    options, message = spoil(folder)
    (tmp_path / "t.txt").write_text("zzz and more\n" + "many words in a row " * 100 + "\na third\n")
    before = sorted(tmp_path.rglob("*"))
    places = {"TEXTS": str(tmp_path / "t.txt"), "OUT": str(tmp_path / "out.npy")}
    arguments = [places.get(argument, argument) for argument in _COMMANDS[command]]
    assert main([command.partition(" ")[0], str(folder), *arguments, *options, "--quiet"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before
