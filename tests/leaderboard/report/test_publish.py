"""Cards on the disk and, with their encoder, on a stand-in of the hub."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from sentence_transformers import SentenceTransformer
from support.tiny_tasks import TinySTS

from leaderboard import run_sweep
from leaderboard.cli.program import main
from leaderboard.report.hub_scores import eval_results_files
from leaderboard.report.layer_record import find_layer
from midlayer_embed import LayerwiseEncoder, MidLayerEncoder

REPO = "somebody/tiny-llama-layer-2"


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _written(files: dict[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_the_command_writes_card_picture_and_eval_results(
    tiny_results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "README.md"
    assert main(["card", str(tiny_results), "--layer", "2", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: the card of layer 2 of local/tiny-llama\n"
    files = _files(out.parent)
    eval_results = [".eval_results/STSBenchmark.yaml", ".eval_results/TinySTS.yaml"]
    assert sorted(files) == [*eval_results, "README.md", "scores_by_layer.png"]
    assert files["scores_by_layer.png"].startswith(b"\x89PNG")
    text = ModelCard.load(out).text
    assert "![mean score over layers](scores_by_layer.png)" in text and "layer 2 of 3" in text
    expected = dict(eval_results_files(find_layer(tiny_results, layer=2)))
    assert files[eval_results[0]].decode() == expected["STSBenchmark.yaml"]
    (entry, *_) = parse_eval_result_entries(yaml.safe_load(files[eval_results[0]]))
    assert (entry.dataset_id, entry.task_id) == ("tests/tiny", "STSBenchmark")


def test_nothing_is_replaced_unless_asked(
    tiny_results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".eval_results").mkdir()
    (tmp_path / ".eval_results" / "Old.yaml").write_text("[]")
    arguments = ["card", str(tiny_results), "--out", str(tmp_path / "README.md")]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert ".eval_results already exists; use overwrite (--overwrite) to replace it" in error
    assert list(_files(tmp_path)) == [".eval_results/Old.yaml"]
    assert main([*arguments, "--overwrite"]) == 0
    assert "README.md" in _files(tmp_path) and ".eval_results/Old.yaml" not in _files(tmp_path)


def test_where_drawing_fails_nothing_is_written(
    tiny_results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr("leaderboard.report.publish.save_figure", fail)
    assert main(["card", str(tiny_results), "--out", str(tmp_path / "README.md")]) == 1
    assert "no ink" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_card_of_a_part_has_no_results_for_the_hub(llama_folder: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    run_sweep(llama_folder, TinySTS(), results, layers=[2], limit=20, metrics="none", show_progress=False)
    assert main(["card", str(results), "--out", str(tmp_path / "out" / "README.md")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "scores_by_layer.png"]
    assert "(scores_by_layer.png)" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.usefixtures("forked_stranger")
def test_push_uploads_the_encoder_with_the_card_of_its_scores(
    llama_folder: Path,
    tiny_results: Path,
    sentences: list[str],
    tmp_path: Path,
    upload_hub: Any,
    llama_2: MidLayerEncoder,
) -> None:
    base = Path(shutil.copytree(llama_folder, tmp_path / "base"))
    (base / "README.md").write_text("---\nlicense: mit\n---\n# Base\n")
    stale = dict.fromkeys(["model-00002-of-00002.safetensors", ".eval_results/Old.yaml"], b"old")
    upload_hub.files[REPO] = {**stale, "notes.txt": b"kept"}
    arguments = ["card", str(tiny_results), "--layer", "2", "--push", REPO, "--model-path", str(base)]
    assert main([*arguments, "--out", str(tmp_path / "out" / "README.md"), "--quiet"]) == 0
    files = upload_hub.files[REPO]
    assert files["notes.txt"] == b"kept" and not set(stale) & set(files)
    card_files = _files(tmp_path / "out")
    assert {name: files[name] for name in card_files} == card_files
    assert {"README.md", "scores_by_layer.png", ".eval_results/STSBenchmark.yaml"} <= set(card_files)
    uploaded = _written(files, tmp_path / "uploaded")
    plain = SentenceTransformer(str(uploaded), device="cpu")
    np.testing.assert_allclose(plain.encode(sentences), llama_2.encode(sentences), atol=1e-6)
    card = ModelCard.load(uploaded / "README.md")
    assert f'SentenceTransformer("{REPO}")' in card.text
    assert card.data.license == "mit" and len(card.data.eval_results) == 2
    assert "Bearer hf_secret" in upload_hub.tokens
    assert not any(str(tmp_path).encode() in content for content in files.values())


@pytest.mark.usefixtures("forked_stranger")
def test_push_merges_the_adapters_that_were_scored_and_no_others(
    llama_folder: Path,
    make_adapter: Callable[..., Path],
    sentences: list[str],
    tmp_path: Path,
    upload_hub: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scored, other = make_adapter(llama_folder), make_adapter(llama_folder, seed=1)
    settings: dict[str, Any] = {"final_norm": False, "bidirectional": True, "adapters": [scored]}
    run_sweep(llama_folder, TinySTS(), tmp_path / "r", layers=[2], metrics="none", show_progress=False, **settings)
    arguments = ["card", str(tmp_path / "r"), "--push", REPO, "--model-path", str(llama_folder), "--quiet"]
    assert main([*arguments, "--adapter", str(other)]) == 2
    assert "model: expected the model that was scored, of revision" in capsys.readouterr().err
    assert upload_hub.asked == []
    assert main([*arguments, "--adapter", str(scored)]) == 0
    plain = SentenceTransformer(str(_written(upload_hub.files[REPO], tmp_path / "uploaded")), device="cpu")
    expected = LayerwiseEncoder(llama_folder, **settings).encode(sentences, layers=[2])[:, 0]
    np.testing.assert_allclose(plain.encode(sentences), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/no/such/folder", "--out", "OUT"], "there is no folder '/no/such/folder'"),
        (["RESULTS"], "expected --out FILE, --push REPO, or both"),
        (["RESULTS", "--out", "OUT", "--model", "org/other"], "expected one of local/tiny-llama"),
        (["RESULTS", "--out", "OUT", "--revision", "abc"], "revision='abc'"),
        (["RESULTS", "--out", "OUT", "--layer", "9"], "9 is out of range"),
        (["RESULTS", "--out", "OUT", "--layer", "best"], "got 'best'"),
        (["RESULTS", "--out", "."], "out: expected a file such as README.md, got the folder ."),
        (["RESULTS", "--push", "no-owner"], "expected owner/name, got 'no-owner'"),
        (["RESULTS", "--push", "a/b/c"], "expected owner/name, got 'a/b/c'"),
        (["RESULTS", "--push", REPO], "local/tiny-llama is not on the hub; pass its folder (--model-path)"),
        (["RESULTS", "--push", REPO, "--model-path", "/no/such"], "there is no folder '/no/such'"),
        (["RESULTS", "--push", REPO, "--model-path", "OTHER"], "expected the model that was scored"),
    ],
)
def test_mistakes_are_one_line_exit_2_and_leave_nothing(
    tiny_results: Path,
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
    upload_hub: Any,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    words = {"RESULTS": str(tiny_results), "OUT": str(tmp_path / "README.md")}
    if "OTHER" in arguments:
        words["OTHER"] = str(tiny_model("gpt_neox"))
    capsys.readouterr()  # of making the model
    assert main(["card", *(words.get(argument, argument) for argument in arguments)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.out == ""
    assert len(captured.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == [] and upload_hub.asked == []


def test_a_layer_that_was_not_scored_is_told_with_those_that_were(
    llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_sweep(llama_folder, TinySTS(), tmp_path / "r", layers=[0, 2], metrics="none", show_progress=False)
    assert main(["card", str(tmp_path / "r"), "--layer", "1", "--out", str(tmp_path / "README.md")]) == 2
    assert "layer: expected a scored layer (0, 2), got 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [("offline", "HF_HUB_OFFLINE"), ("token", "expected a token for the hub")],
)
def test_without_a_hub_or_a_token_nothing_begins(
    tiny_results: Path,
    llama_folder: Path,
    tmp_path: Path,
    upload_hub: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    message: str,
) -> None:
    if name == "offline":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    else:
        monkeypatch.delenv("HF_TOKEN")
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    arguments = ["card", str(tiny_results), "--push", REPO, "--model-path", str(llama_folder)]
    assert main([*arguments, "--out", str(tmp_path / "README.md")]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [] and upload_hub.asked == []


@pytest.mark.usefixtures("forked_stranger")
@pytest.mark.parametrize("refused", ["/api/repos", f"/api/models/{REPO}/commit", "everything"])
def test_a_hub_that_refuses_or_is_gone_is_one_line_and_exit_1(
    tiny_results: Path,
    llama_folder: Path,
    tmp_path: Path,
    upload_hub: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    refused: str,
) -> None:
    if refused == "everything":
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    upload_hub.refuses = refused
    arguments = ["card", str(tiny_results), "--push", REPO, "--model-path", str(llama_folder), "--quiet"]
    assert main([*arguments, "--out", str(tmp_path / "README.md")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.strip().splitlines()
    assert f"push: {REPO} was not uploaded: " in line
    assert list(tmp_path.iterdir()) == []
    assert not upload_hub.files.get(REPO)
