"""Recipes in everything that a reader sees: terminal, Markdown, page, figures, card."""

import ast
import json
import re
import shlex
from io import StringIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from rich.console import Console
from support.tiers import slow
from support.tiny_tasks import TinyClassification, TinySTS, renamed
from support.web.boards import scores_of
from support.web.browsers import Opened

from leaderboard import Leaderboard, run_sweep
from leaderboard.cli import main
from leaderboard.report.card import model_card
from leaderboard.report.figure_rows import recipe_curves
from leaderboard.report.figures import save_figure
from leaderboard.report.layer_record import find_layer
from leaderboard.report.publish import push_layer, write_card
from leaderboard.report.snippets import encoder_snippet, export_command
from leaderboard.report.terminal import print_layers
from leaderboard.results.schemas import METRICS_SCHEMA

_LONG = f"</script><script>window.pwned = 1</script><b> {'a long instruction, ' * 14}{{text}} | `*end*`"
_SAID = "the transform was fitted on the evaluated texts themselves"
_TASKS = {"STSOne": "STS", "STSTwo": "STS", "Topics": "Classification", "News": "Clustering"}


def _board(
    templates: tuple[str | None, ...] = (None, "echo", _LONG),
    transforms: tuple[tuple[str | None, str | None], ...] = ((None, None), ("center", "train"), ("whiten:10", "task")),
    models: tuple[str, ...] = ("org/m",),
    n_layers: int = 5,
) -> Leaderboard:
    rows = [
        (model, "main", k, k / (n_layers - 1), task, kind, (20 + 9 * t + 5 * f + 3 * ((k + t) % 4) + m) / 100, *recipe)
        for m, model in enumerate(models)
        for t, template in enumerate(templates)
        for f, fit in enumerate(transforms)
        for task, kind in _TASKS.items()
        for k in range(n_layers)
        for recipe in [(template, *fit)]
    ]
    metrics = [(model, "main", "News", "dime", "raw", k, float(k)) for model in models for k in range(n_layers)]
    return Leaderboard(scores_of(rows), pl.DataFrame(metrics, schema=METRICS_SCHEMA, orient="row"))


_BOARDS = {
    "three templates and three transforms": _board(),
    "several models": _board(models=("org/a", "org/b", "org/b (pooling_mode=cls)")),
    "no plain layer": _board(templates=("echo", "eol")),
    "one recipe": _board(templates=("echo",), transforms=((None, None),)),
    "only what saw the texts": _board(templates=(None,), transforms=(("whiten:10", "task"),)),
    "no last layer": Leaderboard(_board().scores.filter(pl.col("depth") < 1), _board().metrics),
    "no score": Leaderboard(_board().scores.with_columns(main_score=pl.lit(None, pl.Float64)), _board().metrics),
}


@pytest.mark.parametrize(
    "name",
    [
        *("only what saw the texts", "no last layer", "no score"),
        *slow("three templates and three transforms", "several models", "no plain layer", "one recipe"),
    ],
)
def test_every_board_can_be_reported(name: str, tmp_path: Path) -> None:
    board = _BOARDS[name]
    for tasks in ("available", "common"):
        board.to_csv(tmp_path / "csv", tasks=tasks)
        board.to_html(tmp_path / "page.html", tasks=tasks)
        text = board.to_markdown(tasks=tasks)
        assert "None" not in text and "| nan |" not in text
        assert "## Recipes" in text
        assert (_SAID in text) == ("task" in board.scores["fitted_on"])
    has_scores = not board.scores["main_score"].is_null().all()
    curves = list(recipe_curves(board))
    assert bool(curves) == has_scores
    for of_model in curves:
        save_figure(of_model.figure(), tmp_path / "recipes.svg")


@pytest.mark.parametrize("name", ["no plain layer", "only what saw the texts"])
def test_figures_need_no_plain_layers(name: str, tmp_path: Path) -> None:
    _BOARDS[name].save_figures(tmp_path)
    names = {path.name.split("-")[0] for path in tmp_path.glob("*.png")}
    assert names == {"recipes", "associations", "heat_map"}


def test_a_board_of_plain_layers_has_no_section_of_recipes(tmp_path: Path) -> None:
    board = _board(templates=(None,), transforms=((None, None),))
    board.to_html(tmp_path / "page.html")
    assert 'id="recipes"' not in (tmp_path / "page.html").read_text("utf-8")
    assert "Recipes" not in board.to_markdown()
    board.save_figures(tmp_path)
    assert not list(tmp_path.glob("recipes-*"))


