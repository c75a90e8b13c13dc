"""What the transforms of a sweep are fitted on, and recipes without a score."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from datasets import Dataset, DatasetDict
from sentence_transformers.sentence_transformer.modules import Dense, Normalize
from support.oracles.recipes import TEMPLATES, TRANSFORMS, assert_same, oracle_score, rows_of, sweep
from support.tiny_models import save_with_modules
from support.tiny_tasks import TinyClassification, TinyClustering, TinySTS, tiny_tasks

from leaderboard import get_model, mteb_results
from midlayer_embed import LayerwiseEncoder
from midlayer_embed.texts.corpora import starter_texts


def test_results_that_were_fitted_on_other_texts_are_kept_apart(llama_folder: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "own texts.txt"
    options: dict[str, Any] = {"layers": [2], "transforms": ["whiten:0.1"]}
    files = {"a.txt": starter_texts()[:80], "b.txt": starter_texts()[80:160]}
    for name, texts in files.items():
        (tmp_path / name).write_text("\n".join(texts))
    results = tmp_path / "results"
    seen = set()
    for on in ("train", "task", tmp_path / "a.txt", str(tmp_path / "b.txt"), files["a.txt"]):
        board = sweep(llama_folder, results, [TinyClassification()], transform_texts=on, **options)
        seen.add(board.scores.height)
    assert seen == {1, 2, 3, 4, 5}
    scores = dict(board.scores.select("fitted_on", "main_score").iter_rows())
    assert {"train", "task", "corpus:a.txt", "corpus:b.txt"} < set(scores)
    (by_hash,) = set(scores) - {"train", "task", "corpus:a.txt", "corpus:b.txt"}
    assert by_hash.startswith("corpus:") and scores[by_hash] == scores["corpus:a.txt"]
    # A name that is not fit for a folder gives way to the hash.
    corpus.write_text("\n".join(files["a.txt"]))
    assert set(
        sweep(llama_folder, results, [TinyClassification()], transform_texts=corpus, **options).scores["fitted_on"]
    ) == set(scores)
    # Another file of the same name is another corpus.
    plain = tmp_path / "d" / "a.txt"
    plain.parent.mkdir()
    plain.write_text("\n".join(files["b.txt"]))
    other = sweep(llama_folder, results, [TinyClassification()], transform_texts=plain, **options)
    changed = dict(other.scores.select("fitted_on", "main_score").iter_rows())
    assert changed == {**scores, "corpus:a.txt": scores["corpus:b.txt"]}


@pytest.mark.slow
def test_a_table_that_holds_transforms_of_other_texts_under_one_name_says_so(
    llama_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Results of the same name are told apart by their texts, and the one name in the tables is not taken for one."""
    options: dict[str, Any] = {"transforms": ["center"], "layers": [1, 2]}
    corpus = tmp_path / "a.txt"
    corpus.write_text("\n".join(starter_texts()[:80]))
    assert not sweep(llama_folder, tmp_path / "r", [TinySTS()], transform_texts=corpus, **options).remarks
    corpus.write_text("\n".join(starter_texts()[:90]))
    (said,) = sweep(llama_folder, tmp_path / "r", [TinyClassification()], transform_texts=corpus, **options).remarks
    assert said == (
        "transforms on corpus:a.txt were fitted on different texts, so their scores are not comparable: 90 texts "
        "(local/tiny-llama: layers 1, 2 on TinyClassification); 80 texts (local/tiny-llama: layers 1, 2 on TinySTS)"
    )
    assert not sweep(llama_folder, tmp_path / "r", [TinySTS()], transform_texts=corpus, **options).remarks
    for layer, seed in ((1, 0), (2, 1)):
        draw: dict[str, Any] = {**options, "layers": [layer], "fit_texts": 10, "seed": seed}
        board = sweep(llama_folder, tmp_path / "s", [TinySTS(), TinyClassification()], **draw)
    assert board.remarks == tuple(
        f"transforms on {on} of {task} were fitted on different texts, so their scores are not comparable: "
        f"10 texts (local/tiny-llama: layer 1 on {task}); 10 others (local/tiny-llama: layer 2 on {task})"
        for on, task in (("train", "TinyClassification"), ("task", "TinySTS"))
    )
    # Tasks have texts of their own, and so do parts of them.
    assert not sweep(llama_folder, tmp_path / "t", tiny_tasks(), transforms=["center"]).remarks
    limited = sweep(llama_folder, tmp_path / "t", tiny_tasks(), transforms=["center"], limit=20).remarks
    assert not [remark for remark in limited if "fitted on different texts" in remark]


