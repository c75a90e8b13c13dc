"""The page as people read it: the answer first, models of different tasks apart, text large enough, on any screen."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from support.web.boards import board_of
from support.web.browsers import Opened

from leaderboard import Leaderboard
from leaderboard.analysis.schemes import SCHEMES
from leaderboard.report.glossary import PAPER, glossary
from midlayer_embed.terms import METRIC_TABLE

if TYPE_CHECKING:
    from playwright.sync_api import Page

_LONG = "org/a-model-with-a-name-that-is-longer-than-any-line-of-a-phone-or-of-a-slide-and-then-some-more"
_SMALLEST = 12  # pixels


def different_tasks() -> Leaderboard:
    """One model of three tasks and two of two; one task is shared."""
    board = board_of(["org/three", "org/two", "org/other-two"], ["A", "B", "C", "D"], 5, ("dime",))
    of_three = (pl.col("model") == "org/three") & (pl.col("task") != "D")
    of_two = (pl.col("model") != "org/three") & pl.col("task").is_in(["A", "D"])
    return Leaderboard(board.scores.filter(of_three | of_two), board.metrics.filter(of_three | of_two))


@pytest.fixture(scope="module")
def long_names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    names = [_LONG, f"{_LONG}-2", "two\nlines \"quoted\" 'twice'"]
    tasks = [f"ATaskWithALongNameThatNobodyCanBreak{i}" for i in range(32)]
    board_of(names, tasks, 31, ("dime", "curvature")).to_html(path)
    return path


@pytest.fixture(scope="module")
def sets_of_tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    different_tasks().to_html(path)
    return path


def written(board: Leaderboard, folder: Path) -> Path:
    board.to_html(folder / "page.html")
    return folder / "page.html"


def first_line(page: "Page") -> str:
    """The first words of a page, after the link that skips them."""
    return next(line for line in page.locator("body").inner_text().splitlines() if line and "Skip" not in line)


def test_the_first_line_is_the_answer(opened: Opened, tmp_path: Path) -> None:
    board = board_of(["org/m"], ["A", "B"], 5, ())
    summary = board.summary()
    assert summary is not None and summary.best < 4
    found = first_line(opened(written(board, tmp_path)))
    assert found == (
        f"Layer {summary.best} of 4 scores {summary.best_score:.1f}, the last {summary.last_score:.1f}; "
        f"it needs {summary.best / 4:.0%} of the blocks."
    )


def test_the_page_claims_nothing_of_a_last_layer_that_did_not_run(opened: Opened, tmp_path: Path) -> None:
    board = board_of(["org/m"], ["A"], 31, ("dime",))
    some = pl.col("layer").is_in([0, 2])
    page = opened(written(Leaderboard(board.scores.filter(some), board.metrics.filter(some)), tmp_path))
    assert "the last did not run" in first_line(page)
    assert "highest layer that ran: layer 2 of 30" in page.locator("#table-note").inner_text()
    marks = page.locator("#scores .role-mark.mark-text text").all_text_contents()
    assert any("best" in mark for mark in marks) and not any("last" in mark for mark in marks)


def test_several_models_have_a_sentence_each_under_their_tasks(sets_of_tasks: Path, opened: Opened) -> None:
    page = opened(sets_of_tasks)
    assert re.fullmatch(r"A layer before the last scores best for .* of 3 models.*\.", first_line(page))
    assert page.locator("header h2").all_inner_texts() == ["3 tasks: A, B, C", "2 tasks: A, D"]
    lists = [one.locator("li").all_inner_texts() for one in page.locator(".answers").all()]
    assert [len(one) for one in lists] == [1, 2] and lists[0][0].startswith("org/three: Layer ")


def test_models_of_different_tasks_are_never_ranked_in_one_list(sets_of_tasks: Path, opened: Opened) -> None:
    page = opened(sets_of_tasks)
    for key in ("name", "best", "last", "min_dime"):
        for _ in range(2):
            page.locator(f"[data-sorts={key}]").click()
            groups = [body.inner_text().split() for body in page.locator("#table tbody").all()]
            assert [group[0] for group in groups] == ["3", "2"] and "org/three" in groups[0]
            assert {"org/two", "org/other-two"} < set(groups[1])
    assert "not comparable" in page.locator("#table-note").inner_text()
    # Curves of different tasks are drawn together only if that is asked for, and with a warning.
    assert page.locator("#scores .role-legend-label text").all_text_contents() == ["org/three"]
    page.get_by_role("checkbox").nth(1).check()
    page.wait_for_function("document.querySelector('#scores-title').innerText.includes('do not compare')")
    page.locator("#over").select_option("common")
    (together,) = page.locator("#table tr.group").all_inner_texts()
    assert together == "1 task: those that all models have"


def test_the_glossary_has_every_metric_and_scheme_and_says_which_way_is_good(opened: Opened, tmp_path: Path) -> None:
    page = opened(written(board_of(["org/m"], ["A"], 3, ()), tmp_path))
    words = page.locator("#words dt").all_inner_texts()
    of_metrics = page.locator("#words dl").nth(2).locator("dt").all_inner_texts()
    for metric in METRIC_TABLE.values():
        (found,) = [word for word in of_metrics if word.startswith(metric.title)]
        assert all(name in found for name in metric.criteria) and (metric.good_end or "no direction" in found)
    listed = page.locator("#words dl").nth(1).locator("dt").count()
    assert listed == len(SCHEMES) and all(
        "higher is better" in word for word in words[-len(METRIC_TABLE) - listed :][:listed]
    )
    assert page.locator(f"a[href='{PAPER}']").count() >= 1
    assert all(word.meaning for _, group in glossary() for word in group)


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_text_is_large_enough_and_stays_inside(long_names: Path, opened: Opened, width: int) -> None:
    page = opened(long_names, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = page.evaluate(
        """() => [...document.querySelectorAll("body *")]
            .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) && e.checkVisibility())
            .filter((e) => !["SCRIPT", "STYLE"].includes(e.tagName))
            .map((e) => {
                const svg = e.closest("svg"), box = e.getBoundingClientRect(), frame = svg?.getBoundingClientRect();
                const scale = svg ? frame.width / svg.width.baseVal.value : 1;
                const outside = svg ? Math.max(
                    frame.left - box.left, box.right - frame.right, frame.top - box.top, box.bottom - frame.bottom) : 0;
                return [e.textContent.trim().slice(0, 30), parseFloat(getComputedStyle(e).fontSize) * scale, outside];
            })"""
    )
    assert len(found) > 200
    assert [one for one in found if one[1] < _SMALLEST] == []
    assert [one for one in found if one[2] > 1] == []


def test_names_above_a_chart_are_off_its_curves_and_each_other(long_names: Path, opened: Opened) -> None:
    page = opened(long_names, width=390)
    page.locator("#task").select_option("3")  # a task has marks of criteria, too
    page.get_by_text("min-dime", exact=True).and_(page.locator("#scores text")).wait_for()
    boxes = page.evaluate(
        """() => [...document.querySelectorAll("#scores .role-mark.mark-text text")].filter((e) => e.textContent)
            .map((e) => e.getBoundingClientRect()).map((b) => [b.left, b.right, b.top, b.bottom])"""
    )
    highest = page.evaluate(
        """() => Math.min(...[...document.querySelectorAll("#scores .role-mark.mark-symbol path")]
            .map((e) => e.getBoundingClientRect()).map((b) => (b.top + b.bottom) / 2))"""
    )
    assert all(bottom <= highest for *_, bottom in boxes)
    for i, (left, right, top, bottom) in enumerate(boxes):
        for other in boxes[:i]:
            assert right <= other[0] or other[1] <= left or bottom <= other[2] + 1 or other[3] <= top + 1


@pytest.mark.parametrize(("width", "is_cut"), [(320, True), (390, True), (1280, False)])
def test_a_table_that_is_cut_says_so_and_scrolls_by_keys(
    opened: Opened, tmp_path: Path, width: int, is_cut: bool
) -> None:
    page = opened(written(board_of(["org/m"], ["A"], 5, ("dime",)), tmp_path), width=width)
    region = page.get_by_role("region", name="Table of models")
    assert page.locator("#table-hint").is_visible() is is_cut
    fades = lambda: page.locator(".scroller.more #table").count() == 1  # noqa: E731
    assert fades() is is_cut
    if is_cut:
        assert region.get_attribute("aria-describedby") == "table-hint"
        region.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function("document.querySelector('#table').parentElement.scrollLeft > 0")
        name = page.locator("td.name").first.bounding_box()
        assert name is not None and name["x"] >= 0  # it stays in sight
        page.evaluate("document.querySelector('#table').parentElement.scrollLeft = 1e6")
        page.wait_for_function("!document.querySelector('.scroller.more #table')")


def test_without_javascript_there_are_the_answer_the_table_the_curve_and_the_words(
    sets_of_tasks: Path, opened: Opened
) -> None:
    with_it, without = opened(sets_of_tasks), opened(sets_of_tasks, javascript=False)
    assert first_line(with_it) == first_line(without)

    def cells(page: "Page") -> list[list[str]]:
        return [
            [" ".join(cell.split()) for cell in row.locator("td").all_inner_texts()]
            for row in page.locator("#table tr").all()
        ]

    assert cells(with_it) == cells(without) and len(cells(without)) == 1 + 2 + 3
    assert without.locator("img.picture").is_visible() and with_it.locator("img.picture").count() == 0
    assert without.locator("#words dt").count() == with_it.locator("#words dt").count() > 20
    assert not without.locator("#filter").is_visible()


def test_what_has_no_score_is_told_and_drawn_as_an_empty_frame(opened: Opened, tmp_path: Path) -> None:
    board = board_of(["org/m"], ["A", "B"], 5, ("dime",))
    hole = (pl.col("layer") == 4) & (pl.col("task") == "B")
    scores = board.scores.with_columns(main_score=pl.when(hole).then(float("nan")).otherwise("main_score"))
    page = opened(written(Leaderboard(scores, board.metrics), tmp_path))
    assert "the last has no score for some tasks" in first_line(page)
    frames = page.locator("#heat .mark-rect path[stroke-dasharray]")
    assert frames.count() == 1
    frames.hover(force=True)
    tooltip = page.locator("#vg-tooltip-element")
    tooltip.wait_for(state="visible")
    assert "no score" in tooltip.inner_text()
    empty = page.locator("#table td", has_text=re.compile(r"^-$"))
    assert empty.count() and set(empty.evaluate_all("all => all.map((e) => e.title)")) == {"no value"}


def test_a_model_without_any_score_stands_apart(opened: Opened, tmp_path: Path) -> None:
    board = board_of(["org/ok", "org/nan"], ["A", "B"], 4, ("dime",))
    scored = pl.when(pl.col("model") == "org/ok").then("main_score").otherwise(float("nan"))
    page = opened(written(Leaderboard(board.scores.with_columns(main_score=scored), board.metrics), tmp_path))
    assert page.locator("#table tr.group").all_inner_texts() == ["2 tasks: A, B", "no task with a score"]
    page.locator("#over").select_option("common")
    assert page.locator("#table tr.group").all_inner_texts()[1] == "no task with a score"
    page.get_by_role("button", name="org/nan").click()
    page.wait_for_function("document.querySelector('#reading').innerText.includes('org/nan')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(sets_of_tasks: Path, opened: Opened, scheme: str) -> None:
    page = opened(sets_of_tasks, scheme=scheme)
    worst = page.evaluate(
        """() => {
            const parse = (c) => c.match(/[\\d.]+/g).map(Number);
            const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
                .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
                .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
            const behind = (e) => {
                for (; e; e = e.parentElement) {
                    const colour = parse(getComputedStyle(e).backgroundColor);
                    if (colour[3] !== 0) return colour;
                }
            };
            return Math.min(...[...document.querySelectorAll("body *")]
                .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) && e.checkVisibility())
                .filter((e) => !["SCRIPT", "STYLE", "OPTION"].includes(e.tagName))
                .map((e) => {
                    const ink = e.closest("svg") ? getComputedStyle(e).fill : getComputedStyle(e).color;
                    const [a, b] = [light(parse(ink)), light(behind(e))].sort((x, y) => y - x);
                    return (a + 0.05) / (b + 0.05);
                }));
        }"""
    )
    assert worst >= 4.5  # AA


def test_print_has_no_controls_and_dark_ink(sets_of_tasks: Path, opened: Opened) -> None:
    page = opened(sets_of_tasks, scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.locator("#filter").is_visible() and page.locator("#table").is_visible()
    page.set_viewport_size({"width": 720, "height": 900})  # a sheet of A4
    assert page.evaluate("document.documentElement.scrollWidth") <= 720
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('#scores svg text')).fill") == "rgb(34, 34, 34)"


def test_a_hundred_models_are_listed_and_the_first_sentences_shown(opened: Opened, tmp_path: Path) -> None:
    page = opened(written(board_of([f"org/model-{i}" for i in range(100)], ["A", "B"], 5, ()), tmp_path))
    assert page.locator("#table td.name").count() == 100 and page.locator("header li").count() == 100
    assert page.locator("header li").filter(visible=True).count() == 3
