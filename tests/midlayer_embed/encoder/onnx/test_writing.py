"""Graphs in the folder of an export, and in one that was saved before: all of it, or nothing."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

from midlayer_embed import MidLayerEncoder, export_onnx
from midlayer_embed.cli.program import main
from midlayer_embed.encoder import sentence_transformer
from midlayer_embed.encoder.onnx import writing
from midlayer_embed.encoder.onnx.loss import _graded_pairs, measure_loss, with_states_of
from midlayer_embed.encoder.onnx.names import ATTENTION_MASK, FOLDER, INPUT_IDS, MODEL_FILE, QUANTIZED_FILE, VECTORS
from midlayer_embed.encoder.onnx.writing import OnnxExport, _with_section
from midlayer_embed.encoder.serve.readers import read_by_others
from midlayer_embed.encoder.target import ExportFailed
from midlayer_embed.errors import InputError

pytestmark = pytest.mark.process
_FILES = [f"{FOLDER}/{MODEL_FILE}", f"{FOLDER}/{QUANTIZED_FILE}"]


@pytest.fixture(scope="module")
def written(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> OnnxExport:
    """A whitened layer with all that there is."""
    fitted_on = [f"{word} {number}" for word in ("one", "rain", "He") for number in range(40)]
    folder = tmp_path_factory.mktemp("written") / "out"
    MidLayerEncoder(llama_folder, 2, transform="whiten", transform_texts=fitted_on).save_pretrained(str(folder))
    return export_onnx(folder, embedding=True, int8=True)


@pytest.fixture
def copied_graphs(written: OnnxExport, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs of a folder are those that were written for it before: it takes seconds to write one."""

    def copy(_encoder: object, path: Path, *, embedding: bool) -> float:
        shutil.copy(written.folder / FOLDER / MODEL_FILE, path)
        return 0.0

    monkeypatch.setattr(writing, "write_graph", copy)


@pytest.fixture
def saved(written: OnnxExport, tmp_path: Path) -> Path:
    """The folder before it had graphs."""
    folder = Path(shutil.copytree(written.folder, tmp_path / "saved", ignore=shutil.ignore_patterns(FOLDER)))
    (folder / "README.md").write_text("# Mine\n\nSome words.\n")
    return folder


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_graphs_of_a_folder_give_its_vectors(written: OnnxExport, sentences: list[str]) -> None:
    assert list(written.sizes) == _FILES
    assert written.sizes == {name: (written.folder / name).stat().st_size for name in _FILES}
    assert written.outputs == ("last_hidden_state", VECTORS)
    plain = SentenceTransformer(str(written.folder), device="cpu")
    features = plain.preprocess(sentences)
    session = onnxruntime.InferenceSession(written.folder / FOLDER / MODEL_FILE)
    (vectors,) = session.run([VECTORS], {name: features[name].numpy() for name in (INPUT_IDS, ATTENTION_MASK)})
    expected = plain.encode(sentences)
    np.testing.assert_allclose(vectors, expected, atol=1e-4 * np.abs(expected).max())
    pooled = with_states_of(plain, written.folder / FOLDER / MODEL_FILE).encode(sentences)
    np.testing.assert_allclose(pooled, expected, atol=1e-4 * np.abs(expected).max())


def test_the_loss_of_int8_is_measured_and_said(written: OnnxExport) -> None:
    loss, plain = written.loss, SentenceTransformer(str(written.folder), device="cpu")
    assert loss is not None and 0.9 < loss.least_cosine < loss.mean_cosine < 0.999999
    int8 = with_states_of(plain, written.folder / FOLDER / QUANTIZED_FILE)
    first, second, grades = _graded_pairs()
    texts = list(dict.fromkeys([*first, *second]))
    assert loss.n_texts == len(texts)
    a, b = plain.encode(texts, batch_size=16), int8.encode(texts, batch_size=16)
    cosines = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert loss.mean_cosine == pytest.approx(cosines.mean(), abs=1e-4)
    assert loss.least_cosine == pytest.approx(cosines.min(), abs=1e-3)
    judge = EmbeddingSimilarityEvaluator(first, second, [grade / 4 for grade in grades], main_similarity="cosine")
    assert loss.sts_float32 == pytest.approx(100 * judge(plain)["spearman_cosine"], abs=0.1)
    assert loss.sts_int8 == pytest.approx(100 * judge(int8)["spearman_cosine"], abs=1)
    card = (written.folder / "README.md").read_text()
    assert card.count("## ONNX\n") == 1 and str(loss) in card and str(loss) in str(written)
    assert all(f"`{name}`" in card for name in _FILES)


def test_the_loss_is_that_of_the_texts_at_hand(written: OnnxExport) -> None:
    plain = SentenceTransformer(str(written.folder), device="cpu")
    loss = measure_loss(plain, written.folder / FOLDER / QUANTIZED_FILE, ["a text", "", "another one", " "] * 600)
    assert (loss.texts, loss.n_texts) == ("texts", 400)  # every third of those that are not blank
    with pytest.raises(InputError, match="texts: expected some that are not blank, got 1 blank"):
        measure_loss(plain, written.folder / FOLDER / QUANTIZED_FILE, [""])


