"""Sweeps over templates and transforms: every recipe is a result of its own, scored as a plain oracle scores it."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import polars as pl
import pytest
from datasets import Dataset, DatasetDict
from mteb.abstasks.abstask import AbsTask
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta
from sentence_transformers.sentence_transformer.modules import Dense, Normalize
from support.tiny_models import save_with_modules
from support.tiny_tasks import TinyClassification, TinyClustering, TinySTS, tiny_tasks

from leaderboard import Leaderboard, get_model, load_results, mteb_results, run_sweep
from leaderboard.results.folder import ResultsFolder
from leaderboard.scoring.columns import texts_in
from leaderboard.sweep.run import TasksFailed
from midlayer_embed import LayerwiseEncoder
from midlayer_embed.texts.corpora import starter_texts

TEMPLATES = (None, "echo", 'Say "{text}":\n')
TRANSFORMS = ("none", "standardize", "whiten", "remove:1")
RECIPE = ["template", "transform", "fitted_on"]


def _sweep(model: Any, results: Path, tasks: Any = None, **options: Any) -> Leaderboard:
    keywords = {"metrics": "none", "layers": [0, 2, -1], "show_progress": False, **options}
    return run_sweep(model, tasks or [TinySTS(), TinyClassification()], results, **keywords)


def _rows(board: Leaderboard) -> list[Any]:
    columns = ["task", "layer", *RECIPE, "main_score"]
    return board.scores.select(columns).sort(columns[:-1], nulls_last=True).rows()


def _assert_same(rows: list[Any], expected: list[Any]) -> None:
    assert [row[:-1] for row in rows] == [row[:-1] for row in expected]
    assert [row[-1] for row in rows] == pytest.approx([row[-1] for row in expected], abs=1e-6)


def _plain_transform(name: str, X: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A transform by its formula, in float64."""
    X = X.astype(np.float64)
    mean = X.mean(axis=0)
    values, directions = np.linalg.eigh((X - mean).T @ (X - mean) / len(X))
    if name == "standardize":
        return lambda x: (x - mean) / X.std(axis=0)
    if name.startswith("remove"):
        top = directions[:, -int(name[-1]) :]
        return lambda x: (x - mean) - (x - mean) @ top @ top.T
    ridge = float(name.partition(":")[2] or 10)
    return lambda x: (x - mean) @ directions / np.sqrt(values + ridge * values.mean())


class _Oracle(AbsEncoder):
    """A layer of an encoder with a plain transform."""

    mteb_model_meta = ModelMeta.create_empty({"name": "tests/oracle", "revision": "1"})

    def __init__(self, encoder: LayerwiseEncoder, layer: int, transform: str, fitted_on: list[str]) -> None:
        self._encode = lambda texts: encoder.encode(list(texts), layers=[layer])[:, 0]
        self._map = (lambda x: x) if transform == "none" else _plain_transform(transform, self._encode(fitted_on))

    def encode(self, inputs: Any, **_: Any) -> np.ndarray:
        return self._map(self._encode(texts_in(inputs))).astype(np.float32)


def _oracle_score(task: AbsTask, model: Any) -> float:
    options: dict[str, Any] = {"cache": None, "show_progress_bar": False, "co2_tracker": False}
    (result,) = mteb.evaluate(model, task, **options).task_results
    return float(result.get_score())


def _texts(task: AbsTask, split: str) -> list[str]:
    task.load_data()
    table: Any = task.dataset[split]  # type: ignore[index]
    names = ["text"] if "text" in table.column_names else ["sentence1", "sentence2"]
    return sorted({text for name in names for text in table[name]})


