"""Models beside each other, and their scores."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from support.architectures import FAMILIES

from leaderboard.experiments import compare_models
from leaderboard.experiments.profiles.table import SCHEMA
from midlayer_embed import LayerwiseEncoder, profile_layers
from midlayer_embed.errors import InputError

FAST = ("prompt_entropy", "dataset_entropy", "curvature")
_NUMBERS = ["layer", "depth", "metric", "normalization", "value"]


def _values(table: pl.DataFrame, **where: Any) -> pl.DataFrame:
    return table.filter(**where).select(_NUMBERS)


def test_models_of_all_families_are_beside_each_other(tiny_folders: dict[str, Path], sentences: list[str]) -> None:
    folders = [tiny_folders[name] for name in FAMILIES]
    table = compare_models(folders, sentences, metrics=FAST)
    assert table["model"].unique(maintain_order=True).to_list() == [f"local/tiny-{name}" for name in FAMILIES]
    for folder in folders:
        expected = profile_layers(folder, sentences, FAST).to_frame()
        assert_frame_equal(_values(table, model=f"local/{folder.name}"), expected)
    sizes = dict(table.select("model", "n_parameters").unique().iter_rows())
    from transformers import AutoModel

    counted = sum(value.numel() for value in AutoModel.from_pretrained(folders[0]).parameters())
    assert sizes[f"local/{folders[0].name}"] == counted


def test_a_base_model_is_beside_its_finetuned_one(
    llama_folder: Path, make_adapter: Callable[..., Path], sentences: list[str]
) -> None:
    adapter = make_adapter(llama_folder)
    finetuned = LayerwiseEncoder(llama_folder, bidirectional=True, adapters=[adapter])
    table = compare_models({"base": llama_folder, "finetuned": finetuned}, sentences, metrics=FAST)
    base, changed = (_values(table, model=name, metric="prompt_entropy") for name in ("base", "finetuned"))
    assert (base["value"][0], changed["value"][0]) == (pytest.approx(changed["value"][0]), changed["value"][0])
    assert (base["value"] - changed["value"]).abs().max() > 1e-3  # type: ignore[operator]
    assert set(table["final_norm"]) == {False}  # raw states of both
    raw = profile_layers(finetuned, sentences, FAST, final_norm=False).to_frame()
    assert_frame_equal(_values(table, model="finetuned"), raw)
    assert table.filter(model="finetuned")["revision"][0].endswith(finetuned.checkpoint.revision[-12:])


def test_folders_of_the_same_name_are_told_apart_and_one_model_is_not_taken_twice(
    run_folder: Path, llama_folder: Path, sentences: list[str], tmp_path: Path
) -> None:
    other = Path(shutil.copytree(run_folder / "step2", tmp_path / "step1"))
    table = compare_models([run_folder / "step1", other], sentences, metrics=["curvature"])
    assert table["model"].n_unique() == 2 and all(name.startswith("local/step1 (") for name in table["model"])
    with pytest.raises(InputError, match=r"^models: local/tiny-llama .* is named twice; different settings"):
        compare_models([llama_folder, llama_folder], sentences)
    with pytest.raises(InputError, match="^models: expected at least one, got none$"):
        compare_models([], sentences)


def test_scores_are_one_more_metric_over_the_tasks_that_all_have(
    tiny_folders: dict[str, Path], sentences: list[str]
) -> None:
    models = ["local/tiny-bert", "local/tiny-llama"]
    rows = [
        (model, "main", layer, layer / 3, task, "STS", 0.1 * layer + (0.02 if task == "b" else 0))
        for model in models
        for layer in range(4)
        for task in ("a", "b", "only-of-bert")
        if (model, task) != (models[1], "only-of-bert") and (model, layer, task) != (models[0], 2, "b")
    ]
    columns = ["model", "revision", "layer", "depth", "task", "task_type", "main_score"]
    scores = pl.DataFrame(rows, schema=columns, orient="row")
    folders = [tiny_folders["bert"], tiny_folders["llama"], tiny_folders["mamba"]]
    table = compare_models(folders, sentences, metrics=["curvature"], scores=scores)
    found = table.filter(metric="score").select("model", "layer", "value").rows()
    whole = {(model, layer): 10 * layer + 1 for model in models for layer in range(4)}
    del whole[models[0], 2]  # without a score of task b
    assert {(model, layer): value for model, layer, value in found} == pytest.approx(whole)
    assert table.schema == SCHEMA
    with pytest.raises(
        InputError, match=r"^scores: expected scores of local/tiny-mamba; there are those of local/tiny"
    ):
        compare_models([folders[2]], sentences, metrics=["curvature"], scores=scores)
    apart = scores.filter((pl.col("model") == models[0]) == (pl.col("task") == "a"))
    with pytest.raises(InputError, match=r"^scores: there is no task that all of local/tiny-bert, local/tiny-llama"):
        compare_models(folders, sentences, metrics=["curvature"], scores=apart)