@pytest.mark.usefixtures("copied_graphs")
def test_a_saved_folder_gets_graphs_and_a_section_of_its_card(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = _contents(saved)
    assert main(["export", str(saved), "--onnx", "--int8", "--embedding", "--quiet"]) == 0
    after = _contents(saved)
    assert after.keys() - before.keys() == set(_FILES)
    assert {name for name in before if before[name] != after[name]} == {"README.md"}
    assert after["README.md"].startswith(b"# Mine\n\nSome words.\n\n## ONNX\n")
    assert capsys.readouterr().out.startswith(f"{saved}: onnx/model.onnx (")
    assert main(["export", str(saved), "--onnx"]) == 2
    assert "is there; overwrite (--overwrite) replaces the graphs" in capsys.readouterr().err
    assert main(["export", str(saved), "--onnx", "--overwrite", "--check"]) == 0
    assert _contents(saved).keys() - before.keys() == {_FILES[0]}  # the int8 graph would be of another one
    assert "fastembed: " in capsys.readouterr().out
    assert (saved / "README.md").read_text().count("## ONNX") == 1


@pytest.mark.usefixtures("copied_graphs", "forked_stranger")
def test_an_export_appears_with_its_graphs(
    llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["export", str(llama_folder), str(out), "--layer", "2", "--onnx", "--int8", "--quiet"]) == 0
    assert set(_FILES) < _contents(out).keys() and [path.name for path in tmp_path.iterdir()] == ["out"]
    exported, graphs = capsys.readouterr().out.splitlines()
    assert exported.startswith(f"{out}: layer 2 of 3; plain SentenceTransformer gives the same vectors to ")
    assert graphs.startswith(f"{out}: {_FILES[0]} (") and "int8: cosine to float32" in graphs
    assert (out / "README.md").read_text().count("## ONNX\n") == 1


def test_a_model_that_onnx_cannot_express_is_refused_before_its_weights_are_read(
    make_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = make_model("llama", rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4})
    limit = str(json.loads((folder / "config.json").read_text())["max_position_embeddings"] + 1)
    monkeypatch.setattr(sentence_transformer, "MidLayerEncoder", lambda *_, **__: pytest.fail("weights are read"))
    command = ["export", str(folder), str(tmp_path / "out"), "--layer", "2", "--onnx", "--max-seq-length", limit]
    capsys.readouterr()
    assert main(command) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "depend on the longest text of a batch" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("copied_graphs")
def test_what_fails_on_the_way_leaves_a_saved_folder_as_it_was(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("on the way")

    monkeypatch.setattr(writing, "quantise", fail)
    before, beside = _contents(saved), list(saved.parent.iterdir())
    with pytest.raises(RuntimeError, match="on the way"):
        export_onnx(saved, int8=True)
    assert _contents(saved) == before and list(saved.parent.iterdir()) == beside


@pytest.mark.usefixtures("copied_graphs", "forked_stranger")
def test_what_fails_on_the_way_leaves_no_export(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("on the way")

    monkeypatch.setattr(writing, "measure_loss", fail)
    with pytest.raises(RuntimeError, match="on the way"):
        export_onnx(MidLayerEncoder(llama_folder, 2), tmp_path / "out", int8=True)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_differs_is_a_failure_in_one_line(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ExportFailed("onnx: the graph differs")

    monkeypatch.setattr(writing, "write_graph", fail)
    assert main(["export", str(saved), "--onnx", "--check"]) == 1
    assert capsys.readouterr() == ("", "midlayer-embed: onnx: the graph differs\n")
    assert not (saved / FOLDER).exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"texts": ["a"]}, "texts: only the loss of int8 is measured on them"),
        ({"texts": "a", "int8": True}, "texts: expected a list of texts, got str of 1"),
        ({"texts": [], "int8": True}, "texts: expected a list of texts, got list of 0"),
        ({"int8": "yes"}, "int8: expected True or False"),
        ({"folder": "elsewhere"}, "folder: expected None to add graphs to the folder"),
    ],
)
def test_arguments_are_checked(saved: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        export_onnx(saved, **options)
    assert not (saved / FOLDER).exists()


def test_a_missing_package_is_one_line_that_says_what_to_install(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("midlayer_embed.ground.checks.find_spec", lambda name: None if name == "onnxscript" else name)
    assert main(["export", str(saved), "--onnx"]) == 2
    said = "midlayer-embed: onnx: needs onnxscript; run: pip install 'midlayer-embed[onnx]'\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("", "## ONNX\nnew\n"),
        ("# A\n", "# A\n\n## ONNX\nnew\n"),
        ("# A\n\n## ONNX\nold\n", "# A\n\n## ONNX\nnew\n"),
        ("# A\n\n## ONNX\nold\n\n## B\nb\n", "# A\n\n## ONNX\nnew\n\n## B\nb\n"),
    ],
)
def test_the_section_takes_the_place_of_an_older_one(card: str, expected: str) -> None:
    assert _with_section(card, "## ONNX\nnew\n") == expected


def test_readers_of_graphs_are_told_where_there_are_some(written: OnnxExport, saved: Path) -> None:
    readers: Sequence[str] = [reading.reader for reading in read_by_others(saved)]
    more = {reading.reader: reading for reading in read_by_others(written.folder) if reading.reader not in readers}
    assert list(more) == ["ONNX Runtime, OpenVINO", "sentence-transformers on ONNX", "transformers.js", "fastembed"]
    assert [reading.verdict for reading in more.values()] == ["right", "right", "with an option", "with an option"]
    assert all(VECTORS in more[name].words for name in ("ONNX Runtime, OpenVINO", "transformers.js", "fastembed"))
    assert QUANTIZED_FILE in more["sentence-transformers on ONNX"].words
