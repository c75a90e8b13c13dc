"""Published tables, alone and beside what was measured."""

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from leaderboard.experiments import checkpoints
from leaderboard.experiments.profiles import (
    beside_published,
    draw_checkpoints,
    draw_compare_models,
    published_checkpoints,
    published_models,
    read_published,
    summary_checkpoints,
    summary_compare_models,
    with_published,
)
from leaderboard.experiments.profiles.table import SCHEMA
from leaderboard.report.figures import save_figure
from midlayer_embed.errors import InputError


def test_a_published_table_is_read_as_one_that_was_measured(published_file: Path) -> None:
    published = read_published(published_file)
    assert published.schema == SCHEMA
    assert set(published["metric"]) == {"prompt_entropy", "infonce"}
    run = published_checkpoints(published)
    assert run["revision"].unique(maintain_order=True).to_list() == ["step2", "step10", "main"]
    first = run.filter(metric="prompt_entropy", revision="main", layer=0).to_dicts()[0]
    assert first["value"] == 4.0  # the mean of two rows
    assert (first["n_blocks"], first["n_parameters"], first["depth"]) == (2, 70_000_000, 0.0)
    sources = dict(published.select("model", "source").unique().iter_rows())
    assert sources == {"Pythia-70m": "published", "Pythia-1.4b": "published earlier"}
    models = published_models(published)
    assert set(models.select("model", "revision").iter_rows()) == {("Pythia-70m", "main")}
    named = published_models(published, ["eleutherai/pythia-1.4B", "Pythia-70m"])
    assert named["model"].unique(maintain_order=True).to_list() == ["Pythia-1.4b", "Pythia-70m"]


def test_what_was_published_is_drawn_beside_what_was_measured(
    run_folder: Path, sentences: list[str], published_file: Path, tmp_path: Path
) -> None:
    measured = checkpoints(run_folder, sentences, metrics=["prompt_entropy"])
    table = with_published(measured, published_checkpoints(read_published(published_file), "EleutherAI/pythia-70m"))
    assert table.schema == SCHEMA
    assert summary_checkpoints(table).select("source", "model").unique(maintain_order=True).rows() == [
        ("measured", "local/tiny-run"),
        ("published", "Pythia-70m"),
    ]
    save_figure(draw_checkpoints(table), tmp_path / "figure.svg")
    drawn = (tmp_path / "figure.svg").read_text("utf-8")
    assert "local/tiny-run, measured" in drawn and "Pythia-70m, published" in drawn
    assert with_published(None, table) is table
    beside = beside_published(measured, read_published(published_file), "checkpoints")  # the only run of the file
    assert_frame_equal(beside, table)
    alone = beside_published(None, read_published(published_file), "compare_models", ["pythia-70m"])
    assert alone.select("model", "revision").unique().rows() == [("Pythia-70m", "main")]


def test_a_wrong_published_table_is_told_in_one_line(published_file: Path, tmp_path: Path) -> None:
    published = read_published(published_file)
    with pytest.raises(
        InputError, match=r"^metrics: there is no model 'x' with several revisions; there are Pythia-70m$"
    ):
        published_checkpoints(published, "x")
    with pytest.raises(InputError, match=r"^metrics: expected one model with several revisions, got none; name one$"):
        published_checkpoints(published.filter(revision="main"))
    with pytest.raises(InputError, match="^model: checkpoints takes one model of the published table, got 2$"):
        beside_published(None, read_published(published_file), "checkpoints", ["a", "b"])
    of_tasks = tmp_path / "tasks.csv"
    pl.read_csv(published_file).with_columns(task=pl.lit("STS12")).write_csv(of_tasks)
    with pytest.raises(
        InputError, match=r"^metrics: .*tasks.csv has a column 'task'; expected metrics over one corpus$"
    ):
        read_published(of_tasks)
    pl.read_csv(published_file).filter(metric="intrinsic_dimension").write_csv(of_tasks)
    with pytest.raises(InputError, match=r"^metrics: .*tasks.csv has no values of prompt_entropy, "):
        read_published(of_tasks)


def test_the_papers_table_shows_what_the_guide_says(paper_folder: Path, tmp_path: Path) -> None:
    published = read_published(paper_folder / "metrics_wikitext.csv.gz")
    run = published_checkpoints(published, "Pythia-410m")
    found = {row["metric"]: row for row in summary_checkpoints(run).to_dicts()}
    entropy, lidar = found["prompt_entropy"], found["lidar"]
    assert (entropy["changed_layer"], round(entropy["changed"], 2)) == (12, -1.26)
    assert entropy["early"] < entropy["late"] < entropy["middle"]
    assert (lidar["changed_layer"], round(lidar["changed"], 2)) == (9, -2.98)
    assert all(row["since_early"] < row["since_middle"] for row in found.values())
    models = {row["model"]: row for row in summary_compare_models(published_models(published)).to_dicts()}
    dips = [round(models[f"Pythia-{size}"]["dip"], 2) for size in ("14m", "70m", "160m", "410m", "1b", "6.9b")]
    assert dips == [0.46, 0.4, 0.63, 1.2, 1.26, 0.86]
    base, unsupervised, supervised = (
        models[name] for name in ("Llama3-8B", "LLM2Vec-mntp-unsup-simcse-8B", "LLM2Vec-mntp-supervised-8B")
    )
    assert supervised["prompt_entropy"] < base["prompt_entropy"] < unsupervised["prompt_entropy"]
    for metric in ("infonce", "dime"):
        assert supervised[metric] < unsupervised[metric] < base[metric]
    sizes = ["Pythia-14m", "Pythia-70m", "Pythia-410m", "Pythia-1b"]
    save_figure(draw_compare_models(published_models(published, sizes)), tmp_path / "sizes.svg")
    drawn = (tmp_path / "sizes.svg").read_text("utf-8")
    assert all(f">{name}<" in drawn for name in sizes)
