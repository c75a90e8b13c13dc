"""The page in a browser, as people use it, and what of it can be seen without one."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
import pytest

from leaderboard import Leaderboard, load_results, load_tables
from leaderboard.report.snippets import encoder_snippet
from leaderboard.results.schemas import METRICS_SCHEMA, SCORES_SCHEMA
from midlayer_embed.errors import InputError
from midlayer_embed.terms import METRICS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

HOSTILE = ["</script><script>window.pwned = 1</script>", "<img src=x onerror='window.pwned = 1'>", "a\u2028{{ 7 }}"]


def board_of(models: list[str], tasks: list[str], n_layers: int, metrics: tuple[str, ...]) -> Leaderboard:
    """A score and metrics of every layer, each number another one."""
    last = n_layers - 1
    cells = [(m, t, k) for m in range(len(models)) for t in range(len(tasks)) for k in range(n_layers)]

    def number(*places: int) -> float:
        return (
            sum((place + 1) * step for place, step in zip(places, (7919, 104729, 1299709, 611953), strict=False)) % 9973
        ) / 9973

    scores = [(models[m], "main", k, k / last, tasks[t], "STS", number(m, t, k)) for m, t, k in cells]
    values = [
        (models[m], "main", tasks[t], metric, "raw", k, number(m, t, k, i))
        for m, t, k in cells
        for i, metric in enumerate(metrics)
    ]
    return Leaderboard(
        pl.DataFrame(scores, schema=SCORES_SCHEMA, orient="row"),
        pl.DataFrame(values, schema=METRICS_SCHEMA, orient="row"),
    )


def data_of(page: Path) -> dict[str, Any]:
    """The page's data, as a browser reads them."""
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


Opened = Callable[..., "Page"]


@pytest.fixture(scope="module")
def context(browser: "Browser") -> Iterator["BrowserContext"]:
    context = browser.new_context()
    yield context
    context.close()