def test_the_best_recipe_that_did_not_see_the_texts_is_bold_and_named() -> None:
    section = _board(templates=(None, "echo")).to_markdown().split("## Recipes", 1)[1].split("\n## ", 1)[0]
    bold = [line for line in section.splitlines() if "**" in line]
    assert len(bold) == 1 and "**echo, center on train**" in bold[0]
    assert "Best recipe: echo, center on train. Its layer 2 scores 43.0, the plain last layer 20.0." in section
    seen = next(line for line in section.splitlines() if line.startswith("| echo, whiten:10"))
    assert "(transductive)" in seen
    assert "- Clustering: echo, center on train, layer 2, 43.0, gain +23.0" in section


def test_a_terminal_shows_recipes_and_a_missing_baseline() -> None:
    out = StringIO()
    print_layers(_board(templates=("echo",)), "org/m", "main", Console(file=out, width=90))
    text = out.getvalue()
    assert "org/m (main): echo, center on train, scores x100" in text  # no plain layer: the best recipe's
    assert "org/m (main), recipes, scores x100" in text
    assert "the baseline is missing: the plain last layer of org/m has no score for these tasks" in text


def test_recipes_are_printed_once_for_all_poolings_of_a_model() -> None:
    out = StringIO()
    board = _board(models=("org/b", "org/b (pooling_mode=cls)"))
    for model, revision in board.models():
        print_layers(board, model, revision, Console(file=out, width=90))
    assert out.getvalue().count("recipes, scores x100") == 1


def test_the_command_prints_recipes_and_has_them_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _board(templates=(None, "echo")).to_csv(tmp_path)
    files = ["--scores", str(tmp_path / "scores.csv"), "--metrics", str(tmp_path / "metrics.csv")]
    assert main(["report", *files, "--quiet"]) == 0
    text = capsys.readouterr().out
    assert "Best recipe: echo, center on train." in text
    assert text.count(_SAID) == 1
    assert main(["report", *files, "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["is_best"] for row in found["recipes"]] == [True, *[False] * 5]
    assert [row["transductive"] for row in found["recipes"]] == [*[False] * 4, True, True]


def test_the_curves_of_recipes_are_over_the_same_tasks_few_and_with_the_baseline() -> None:
    many = _board(templates=(None, *(f"{n} {{text}}" for n in range(8))))
    part = many.scores.filter((pl.col("fitted_on") != "train").fill_null(value=True) | (pl.col("task") != "News"))
    (curves,) = recipe_curves(Leaderboard(part, many.metrics))
    assert len(curves.names) == 6 and curves.n_recipes == 27
    assert "plain" in curves.names.values()
    assert set(curves.tasks) == set(_TASKS)
    assert not any("train" in name for name in curves.names.values())
    assert curves.scores["n_tasks"].unique().to_list() == [4]
    (shared,) = recipe_curves(Leaderboard(part, many.metrics), "common")
    assert len(shared.tasks) == 3


@pytest.mark.process
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), *slow((1280, "light"))])
def test_the_page_leads_from_a_recipe_to_its_code(opened: Opened, tmp_path: Path, width: int, scheme: Any) -> None:
    path = tmp_path / "page.html"
    _board().to_html(path)
    page = opened(path, width=width, scheme=scheme)
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    cells = page.locator("#recipes-table td.name").all_inner_texts()
    assert len(cells) == 9 and cells[0].startswith('"</script>') and "center on train" in cells[0]
    assert all(("(transductive)" in cell) == ("whiten" in cell) for cell in cells)
    assert page.locator("#recipes-chart svg.marks").count() == 1
    # The best recipe is what the page begins with; none that saw the texts comes before another.
    assert "center" in page.locator("#python").inner_text()
    first = page.locator("#table tbody tr:not(.group)").all_inner_texts()
    seen = ["transductive" in row for row in first]
    assert seen == sorted(seen)
    page.locator("#recipes-table button", has_text=re.compile("^echo, whiten:10")).click()
    code = page.locator("#python").inner_text()
    assert 'template="echo", transform="whiten:10", transform_texts=texts)' in code
    assert "the evaluated texts themselves (transductive)" in code
    assert "--template echo --transform whiten:10 --transform-texts texts.txt" in page.locator("#command").inner_text()