def test_another_draw_of_the_texts_is_not_taken_for_this_one(
    llama_folder: Path, tmp_path: Path, passes: list[Any]
) -> None:
    options: dict[str, Any] = {"layers": [2], "transforms": ["whiten:0.1"], "tasks": [TinyClassification()]}
    draws = [{"fit_texts": 10}, {"fit_texts": 10, "seed": 1}, {"fit_texts": 12}, {}]
    scores = [rows_of(sweep(llama_folder, tmp_path, **options, **draw)) for draw in draws]
    assert len(passes) == 4 and len({str(rows) for rows in scores}) > 1
    assert scores[3] == rows_of(sweep(llama_folder, tmp_path / "alone", **options))


def test_a_task_without_another_split_falls_back_once_and_is_finished(
    llama_folder: Path, tmp_path: Path, passes: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    options: dict[str, Any] = {"layers": [1, 2], "transforms": ["whiten", "center"], "tasks": [TinySTS()]}
    first = sweep(llama_folder, tmp_path, **options)
    assert set(first.scores["fitted_on"]) == {"task"}
    said = "TinySTS has no other split: its transforms are fitted on the evaluated texts"
    assert [message for message in caplog.messages if "no other split" in message] == [f"[1/1] {said}"]
    caplog.clear()
    for on in ("train", "task"):
        assert sweep(llama_folder, tmp_path, transform_texts=on, **options).scores.equals(first.scores)
    assert len(passes) == 1 and caplog.messages.count("TinySTS is finished") == 2


def test_a_task_that_was_fitted_on_itself_is_not_the_fallback_of_a_task_with_another_split(
    llama_folder: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"layers": [2], "transforms": ["whiten:0.1"], "tasks": [TinyClassification()]}
    sweep(llama_folder, tmp_path, transform_texts="task", **options)
    assert set(sweep(llama_folder, tmp_path, **options).scores["fitted_on"]) == {"task", "train"}


def test_the_fallback_of_an_earlier_sweep_is_taken(llama_folder: Path, tmp_path: Path, passes: list[Any]) -> None:
    options: dict[str, Any] = {"layers": [2], "transforms": ["whiten"], "tasks": [TinySTS()]}
    first = sweep(llama_folder, tmp_path, transform_texts="task", **options)
    assert sweep(llama_folder, tmp_path, **options).scores.equals(first.scores)
    assert len(passes) == 1


def test_labels_and_the_order_of_texts_do_not_matter(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"layers": [1, 3], "transforms": ["whiten:0.1"]}
    first = rows_of(sweep(llama_folder, tmp_path / "a", [TinySTS()], **options))
    make = TinySTS.make

    def with_others(self: TinySTS) -> DatasetDict:
        data = make(self)
        texts = data["test"]["sentence2"][:] + data["test"]["sentence1"][:]
        rows = {"sentence1": texts[::-1], "sentence2": texts, "score": [float("nan")] * len(texts)}
        return DatasetDict({"train": Dataset.from_dict(rows), **data})

    monkeypatch.setattr(TinySTS, "make", with_others)
    again = rows_of(sweep(llama_folder, tmp_path / "b", [TinySTS()], **options))
    assert [row[:4] for row in again] == [row[:4] for row in first] and {row[4] for row in again} == {"train"}
    assert [row[-1] for row in again] == pytest.approx([row[-1] for row in first], abs=1e-9)


def test_a_corpus_is_encoded_once_for_each_template(llama_folder: Path, tmp_path: Path, passes: list[Any]) -> None:
    texts = starter_texts()[:70]
    options: dict[str, Any] = {"templates": [None, "echo"], "transforms": ["whiten"], "transform_texts": texts}
    once = rows_of(sweep(llama_folder, tmp_path / "once", **options))
    of_corpus = [(template, len(encoded)) for template, encoded in passes if set(texts) <= set(encoded)]
    assert of_corpus == [(None, 70), ("echo", 70)]
    # In little room it goes with each task, and that is told.
    passes.clear()
    each = rows_of(sweep(llama_folder, tmp_path / "each", store_budget="40KB", layers=[0, 2, -1], **options))
    assert sum(set(texts) <= set(encoded) for _, encoded in passes) >= 4
    assert_same(each, once)


def test_a_corpus_counts_in_the_room_for_vectors(llama_folder: Path, tmp_path: Path) -> None:
    plans: list[Any] = []
    budget = 2 * 70 * 32 * 4 * 3  # twice what the corpus takes at three layers
    sweep(
        llama_folder,
        tmp_path,
        transforms=["center"],
        transform_texts=starter_texts()[:70],
        store_budget=budget,
        on_plan=lambda plan: bool(plans.append(plan)),
    )
    (plan,) = plans
    (corpus,) = plan.corpora
    assert corpus.n_texts == 70 and corpus.disk == budget / 2
    assert all(corpus.disk + task.disk <= budget for task in plan.tasks)
    assert corpus.task in plan.lines()[1]


def test_mteb_itself_gives_what_the_sweep_gives(llama_folder: Path, tmp_path: Path) -> None:
    texts = [*starter_texts()[:90], *starter_texts()[:9]]
    fit: dict[str, Any] = {"transform_texts": texts, "fit_texts": 80}
    board = sweep(llama_folder, tmp_path, tiny_tasks(), templates=["echo"], transforms=["whiten"], layers=[2], **fit)
    model = get_model(llama_folder, 2, template="echo", transform="whiten", **fit)
    ((_, experiment),) = {
        (str(path.parent), path.name) for path in tmp_path.glob("results/*/*/experiments/*") if path.is_dir()
    }
    assert model.mteb_model_meta.experiment_name == experiment
    (found,) = mteb_results(tmp_path, 2, template="echo", transform="whiten").model_results
    assert found.experiment_name == experiment
    expected = {task.metadata.name: oracle_score(task, model) for task in tiny_tasks()}
    assert dict(board.scores.select("task", "main_score").iter_rows()) == pytest.approx(expected, abs=1e-6)
    for on in ("train", "task"):
        with pytest.raises(ValueError, match=f"^transform_texts: {on} depends on the task"):
            get_model(llama_folder, 2, transform="whiten", transform_texts=on)


# --- recipes without a score -----------------------------------------------------------------------------------------


def test_too_few_texts_leave_that_recipe_without_a_score(
    llama_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    board = sweep(llama_folder, tmp_path, [TinySTS()], transforms=["none", "whiten"], transform_texts=["a b", "b c"])
    has = board.scores.with_columns(has=pl.col("main_score").is_not_null()).select("transform", "has").unique()
    assert set(has.iter_rows()) == {(None, True), ("whiten:10", False)}
    (reason,) = set(board.no_scores()["reason"])
    assert reason == "expected at least 4 texts to fit whiten:10 to 32 dimensions, got 2"
    (fitted_on,) = set(board.no_scores()["fitted_on"])
    (remark,) = board.remarks
    assert remark.startswith("local/tiny-llama: layers 0, 2, 3 have no score on TinySTS with whiten:10 ")
    assert str(fitted_on) in remark and remark.endswith(f": {reason}")
    assert rows_of(
        sweep(llama_folder, tmp_path, [TinySTS()], transforms=["whiten"], transform_texts=["a b", "b c"])
    ) == [*rows_of(board)]


def test_a_small_number_of_texts_is_told_once_for_a_task(
    llama_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sweep(llama_folder, tmp_path, transforms=TRANSFORMS, templates=TEMPLATES[:2], layers=[1])
    warned = [message for message in caplog.messages if "or more are better" in message]
    assert warned == [
        "[1/2] TinySTS: transforms are fitted to 32 dimensions on 60 texts; 64 or more are better",
        "[2/2] TinyClassification: transforms are fitted to 32 dimensions on 30 texts; 64 or more are better",
    ]
    caplog.clear()
    fit: dict[str, Any] = {"transforms": ["whiten"], "transform_texts": starter_texts()[:50], "layers": [1]}
    sweep(llama_folder, tmp_path, templates=TEMPLATES[:2], **fit)
    (said,) = [message for message in caplog.messages if "or more are better" in message]
    assert said.startswith("corpus:") and said.endswith("dimensions on 50 texts; 64 or more are better")


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.process)])
def test_vectors_that_are_the_same_for_every_text_have_no_score(llama_folder: Path, tmp_path: Path, jobs: int) -> None:
    """Not a chance score either: classification and clustering have numbers for them."""
    board = sweep(
        llama_folder,
        tmp_path,
        [TinyClassification(), TinyClustering(), TinySTS()],
        templates=["eol"],
        pooling_mode="lasttoken",
        transforms=TRANSFORMS,
        jobs=jobs,
    )
    has = board.scores.with_columns(has=pl.col("main_score").is_not_null())
    assert set(has.select("layer", "has").iter_rows()) == {(0, False), (2, True), (3, True)}
    assert set(board.no_scores()["reason"]) == {"all vectors are equal"}
    assert board.no_scores().height == 3 * 4


