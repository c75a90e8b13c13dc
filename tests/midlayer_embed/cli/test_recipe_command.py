"""The command recipe, and the command that it prints."""

import os
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sentence_transformers import SentenceTransformer
from support.tiers import slow

from midlayer_embed import MidLayerEncoder, select_recipe
from midlayer_embed.cli.parser import model_arguments
from midlayer_embed.cli.program import main
from midlayer_embed.selection.recipe.choice import provenance, recipe_summary, recipe_table
from midlayer_embed.texts import corpora


@pytest.fixture(scope="module")
def texts(sentences: list[str]) -> list[str]:
    return [f"{first} {second}" for first in sentences for second in sentences[:3] if first != second]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[-1]


def test_it_prints_the_table_the_pick_and_the_export_and_writes_all_candidates(
    llama_folder: Path, texts: list[str], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "texts.txt").write_text("\n".join(texts))
    capsys.readouterr()
    arguments = ["recipe", str(llama_folder), "--texts", "texts.txt", "--seed", "2", "--max-texts", "15"]
    assert main([*arguments, "--for", "classification", "--poolings", "mean", "lasttoken", "--out", "out"]) == 0
    expected = select_recipe(
        llama_folder, texts, seed=2, max_texts=15, purpose="classification", poolings=("mean", "lasttoken")
    )
    captured = capsys.readouterr()
    *shown, written, export = captured.out.splitlines()
    assert shown == [*recipe_table(expected).splitlines(), *recipe_summary(expected)]
    assert written == "out: recipes.parquet, recipes.csv"
    assert export.startswith(f"export it: midlayer-embed export {llama_folder} tiny-llama-recipe --layer ")
    assert captured.err == f"midlayer-embed: {workplace / 'texts.txt'}: 21 texts, one a line\n"  # no bar: no terminal
    for frame in (pl.read_parquet("out/recipes.parquet"), pl.read_csv("out/recipes.csv")):
        assert frame.select(expected.table.columns).rows() == expected.table.rows()
        assert frame["model"].unique().to_list() == ["local/tiny-llama"]
        assert frame["criterion"].unique().to_list() == ["half-and-drop"]


@pytest.mark.usefixtures("forked_stranger")
@pytest.mark.parametrize(
    "source",
    [
        ["--texts", "my texts.txt", "--templates", "-'{text}'\\ $HOME", "--raw", "--max-seq-length", "50"],
        *slow(
            ["--texts", "my texts.txt"],
            ["--texts", "it's.jsonl", "--column", "a column"],
            ["--starter-texts"],
            ["--texts", "my texts.txt", "--transforms", "none", "--dtype", "bfloat16"],
        ),
    ],
)
def test_the_printed_command_gives_the_recipe(
    llama_folder: Path,
    texts: list[str],
    workplace: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    source: list[str],
) -> None:
    monkeypatch.setattr(corpora, "starter_texts", lambda: texts)
    (workplace / "my texts.txt").write_text("\n".join(texts))
    pl.DataFrame({"a column": texts, "b": texts[::-1]}).write_ndjson(workplace / "it's.jsonl")
    if "--templates" in source:  # as one word, since it starts with a dash
        place = source.index("--templates")
        source = [*source[:place], f"--templates={source[place + 1]}", *source[place + 2 :]]
    assert main(["recipe", str(llama_folder), *source, "--quiet"]) == 0
    command = _last_line(capsys).removeprefix("export it: ")
    program, *arguments = shlex.split(command)
    assert program == "midlayer-embed"
    assert main([*arguments, "--quiet"]) == 0
    options: dict[str, Any] = {}
    if "--raw" in source:
        options = {"final_norm": False, "max_seq_length": 50, "templates": ["-'{text}'\\ $HOME"]}
    if "--transforms" in source:
        options = {"transforms": (None,), "dtype": "bfloat16"}
    selection = select_recipe(llama_folder, texts, n_resamples=0, **options)
    encoder = MidLayerEncoder(llama_folder, **selection.options)
    (row,) = (line for line in Path("tiny-llama-recipe/README.md").read_text().splitlines() if "was chosen" in line)
    assert row == f"| how the layer was chosen | {provenance(selection)} |"
    saved = SentenceTransformer("tiny-llama-recipe", device="cpu")
    np.testing.assert_allclose(
        saved.encode(texts[:4]).astype(float), encoder.encode(texts[:4]).astype(float), atol=1e-4, rtol=1e-3
    )
    assert " tiny-llama-recipe --layer " in command
    assert main(["recipe", str(llama_folder), *source, "--quiet"]) == 0
    assert " tiny-llama-recipe-2 --layer " in _last_line(capsys)  # the first name is taken


