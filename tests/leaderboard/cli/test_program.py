import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from leaderboard.cli.program import main


def test_a_run_prints_a_table_and_keeps_it(
    llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    arguments = ["run", str(llama_folder), "--tasks", "StarterSTS", "--layers", "0,0.5,-1,0", "--results", str(results)]
    assert main([*arguments, "--metrics", "dataset_entropy", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "best layer" in out and "points over the last layer" in out
    table = pl.read_parquet(results / "layers.parquet")
    assert table["layer"].to_list() == [0, 2, 3]
    assert table.columns == ["model", "revision", "layer", "depth", "mean", "StarterSTS", "dataset_entropy"]
    markdown = (results / "leaderboard.md").read_text()
    assert markdown.count("\n| ") == 3 + 5 + 3  # schemes, layers, associations
    for score in table["StarterSTS"]:
        assert f"{score:.1f}" in markdown and f"{score:.1f}" in out


def test_a_run_over_recipes_keeps_a_row_for_each(
    llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "texts.csv"
    pl.DataFrame({"id": range(70), "text": [f"text number {n} about {n * n}" for n in range(70)]}).write_csv(texts)
    run = ["run", str(llama_folder), "--tasks", "StarterSTS", "--layers", "1,-1", "--results", str(tmp_path / "r")]
    recipes = ["--templates", "none", "echo", "query: {text}", "--transforms", "none", "whiten"]
    given = [*run, *recipes, "--transform-texts", str(texts), "--metrics", "none", "--limit", "30", "--quiet"]
    assert main([*given, "--plan"]) == 0
    assert "the scoring of 12 layers and transforms on top" in capsys.readouterr().out
    assert main(given) == 0
    scores = pl.read_parquet(tmp_path / "r" / "scores.parquet")
    assert scores.height == 3 * 2 * 2
    assert set(scores["template"]) == {None, "echo", "query: {text}"}
    assert set(scores.select("transform", "fitted_on").unique().iter_rows()) == {
        (None, None),
        ("whiten:10", "corpus:texts.csv"),
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "expected at least one MODEL, or --models FILE, got none"),
        (["run", "/no/such/folder"], "there is no folder '/no/such/folder'"),
        (["run", "MODEL", "--tasks", "StarterSTZ"], "no task 'StarterSTZ'; did you mean StarterSTS"),
        (["run", "MODEL", "--benchmark", "nonsense"], "got 'nonsense'"),
        (["run", "MODEL", "--layers", "99"], "99 is out of range"),
        (["run", "MODEL", "--layers", "1,,2"], "got '1,,2'"),
        (["run", "MODEL", "--layers", "first"], "got 'first'"),
        (["run", "MODEL", "--dtype", "int8"], "got 'int8'"),
        (["run", "MODEL", "--pooling", "sum"], "got 'sum'"),
        (["run", "MODEL", "--max-seq-length", "0"], "got 0"),
        (["run", "MODEL", "--seed", "-1"], "got -1"),
        (["run", "MODEL", "--jobs", "0"], "jobs: expected an int of at least 1, got 0"),
        (["run", "MODEL", "--limit", "1"], "limit: expected an int of at least 2, got 1"),
        (["run", "MODEL", "--metrics", "beauty"], "metrics: expected some of prompt_entropy"),
        (["run", "MODEL", "--metric-texts", "1"], "metric_texts: expected an int of at least 2, got 1"),
        (["run", "MODEL", "--store-budget", "much"], "store_budget: expected bytes such as 20GB, got 'much'"),
        (["run", "MODEL", "--store-dtype", "int8"], "store_dtype: expected one of float32, float16, got 'int8'"),
        (["run", "MODEL", "--templates", "ecko"], "template: expected eol, echo, or a text with {text} in it"),
        (["run", "MODEL", "--transforms", "none", "remove:0"], "(k an int, r above 0), got 'remove:0'"),
        (["run", "MODEL", "--transform-texts", "no.txt"], "transform_texts: expected train, task or a file of texts"),
        (["run", "MODEL", "--fit-texts", "1"], "fit_texts: expected an int of at least 2, got 1"),
    ],
)
def test_mistakes_are_one_line_exit_2_and_leave_nothing(
    llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    given = [str(llama_folder) if argument == "MODEL" else argument for argument in arguments]
    assert main([*given, "--results", str(tmp_path / "results")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_with_a_models_folder_is_one_line_exit_2_and_leaves_nothing(
    spoilt_folder: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, message = spoilt_folder
    before = sorted(tmp_path.rglob("*"))
    arguments = ["run", str(folder), "--tasks", "StarterSTS", "--layers", "1", "--results", str(tmp_path / "results")]
    assert main([*arguments, "--quiet"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    # A model of images is told by what it can be run on.
    assert re.search(f"{message}|takes images; expected tasks on images alone", captured.err)
    assert len(captured.err.strip().splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run", "m", "--nonsense"], ["run", "m", "--seed", "x"]])
def test_unknown_words_are_told_in_two_lines(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2
    assert lines[1].endswith("--help")


def test_help_shows_an_example_without_loading_torch(fresh_answers: dict[str, Any]) -> None:
    answer = fresh_answers["midlayer-leaderboard --help"]
    assert "torch" not in answer["loaded"]
    assert "example: midlayer-leaderboard run starter" in answer["said"]