@pytest.fixture(scope="module")
def swept(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipes")
    _sweep(llama_folder, folder, templates=TEMPLATES, transforms=TRANSFORMS)
    return folder


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_recipe_scores_as_a_plain_oracle_does(swept: Path, llama_folder: Path, template: str | None) -> None:
    """Fitted on the other split where there is one, else on the evaluated texts."""
    board = load_results(swept)
    encoder = LayerwiseEncoder(llama_folder, template=template)
    assert board.scores.height == 2 * 3 * 3 * 4
    for task, split, on in ((TinySTS(), "test", "task"), (TinyClassification(), "train", "train")):
        fitted_on = _texts(task, split)
        for transform in TRANSFORMS:
            full = {"none": None, "whiten": "whiten:10"}.get(transform, transform)
            for layer in (0, 2, 3):
                row = board.scores.filter(
                    pl.col("template").eq_missing(template), pl.col("transform").eq_missing(full), layer=layer
                ).row(by_predicate=pl.col("task") == task.metadata.name, named=True)
                assert row["fitted_on"] == (None if full is None else on)
                expected = _oracle_score(task, _Oracle(encoder, layer, transform, fitted_on))
                assert row["main_score"] == pytest.approx(expected, abs=1e-6), (transform, layer)


def test_a_label_leaves_the_recipe_to_its_columns(swept: Path, llama_folder: Path, tmp_path: Path) -> None:
    board = load_results(swept)
    assert {model for model, _ in board.models()} == {"local/tiny-llama"}
    assert not board.origins["local/tiny-llama", board.models()[0][1]].settings
    other = _sweep(llama_folder, tmp_path, [TinySTS()], layers=[1], templates=["echo"], pooling_mode="mean")
    assert other.models()[0][0] == "local/tiny-llama (pooling_mode=mean)"
    (origin,) = other.origins.values()
    assert dict(origin.settings) == {"template": "echo", "pooling_mode": "mean"}


def test_every_recipe_is_an_experiment_of_its_own_in_the_layout_of_mteb(swept: Path) -> None:
    names = {path.name for path in swept.glob("results/*/*/experiments/*")}
    assert {"layer_2", "layer_2__template_echo"} <= names
    assert "layer_2__template_echo__transform_whiten_10__transform_texts_train" in names
    assert all(name.replace("-", "_").replace(".", "_").isidentifier() for name in names)
    for meta, result in ResultsFolder(swept).results():
        (said,) = {json.dumps(entry["provenance"]["template"]) for entry in result.scores["test"]}
        assert json.loads(said) in TEMPLATES
        assert (json.loads(said) == TEMPLATES[2]) == ("text_" in str(meta.experiment_name).replace("-", "_"))


def test_long_and_odd_templates_have_names_of_their_own(llama_folder: Path, tmp_path: Path) -> None:
    templates = [
        "a/b\\c: {text}",
        "a/b\\c; {text}",
        "../{text}",
        "ü" * 40 + "{text}",
        "long " * 15 + "{text}",
        "a__b{text}",
    ]
    for _ in range(2):  # the names are stable
        board = _sweep(llama_folder, tmp_path, [TinySTS()], layers=[1], templates=templates, transforms=["center"])
        assert len(list(tmp_path.glob("results/*/*/experiments/*"))) == len(templates)
    assert set(board.scores["template"]) == set(templates)
    assert board.scores["main_score"].is_not_null().all()


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str | None, list[Any]]]]:
    """The template and the texts of every pass over texts, but those that the plan measures the speed on."""
    found: list[tuple[str | None, list[Any]]] = []
    encode = LayerwiseEncoder.pooled_batches

    def spy(self: LayerwiseEncoder, texts: Any, *arguments: Any, **options: Any) -> Any:
        if options.get("description", "Encoding") != "Encoding":
            found.append((self.recipe.template, list(texts)))
        return encode(self, texts, *arguments, **options)

    monkeypatch.setattr(LayerwiseEncoder, "pooled_batches", spy)
    return iter([found])


Passes = Iterator[list[tuple[str | None, list[Any]]]]


