"""The page in a browser, as people use it, and what of it can be seen without one."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from support.tiers import slow
from support.web.boards import board_of
from support.web.browsers import Opened

from leaderboard import Leaderboard, load_results, load_tables
from leaderboard.report.snippets import encoder_snippet
from midlayer_embed.errors import InputError
from midlayer_embed.terms import METRICS

if TYPE_CHECKING:
    from playwright.sync_api import Page

HOSTILE = ["</script><script>window.pwned = 1</script>", "<img src=x onerror='window.pwned = 1'>", "a\u2028{{ 7 }}"]


def data_of(page: Path) -> dict[str, Any]:
    """The page's data, as a browser reads them."""
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def column(page: "Page", title: str) -> list[str]:
    """The cells under a title, as they are read."""
    titles = [
        text.replace("\u25b2", "").replace("\u25bc", "") for text in page.locator("#table thead th").all_inner_texts()
    ]
    place = next(i for i, text in enumerate(titles) if " ".join(text.split()).lower() == title)
    return page.locator(f"#table tbody td:nth-child({place + 1})").all_inner_texts()


def columns_of_groups(page: "Page", key: str) -> list[list[str]]:
    """The cells of a column, group by group."""
    place = page.locator("#table thead button").evaluate_all(
        "(all, key) => all.findIndex((b) => b.dataset.sorts === key)", key
    )
    return [body.locator(f"td:nth-child({place + 1})").all_inner_texts() for body in page.locator("#table tbody").all()]


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

    def is_sorted(cells: list[str], *, downwards: bool) -> bool:
        """Means over all tasks come first, then means that lack some; what is missing stands last."""
        kinds = [2 if cell == "-" else 1 if "of" in cell else 0 for cell in cells]
        of_kind = [numbers([cell for cell, one in zip(cells, kinds, strict=True) if one == kind]) for kind in (0, 1)]
        return kinds == sorted(kinds) and all(found == sorted(found, reverse=downwards) for found in of_kind)

    groups = columns_of_groups(page, "best")  # what a page is sorted by at first
    assert [len(group) for group in groups] == [25, 3, 1, 1, 1]
    assert all(is_sorted(group, downwards=True) for group in groups) and not is_sorted(groups[0], downwards=False)
    page.locator("[data-sorts=best]").click()
    assert all(is_sorted(group, downwards=False) for group in columns_of_groups(page, "best"))
    page.locator("[data-sorts=min_dime]").click()
    assert all(is_sorted(group, downwards=True) for group in columns_of_groups(page, "min_dime"))

    page.locator("#filter").fill("LLM2Vec-mntp-unsup")
    assert column(page, "model") == ["LLM2Vec-mntp-unsup-simcse-8B"]
    table_2 = {"best": "66.3", "last": "63.9", "min-dime": "60.0", "min-infonce": "64.3", "min-entropy": "50.4"}
    assert {title: column(page, title)[0].split("of")[0].strip() for title in table_2} == table_2
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
    page.locator("#table thead button").nth(4).focus()
    page.keyboard.press("Enter")
    assert page.locator("#table thead th").nth(4).get_attribute("aria-sort") == "descending"
    assert page.evaluate("document.activeElement.dataset.sorts") == "last"  # still there, to be pressed again
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


def test_a_finger_sees_what_a_mouse_would(three_models: Path, opened: Opened) -> None:
    page = opened(three_models, width=390, touch=True)
    cell = page.locator("#heat .mark-rect path").nth(4)
    cell.scroll_into_view_if_needed()
    cell.tap(force=True)
    tooltip = page.locator("#vg-tooltip-element")
    tooltip.wait_for(state="visible")
    assert "TaskA" in tooltip.inner_text() or "TaskB" in tooltip.inner_text()
    page.locator("#heat-note").tap()
    tooltip.wait_for(state="hidden")


def test_models_are_compared_by_ticking_them(three_models: Path, opened: Opened) -> None:
    page = opened(three_models)
    ticked = page.get_by_role("checkbox")
    assert ticked.count() == 3
    ticked.nth(2).uncheck()
    page.wait_for_function("document.querySelectorAll('#scores .mark-symbol.role-legend-symbol path').length === 2")


@pytest.mark.parametrize("width", [320, *slow(390), 1280])
@pytest.mark.parametrize("scheme", ["light", *slow("dark")])
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
    beside = {"x": 6, "y": 10}  # of the middle, where the line of a mark may begin
    page.locator("#scores .mark-symbol path").nth(1).hover(force=True, position=beside)
    page.locator("#vg-tooltip-element").wait_for(state="visible")
    assert page.evaluate("window.pwned") is None


def test_no_name_ends_a_script_of_the_page(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    board_of(HOSTILE, [*HOSTILE, "__proto__"], 3, ("dime",)).to_html(path)
    text = path.read_text("utf-8")
    assert not any(name in text for name in HOSTILE[:2])
    assert text.count("<script") == text.count("</script") == 3
    assert [model["label"] for model in data_of(path)["models"]] == HOSTILE


@pytest.mark.slow
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


def test_the_regrets_are_a_table_that_sorts_and_stays_inside_a_phone(three_models: Path, opened: Opened) -> None:
    page = opened(three_models, width=390)
    found = board_of(["org/one", "org/two", "other/three"], ["TaskA", "TaskB"], 5, ("dime", "curvature")).regret()
    expected = [
        (name, f"{value:.1f}") for name, value in found.filter(reading="model").select("criterion", "regret").rows()
    ]

    def rows() -> list[tuple[str, ...]]:
        cells = [row.locator("td").all_inner_texts() for row in page.locator("#regret-table tbody tr").all()]
        return [tuple(of_row) for of_row in cells]

    assert [row[:2] for row in rows()] == expected
    assert page.locator("#regret-hint").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    worst = page.locator("#regret-table").get_by_role("button", name="worst", exact=True)
    for downwards in (False, True):
        worst.click()
        numbers = [float(row[3]) for row in rows()]
        assert numbers == sorted(numbers, reverse=downwards)
    assert page.locator("#regret-table th[aria-sort=descending]").all_inner_texts() == ["worst"]
    assert page.locator("#regret-table th[aria-sort]").count() == 1
    assert "tuned-depth takes" in page.locator("#regret").inner_text()


def test_results_with_other_metrics_leave_the_regrets_of_those_with_the_same(tmp_path: Path) -> None:
    paper = board_of(["org/one", "org/two"], ["TaskA", "TaskB"], 5, ("dime", "lidar"))
    own = board_of(["own/three"], ["TaskC"], 5, ("curvature",))
    both = Leaderboard(pl.concat([own.scores, paper.scores]), pl.concat([own.metrics, paper.metrics]))
    for name, board in {"paper": paper, "both": both}.items():
        board.to_html(tmp_path / f"{name}.html")
    regrets = {name: data_of(tmp_path / f"{name}.html")["regret"] for name in ("paper", "both")}
    assert regrets["both"]["rows"] == regrets["paper"]["rows"] != []
    assert regrets["both"]["over"] == f"{regrets['paper']['over']}, those with the same metrics"


def test_a_page_without_a_choice_has_no_regrets(opened: Opened, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    board_of(["org/one"], ["TaskA"], 2, ()).only().to_html(path)
    assert opened(path).locator("#regret").count() == 1
    board = board_of(["org/one"], ["TaskA"], 2, ())
    Leaderboard(board.scores.filter(pl.col("layer") == 1), board.metrics).to_html(path)
    assert opened(path).locator("#regret").count() == 0