@pytest.mark.process
def test_a_page_without_plain_layers_says_that_there_is_no_baseline(opened: Opened, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    _board(templates=("echo",), transforms=((None, None),)).to_html(path)
    page = opened(path)
    assert page.locator("h1").inner_text().startswith("Best recipe: echo. Its layer")
    assert "The baseline is missing" in page.locator("#recipes").inner_text()
    assert 'template="echo"' in page.locator("#python").inner_text()


def test_recipes_are_in_the_page_without_scripts(opened: Opened, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    _board().to_html(path)
    page = opened(path, javascript=False)
    assert page.locator("#recipes-table").is_visible()
    assert not page.locator("#recipes-figure").is_visible()
    assert page.evaluate("window.pwned") is None


@pytest.mark.parametrize("template", ["echo", _LONG, 'Say "{text}":\n', "it's {text}  twice", "\\n {text}"])
def test_code_has_the_template_to_the_letter(template: str) -> None:
    settings = {"template": template, "transform": "whiten:10"}
    call = ast.parse(encoder_snippet("org/m", 3, settings, "corpus:wiki\n.txt")).body[-1]
    assert isinstance(call, ast.Assign) and isinstance(call.value, ast.Call)
    keywords = {keyword.arg: keyword.value for keyword in call.value.keywords}
    assert ast.literal_eval(keywords["template"]) == template
    assert ast.unparse(keywords["transform_texts"]) == "texts"
    command = export_command("org/m", "out", 3, settings)
    assert "\n" not in command
    if template.isprintable():
        arguments = shlex.split(command)
        assert arguments[arguments.index("--template") + 1] == template


@pytest.fixture(scope="module")
def results(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Llama with templates and transforms, on a task with a split to fit on and one without."""
    folder = tmp_path_factory.mktemp("recipes")
    tasks = [renamed(TinySTS, "STSBenchmark"), TinyClassification()]
    options: dict[str, Any] = {"metrics": "none", "layers": [1, 2, -1], "show_progress": False}
    run_sweep(llama_folder, tasks, folder, templates=("none", "echo"), transforms=("none", "whiten"), **options)
    return folder


def test_a_card_names_its_recipe_and_what_it_was_fitted_on(results: Path) -> None:
    text = model_card(results, layer=2, template="echo", transform="whiten", fitted_on="train")
    assert "Layer 2 of 3 with echo, whiten:10 on train scores " in text
    assert "| transform | whiten:10, fitted on the task's other split without labels |" in text
    assert "| recipe | echo, whiten:10 on train |" in text
    assert 'layer=2, template="echo", transform="whiten:10", transform_texts=texts)' in text
    assert "## Recipes" in text
    assert "echo" not in model_card(results, layer=2).split("## Scores of every layer")[0]


def test_what_saw_the_texts_is_marked_in_a_card_and_not_ranked_by_the_hub(results: Path, tmp_path: Path) -> None:
    record = find_layer(results, layer=2, template="echo", transform="whiten", fitted_on="task")
    write_card(record, tmp_path / "README.md")
    text = (tmp_path / "README.md").read_text("utf-8")
    assert f"> Transductive: {_SAID}" in text
    (found,) = yaml.safe_load(text.split("---")[1])["model-index"][0]["results"]
    assert found["dataset"]["name"].endswith(", its texts seen by the transform")
    assert not (tmp_path / ".eval_results").exists()
    write_card(find_layer(results, layer=2, template="echo"), tmp_path / "other" / "README.md")
    assert (tmp_path / "other" / ".eval_results" / "STSBenchmark.yaml").exists()


def test_a_card_without_a_recipe_is_plain_or_of_the_only_one(results: Path, tmp_path: Path, llama_folder: Path) -> None:
    assert find_layer(results).variant.is_plain
    options: dict[str, Any] = {"metrics": "none", "layers": [1], "show_progress": False}
    run_sweep(llama_folder, [TinySTS()], tmp_path, templates=["echo"], **options)
    assert find_layer(tmp_path).variant.template == "echo"
    run_sweep(llama_folder, [TinySTS()], tmp_path, templates=["eol"], **options)
    with pytest.raises(ValueError, match="no plain layer was scored; pass template, transform of echo; eol"):
        find_layer(tmp_path)


def test_a_transform_is_not_pushed_without_its_texts(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leaderboard.report.publish.check_push", lambda repo: None)
    record = find_layer(results, layer=2, transform="whiten", fitted_on="train")
    with pytest.raises(ValueError, match="^push: the texts that whiten:10 was fitted on are not part of the results"):
        push_layer(record, "me/layer")


def test_the_command_card_takes_a_recipe(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "README.md"
    recipe = ["--template", "echo", "--transform", "whiten", "--fitted-on", "train"]
    assert main(["card", str(results), "--layer", "2", *recipe, "--out", str(out), "--quiet"]) == 0
    assert "with echo, whiten:10 on train" in out.read_text("utf-8")


def test_the_command_card_refuses_a_recipe_that_is_not_there(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["card", str(results), "--template", "eol", "--out", str(tmp_path / "c.md"), "--quiet"]) == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said and "expected one of plain; " in said
