import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from sentence_transformers import SentenceTransformer

from midlayer_embed import MidLayerEncoder, select_layer
from midlayer_embed.cli.program import main
from midlayer_embed.encoder.export import _LOAD, ExportFailed, _are_same, export_encoder
from midlayer_embed.encoder.serve.readers import read_by_others
from midlayer_embed.selection.criteria import selection_summary
from midlayer_embed.selection.curves import curve_markdown


@pytest.mark.process
def test_an_export_is_tried_by_a_process_of_its_own_and_holds_stock_files_only(
    llama_folder: Path, sentences: list[str], tmp_path: Path
) -> None:
    encoder = MidLayerEncoder(llama_folder, 2)
    assert export_encoder(encoder, tmp_path / "out") <= 1e-5
    names = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl", ".py"))]
    assert "model.safetensors" in names
    plain = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    np.testing.assert_allclose(plain.encode(sentences), encoder.encode(sentences), atol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.usefixtures("forked_stranger")
def test_vectors_that_differ_fail_the_export_and_leave_nothing(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = MidLayerEncoder(llama_folder, 2)
    honest = encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda texts, **options: honest(texts, **options) + 0.01)
    with pytest.raises(RuntimeError, match="vectors that differ by up to 0.01"):
        export_encoder(encoder, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("forked_stranger")
def test_what_a_stranger_cannot_load_fails_the_export(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = MidLayerEncoder(llama_folder, 2)
    monkeypatch.setattr(encoder, "save_pretrained", lambda folder: (Path(folder) / "modules.json").write_text("[]"))
    with pytest.raises(RuntimeError, match="cannot load the saved folder"):
        export_encoder(encoder, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_not_touched_unless_asked(llama_folder: Path, tmp_path: Path) -> None:
    encoder = MidLayerEncoder(llama_folder, 1)
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(ValueError, match="is not empty"):
        export_encoder(encoder, tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        export_encoder(encoder, tmp_path / "mine.txt", overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == "precious"


@pytest.mark.usefixtures("forked_stranger")
def test_overwriting_replaces_the_whole_folder(llama_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    shutil.copytree(llama_folder, folder)
    (folder / "left-over.bin").write_text("old")
    export_encoder(MidLayerEncoder(llama_folder, 1), folder, overwrite=True)
    assert not (folder / "left-over.bin").exists()
    assert SentenceTransformer(str(folder), device="cpu").get_embedding_dimension() == 32


def test_the_card_has_metadata_that_the_hub_takes(llama_folder: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(llama_folder, tmp_path / "base"))
    (base / "README.md").write_text("---\nlicense: mit\nlanguage: en\ntags: [other]\n---\n# Base\n")
    MidLayerEncoder(base, 2, final_norm=False, pooling_mode="max").save_pretrained(str(tmp_path / "out"))
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "mit"
    assert card.data.language == "en"
    assert card.data.library_name == "sentence-transformers"
    assert "other" not in card.data.tags and "sentence-transformers" in card.data.tags
    for said in ("layer 2 of 3", "without the final norm", "| pooling | max |", "| dimensions | 32 |", "128 tokens"):
        assert said in card.text
    rows = [line.split(" | ")[0] for line in card.text.splitlines() if line.startswith("| ")]
    assert len(rows) == len(set(rows)) > 5


def test_a_folders_name_is_escaped_in_the_card(llama_folder: Path, tmp_path: Path) -> None:
    base = shutil.copytree(llama_folder, tmp_path / "a|b<script>")
    MidLayerEncoder(base, 1).save_pretrained(str(tmp_path / "out"))
    text = ModelCard.load(tmp_path / "out" / "README.md").text
    assert "# a\\|b&lt;script&gt;, layer 1 of 3" in text and "<script>" not in text


@pytest.mark.usefixtures("forked_stranger")
def test_the_command_exports_and_says_so(
    llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(llama_folder), str(tmp_path / "out"), "--layer", "0.7"]) == 0
    assert "layer 2 of 3; plain SentenceTransformer gives the same vectors" in capsys.readouterr().out
    assert (tmp_path / "out" / "modules.json").is_file()


@pytest.mark.usefixtures("forked_stranger")
def test_the_command_tells_what_others_make_of_an_export(
    llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(llama_folder), str(tmp_path / "out"), "--layer", "2", "--check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "layer 2 of 3" in lines[0]
    assert lines[1:] == [str(reading) for reading in read_by_others(tmp_path / "out")]


@pytest.mark.usefixtures("forked_stranger")
def test_the_command_exports_the_layer_of_a_criterion_with_its_curve(
    llama_folder: Path, sentences: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(sentences))
    out = tmp_path / "out"
    arguments = ["export", str(llama_folder), str(out), "--layer", "min-dime", "--texts", str(tmp_path / "texts.txt")]
    assert main([*arguments, "--seed", "5", "--quiet"]) == 0
    chosen = select_layer(llama_folder, sentences, "min-dime", seed=5)
    assert f"layer {chosen.layer} of 3; plain SentenceTransformer gives" in capsys.readouterr().out
    plain = SentenceTransformer(str(out), device="cpu")
    expected = MidLayerEncoder(llama_folder, chosen.layer).encode(sentences)
    np.testing.assert_allclose(plain.encode(sentences), expected, atol=1e-6)
    card = ModelCard.load(out / "README.md")
    assert curve_markdown(chosen) in card.text
    assert "![dime over layers](layer_selection.png)" in card.text
    assert (out / "layer_selection.png").read_bytes().startswith(b"\x89PNG")
    assert "; ".join(selection_summary(chosen)) in card.text


def test_a_card_without_matplotlib_has_the_table_alone(
    llama_folder: Path, sentences: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("midlayer_embed.encoder.sentence_transformer.can_draw", lambda: False)
    MidLayerEncoder(llama_folder, "min-entropy", selection_texts=sentences).save_pretrained(str(tmp_path))
    card = ModelCard.load(tmp_path / "README.md")
    assert "| layer | depth | dataset_entropy |" in card.text and "![" not in card.text
    assert not (tmp_path / "layer_selection.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer", "min-dime"], "min-dime needs texts: pass --texts FILE"),
        (["--layer", "99"], "99 is out of range"),
        (["--layer", "1.5"], "depth 1.5 is out of range"),
        (["--layer", "min-foo"], "'min-foo'"),
        (["--layer", "1", "--pooling", "sum"], "got 'sum'"),
        (["--layer", "1", "--gguf-file", "no.gguf"], "no file 'no.gguf'"),
    ],
)
def test_mistakes_of_the_command_are_one_line_and_leave_nothing(
    llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["export", str(llama_folder), str(tmp_path / "out"), *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("forked_stranger")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_dtype_is_exported_and_another_layer_is_told_from_it(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    encoder, below = (MidLayerEncoder(llama_folder, layer, final_norm=False, dtype=dtype) for layer in (2, 1))
    assert export_encoder(encoder, tmp_path / "out") < 0.05
    monkeypatch.setattr(encoder, "save_pretrained", below.save_pretrained)
    with pytest.raises(ExportFailed, match="returns vectors that differ by up to"):
        export_encoder(encoder, tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.unit
def test_a_few_huge_dimensions_do_not_hide_another_layer() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(5, 64))
    vectors[:, 7] = 20_000  # as in raw states of decoders
    for dtype in (torch.float16, torch.bfloat16):
        rounded = torch.tensor(vectors).to(dtype).double().numpy()
        assert _are_same(rounded, vectors, dtype)
        other = vectors + (np.arange(64) != 7) * rng.normal(size=(5, 64)) / 2
        assert not _are_same(other, vectors, dtype)


@pytest.mark.usefixtures("forked_stranger")
def test_a_failed_export_is_one_line_and_leaves_nothing(
    llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("midlayer_embed.encoder.export._LOAD", "raise SystemExit('no such module')")
    assert main(["export", str(llama_folder), str(tmp_path / "out"), "--layer", "2"]) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1] == "midlayer-embed: export: plain SentenceTransformer cannot load the saved folder: no such module"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.process
@pytest.mark.slow
def test_the_stranger_imports_nothing_from_where_the_user_is(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "numpy", "torch", "transformers"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('the user has a file {name}.py')")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "wanted.py").write_text("")
    encoder = MidLayerEncoder(llama_folder, 1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "lib")  # relative to where the user is, and the stranger is elsewhere
    monkeypatch.setattr("midlayer_embed.encoder.export._LOAD", f"import wanted\n{_LOAD}")
    assert export_encoder(encoder, "out") <= 1e-5
    assert (tmp_path / "out" / "modules.json").is_file()


@pytest.mark.usefixtures("forked_stranger")
def test_the_card_of_a_folder_says_what_the_user_says_and_an_export_of_an_export_keeps_it(
    llama_folder: Path, tmp_path: Path
) -> None:
    said = ["--name", "org/mine", "--license", "apache-2.0", "--base-model", "org/base"]
    assert main(["export", str(llama_folder), str(tmp_path / "one"), "--layer", "2", *said]) == 0
    assert main(["export", str(tmp_path / "one"), str(tmp_path / "two"), "--layer", "1"]) == 0
    for name in ("one", "two"):
        data = ModelCard.load(tmp_path / name / "README.md").data
        assert (data.license, data.base_model) == ("apache-2.0", "org/base")
    assert "# org/mine, layer 2 of 3" in (tmp_path / "one" / "README.md").read_text()


def test_the_card_of_python_takes_what_is_set_on_the_encoder(llama_folder: Path, tmp_path: Path) -> None:
    encoder = MidLayerEncoder(llama_folder, 1, model_name="mine")
    encoder.model_card_data.license, encoder.model_card_data.base_model = "mit", "org/base"
    encoder.save_pretrained(str(tmp_path / "out"))
    data = ModelCard.load(tmp_path / "out" / "README.md").data
    assert (data.license, data.base_model) == ("mit", "org/base")
    assert encoder.checkpoint.name == "local/mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", "a/b/c"], "model_name: expected a name such as 'org/name' or 'name', got 'a/b/c'"),
        (["--name", ""], "model_name: expected a name such as 'org/name' or 'name', got ''"),
        (["--base-model", "no name"], "base_model: expected a name such as 'org/name' or 'name', got 'no name'"),
        (["--license", ""], "license: expected an id such as 'apache-2.0', got an empty string"),
    ],
)
def test_names_that_no_model_has_are_one_line(
    llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["export", str(llama_folder), str(tmp_path / "out"), "--layer", "1", *arguments]) == 2
    assert capsys.readouterr().err == f"midlayer-embed: {message}\n"


@pytest.mark.unit
def test_only_a_folder_takes_a_name() -> None:
    with pytest.raises(ValueError, match="model_name: only a model in a folder takes one, got 'mine' for 'org/model'"):
        MidLayerEncoder("org/model", 1, model_name="mine")