def test_texts_of_a_dataset_are_named_in_the_export(
    llama_folder: Path,
    texts: list[str],
    workplace: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(corpora, "dataset_texts", lambda name, **_: texts)
    given = ["--dataset", "org/some data", "--split", "train", "--config", "a b", "--column", "c"]
    assert main(["recipe", str(llama_folder), *given, "--quiet"]) == 0
    words = shlex.split(_last_line(capsys))
    start = words.index("--dataset")
    assert words[start:] == ["--dataset", "org/some data", "--split", "train", "--config", "a b", "--column", "c"]


@pytest.mark.slow
@pytest.mark.process
def test_the_folder_of_a_dataset_is_named_in_the_export(
    llama_folder: Path, texts: list[str], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path("my data/org/data")
    data.mkdir(parents=True)
    pl.DataFrame({"text": texts}).write_ndjson(data / "test.jsonl")
    given = ["--dataset", "org/data", "--data-dir", "my data"]
    assert main(["recipe", str(llama_folder), *given, "--quiet"]) == 0
    _, *words = shlex.split(_last_line(capsys).removeprefix("export it: "))
    assert words[words.index("--dataset") :] == given
    assert main([*words, "--quiet"]) == 0


def test_a_transform_is_fitted_on_the_texts_to_measure_on_if_no_others_are_given(
    llama_folder: Path, texts: list[str], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("texts.txt").write_text("\n".join(texts))
    Path("empty.txt").touch()
    arguments = ["export", str(llama_folder), "out", "--layer", "2", "--transform", "whiten"]
    for wrong, message in (
        ([], "transform_texts: --transform NAME and --transform-texts FILE belong together"),
        (["--texts", "nowhere.txt"], "there is no file"),
        (["--texts", "empty.txt"], "is empty"),
        (["--texts", "texts.txt", "--column", "a"], "a .txt file has no columns"),
    ):
        assert main([*arguments, *wrong]) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.splitlines()) == 1
    assert not Path("out").exists()


@pytest.mark.usefixtures("forked_stranger")
def test_how_a_layer_was_chosen_can_be_told_to_its_card(
    llama_folder: Path, texts: list[str], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("texts.txt").write_text("\n".join(texts))
    arguments = ["export", str(llama_folder), "out", "--layer"]
    for wrong, message in (
        (["2", "--how-chosen", " "], "how_chosen: expected words, got ' '"),
        (["auto", "--how-chosen", "by me", "--texts", "texts.txt"], "how_chosen: expected none, because auto chooses"),
    ):
        assert main([*arguments, *wrong]) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.splitlines()) == 1
    assert main([*arguments, "2", "--how-chosen", "a | b,\nby *labels*", "--quiet"]) == 0
    assert "| how the layer was chosen | a \\| b, by \\*labels\\* |" in Path("out/README.md").read_text()


@pytest.mark.parametrize("value", ["-{text}", "--raw {text}", "- {text}", "a {text}"])
def test_a_value_that_starts_with_a_dash_is_no_option(value: str) -> None:
    from midlayer_embed.cli.program import _parser

    words = model_arguments({"template": value, "adapters": ["-a", "b"], "max_seq_length": 5})
    parsed = _parser().parse_args(["export", "starter", "out", *words])
    assert (parsed.template, parsed.adapters, parsed.max_seq_length) == (value, ["-a", "b"], 5)


def test_progress_goes_over_all_templates(
    llama_folder: Path, texts: list[str], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from midlayer_embed.selection.recipe import passes

    seen: list[Any] = []

    class Bar:
        n = initial = 0.0

        def __init__(self, total: int, what: str, unit: str, shown: bool) -> None:
            assert shown
            self.total, self.moves = total, 0
            seen.append(self)

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, n: float) -> None:
            assert n > -1e-6
            self.n += n
            self.moves += 1

        def set_description(self, what: str) -> None:
            pass

    monkeypatch.setattr(passes, "progress", Bar)
    select_recipe(llama_folder, texts, n_resamples=2, folder=workplace, show_progress=True)
    select_recipe(llama_folder, texts, ("eol", "a {text}"), n_resamples=2, folder=workplace, show_progress=True)
    first, second = seen
    assert first.n == pytest.approx(first.total)
    assert first.moves > 3 * (2 * 4 + 12)  # every layer of every pass, and every candidate
    assert first.initial == 0
    assert second.n == pytest.approx(second.total)
    assert 0 < second.initial < second.total


def test_nothing_of_progress_is_shown_off_a_terminal_for_short_work(
    llama_folder: Path, texts: list[str], workplace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    select_recipe(llama_folder, texts, n_resamples=0, show_progress=True)
    assert "Recipes" not in capfd.readouterr().err
    assert os.listdir(workplace) == []
