"""Sweeps over templates and transforms: every recipe is a result of its own, scored as a plain oracle scores it."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from mteb.abstasks.abstask import AbsTask
from support.oracles.recipes import TEMPLATES, TRANSFORMS, Oracle, assert_same, oracle_score, rows_of, sweep
from support.tiers import slow
from support.tiny_tasks import TinyClassification, TinyReranking, TinySTS

from leaderboard import load_results, mteb_results
from leaderboard.results.files.folder import ResultsFolder
from midlayer_embed import LayerwiseEncoder


def _texts(task: AbsTask, split: str) -> list[str]:
    task.load_data()
    table: Any = task.dataset[split]  # type: ignore[index]
    names = ["text"] if "text" in table.column_names else ["sentence1", "sentence2"]
    return sorted({text for name in names for text in table[name]})


@pytest.fixture(scope="module")
def swept(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipes")
    sweep(llama_folder, folder, templates=TEMPLATES, transforms=TRANSFORMS)
    return folder


@pytest.mark.parametrize("template", [TEMPLATES[-1], *slow(*TEMPLATES[:-1])])
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
                expected = oracle_score(task, Oracle(encoder, layer, transform, fitted_on))
                assert row["main_score"] == pytest.approx(expected, abs=1e-6), (transform, layer)


def test_a_label_leaves_the_recipe_to_its_columns(swept: Path, llama_folder: Path, tmp_path: Path) -> None:
    board = load_results(swept)
    assert {model for model, _ in board.models()} == {"local/tiny-llama"}
    assert not board.origins["local/tiny-llama", board.models()[0][1]].settings
    other = sweep(llama_folder, tmp_path, [TinySTS()], layers=[1], templates=["echo"], pooling_mode="mean")
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
        board = sweep(llama_folder, tmp_path, [TinySTS()], layers=[1], templates=templates, transforms=["center"])
        assert len(list(tmp_path.glob("results/*/*/experiments/*"))) == len(templates)
    assert set(board.scores["template"]) == set(templates)
    assert board.scores["main_score"].is_not_null().all()


@pytest.mark.slow
def test_four_transforms_take_not_one_forward_pass_more(llama_folder: Path, tmp_path: Path, passes: list[Any]) -> None:
    tasks = [TinySTS, TinyClassification, TinyReranking]
    options: dict[str, Any] = {"templates": [None, "eol"], "layers": [1, 2]}
    sweep(llama_folder, tmp_path / "one", [task() for task in tasks], **options)
    plain = list(passes)
    passes.clear()
    sweep(llama_folder, tmp_path / "four", [task() for task in tasks], transforms=TRANSFORMS, **options)
    assert [template for template, _ in passes] == [template for template, _ in plain] == [None, "eol"] * 3
    for (_, texts), (_, before) in zip(passes, plain, strict=True):
        assert texts[: len(before)] == before
        assert len(texts) == len(set(texts))
        assert len(texts) - len(before) <= 12  # texts of a training split that no score needs


def test_finished_results_are_not_computed_again(swept: Path, llama_folder: Path, passes: list[Any]) -> None:
    times = {path: path.stat().st_mtime_ns for path in swept.rglob("*.json")}
    sweep(llama_folder, swept, templates=TEMPLATES, transforms=TRANSFORMS)
    sweep(llama_folder, swept, templates=["echo"], transforms=["whiten:10", "none"])
    assert passes == []
    assert {path: path.stat().st_mtime_ns for path in swept.rglob("*.json")} == times


def test_plain_layers_keep_their_results_when_recipes_are_added(
    llama_folder: Path, tmp_path: Path, passes: list[Any]
) -> None:
    before = sweep(llama_folder, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("Tiny*.json")}
    passes.clear()
    after = sweep(llama_folder, tmp_path, templates=[None, "echo"])
    assert [template for template, _ in passes] == ["echo", "echo"]
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert after.scores.filter(pl.col("template").is_null()).equals(before.scores)


@pytest.mark.slow
@pytest.mark.process
def test_processes_score_the_same(swept: Path, llama_folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"templates": [None], "transforms": TRANSFORMS, "jobs": 2}
    for layers in ([0, 2], [3]):  # one layer is split by transforms
        board = sweep(llama_folder, tmp_path / str(len(layers)), layers=layers, **options)
        expected = [row for row in rows_of(load_results(swept)) if row[1] in layers and row[2] is None]
        assert_same(rows_of(board), expected)


@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_sweep_that_is_cut_short_anywhere_ends_with_the_same_tables(
    swept: Path, llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    save, left = ResultsFolder.save_result, [after]

    def cut(*arguments: Any) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        save(*arguments)

    options: dict[str, Any] = {"templates": [None, "echo"], "transforms": ["none", "whiten"], "layers": [2]}
    monkeypatch.setattr(ResultsFolder, "save_result", cut)
    with pytest.raises(KeyboardInterrupt):
        sweep(llama_folder, tmp_path, **options)
    assert len(list(tmp_path.rglob("Tiny*.json"))) == after
    monkeypatch.undo()
    expected = [row for row in rows_of(load_results(swept)) if row[1] == 2 and row[2] in (None, "echo")]
    assert_same(
        rows_of(sweep(llama_folder, tmp_path, **options)), [row for row in expected if row[3] in (None, "whiten:10")]
    )


def test_the_plan_has_a_row_for_each_template_and_counts_the_scores(llama_folder: Path, tmp_path: Path) -> None:
    plans: list[Any] = []
    sweep(
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
    assert "TinySTS (echo)" in lines[2] and 'TinySTS ("Say "{text}":")' in lines[3]
    assert "2 tasks; " in lines[-1] and "the scoring of 72 layers" in lines[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_layers_that_do_not_fit_take_passes_of_their_own(swept: Path, llama_folder: Path, tmp_path: Path) -> None:
    """The texts that transforms are fitted on need room, too."""
    plans: list[Any] = []
    options: dict[str, Any] = {"templates": TEMPLATES, "transforms": TRANSFORMS, "store_budget": 60 * 32 * 4 * 2}
    board = sweep(llama_folder, tmp_path, on_plan=lambda plan: plans.append(plan) is None, **options)
    assert {len(task.groups) for task in plans[0].tasks} == {2}
    assert_same(rows_of(board), rows_of(load_results(swept)))


def test_metrics_are_those_of_plain_texts(llama_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    options: dict[str, Any] = {"metrics": ["dataset_entropy", "infonce"], "layers": [1, 3]}
    plain = sweep(llama_folder, tmp_path / "plain", **options)
    both = sweep(llama_folder, tmp_path / "both", templates=["echo", None], transforms=["none", "center"], **options)
    keys = ["task", "metric", "normalization", "layer"]
    assert both.metrics.select(keys).equals(plain.metrics.select(keys))
    np.testing.assert_allclose(both.metrics["value"], plain.metrics["value"], rtol=1e-5)
    assert not any("no metrics are measured" in message for message in caplog.messages)
    alone = sweep(llama_folder, tmp_path / "echo", templates=["echo"], **options)
    assert alone.metrics.is_empty() and alone.scores.height == 4
    assert sum("no metrics are measured" in message for message in caplog.messages) == 1


def test_an_encoder_with_a_template_is_swept_with_it(swept: Path, llama_folder: Path, tmp_path: Path) -> None:
    encoder = LayerwiseEncoder(llama_folder, template="echo")
    board = sweep(encoder, tmp_path)
    assert set(board.scores["template"]) == {"echo"}
    both = sweep(encoder, tmp_path, templates=[None, "echo"], layers=[2])
    # Its own pooling is kept, so that of the template is not the default for plain texts.
    assert {model for model, _ in both.models()} == {"local/tiny-llama", "local/tiny-llama (pooling_mode=weightedmean)"}
    expected = [row for row in rows_of(load_results(swept)) if row[2:4] == ("echo", None)]
    assert [row[-1] for row in rows_of(board)] == pytest.approx([row[-1] for row in expected], abs=1e-6)


def test_recipes_are_never_mixed_in_what_mteb_is_given(swept: Path) -> None:
    for template in TEMPLATES:
        for transform in (None, "whiten"):
            on = {} if transform is None else {"fitted_on": "train"}
            (found,) = mteb_results(swept, 2, template=template, transform=transform, **on).model_results
            assert len(found.task_results) == (2 if transform is None else 1)
    with pytest.raises(ValueError, match=r"^fitted_on: .* has results fitted on task, train, got None$"):
        mteb_results(swept, 2, transform="whiten")
    with pytest.raises(ValueError, match=r"^template: .* has no results of template='Say: \{text\}'$"):
        mteb_results(swept, 2, template="Say: {text}")
    with pytest.raises(ValueError, match=r"^fitted_on: .* has no transform that was fitted .* got 'train'$"):
        mteb_results(swept, 2, template="echo", fitted_on="train")
    (plain,) = mteb_results(swept, 2, template="none", transform="none").model_results
    assert plain.experiment_name == "layer_2"


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
        (
            {"transforms": ["whiten"], "transform_texts": Path(__file__).parent},
            "^transform_texts: expected a file ending in",
        ),
        ({"transforms": ["whiten"], "transform_texts": []}, "^transform_texts: expected texts that are not blank"),
        ({"transforms": ["whiten"], "transform_texts": [1]}, r"^transform_texts\[0\]: expected a string, got int$"),
        ({"fit_texts": 1}, "^fit_texts: expected an int of at least 2, got 1$"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_written(
    llama_folder: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        sweep(llama_folder, tmp_path / "r", **options)
    assert not (tmp_path / "r").exists()


def test_a_template_that_the_model_cannot_take_fails_before_the_sweep(llama_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^max_seq_length: the tokenizer and the template add .* got 9$"):
        sweep(llama_folder, tmp_path / "r", templates=["eol"], max_seq_length=9)
    assert not (tmp_path / "r").exists()