@pytest.fixture
def opened(context: "BrowserContext") -> Iterator[Opened]:
    """Opens a page from the disk; afterwards nothing may have gone wrong in it, nor been asked of a network."""
    wrong: list[str] = []
    pages: list[Page] = []

    def open_page(path: Path, *, width: int = 1280, scheme: Literal["light", "dark"] = "light") -> "Page":
        page = context.new_page()
        pages.append(page)
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        page.on("console", lambda message: wrong.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
        asked = lambda url: url.startswith(("data:", "blob:")) or url == path.as_uri()  # noqa: E731
        page.on("request", lambda request: asked(request.url) or wrong.append(f"request: {request.url}"))
        page.goto(path.as_uri())
        page.wait_for_selector("body[data-ready]", timeout=60_000)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert wrong == []


def column(page: "Page", title: str) -> list[str]:
    """The cells under a title, as they are read."""
    titles = page.locator("#table thead th").all_inner_texts()
    place = next(i for i, text in enumerate(titles) if " ".join(text.split()).lower() == title)
    return page.locator(f"#table tbody td:nth-child({place + 1})").all_inner_texts()


def numbers(cells: list[str]) -> list[float]:
    return [float(cell.split("of")[0]) for cell in cells if cell != "-"]


@pytest.fixture(scope="module")
def three_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    board_of(["org/one", "org/two", "other/three"], ["TaskA", "TaskB"], 5, ("dime", "curvature")).to_html(path)
    return path


def test_the_page_of_the_papers_models_sorts_filters_and_answers_to_the_mouse(
    paper_folder: Path, opened: Opened, tmp_path: Path
) -> None:
    board = load_tables(scores=paper_folder / "scores_as_published.csv.gz", metrics=paper_folder / "metrics.csv.gz")
    path = tmp_path / "paper.html"
    board.to_html(path)
    assert path.stat().st_size < 6_000_000
    page = opened(path)
    assert len(column(page, "model")) == len(board.models()) == 31

    page.locator("[data-sorts=best]").click()
    best = numbers(column(page, "best"))
    assert best == sorted(best, reverse=True) and best[0] > best[-1]
    page.locator("[data-sorts=best]").click()
    assert numbers(column(page, "best")) == sorted(best)
    page.locator("[data-sorts=min_dime]").click()
    dime = column(page, "min-dime")
    assert numbers(dime) == sorted(numbers(dime), reverse=True)
    assert dime[-1] == "-" and "-" not in dime[: len(numbers(dime))]  # what is missing stands last

    page.locator("#filter").fill("LLM2Vec-mntp-unsup")
    assert column(page, "model") == ["LLM2Vec-mntp-unsup-simcse-8B"]
    table_2 = {"best": "66.3", "last": "63.9", "min-dime": "60.0", "min-infonce": "64.3", "min-entropy": "50.4"}
    assert {title: column(page, title)[0].split("of")[0] for title in table_2} == table_2
    page.get_by_role("button", name="LLM2Vec-mntp-unsup-simcse-8B").click()
    assert "LLM2Vec-mntp-unsup-simcse-8B, layer 24 (depth 0.75): score 66.3" in page.locator("#reading").inner_text()

    page.locator("#scores .mark-symbol path").nth(3).hover(force=True)
    tooltip = page.locator("#vg-tooltip-element")
    tooltip.wait_for(state="visible")
    assert "model" in tooltip.inner_text() and "depth" in tooltip.inner_text()
    page.locator("#heat .mark-rect path").nth(40).hover(force=True)
    page.wait_for_function("document.querySelector('#vg-tooltip-element').innerText.includes('task')")


def test_a_task_and_a_metric_are_chosen_for_all_charts(three_models: Path, opened: Opened) -> None:
    page = opened(three_models)
    page.locator("#task").select_option(label="TaskB")
    page.locator("#metric").select_option("curvature")
    page.wait_for_function("document.querySelector('#scores-title').innerText.includes('TaskB')")
    data = data_of(three_models)
    opened_model = next(
        model for model in data["models"] if model["label"] == page.locator("tr.active button").inner_text()
    )
    layer = int(page.locator("#use-layer").input_value())
    place, task = opened_model["layers"].index(layer), str(data["tasks"].index("TaskB"))
    reading = page.locator("#reading").inner_text()
    assert f"score {opened_model['scores'][task][place]:.1f}" in reading
    curvature = opened_model["metrics"]["curvature"][task][place]
    assert f"curvature {float(f'{curvature:.4g}')}" in reading
    words = page.locator("#scores .mark-text text").all_text_contents()
    assert any("min-dime" in word for word in words)  # a criterion chooses for a task
    assert page.locator("#associations .mark-rect path").count() > 0


def test_keys_alone_sort_take_a_layer_and_give_its_snippet(three_models: Path, opened: Opened) -> None:
    page = opened(three_models)
    page.locator("#table thead button").nth(2).focus()
    page.keyboard.press("Enter")
    assert page.locator("#table thead th").nth(2).get_attribute("aria-sort") == "descending"
    assert page.evaluate("document.activeElement.dataset.sorts") == "best"  # still there, to be pressed again
    before = int(page.locator("#use-layer").input_value())
    page.locator("#scores").focus()
    key, after = ("ArrowRight", before + 1) if before < 4 else ("ArrowLeft", before - 1)
    page.keyboard.press(key)
    assert f"layer={after})" in page.locator("#python").inner_text()
    assert f"--layer {after}" in page.locator("#command").inner_text()


def test_a_click_on_a_point_takes_its_model_and_layer(three_models: Path, opened: Opened) -> None:
    page = opened(three_models)
    page.locator("#heat .mark-rect path").first.click(force=True)
    assert "layer 0 " in page.locator("#reading").inner_text()


def test_models_are_compared_by_ticking_them(three_models: Path, opened: Opened) -> None:
    page = opened(three_models)
    ticked = page.get_by_role("checkbox")
    assert ticked.count() == 3
    ticked.nth(2).uncheck()
    page.wait_for_function("document.querySelectorAll('#scores .mark-symbol.role-legend-symbol path').length === 2")


@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_width_makes_the_page_scroll_sideways(three_models: Path, opened: Opened, width: int, scheme: str) -> None:
    page = opened(three_models, width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    paper_colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper_colour == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(22, 22, 22)")


def test_names_that_are_code_are_read_as_names(opened: Opened, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    board_of(HOSTILE, [*HOSTILE, "__proto__"], 3, ("dime",)).to_html(path)
    page = opened(path)
    assert sorted(column(page, "model")) == sorted(HOSTILE)
    for place in range(4):
        page.locator("#task").select_option(str(place))
        page.locator("#table tbody td.name button").nth(place % 3).click()
        page.locator("#heat .mark-rect path").nth(place).hover(force=True)
    page.locator("#scores .mark-symbol path").nth(1).hover(force=True)
    page.locator("#vg-tooltip-element").wait_for(state="visible")
    assert page.evaluate("window.pwned") is None


def test_no_name_ends_a_script_of_the_page(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    board_of(HOSTILE, [*HOSTILE, "__proto__"], 3, ("dime",)).to_html(path)
    text = path.read_text("utf-8")
    assert not any(name in text for name in HOSTILE[:2])
    assert text.count("<script") == text.count("</script") == 3
    assert [model["label"] for model in data_of(path)["models"]] == HOSTILE


def test_ten_models_and_32_tasks_fit_into_six_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    board_of([f"org/model-{i}" for i in range(10)], [f"Task{i}" for i in range(32)], 25, METRICS).to_html(path)
    assert path.stat().st_size < 6_000_000


def test_the_snippet_is_that_of_the_model_that_was_scored(tiny_results: Path, tmp_path: Path) -> None:
    board = load_results(tiny_results)
    board.to_html(tmp_path / "page.html")
    (model,) = data_of(tmp_path / "page.html")["models"]
    origin = board.origin(*board.models()[0])
    assert model["use"]["python"] == [encoder_snippet(origin.loaded_from, k, origin.settings) for k in model["layers"]]
    assert model["use"]["note"] == f"Replace {origin.loaded_from} with the folder of the model."


def test_what_has_no_value_is_null_and_no_nan(tmp_path: Path) -> None:
    board = board_of(["org/m"], ["A", "B"], 3, ("dime",))
    scores = board.scores.filter((pl.col("task") == "A") | (pl.col("layer") != 1))
    metrics = board.metrics.with_columns(value=pl.when(pl.col("layer") == 2).then(float("nan")).otherwise("value"))
    Leaderboard(scores, metrics).to_html(tmp_path / "page.html")
    (model,) = data_of(tmp_path / "page.html")["models"]
    assert model["scores"]["1"][1] is None and model["scores"]["all"]["n_tasks"] == [2, 1, 2]
    assert model["metrics"]["dime"]["0"][2] is None and model["metrics"]["dime"]["all"]["value"][2] is None


def test_there_is_no_page_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are no scores"):
        Leaderboard.empty().to_html(tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []
