"""Layers without a score, from the vectors to every table and file: told with layer and task, never a number."""

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from support.tiny_tasks import TinyClustering, TinyPairClassification, TinySTS, renamed, tiny_tasks

from leaderboard import run_sweep
from leaderboard.cli import main
from leaderboard.report.card import model_card
from leaderboard.report.hub_scores import eval_results_files
from leaderboard.report.layer_record import find_layer
from leaderboard.results.files.folder import ResultsFolder
from leaderboard.sweep.layers.layer_view import StoreFiller
from leaderboard.sweep.run import TasksFailed
from midlayer_embed import LayerwiseEncoder

_EQUAL = "layer 0 has no score on BIOSSES, TinySTS: all vectors are equal"


@pytest.fixture(scope="module")
def of_cls(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a BERT pooled by [CLS], which is the same vector for every text at layer 0."""
    folder = tmp_path_factory.mktemp("cls")
    tasks = [TinySTS(), renamed(TinySTS, "BIOSSES")]
    run_sweep(tiny_model("bert"), tasks, folder, pooling_mode="cls", metrics=["curvature"], show_progress=False)
    return folder


def _has_no_number(text: str) -> bool:
    return bool(re.search(r"(?<![\w(])[-.]?(nan|inf|infinity)(?![\w)])", text, re.IGNORECASE))


def test_equal_vectors_have_no_correlation_and_that_is_told_once(
    of_cls: Path, tiny_model: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    board = run_sweep(tiny_model("bert"), [TinySTS()], of_cls, pooling_mode="cls", metrics="none", show_progress=False)
    assert [message for message in caplog.messages if "no score" in message] == [f"{board.models()[0][0]}: {_EQUAL}"]
    assert board.scores.filter(layer=0)["main_score"].to_list() == [None, None]
    assert board.scores.filter(pl.col("layer") > 0)["main_score"].is_not_null().all()
    assert board.best_layer() != 0


def test_the_report_says_nothing_that_is_no_number(
    of_cls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--markdown", str(tmp_path / "r.md"), "--csv", str(tmp_path / "csv"), "--parquet", str(tmp_path / "p")]
    assert main(["report", str(of_cls), "--json", *files]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert [(row["layer"], row["task"]) for row in found["no_scores"]] == [(0, "BIOSSES"), (0, "TinySTS")]
    assert captured.err.count(_EQUAL) == captured.err.count("\n") == 1
    assert not any(_has_no_number(path.read_text()) for path in [tmp_path / "r.md", *(tmp_path / "csv").iterdir()])
    assert _EQUAL in (tmp_path / "r.md").read_text()
    for path in (tmp_path / "p").iterdir():
        frame = pl.read_parquet(path)
        assert not any(frame[name].is_nan().any() for name in frame.columns if frame[name].dtype == pl.Float64)
    assert main(["report", str(of_cls)]) == 0
    assert not _has_no_number(capsys.readouterr().out)


def test_the_card_of_such_a_layer_publishes_no_score(of_cls: Path) -> None:
    text = model_card(of_cls, layer=0)
    assert not _has_no_number(text)
    assert "model-index" not in text and not ModelCard(text).data.eval_results
    assert list(eval_results_files(find_layer(of_cls, layer=0))) == []
    assert "Layer 0 of 3 has no mean score: it has no score on BIOSSES, TinySTS." in text
    assert _EQUAL in text
    assert len(ModelCard(model_card(of_cls, layer=1)).data.eval_results) == 2


def test_a_subset_without_a_score_leaves_the_task_without_one(of_cls: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(of_cls, tmp_path / "r"))
    (path,) = folder.glob("results/*/*/experiments/layer_1__*/BIOSSES.json")
    result = json.loads(path.read_text())
    entry = result["scores"]["test"][0]
    result["scores"]["test"] += [{**entry, "hf_subset": "other", "main_score": None}]
    path.write_text(json.dumps(result))
    record = find_layer(folder, layer=1)
    assert record.no_scores["task"].to_list() == ["BIOSSES"]
    published = {name: yaml.safe_load(content) for name, content in eval_results_files(record)}
    assert [row["dataset"]["task_id"] for row in published["BIOSSES.yaml"]] == ["BIOSSES_default_test"]
    assert not _has_no_number(model_card(folder, layer=1))


# --- vectors that are not finite -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def overflowing(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Llama without a final norm, so to speak: it gives huge raw states from layer 2 on, some infinite."""
    folder = Path(shutil.copytree(llama_folder, tmp_path_factory.mktemp("models") / "overflowing"))
    weights = load_file(folder / "model.safetensors")
    weights["layers.1.mlp.down_proj.weight"] *= 1e38
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("metrics", ["none", "all"])
def test_a_layer_with_vectors_that_are_not_finite_is_left_out_and_the_others_are_kept(
    overflowing: Path, tmp_path: Path, metrics: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    options = {"final_norm": False, "metrics": metrics, "show_progress": False}
    # The evaluators of these types give numbers for NaN: chance, or less.
    tasks = [TinyClustering(), TinyPairClassification(), *tiny_tasks()[:1]]
    board = run_sweep(overflowing, tasks, tmp_path, **options)  # type: ignore[arg-type]
    found = board.scores.with_columns(has=pl.col("main_score").is_not_null())
    assert set(found.select("layer", "has").iter_rows()) == {(0, True), (1, True), (2, False), (3, False)}
    assert set(board.no_scores()["reason"]) == {"no vector is finite (NaN)"}
    names = "TinyClassification, TinyClustering, TinyPairClassification"
    assert board.remarks[0].endswith(f": layers 2, 3 have no score on {names}: no vector is finite (NaN)")
    if metrics == "all":
        raw = board.metrics.filter(normalization="raw", task="TinyClassification", metric="dataset_entropy")
        assert raw.sort("layer")["value"].is_null().to_list() == [False, False, True, True]
    caplog.clear()
    assert run_sweep(overflowing, tasks, tmp_path, **options).scores.equals(board.scores)  # type: ignore[arg-type]
    assert sum("is finished" in message for message in caplog.messages) == 3


def test_where_no_layer_has_finite_vectors_the_task_fails_and_nothing_is_kept(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = StoreFiller._without_not_finite
    monkeypatch.setattr(
        StoreFiller, "_without_not_finite", lambda self, n, vectors, rows: without(self, n, vectors * np.inf, rows)
    )
    with pytest.raises(TasksFailed) as failed:
        run_sweep(llama_folder, [TinySTS()], tmp_path, layers=[3, 0], metrics="none", show_progress=False)
    said = "no layer has finite vectors; at layer 3, no vector is finite (NaN)"
    assert str(failed.value.failures["TinySTS"]) == said
    assert list(ResultsFolder(tmp_path).results()) == []


def test_a_sweep_that_goes_on_leaves_such_layers_out_as_well(overflowing: Path, tmp_path: Path) -> None:
    """Their results are saved last: of a killed sweep, they are all that is missing."""
    options = {"final_norm": False, "metrics": "none", "show_progress": False}
    whole = run_sweep(overflowing, [TinySTS()], tmp_path / "whole", **options)  # type: ignore[arg-type]
    run_sweep(overflowing, [TinySTS()], tmp_path / "parts", layers=[0, 1], **options)  # type: ignore[arg-type]
    parts = run_sweep(overflowing, [TinySTS()], tmp_path / "parts", **options)  # type: ignore[arg-type]
    assert parts.scores.equals(whole.scores) and parts.remarks == whole.remarks


@pytest.mark.slow
def test_processes_that_score_layers_leave_them_out_as_well(overflowing: Path, tmp_path: Path) -> None:
    every = LayerwiseEncoder(overflowing, final_norm=False)
    options = {"jobs": 2, "metrics": "none", "show_progress": False}
    task = tiny_tasks()[0]
    board = run_sweep(every, [task], tmp_path, **options)  # type: ignore[arg-type]
    assert board.no_scores()["layer"].to_list() == [2, 3]
    assert board.scores.filter(pl.col("layer") < 2)["main_score"].is_not_null().all()
    with pytest.raises(TasksFailed, match="1 of 1 tasks failed"):  # no layer is left for the processes
        run_sweep(every, [task], tmp_path / "new", layers=[2, 3], **options)  # type: ignore[arg-type]


def test_mteb_reads_the_results_of_such_a_layer(of_cls: Path) -> None:
    from mteb.cache import ResultCache

    results = ResultCache(of_cls).load_results(load_experiments="match_name", validate_and_filter=False)
    scores = [result.get_score() for model in results.model_results for result in model.task_results]
    assert len(scores) == 8 and sum(np.isnan(scores)) == 2
