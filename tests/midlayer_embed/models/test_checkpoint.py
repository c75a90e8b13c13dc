"""The revision: whatever changes a vector changes it, and nothing else does."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from support.tiny_models import save_model

from midlayer_embed.ground.whole_files import file_sha256
from midlayer_embed.models.checkpoint import find_checkpoint
from midlayer_embed.models.files import folder_fingerprint

# What a sentence-transformers folder of any version, and the classes of tokenizers, read.
_READ = [
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
    "2_Dense/config.json",
    "2_Dense/model.safetensors",
    "2_Dense/pytorch_model.bin",
    "2_Dense/nested/config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "bpe.codes",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
    "modeling_own.py",
    "2_Dense/own.py",
]
_NOT_READ = [
    "README.md",
    "LICENSE",
    "picture.png",
    "eval.csv",
    "training_args.bin",
    "trainer_state.json",
    "generation_config.json",
    "pytorch_model.bin",
    "tf_model.h5",
    "model.gguf",
    ".gitattributes",
    ".eval_results/STS.yaml",
    ".cache/huggingface/config.json",
    "2_Dense/README.md",
    "2_Dense/.hidden/config.json",
    "onnx/model.onnx",
    "onnx/config.json",
    "openvino/config.json",
    "checkpoint-500/config.json",
    "runs/notes.txt",
]


@pytest.fixture(scope="module")
def whole(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of every name, for hashing alone: nothing else can read it."""
    folder = Path(shutil.copytree(llama_folder, tmp_path_factory.mktemp("whole") / "model"))
    modules = ["", "1_Pooling", "2_Dense"]
    for name in [*_READ, *_NOT_READ]:
        if not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("{}")
    paths = [{"idx": i, "name": str(i), "path": path, "type": "x.X"} for i, path in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(paths))
    return folder


def _changed(whole: Path, name: str, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(whole, tmp_path / "changed"))
    file = folder / name
    file.write_bytes((file.read_bytes() if file.exists() else b"") + b" ")
    return folder


@pytest.mark.parametrize("name", _READ)
def test_a_file_that_is_read_is_part_of_the_revision(whole: Path, name: str, tmp_path: Path) -> None:
    assert folder_fingerprint(_changed(whole, name, tmp_path)) != folder_fingerprint(whole)


@pytest.mark.parametrize("name", _NOT_READ)
def test_a_file_that_is_not_read_is_no_part_of_the_revision(whole: Path, name: str, tmp_path: Path) -> None:
    assert folder_fingerprint(_changed(whole, name, tmp_path)) == folder_fingerprint(whole)


def test_a_file_that_is_removed_is_another_revision(whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "changed"))
    (folder / "sentence_bert_config.json").unlink()
    assert folder_fingerprint(folder) != folder_fingerprint(whole)


def test_a_folder_of_transformers_alone_keeps_the_revision_that_it_always_had(llama_folder: Path) -> None:
    """Results on disk are found by it."""
    names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    lines = "".join(f"{name} {file_sha256(llama_folder / name)}\n" for name in names)
    assert find_checkpoint(llama_folder).revision == hashlib.sha256(lines.encode()).hexdigest()[:12]


def test_sharded_weights_and_their_index_are_part_of_the_revision(llama_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(llama_folder, tmp_path / "sharded"))
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shards = {name: f"model-0000{1 + (name < 'layers.1')}-of-00002.safetensors" for name in weights}
    for shard in set(shards.values()):
        save_file({name: weights[name] for name in weights if shards[name] == shard}, folder / shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shards}))
    seen = {find_checkpoint(folder).revision}
    index.write_text(json.dumps({"weight_map": shards, "metadata": {}}))
    seen.add(find_checkpoint(folder).revision)
    weights["norm.weight"] += 1
    save_file({"norm.weight": weights["norm.weight"]}, folder / shards["norm.weight"])
    seen.add(find_checkpoint(folder).revision)
    assert len(seen) == 3


def test_symbolic_links_are_followed(whole: Path, tmp_path: Path) -> None:
    """The folders of the Hub's cache hold links; a module's folder may be one, too, and may link to where it is."""
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in whole.iterdir():
        (linked / path.name).symlink_to(path)
    assert folder_fingerprint(linked) == folder_fingerprint(whole)
    dense = Path(shutil.copytree(whole / "2_Dense", tmp_path / "2_Dense"))
    (linked / "2_Dense").unlink()
    (linked / "2_Dense").symlink_to(dense)
    (dense / "loop").symlink_to(dense)
    (dense / "nowhere").symlink_to(tmp_path / "nowhere")
    assert folder_fingerprint(linked) == folder_fingerprint(whole)
    (dense / "config.json").write_text('{"out_features": 3}')
    assert folder_fingerprint(linked) != folder_fingerprint(whole)


def test_modules_that_cannot_be_read_do_not_keep_a_folder_from_having_a_revision(whole: Path, tmp_path: Path) -> None:
    for content in ("{", '["a"]', "3", "null"):
        folder = Path(shutil.copytree(whole, tmp_path / str(len(content)), dirs_exist_ok=True))
        (folder / "modules.json").write_text(content)
        assert folder_fingerprint(folder) != folder_fingerprint(whole)


def test_where_a_folder_is_does_not_matter(tmp_path: Path) -> None:
    one = save_model("gpt2", {"vocab_size": 400, "n_embd": 32, "n_layer": 2, "n_head": 4}, tmp_path / "one")
    other = Path(shutil.copytree(one, tmp_path / "elsewhere" / "two"))
    assert find_checkpoint(one).revision == find_checkpoint(other).revision