def test_a_transform_that_leaves_nothing_has_no_score(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two distinct texts: their one direction is removed."""

    def make(_: TinySTS) -> DatasetDict:
        rows = {"sentence1": ["a b c", "sun"] * 4, "sentence2": ["sun", "sun"] * 4, "score": [1.0, 2.0] * 4}
        others = {"sentence1": ["sun", "a b c"], "sentence2": ["a b c", "sun"], "score": [0.0, 0.0]}
        return DatasetDict({"test": Dataset.from_dict(rows), "train": Dataset.from_dict(others)})

    monkeypatch.setattr(TinySTS, "make", make)
    monkeypatch.setattr("midlayer_embed.recipes.transform._FEWEST_SHARE", 0.01)
    board = sweep(llama_folder, tmp_path, [TinySTS()], layers=[1, 2], transforms=["none", "remove:1", "center"])
    missing = set(board.no_scores().select("layer", "transform", "reason").iter_rows())
    assert missing == {(layer, "remove:1", "all vectors are equal") for layer in (1, 2)}


@pytest.mark.parametrize("after", ["normalize", "dense"])
def test_a_transform_stands_between_pooling_and_normalize_and_no_other_module(
    tiny_model: Callable[[str], Path], tmp_path: Path, after: str
) -> None:
    module = (lambda _: Normalize()) if after == "normalize" else (lambda d: Dense(d, 7))
    folder = save_with_modules(tiny_model("bert"), tmp_path / "f", module, similarity_fn_name="dot")
    options: dict[str, Any] = {"layers": [1, -1], "transforms": ["none", "whiten"]}
    board = sweep(folder, tmp_path / "r", [TinySTS()], transform_texts=starter_texts()[:70], **options)
    assert board.scores.filter(pl.col("transform").is_null())["main_score"].is_not_null().all()
    last = board.scores.filter(layer=3, transform="whiten:10").row(0, named=True)
    if after == "dense":
        assert last["main_score"] is None
        (reason,) = board.no_scores()["reason"]
        assert reason.startswith("the last layer has a Dense of its own after pooling")
        with pytest.raises(ValueError, match="Dense of its own after pooling"):
            get_model(folder, -1, transform="whiten", transform_texts=starter_texts()[:70])
        return
    model = get_model(folder, -1, transform="whiten", transform_texts=starter_texts()[:70])
    assert last["main_score"] == pytest.approx(oracle_score(TinySTS(), model), abs=1e-6)


def test_texts_to_fit_on_that_have_no_finite_vector_leave_plain_layers_alone(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = LayerwiseEncoder.pooled_batches

    def spoilt(self: LayerwiseEncoder, texts: Any, *arguments: Any, **options: Any) -> Any:
        for batch in encode(self, texts, *arguments, **options):
            batch.vectors[:, 0, [texts[row] == "no number" for row in batch.rows]] = np.nan
            yield batch

    monkeypatch.setattr(LayerwiseEncoder, "pooled_batches", spoilt)
    fit = {"transform_texts": ["no number", *starter_texts()[:70]]}
    board = sweep(llama_folder, tmp_path, [TinySTS()], layers=[1, 2], transforms=["none", "center"], **fit)
    (row,) = board.no_scores().rows(named=True)
    assert (row["layer"], row["transform"]) == (1, "center")
    assert row["reason"] == "1 of the 71 texts to fit on have no finite vector"
