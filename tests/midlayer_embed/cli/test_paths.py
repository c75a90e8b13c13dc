"""Every path of every command may be spelt in every way; what is written is where the path leads."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from support.spelt.paths import WAYS, Spelt

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder
from midlayer_embed.cli.program import main
from midlayer_embed.ground.atomic import PARTIAL_MARK


@pytest.fixture(params=WAYS)
def spelt(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spelt:
    return Spelt(request.param, tmp_path, monkeypatch)


def test_encode(spelt: Spelt, llama_folder: Path, make_adapter: Callable[..., Path], sentences: list[str]) -> None:
    model, adapter = spelt.copy(llama_folder, "model"), spelt.copy(make_adapter(llama_folder), "adapter")
    (spelt.real / "texts.txt").write_text("\n".join(sentences))
    output = spelt.given("vectors.npy")
    command = ["encode", model, "--layer", "2", "--adapter", adapter, "--input", spelt.given("texts.txt")]
    for more in ([], ["--overwrite"]):
        assert main([*command, "--output", output, "--quiet", *more]) == 0
    expected = MidLayerEncoder(llama_folder, 2, adapters=[make_adapter(llama_folder)]).encode(sentences)
    np.testing.assert_allclose(np.load(spelt.real / "vectors.npy"), expected, atol=1e-6)
    assert not list(spelt.folder.rglob(f".*{PARTIAL_MARK}*"))


@pytest.mark.usefixtures("forked_stranger")
def test_export(spelt: Spelt, llama_folder: Path, sentences: list[str]) -> None:
    model, out = spelt.copy(llama_folder, "model"), spelt.given("out")
    (spelt.real / "texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in sentences))
    command = ["export", model, out, "--layer", "min-entropy", "--texts", spelt.given("texts.jsonl"), "--quiet"]
    for more in ([], ["--overwrite"]):
        assert main([*command, *more]) == 0
    assert SentenceTransformer(str(spelt.real / "out"), device="cpu").encode(sentences).shape == (8, 32)
    assert not list(spelt.folder.rglob(f".*{PARTIAL_MARK}*"))


def test_profile(spelt: Spelt, llama_folder: Path) -> None:
    (spelt.real / "texts.csv").write_text("body\none text\nanother text\n")
    command = ["profile", spelt.copy(llama_folder, "model"), "--texts", spelt.given("texts.csv")]
    assert main([*command, "--metrics", "dataset_entropy", "--out", spelt.given("out")]) == 0
    assert sorted(path.name for path in (spelt.real / "out").iterdir()) == ["profile.parquet", "profile.png"]


def test_python(spelt: Spelt, llama_folder: Path, sentences: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    model, out = spelt.copy(llama_folder, "model"), spelt.given("out")
    encoder, every = MidLayerEncoder(model, 2), LayerwiseEncoder(Path(model))
    revision = every.checkpoint.revision
    for save in (encoder.save_pretrained, encoder.save):
        save(out)
    assert (spelt.real / "out" / "modules.json").is_file()
    monkeypatch.chdir("/")  # what was found stays found
    assert encoder.checkpoint.revision == revision
    assert encoder.checkpoint.name == "local/model"