def test_four_transforms_take_not_one_forward_pass_more(llama_folder: Path, tmp_path: Path, passes: Passes) -> None:
    (found,) = passes
    _sweep(llama_folder, tmp_path / "one", tiny_tasks(), templates=[None, "eol"])
    plain = list(found)
    found.clear()
    _sweep(llama_folder, tmp_path / "four", tiny_tasks(), templates=[None, "eol"], transforms=TRANSFORMS)
    assert [template for template, _ in found] == [template for template, _ in plain] == [None, "eol"] * 6
    for (_, texts), (_, before) in zip(found, plain, strict=True):
        assert texts[: len(before)] == before
        assert len(texts) == len(set(texts))
        assert len(texts) - len(before) <= 12  # texts of a training split that no score needs


def test_finished_results_are_not_computed_again(swept: Path, llama_folder: Path, passes: Passes) -> None:
    (found,) = passes
    times = {path: path.stat().st_mtime_ns for path in swept.rglob("*.json")}
    _sweep(llama_folder, swept, templates=TEMPLATES, transforms=TRANSFORMS)
    _sweep(llama_folder, swept, templates=["echo"], transforms=["whiten:10", "none"])
    assert found == []
    assert {path: path.stat().st_mtime_ns for path in swept.rglob("*.json")} == times


def test_plain_layers_keep_their_results_when_recipes_are_added(
    llama_folder: Path, tmp_path: Path, passes: Passes
) -> None:
    (found,) = passes
    before = _sweep(llama_folder, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("Tiny*.json")}
    found.clear()
    after = _sweep(llama_folder, tmp_path, templates=[None, "echo"])
    assert [template for template, _ in found] == ["echo", "echo"]
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert after.scores.filter(pl.col("template").is_null()).equals(before.scores)


# --- what a transform is fitted on -----------------------------------------------------------------------------------


