import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import mteb
import numpy as np
import polars as pl
import pytest
import torch
from mteb.abstasks.abstask import AbsTask
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta, ScoringFunction
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from support.scoring import strings_in_data
from support.tiny_tasks import TINY_TASKS, TinySTS, tiny_tasks

from leaderboard import TasksFailed, load_results, run_sweep
from leaderboard.sweep.task import TaskSweep
from midlayer_embed import LayerwiseEncoder, MidLayerEncoder
from midlayer_embed.forward.layerwise import LayerwiseEncoder as LayerwiseEncoderClass

Tasks = Callable[[], list[AbsTask]]
# One metric, which needs no forward pass of its own.
_sweep = partial(run_sweep, show_progress=False, metrics=["dataset_entropy"])


def _plain(folder: Path, layer: int) -> SentenceTransformer:
    """A plain SentenceTransformer of the first blocks, made without any code of ours."""
    transformer = Transformer(
        str(folder), config_kwargs={"num_hidden_layers": layer}, max_seq_length=LayerwiseEncoder(folder).max_seq_length
    )
    if transformer.tokenizer.pad_token is None:
        transformer.tokenizer.pad_token = transformer.tokenizer.eos_token
    return SentenceTransformer(modules=[transformer, Pooling(32, pooling_mode="mean")], device="cpu")


@contextmanager
def _count_texts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Rows of each forward pass that any LayerwiseEncoder makes."""
    rows: list[int] = []
    start = LayerwiseEncoderClass._started

    def counted(self: LayerwiseEncoderClass, batch, wanted):  # type: ignore[no-untyped-def]
        rows.append(len(batch.rows))
        return start(self, batch, wanted)

    with monkeypatch.context() as patch:
        patch.setattr(LayerwiseEncoderClass, "_started", counted)
        yield rows


def _texts_mteb_asks_for(task: AbsTask) -> list[str]:
    """Every text that mteb's evaluation of a task hands to a model, repetitions included."""

    class Recorder(AbsEncoder):
        mteb_model_meta = ModelMeta.create_empty({"similarity_fn_name": ScoringFunction.COSINE})
        texts: ClassVar[list[str]] = []
        rng = np.random.default_rng(0)

        def encode(self, inputs, **_kwargs):  # type: ignore[no-untyped-def]
            texts = [text for batch in inputs for text in batch["text"]]
            self.texts.extend(texts)
            return self.rng.normal(size=(len(texts), 4))

    recorder = Recorder()
    mteb.evaluate(recorder, task, cache=None, show_progress_bar=False, co2_tracker=False)
    return recorder.texts


