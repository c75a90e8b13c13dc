import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.forks import run_code

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder
from midlayer_embed.cli.program import main
from midlayer_embed.models.checkpoint import find_checkpoint


def test_what_is_wrong_with_a_folder_is_one_line(spoilt_folder: tuple[Path, str]) -> None:
    folder, message = spoilt_folder
    for load in (LayerwiseEncoder, lambda folder: MidLayerEncoder(folder, 1)):
        with pytest.raises(ValueError, match=message) as error:
            load(folder)
        assert str(error.value).startswith("model: ")
        assert "\n" not in str(error.value)


def test_on_the_command_line_it_is_exit_2_and_nothing_is_written(
    spoilt_folder: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, message = spoilt_folder
    (tmp_path / "a.txt").write_text("one\n")
    before = sorted(tmp_path.rglob("*"))
    files = ["--input", str(tmp_path / "a.txt"), "--output", str(tmp_path / "v.npy")]
    for arguments in (["encode", str(folder), *files], ["export", str(folder), str(tmp_path / "out")]):
        assert main([*arguments, "--layer", "1"]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert re.search(message, captured.err)
        assert len(captured.err.strip().splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["bert", "gpt2", "gpt_neox", "mamba", "opt", "qwen2", "roberta", "t5"])
def test_no_tokenizer_is_made_up(tiny_model: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(tiny_model(name), tmp_path / "copy"))
    for file in folder.glob("tokenizer*"):
        file.unlink()
    for load in (LayerwiseEncoder, lambda folder: MidLayerEncoder(folder, 1)):
        with pytest.raises(ValueError, match="has no tokenizer that can be used .*: no file contains a vocabulary"):
            load(folder)


def test_a_tokenizer_without_vocabulary_files_is_one_all_the_same(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    from transformers import ByT5Tokenizer

    folder = Path(shutil.copytree(tiny_model("t5"), tmp_path / "copy"))
    for file in folder.glob("tokenizer*"):
        file.unlink()
    ByT5Tokenizer().save_pretrained(folder)  # bytes are its words
    assert LayerwiseEncoder(folder).encode("a text").any()


def test_weights_in_parts_are_read(
    llama_folder: Path,
    tmp_path: Path,
    llama: LayerwiseEncoder,
) -> None:
    from transformers import AutoModel

    folder = Path(shutil.copytree(llama_folder, tmp_path / "parts"))
    (folder / "model.safetensors").unlink()
    AutoModel.from_pretrained(llama_folder).save_pretrained(folder, max_shard_size="50KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    expected = llama.encode("a text")
    assert (LayerwiseEncoder(folder).encode("a text") == expected).all()
    part = sorted(folder.glob("model-*.safetensors"))[1]
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"{part} cannot be read, it is truncated or damaged"):
        find_checkpoint(folder)


def test_a_gguf_file_is_pointed_out(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").touch()
    with pytest.raises(ValueError, match=r"holds no config\.json.*to read tiny\.gguf, pass it as gguf_file"):
        find_checkpoint(tmp_path)


@pytest.mark.process
def test_what_is_wrong_on_the_hub_is_one_line_and_a_commit_is_a_revision(
    llama_folder: Path, tiny_model: Callable[[str], Path], make_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    """The hub as its cache has it."""
    commit = "0123456789abcdef0123456789abcdef01234567"

    def repository(name: str, folder: Path) -> Path:
        root = tmp_path / f"models--org--{name}"
        (root / "refs").mkdir(parents=True)
        (root / "refs" / "main").write_text(commit)
        return Path(shutil.copytree(folder, root / "snapshots" / commit))

    repository("good", llama_folder)
    repository("adapter", make_adapter(llama_folder))
    (repository("weightless", llama_folder) / "model.safetensors").unlink()
    pickled = repository("pickled", llama_folder)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    cut = repository("cut", llama_folder) / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:5000])
    (repository("spoilt", llama_folder) / "config.json").write_text("{")
    for file in repository("wordless", tiny_model("gpt2")).glob("tokenizer*"):
        file.unlink()
    code = """
from midlayer_embed import LayerwiseEncoder, MidLayerEncoder
from midlayer_embed.models.checkpoint import find_checkpoint
from midlayer_embed.options import Source
print(find_checkpoint("org/good").revision)
print(find_checkpoint("org/good", Source(adapters=["org/adapter"])).revision)
print(MidLayerEncoder("org/good", 1, adapters=["org/adapter"]).encode(["a text"]).shape)
for name in ["weightless", "pickled", "cut", "spoilt", "wordless", "adapter", "nowhere"]:
    for load in (LayerwiseEncoder, lambda name: MidLayerEncoder(name, 1)):
        try:
            load(f"org/{name}")
        except ValueError as error:
            print(error)
"""
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    plain, adapted, shape, *messages = run_code(code, env=environment).splitlines()
    assert plain == commit
    assert re.fullmatch(f"{commit}-adapters-[0-9a-f]{{12}}", adapted)
    assert shape == "(1, 32)"
    expected = [
        "'org/weightless' has no weights as safetensors",
        "'org/pickled' has no weights as safetensors",
        "'org/cut' cannot be loaded: .*header",
        "'org/spoilt' cannot be loaded: .*not a valid JSON file",
        "org/wordless has no tokenizer that can be used",
        r"org/adapter is a PEFT adapter .*with adapters=\['org/adapter'\]",
        "'org/nowhere' is neither a folder nor a model on the Hub or in its cache",
    ]
    assert len(messages) == 2 * len(expected)
    for number, message in enumerate(messages):
        assert re.match(f"model: {expected[number // 2]}", message)
