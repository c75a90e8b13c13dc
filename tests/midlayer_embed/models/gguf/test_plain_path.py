"""A GGUF file as a model by its path; and files that are cut, read by transformers like the whole ones."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gguf", reason="the gguf extra is not installed")
pytest.importorskip("accelerate", reason="the gguf extra is not installed")

from support.gguf.tiny import READ_BY_TRANSFORMERS, tiny_gguf

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder
from midlayer_embed.cli.program import main
from midlayer_embed.encoder.serve.gguf_cut import export_gguf
from midlayer_embed.models.checkpoint import find_checkpoint
from midlayer_embed.models.gguf import conversion
from midlayer_embed.options import Source

_TEXTS = ["hello", "he said: hell", "a b c d e f g h i j k l m n o p"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache of our own."""
    monkeypatch.setattr(conversion, "cache_folder", lambda: tmp_path / "cache")


@pytest.mark.parametrize(
    "architecture",
    [pytest.param(name, marks=[pytest.mark.slow] * (name != "llama")) for name in READ_BY_TRANSFORMERS],
)
def test_the_last_layer_of_a_cut_is_the_layer_of_the_whole_model(tmp_path: Path, architecture: str) -> None:
    source = tiny_gguf(tmp_path / "tiny.gguf", architecture, 3)
    every = LayerwiseEncoder(source).encode(_TEXTS)
    for layer in (1, 2, 3):
        cut = export_gguf(source, tmp_path / f"cut-{layer}.gguf", layer).path
        np.testing.assert_array_equal(LayerwiseEncoder(cut).encode(_TEXTS), every[:, : layer + 1])
    assert not np.allclose(every[:, 1], every[:, 2], atol=0.01)


def test_a_file_is_a_model_by_its_path_as_by_its_name_in_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny_gguf(tmp_path / "models" / "tiny.gguf", n_blocks=2)
    by_name = MidLayerEncoder(source.parent, 1, gguf_file="tiny.gguf")
    by_path = MidLayerEncoder(source, 1)
    np.testing.assert_array_equal(by_path.encode(_TEXTS), by_name.encode(_TEXTS))
    assert by_path.result_name == by_name.result_name == "local/tiny (layer=1)"
    assert by_path.checkpoint.revision == by_name.checkpoint.revision
    monkeypatch.chdir(source.parent)
    assert find_checkpoint("tiny.gguf").location == by_name.checkpoint.location
    assert find_checkpoint("tiny.gguf", Source(model_name="org/mine")).name == "org/mine"


def test_commands_take_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tiny_gguf(tmp_path / "tiny.gguf", n_blocks=2)
    (tmp_path / "texts.txt").write_text("\n".join(_TEXTS))
    common = ["--layer", "1", "--input", str(tmp_path / "texts.txt"), "--output", str(tmp_path / "v.npy"), "--quiet"]
    assert main(["encode", str(source), *common]) == 0
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), MidLayerEncoder(source, 1).encode(_TEXTS), atol=1e-6)
    assert main(["encode", str(source), *common[2:], "--layer", "3"]) == 2
    assert "layer: 3 is out of range; a model of 2 blocks" in capsys.readouterr().err


def test_a_criterion_chooses_the_layer_of_a_cut(
    tmp_path: Path, sentences: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    source = tiny_gguf(tmp_path / "tiny.gguf", n_blocks=2)
    (tmp_path / "texts.txt").write_text("\n".join(sentences))
    out = tmp_path / "out.gguf"
    arguments = ["--layer", "min-entropy", "--texts", str(tmp_path / "texts.txt"), "--quiet"]
    code = main(["export", str(source), str(out), *arguments])
    said = capsys.readouterr()
    assert code == 0, said.err
    layer = find_checkpoint(out).n_blocks
    assert f"out.gguf: layer {layer} of 2" in said.out and "min-entropy" in said.out


@pytest.mark.parametrize("model", ["no.gguf", "no/such/folder/no.gguf", "NO.GGUF"])
def test_a_file_that_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"^model: there is no file '{model}'$"):
        MidLayerEncoder(model, 1)


def test_a_file_that_is_no_gguf_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"no such thing")
    with pytest.raises(ValueError, match="bad.gguf cannot be read as a GGUF model"):
        MidLayerEncoder(tmp_path / "bad.gguf", 1)
