"""The page: one HTML file that shows a leaderboard in a browser without a network.

This module puts the page together. Charts are defined in `figures`, the data, the layout and the behaviour of the page
in `page_files`.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import altair as alt
import polars as pl
import vl_convert
from markupsafe import Markup

from leaderboard.analysis.task_sets import task_sets
from leaderboard.analysis.variants import Variant
from leaderboard.report import figures
from leaderboard.report.answer import answer, answer_of_all
from leaderboard.report.cells import format_cell
from leaderboard.report.figure_rows import marks, score_figure
from leaderboard.report.glossary import PAPER, glossary
from leaderboard.report.page_files.data import page_data
from leaderboard.report.page_files.sections import ICON, Front, Section, page_style, templates
from leaderboard.results.tables import Tables
from midlayer_embed import __version__
from midlayer_embed.ground.pictures import COLOURS

# Pixels of the text in charts.
_TEXT_SIZE = 12
_FILES = files("leaderboard.report") / "page_files"
_SCRIPTS = ("dom.js", "table.js", "rows.js", "charts.js", "page.js")


def page(board: Tables, *, sections: Sequence[Section] = (), front: Front | None = None, **options: Any) -> str:
    """The page as HTML.

    Args:
        board: The tables, with at least one score.
        sections: Further sections.
        front: What a page that strangers come to says first.
        **options: Options of `Leaderboard.schemes`: tasks (the initial choice of the table), complete_only, seed.
    """
    scripts = {
        "library": vl_convert.javascript_bundle(snippet="window.vegaEmbed = vegaEmbed;"),
        "script": "\n".join((_FILES / name).read_text(encoding="utf-8") for name in _SCRIPTS),
    }
    # A browser ends a script at the first "</script", even inside a string.
    assert not any("</script" in script or "<!--" in script for script in scripts.values())
    data = page_data(board, options)
    data["charts"] = {
        theme: _charts(dark=theme == "dark", recipes=bool(data["recipes"])) for theme in ("light", "dark")
    }
    headline, answers = _answers(board, data["groups"]["available"], data["recipes"])
    return (
        templates()
        .get_template("page.html.j2")
        .render(
            version=__version__,
            page=data,
            answer=headline,
            front=front,
            icon=ICON,
            answers=answers,
            names=_names(board),
            glossary=glossary(),
            paper=PAPER,
            picture=_picture(board, options),
            points=lambda value: format_cell("score", value),
            arrow=_arrow,
            sections=sections,
            style=page_style(),
            data=Markup(_script_json(data)),
            hashes=" ".join(f"'sha256-{_sha256(script)}'" for script in scripts.values()),
            **{name: Markup(script) for name, script in scripts.items()},
        )
    )


def _script_json(data: dict[str, Any]) -> str:
    """JSON that cannot end the script element around it."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _arrow(good: str) -> str:
    """A sign for the way that is good, beside the words."""
    return {"higher": "\u2191", "lower": "\u2193"}.get(good.partition(" ")[0], "")


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _names(board: Tables) -> list[str]:
    """The models that the page is about: those with plain layers, or else those with recipes, without their pooling."""
    plain = [label for variant, label in board.variant_labels().items() if variant.is_plain]
    return plain or board.recipes()["model"].unique(maintain_order=True).to_list()


def _answers(
    board: Tables, groups: list[dict[str, Any]], of_recipes: list[dict[str, Any]]
) -> tuple[str, list[dict[str, Any]]]:
    """The answer in one sentence, and the groups of models with the answer for each model, the highest score first.

    The answers are about plain layers; those about recipes are in the data of the page. Without plain layers, the
    answer is that about the recipes of the first model.
    """
    labels = board.variant_labels()
    variants = list(labels)
    found = {variant: board.summary(*variant[:2]) for variant in variants if variant.is_plain}
    if not found:
        if len(of_recipes) == 1:
            return of_recipes[0]["answer"], []
        return f"The recipes of {len(of_recipes)} models are below; no plain layer was scored.", []

    def by_score(variant: Variant) -> tuple[bool, float]:
        summary = found[variant]
        return summary is None, 0.0 if summary is None else -summary.best_score

    plain = [{**group, "models": [variants[place] for place in group["models"]]} for group in groups]
    answers = [
        {
            **group,
            "models": [
                {"label": labels[variant], "answer": answer(found[variant])}
                for variant in sorted((one for one in group["models"] if one.is_plain), key=by_score)
            ],
        }
        for group in plain
        if any(one.is_plain for one in group["models"])
    ]
    summaries = list(found.values())
    return answer(summaries[0]) if len(summaries) == 1 else answer_of_all(summaries), answers


def picture(board: Tables, options: dict[str, Any]) -> figures.Figure | None:
    """The scores over depth of the models with the most tasks, as many as there are colours; None without tasks."""
    how = {key: value for key, value in options.items() if key != "tasks"}
    scores = board.scores if board.plain.scores.is_empty() else board.plain.scores
    tasks, models = next(iter(task_sets(scores).items()))
    if not tasks:
        return None
    together = marks(board, **how).filter(pl.col("task").is_null())
    return score_figure(board, models[: len(COLOURS)], together)


def _picture(board: Tables, options: dict[str, Any]) -> str:
    """The picture for browsers without JavaScript, as the address of an SVG; "" if there is none."""
    figure = picture(board, options)
    if figure is None:
        return ""
    svg = vl_convert.vegalite_to_svg(figures.slide(figure))
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


@cache
def _specifications() -> dict[str, dict[str, Any]]:
    """The charts without data and without colours."""
    rows, points = alt.NamedData("rows"), alt.NamedData("marks")
    charts = {
        "scores": figures.score_over_depth(rows, points, title="score (x100)"),
        "metrics": figures.metric_over_depth(rows, points, title=None),
        "associations": figures.association_bars(rows),
        "heat": figures.score_heat_map(rows),
    }
    return {name: figures.specification(chart.properties(width="container")) for name, chart in charts.items()}


@cache
def _charts(*, dark: bool, recipes: bool) -> dict[str, Any]:
    """The charts without data, compiled for Vega; the same for every page."""
    style = figures.style(dark=dark, size=_TEXT_SIZE)
    charts = {name: vl_convert.vegalite_to_vega({**spec, "config": style}) for name, spec in _specifications().items()}
    return {**charts, "recipes-chart": charts["scores"]} if recipes else charts