def test_scores_of_every_layer_equal_mteb_on_a_plain_truncated_model_and_each_text_is_encoded_once(
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A family changes the vectors, not what a task makes of them: one of them takes all tasks, the others one."""
    classes = TINY_TASKS if tiny_folder.name == "tiny-llama" else [TinySTS]
    with _count_texts(monkeypatch) as rows:
        board = _sweep(tiny_folder, [task() for task in classes], tmp_path, on_plan=lambda _: rows.clear() is None)
    asked = [_texts_mteb_asks_for(task()) for task in classes]
    assert sum(rows) == sum(len(set(texts)) for texts in asked)
    assert sum(rows) < sum(len(texts) for texts in asked) or classes == [TinySTS]  # which repeats none

    found = {(task, layer): score for task, layer, score in board.scores.select("task", "layer", "main_score").rows()}
    assert len(found) == len(classes) * 4
    for layer in range(4):
        model = _plain(tiny_folder, layer)
        for task in (task() for task in classes):
            result = mteb.evaluate(model, task, cache=None, show_progress_bar=False, co2_tracker=False)
            plain = result.task_results[0].get_score()
            assert found[task.metadata.name, layer] == pytest.approx(plain, abs=1e-6), (task.metadata.name, layer)
    # Layers of a random model that all scored alike would show nothing.
    assert len({round(score, 6) for score in found.values()}) > 2 * len(classes)


def test_vectors_of_length_1_are_scored_where_the_model_is_one_that_gives_such(
    tiny_folders: dict[str, Path], tmp_path: Path
) -> None:
    plain = _plain(tiny_folders["bert"], 3)
    scores = {}
    for name, modules in (("pooled", []), ("normalized", [Normalize()])):
        model = SentenceTransformer(modules=[*plain, *modules], device="cpu")
        model.save_pretrained(str(tmp_path / name))
        board = _sweep(tmp_path / name, [tiny_tasks()[0]], tmp_path / "results", layers=[-1])
        (scores[name],) = board.scores.filter(model=f"local/{name}")["main_score"]
        result = mteb.evaluate(model, tiny_tasks()[0], cache=None, show_progress_bar=False, co2_tracker=False)
        assert scores[name] == pytest.approx(result.task_results[0].get_score(), abs=1e-6)
        encoder = MidLayerEncoder(tmp_path / name, -1)
        np.testing.assert_allclose(encoder.encode(["a text", ""]), model.encode(["a text", ""]), atol=1e-5)
    assert scores["pooled"] != scores["normalized"]


def test_a_rerun_computes_nothing_and_gives_the_same_tables(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _sweep(llama_folder, tiny_tasks(), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    monkeypatch.setattr("leaderboard.sweep.model.OnePassEncoder.from_checkpoint", _must_not_run)
    monkeypatch.setattr("leaderboard.scoring.score.mteb.evaluate", _must_not_run)
    tasks = tiny_tasks()
    again = _sweep(llama_folder, tasks, tmp_path)
    assert again.scores.equals(first.scores)
    assert again.metrics.equals(first.metrics)
    assert not any(task.data_loaded for task in tasks)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_what_is_missing_is_computed_and_what_is_there_is_not(
    llama_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = _sweep(llama_folder, [TinySTS()], tmp_path / "whole")
    folder = tmp_path / "parts"
    _sweep(llama_folder, [TinySTS()], folder, layers=[0, -1])
    (kept,) = folder.rglob("layer_3/TinySTS.json")
    (torn,) = folder.rglob("layer_0/TinySTS.json")
    kept_at = kept.stat().st_mtime_ns
    torn.write_text(torn.read_text()[:100])
    board = _sweep(llama_folder, [TinySTS()], folder)
    assert [str(torn) in record.getMessage() for record in caplog.records] == [True]  # told once
    assert kept.stat().st_mtime_ns == kept_at
    assert board.scores.equals(whole.scores)
    assert board.metrics.equals(whole.metrics)


def test_results_of_other_data_are_computed_again(llama_folder: Path, tmp_path: Path) -> None:
    whole = _sweep(llama_folder, [TinySTS()], tmp_path)
    (old,) = tmp_path.rglob("layer_1/TinySTS.json")
    content = json.loads(old.read_text())
    content["dataset_revision"] = "0"
    content["scores"]["test"][0]["main_score"] = 0.123
    old.write_text(json.dumps(content))
    (measured,) = (tmp_path / "metrics").rglob("*.parquet")
    frame = pl.read_parquet(measured)
    frame.with_columns(pl.lit("0").alias("dataset_revision"), pl.col("value") + 1).write_parquet(measured)
    again = _sweep(llama_folder, [TinySTS()], tmp_path)
    assert again.scores.equals(whole.scores)
    assert again.metrics.equals(whole.metrics)


def test_metrics_that_are_lost_are_measured_again(llama_folder: Path, tmp_path: Path) -> None:
    first = _sweep(llama_folder, [TinySTS()], tmp_path)
    (metrics,) = (tmp_path / "metrics").rglob("*.parquet")
    metrics.write_bytes(b"torn")
    results = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*.json")}
    again = _sweep(llama_folder, [TinySTS()], tmp_path)
    assert again.metrics.equals(first.metrics)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*.json")} == results


def test_dataset_entropy_is_that_of_the_tasks_raw_vectors(
    llama_folder: Path,
    tmp_path: Path,
    llama_raw: LayerwiseEncoder,
) -> None:
    task = TinySTS()
    task.load_data()
    board = _sweep(llama_folder, [task], tmp_path)
    vectors = llama_raw.encode(sorted(strings_in_data(task))).astype(np.float64)
    for layer in range(4):
        rows = vectors[:, layer] - vectors[:, layer].mean(axis=0)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        shares = np.linalg.eigvalsh(rows.T @ rows) / len(rows)
        expected = -sum(p * np.log(p) for p in shares if p > 1e-12)
        (found,) = board.metrics.filter(pl.col("layer") == layer, pl.col("normalization") == "raw")["value"]
        assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("family", "kinds"), [("bert", 1), ("llama", 2)])
def test_states_that_are_the_same_are_pooled_once(
    tiny_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, kinds: int
) -> None:
    norms = set()
    start = LayerwiseEncoderClass._started

    def spy(self, batch, wanted):  # type: ignore[no-untyped-def]
        norms.add(len(wanted.norms))
        return start(self, batch, wanted)

    monkeypatch.setattr(LayerwiseEncoderClass, "_started", spy)
    _sweep(tiny_folders[family], [TinySTS()], tmp_path, layers=[1], on_plan=lambda _: norms.clear() is None)
    assert norms == {kinds}  # BERT has no final norm


def test_settings_that_are_not_the_default_are_never_mixed(llama_folder: Path, tmp_path: Path) -> None:
    _sweep(llama_folder, [TinySTS()], tmp_path)
    board = _sweep(llama_folder, [TinySTS()], tmp_path, final_norm=False, max_seq_length=5)
    assert [name for name, _ in board.models()] == [
        "local/tiny-llama",
        "local/tiny-llama (final_norm=False, max_seq_length=5)",
    ]
    first, second = (board.layer_table(name) for name, _ in board.models())
    assert first["TinySTS"].to_list() != second["TinySTS"].to_list()


def test_another_attention_and_other_adapters_are_never_mixed(
    llama_folder: Path, make_adapter: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapters = [make_adapter(llama_folder, seed=seed) for seed in (1, 2)]
    changes = [{}, {"bidirectional": True}, {"adapters": adapters[:1]}, {"bidirectional": True, "adapters": adapters}]
    for change in changes:
        board = _sweep(llama_folder, [TinySTS()], tmp_path, layers=[2], **change)
    names, revisions = zip(*board.models(), strict=True)
    assert set(names) == {"local/tiny-llama"}
    assert len(set(revisions)) == len(changes)
    assert len(set(board.scores["main_score"])) == len(changes)
    assert board.metrics.filter(normalization="raw")["value"].n_unique() == len(changes)
    with _count_texts(monkeypatch) as rows:
        again = _sweep(llama_folder, [TinySTS()], tmp_path, layers=[2], **changes[-1])
    assert not rows
    assert again.scores.equals(board.scores)
    encoder = LayerwiseEncoder(llama_folder, **changes[-1])  # brings them along
    assert _sweep(encoder, [TinySTS()], tmp_path, layers=[2]).scores.equals(board.scores)
    (path,) = (tmp_path / "results").glob("*/*-bidirectional-adapters-*/*/*/TinySTS.json")
    provenance = json.loads(path.read_text())["scores"]["test"][0]["provenance"]
    assert provenance["bidirectional"] is True
    assert provenance["adapters"] == [adapter.name for adapter in adapters]


def test_an_encoder_object_brings_its_own_settings(llama_folder: Path, tmp_path: Path) -> None:
    by_path = _sweep(llama_folder, [TinySTS()], tmp_path / "a", final_norm=False)
    encoder = LayerwiseEncoder(llama_folder, final_norm=False)
    by_object = _sweep(encoder, [TinySTS()], tmp_path / "b")
    assert by_object.scores.equals(by_path.scores)


def test_mteb_reads_the_results_folder(llama_folder: Path, tmp_path: Path) -> None:
    board = _sweep(llama_folder, [TinySTS()], tmp_path)
    read = mteb.ResultCache(tmp_path).load_results(load_experiments="match_name", validate_and_filter=False)
    by_layer = {
        model.task_results[0].scores["test"][0]["provenance"]["layer"]: model.task_results[0].get_score()
        for model in read.model_results
    }
    assert by_layer == pytest.approx(dict(board.scores.select("layer", "main_score").rows()))


def test_a_result_says_how_it_was_made(llama_folder: Path, tmp_path: Path) -> None:
    _sweep(llama_folder, [TinySTS()], tmp_path, layers=[2], seed=7)
    (path,) = tmp_path.rglob("TinySTS.json")
    assert path.parent.name == "layer_2"
    provenance = json.loads(path.read_text())["scores"]["test"][0]["provenance"]
    expected = {"layer": 2, "n_blocks": 3, "seed": 7, "dtype": "float32", "final_norm": True, "max_seq_length": 128}
    assert expected.items() <= provenance.items()
    assert provenance["versions"]["torch"] == torch.__version__


@pytest.mark.parametrize("where", ["make", "_evaluate_subset"])
def test_a_failing_task_is_told_in_one_line_and_stops_no_other(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    tasks = tiny_tasks()[1:4]
    fails = tasks[1]

    def fail(self: AbsTask, *_: object, **__: object) -> None:
        raise ZeroDivisionError("by nothing\nat all")

    monkeypatch.setattr(type(fails), where, fail)
    with pytest.raises(TasksFailed, match=r"^1 of 3 tasks failed: TinyFastClustering$") as failed:
        _sweep(llama_folder, tasks, tmp_path, layers=[1, 2])
    assert not any(task.data_loaded for task in tasks)
    (message,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    reason = "its data cannot be loaded here: by nothing" if where == "make" else "ZeroDivisionError: by nothing"
    assert message == f"TinyFastClustering failed: {reason}"
    found = failed.value.leaderboard.scores
    assert found["task"].unique().sort().to_list() == ["TinyClustering", "TinyPairClassification"]
    assert found.height == 4
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []

    monkeypatch.undo()
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("Tiny*.json")}
    assert _sweep(llama_folder, tiny_tasks()[1:4], tmp_path, layers=[1, 2]).scores.height == 6
    assert {path: path.stat().st_mtime_ns for path in finished} == finished


def test_an_interrupt_says_how_many_tasks_are_finished(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, runs = TaskSweep.run, []

    def interrupted(sweep: TaskSweep, *arguments: Any) -> None:
        if runs:
            raise KeyboardInterrupt
        runs.append(sweep.name)
        real(sweep, *arguments)

    monkeypatch.setattr(TaskSweep, "run", interrupted)
    for _ in range(2):  # a rerun counts the task that an earlier one finished
        with pytest.raises(
            KeyboardInterrupt, match="^1 of 2 tasks are finished; run the same command again to resume$"
        ):
            _sweep(llama_folder, tiny_tasks()[1:3], tmp_path, layers=[1])


@pytest.mark.parametrize("error", [MemoryError("no room for the weights"), KeyboardInterrupt()])
def test_what_would_fail_every_task_ends_the_sweep(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    loads = []

    def fail(*_: object, **__: object) -> None:
        loads.append(1)
        raise error

    monkeypatch.setattr("leaderboard.sweep.model.OnePassEncoder.from_checkpoint", fail)
    tasks = tiny_tasks()
    with pytest.raises(type(error)):
        _sweep(llama_folder, tasks, tmp_path)
    assert len(loads) == 1
    assert not any(task.data_loaded for task in tasks)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": [9]}, "9 is out of range"),
        ({"benchmark_or_tasks": ["NoSuchTask"]}, "no task 'NoSuchTask'"),
        ({"benchmark_or_tasks": "nonsense"}, "benchmark: expected"),
        ({"benchmark_or_tasks": []}, "at least one task"),
        ({"model": "/no/such/folder"}, "there is no folder"),
        ({"pooling_mode": "sum"}, "pooling_mode: expected"),
        ({"seed": -1}, "seed: expected"),
    ],
)
def test_mistakes_are_named_and_leave_nothing_behind(
    llama_folder: Path, tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    call = {"model": llama_folder, "benchmark_or_tasks": "starter", "results_dir": tmp_path / "results", **arguments}
    with pytest.raises(ValueError, match=message):
        _sweep(**call)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_no_results_folder_is_a_named_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no folder"):
        load_results(tmp_path / "nowhere")


def _must_not_run(*_args: object, **_kwargs: object) -> None:
    raise AssertionError("a finished sweep must not run this")