def test_results_that_were_fitted_on_other_texts_are_kept_apart(llama_folder: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "own texts.txt"
    options: dict[str, Any] = {"layers": [2], "transforms": ["whiten:0.1"]}
    files = {"a.txt": starter_texts()[:80], "b.txt": starter_texts()[80:160]}
    for name, texts in files.items():
        (tmp_path / name).write_text("\n".join(texts))
    results = tmp_path / "results"
    seen = set()
    for on in ("train", "task", tmp_path / "a.txt", str(tmp_path / "b.txt"), files["a.txt"]):
        board = _sweep(llama_folder, results, [TinyClassification()], transform_texts=on, **options)
        seen.add(board.scores.height)
    assert seen == {1, 2, 3, 4, 5}
    scores = dict(board.scores.select("fitted_on", "main_score").iter_rows())
    assert {"train", "task", "corpus:a.txt", "corpus:b.txt"} < set(scores)
    (by_hash,) = set(scores) - {"train", "task", "corpus:a.txt", "corpus:b.txt"}
    assert by_hash.startswith("corpus:") and scores[by_hash] == scores["corpus:a.txt"]
    # A name that is not fit for a folder gives way to the hash.
    corpus.write_text("\n".join(files["a.txt"]))
    assert set(
        _sweep(llama_folder, results, [TinyClassification()], transform_texts=corpus, **options).scores["fitted_on"]
    ) == set(scores)
    # Another file of the same name is another corpus.
    plain = tmp_path / "d" / "a.txt"
    plain.parent.mkdir()
    plain.write_text("\n".join(files["b.txt"]))
    other = _sweep(llama_folder, results, [TinyClassification()], transform_texts=plain, **options)
    changed = dict(other.scores.select("fitted_on", "main_score").iter_rows())
    assert changed == {**scores, "corpus:a.txt": scores["corpus:b.txt"]}


def test_another_draw_of_the_texts_is_not_taken_for_this_one(
    llama_folder: Path, tmp_path: Path, passes: Passes
) -> None:
    (found,) = passes
    options: dict[str, Any] = {"layers": [2], "transforms": ["whiten:0.1"], "tasks": [TinyClassification()]}
    draws = [{"fit_texts": 10}, {"fit_texts": 10, "seed": 1}, {"fit_texts": 12}, {}]
    scores = [_rows(_sweep(llama_folder, tmp_path, **options, **draw)) for draw in draws]
    assert len(found) == 4 and len({str(rows) for rows in scores}) > 1
    assert scores[3] == _rows(_sweep(llama_folder, tmp_path / "alone", **options))


def test_a_task_without_another_split_falls_back_once_and_is_finished(
    llama_folder: Path, tmp_path: Path, passes: Passes, caplog: pytest.LogCaptureFixture
) -> None:
    (found,) = passes
    caplog.set_level(logging.INFO)
    options: dict[str, Any] = {"layers": [1, 2], "transforms": ["whiten", "center"], "tasks": [TinySTS()]}
    first = _sweep(llama_folder, tmp_path, **options)
    assert set(first.scores["fitted_on"]) == {"task"}
    said = "TinySTS has no other split: its transforms are fitted on the evaluated texts"
    assert [message for message in caplog.messages if "no other split" in message] == [f"[1/1] {said}"]
    caplog.clear()
    for on in ("train", "task"):
        assert _sweep(llama_folder, tmp_path, transform_texts=on, **options).scores.equals(first.scores)
    assert len(found) == 1 and caplog.messages.count("TinySTS is finished") == 2


def test_a_task_that_was_fitted_on_itself_is_not_the_fallback_of_a_task_with_another_split(
    llama_folder: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"layers": [2], "transforms": ["whiten:0.1"], "tasks": [TinyClassification()]}
    _sweep(llama_folder, tmp_path, transform_texts="task", **options)
    assert set(_sweep(llama_folder, tmp_path, **options).scores["fitted_on"]) == {"task", "train"}


def test_the_fallback_of_an_earlier_sweep_is_taken(llama_folder: Path, tmp_path: Path, passes: Passes) -> None:
    (found,) = passes
    options: dict[str, Any] = {"layers": [2], "transforms": ["whiten"], "tasks": [TinySTS()]}
    first = _sweep(llama_folder, tmp_path, transform_texts="task", **options)
    assert _sweep(llama_folder, tmp_path, **options).scores.equals(first.scores)
    assert len(found) == 1


def test_labels_and_the_order_of_texts_do_not_matter(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"layers": [1, 3], "transforms": ["whiten:0.1"]}
    first = _rows(_sweep(llama_folder, tmp_path / "a", [TinySTS()], **options))
    make = TinySTS.make

    def with_others(self: TinySTS) -> DatasetDict:
        data = make(self)
        texts = data["test"]["sentence2"][:] + data["test"]["sentence1"][:]
        rows = {"sentence1": texts[::-1], "sentence2": texts, "score": [float("nan")] * len(texts)}
        return DatasetDict({"train": Dataset.from_dict(rows), **data})

    monkeypatch.setattr(TinySTS, "make", with_others)
    again = _rows(_sweep(llama_folder, tmp_path / "b", [TinySTS()], **options))
    assert [row[:4] for row in again] == [row[:4] for row in first] and {row[4] for row in again} == {"train"}
    assert [row[-1] for row in again] == pytest.approx([row[-1] for row in first], abs=1e-9)


def test_a_corpus_is_encoded_once_for_each_template(llama_folder: Path, tmp_path: Path, passes: Passes) -> None:
    (found,) = passes
    texts = starter_texts()[:70]
    options: dict[str, Any] = {"templates": [None, "echo"], "transforms": ["whiten"], "transform_texts": texts}
    once = _rows(_sweep(llama_folder, tmp_path / "once", **options))
    of_corpus = [(template, len(encoded)) for template, encoded in found if set(texts) <= set(encoded)]
    assert of_corpus == [(None, 70), ("echo", 70)]
    # In little room it goes with each task, and that is told.
    found.clear()
    each = _rows(_sweep(llama_folder, tmp_path / "each", store_budget="40KB", layers=[0, 2, -1], **options))
    assert sum(set(texts) <= set(encoded) for _, encoded in found) >= 4
    _assert_same(each, once)


def test_mteb_itself_gives_what_the_sweep_gives(llama_folder: Path, tmp_path: Path) -> None:
    texts = [*starter_texts()[:90], *starter_texts()[:9]]
    fit: dict[str, Any] = {"transform_texts": texts, "fit_texts": 80}
    board = _sweep(llama_folder, tmp_path, tiny_tasks(), templates=["echo"], transforms=["whiten"], layers=[2], **fit)
    model = get_model(llama_folder, 2, template="echo", transform="whiten", **fit)
    ((_, experiment),) = {
        (str(path.parent), path.name) for path in tmp_path.glob("results/*/*/experiments/*") if path.is_dir()
    }
    assert model.mteb_model_meta.experiment_name == experiment
    (found,) = mteb_results(tmp_path, 2, template="echo", transform="whiten").model_results
    assert found.experiment_name == experiment
    expected = {task.metadata.name: _oracle_score(task, model) for task in tiny_tasks()}
    assert dict(board.scores.select("task", "main_score").iter_rows()) == pytest.approx(expected, abs=1e-6)
    for on in ("train", "task"):
        with pytest.raises(ValueError, match=f"^transform_texts: {on} depends on the task"):
            get_model(llama_folder, 2, transform="whiten", transform_texts=on)


def test_recipes_are_never_mixed_in_what_mteb_is_given(swept: Path) -> None:
    for template in TEMPLATES:
        for transform in (None, "whiten"):
            on = {} if transform is None else {"fitted_on": "train"}
            (found,) = mteb_results(swept, 2, template=template, transform=transform, **on).model_results
            assert len(found.task_results) == (2 if transform is None else 1)
    with pytest.raises(ValueError, match=r"^fitted_on: .* has results fitted on task, train, got None$"):
        mteb_results(swept, 2, transform="whiten")
    with pytest.raises(ValueError, match="^template: .* has no results of template=eol$"):
        mteb_results(swept, 2, template="eol")


# --- recipes without a score -----------------------------------------------------------------------------------------


def test_too_few_texts_leave_that_recipe_without_a_score(
    llama_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    board = _sweep(llama_folder, tmp_path, [TinySTS()], transforms=["none", "whiten"], transform_texts=["a b", "b c"])
    has = board.scores.with_columns(has=pl.col("main_score").is_not_null()).select("transform", "has").unique()
    assert set(has.iter_rows()) == {(None, True), ("whiten:10", False)}
    (reason,) = set(board.no_scores()["reason"])
    assert reason == "expected at least 4 texts to fit whiten:10 to 32 dimensions, got 2"
    (fitted_on,) = set(board.no_scores()["fitted_on"])
    said = f"layers 0, 2, 3 have no score on TinySTS with whiten:10 (fitted on {fitted_on}): {reason}"
    assert board.remarks == (f"local/tiny-llama: {said}",)
    assert _rows(
        _sweep(llama_folder, tmp_path, [TinySTS()], transforms=["whiten"], transform_texts=["a b", "b c"])
    ) == [*_rows(board)]


def test_a_small_number_of_texts_is_told_once_for_a_task(
    llama_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _sweep(llama_folder, tmp_path, transforms=TRANSFORMS, templates=TEMPLATES)
    warned = [message for message in caplog.messages if "or more are better" in message]
    assert warned == [
        "[1/2] TinySTS: transforms of 32 dimensions are fitted on 60 texts; 64 or more are better",
        "[2/2] TinyClassification: transforms of 32 dimensions are fitted on 30 texts; 64 or more are better",
    ]


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.process)])
def test_vectors_that_are_the_same_for_every_text_have_no_score(llama_folder: Path, tmp_path: Path, jobs: int) -> None:
    """Not a chance score either: classification and clustering have numbers for them."""
    board = _sweep(
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
    board = _sweep(llama_folder, tmp_path, [TinySTS()], layers=[1, 2], transforms=["none", "remove:1", "center"])
    missing = set(board.no_scores().select("layer", "transform", "reason").iter_rows())
    assert missing == {(layer, "remove:1", "all vectors are equal") for layer in (1, 2)}


@pytest.mark.parametrize("after", ["normalize", "dense"])
def test_a_transform_stands_between_pooling_and_normalize_and_no_other_module(
    tiny_model: Callable[[str], Path], tmp_path: Path, after: str
) -> None:
    module = (lambda _: Normalize()) if after == "normalize" else (lambda d: Dense(d, 7))
    folder = save_with_modules(tiny_model("bert"), tmp_path / "f", module, similarity_fn_name="dot")
    options: dict[str, Any] = {"layers": [1, -1], "transforms": ["none", "whiten"]}
    board = _sweep(folder, tmp_path / "r", [TinySTS()], transform_texts=starter_texts()[:70], **options)
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
    assert last["main_score"] == pytest.approx(_oracle_score(TinySTS(), model), abs=1e-6)


# --- the sweep as a whole --------------------------------------------------------------------------------------------


@pytest.mark.process
def test_processes_score_the_same(swept: Path, llama_folder: Path, tmp_path: Path) -> None:
    for name, layers in (("all", [0, 2, -1]), ("one", [2])):  # one layer is split by transforms
        board = _sweep(llama_folder, tmp_path / name, templates=TEMPLATES, transforms=TRANSFORMS, jobs=2, layers=layers)
        expected = load_results(swept).scores.filter(pl.col("layer").is_in([layer % 4 for layer in layers]))
        rows = [row for row in _rows(load_results(swept)) if row[1] in set(expected["layer"])]
        _assert_same(_rows(board), rows)


@pytest.mark.parametrize("after", [0, 1, 9, 15, 29])
def test_a_sweep_that_is_cut_short_anywhere_ends_with_the_same_tables(
    swept: Path, llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    save, left = ResultsFolder.save_result, [after]

    def cut(*arguments: Any) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        save(*arguments)

    monkeypatch.setattr(ResultsFolder, "save_result", cut)
    with pytest.raises(KeyboardInterrupt):
        _sweep(llama_folder, tmp_path, templates=TEMPLATES, transforms=TRANSFORMS)
    monkeypatch.undo()
    assert len(list(tmp_path.rglob("Tiny*.json"))) == after
    board = _sweep(llama_folder, tmp_path, templates=TEMPLATES, transforms=TRANSFORMS)
    _assert_same(_rows(board), _rows(load_results(swept)))


def test_the_plan_has_a_row_for_each_template_and_counts_the_scores(llama_folder: Path, tmp_path: Path) -> None:
    plans: list[Any] = []
    _sweep(
        llama_folder,
        tmp_path,
        templates=TEMPLATES,
        transforms=TRANSFORMS,
        on_plan=lambda plan: bool(plans.append(plan)),
    )
    (plan,) = plans
    assert [(task.task, task.template) for task in plan.tasks] == [
        (name, template) for name in ("TinySTS", "TinyClassification") for template in TEMPLATES
    ]
    assert {(len(task.groups), task.n_scores) for task in plan.tasks} == {(1, 3 * 4)}
    assert plan.tasks[1].score_tokens > plan.tasks[0].score_tokens
    assert plan.tasks[3].n_texts == 60  # 40 of the test split, and 20 more to train and fit on
    lines = plan.lines()
    assert "TinySTS (echo)" in lines[2] and "2 tasks; " in lines[-1] and "the scoring of 72 layers" in lines[-1]
    assert list(tmp_path.iterdir()) == []


def test_layers_that_do_not_fit_take_passes_of_their_own(swept: Path, llama_folder: Path, tmp_path: Path) -> None:
    """The texts that transforms are fitted on need room, too."""
    plans: list[Any] = []
    options: dict[str, Any] = {"templates": TEMPLATES, "transforms": TRANSFORMS, "store_budget": 60 * 32 * 4 * 2}
    board = _sweep(llama_folder, tmp_path, on_plan=lambda plan: plans.append(plan) is None, **options)
    assert {len(task.groups) for task in plans[0].tasks} == {2}
    _assert_same(_rows(board), _rows(load_results(swept)))


def test_metrics_are_those_of_plain_texts(llama_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    options: dict[str, Any] = {"metrics": ["dataset_entropy", "infonce"], "layers": [1, 3]}
    plain = _sweep(llama_folder, tmp_path / "plain", **options)
    both = _sweep(llama_folder, tmp_path / "both", templates=["echo", None], transforms=["none", "center"], **options)
    keys = ["task", "metric", "normalization", "layer"]
    assert both.metrics.select(keys).equals(plain.metrics.select(keys))
    np.testing.assert_allclose(both.metrics["value"], plain.metrics["value"], rtol=1e-5)
    assert not any("no metrics are measured" in message for message in caplog.messages)
    alone = _sweep(llama_folder, tmp_path / "echo", templates=["echo"], **options)
    assert alone.metrics.is_empty() and alone.scores.height == 4
    assert sum("no metrics are measured" in message for message in caplog.messages) == 1


def test_an_encoder_with_a_template_is_swept_with_it(swept: Path, llama_folder: Path, tmp_path: Path) -> None:
    encoder = LayerwiseEncoder(llama_folder, template="echo")
    board = _sweep(encoder, tmp_path)
    assert set(board.scores["template"]) == {"echo"}
    both = _sweep(encoder, tmp_path, templates=[None, "echo"], layers=[2])
    # Its own pooling is kept, so that of the template is not the default for plain texts.
    assert {model for model, _ in both.models()} == {"local/tiny-llama", "local/tiny-llama (pooling_mode=weightedmean)"}
    expected = [row for row in _rows(load_results(swept)) if row[2:4] == ("echo", None)]
    assert [row[-1] for row in _rows(board)] == pytest.approx([row[-1] for row in expected], abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"templates": "echo"}, "^templates: expected a list such as .*, got 'echo'$"),
        ({"templates": []}, "^templates: expected at least one, got none$"),
        (
            {"templates": ["ecko"]},
            "^template: expected eol, echo, or a text with {text} in it .*, got 'ecko'",
        ),
        ({"transforms": "whiten"}, "^transforms: expected a list such as .*, got 'whiten'$"),
        ({"transforms": ["pca"]}, "^transform: expected one of .* got 'pca'$"),
        ({"transforms": ["whiten"], "transform_texts": "trian"}, "^transform_texts: expected train, task or a file"),
        ({"transforms": ["whiten"], "transform_texts": []}, "^transform_texts: expected texts that are not blank"),
        ({"transforms": ["whiten"], "transform_texts": [1]}, r"^texts\[0\]: expected a string, got int$"),
        ({"fit_texts": 1}, "^fit_texts: expected an int of at least 2, got 1$"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_written(
    llama_folder: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _sweep(llama_folder, tmp_path / "r", **options)
    assert not (tmp_path / "r").exists()


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
    board = _sweep(llama_folder, tmp_path, [TinySTS()], layers=[1, 2], transforms=["none", "center"], **fit)
    (row,) = board.no_scores().rows(named=True)
    assert (row["layer"], row["transform"]) == (1, "center")
    assert row["reason"] == "1 of the 71 texts to fit on have no finite vector"


def test_a_template_that_the_model_cannot_take_fails_before_the_sweep(llama_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^max_seq_length: the tokenizer and the template add .* got 9$"):
        _sweep(llama_folder, tmp_path / "r", templates=["eol"], max_seq_length=9)
    assert not (tmp_path / "r").exists()
    assert TasksFailed is not None
