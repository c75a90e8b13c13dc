"""Figures in one style: functions from rows to Altair charts.

A chart is saved as PNG, SVG or interactive HTML, or receives its rows later, on the page that shows it
(`alt.NamedData`). `figure_rows` prepares the rows. Sizes of views are the smallest that hold their text: `save_figure`
makes a picture as large as a slide.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl
import vl_convert

from midlayer_embed.errors import InputError
from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.ground.pictures import COLOURS, PIXELS_PER_POINT, SLIDE, TEXT_SIZE, TITLE_SIZE, wrapped
from midlayer_embed.terms import METRIC_TABLE

Rows = pl.DataFrame | alt.NamedData
Figure = alt.Chart | alt.LayerChart | alt.FacetChart | alt.ConcatChart

# From the eighth model on, lines are dashed as well.
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [12, 4])
LINE_DASHES = [dash for dash in _DASHES for _ in COLOURS]
_MODELS = "models"
_COEFFICIENTS = ("dcor", "spearman", "kendall")
_WIDTH, _HEIGHT = 300, 220
_SMALL_WIDTH, _SMALL_HEIGHT = 120, 80
# Height of a row of the heat map, of the names in it, and of a bar. 32 rows fit on a slide.
_ROW, _ROW_TEXT, _BAR = 13, 12, 6
# Marked layers are named above the chart, where no curve is: one line per mark.
_LANE = TEXT_SIZE + 4
_PADDING = 12
_SIDES = ("width", "height")
_STEPS = 5
# Mean width of a letter of a legend, and of a symbol with its gaps.
_LETTER, _SYMBOL = 0.56 * TEXT_SIZE, 48
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"

_HAS_ALL_TASKS = "datum.n_tasks == datum.of_tasks"
_LAYER_TOOLTIPS = [
    alt.Tooltip("model:N", title="model"),
    alt.Tooltip("layer:Q", title="layer"),
    alt.Tooltip("depth:Q", title="depth", format=".2f"),
]
_TASK_TOOLTIPS = [alt.Tooltip("n_tasks:Q", title="tasks"), alt.Tooltip("of_tasks:Q", title="of")]
# The longest name of a task or metric at a chart that gets its rows later, and on a picture.
_NAME_LIMIT, _PICTURE_NAME_LIMIT = 160, 300
# The longest name of a model in a legend: the page sets it to the width that it has.
_LEGEND_LIMIT = "legend_limit"


def score_over_depth(
    rows: Rows, marks: Rows, models: Sequence[str] = (), *, title: str | None = "mean score (x100)"
) -> Figure:
    """Score over depth, one line per model (the paper's Figure 1).

    Layers without a score for some tasks are hollow points, not connected by a line.

    Args:
        rows: Columns model, layer, depth, value, n_tasks, of_tasks.
        marks: Layers to highlight, with columns model, layer, depth, value, said (tooltip), word (label, or "").
        models: Model names in the order of their colours. Like rows, they can be set later: in the signal "models".
        title: Title of the score axis.
    """
    return _build_over_depth(rows, marks, title, ".1f", models).add_params(*_params(models))


def metric_over_depth(rows: Rows, marks: Rows, models: Sequence[str] = (), *, title: str | None) -> Figure:
    """One metric over depth, one line per model. Takes the arguments of `score_over_depth`."""
    return _build_over_depth(rows, marks, title, ".4~g", models).add_params(*_params(models))


def metrics_over_depth(rows: pl.DataFrame, models: Sequence[str]) -> Figure:
    """Small multiples: one chart per metric, one line per model (the paper's Figures 2, 10 and 12).

    Args:
        rows: Columns of `metric_over_depth`, and metric.
        models: Model names in the order of their colours.
    """
    no_marks = pl.DataFrame(schema=["model", "layer", "depth", "value", "said", "word"])
    measured = set(rows["metric"])
    charts = [
        _build_over_depth(rows.filter(metric=name), no_marks, None, ".4~g", models, x_title="depth").properties(
            width=_SMALL_WIDTH,
            height=_SMALL_HEIGHT,
            title=alt.Title(metric.title, fontSize=TEXT_SIZE + 1, anchor="start", frame="group"),
        )
        for name, metric in METRIC_TABLE.items()
        if name in measured
    ]
    return alt.concat(*charts, columns=4 if len(charts) > 4 else 3).add_params(*_params(models))


def association_bars(rows: Rows) -> Figure:
    """Association of each metric with the score over the layers, as bars (the paper's Figures 3, 8 and 9).

    Args:
        rows: Columns metric, coefficient (dcor, spearman or kendall), value (-1..1).
    """
    bars: alt.Chart = (
        _build_chart(rows)
        .mark_bar()
        .encode(
            alt.Y("metric:N", title=None, sort=None, axis=alt.Axis(labelLimit=_name_limit(rows))),
            alt.X(
                "value:Q",
                title="correlation with the score",
                scale=alt.Scale(domain=[-1, 1]),
                axis=alt.Axis(tickCount=5),
            ),
            alt.YOffset("coefficient:N", sort=list(_COEFFICIENTS)),
            alt.Color(
                "coefficient:N",
                title=None,
                sort=list(_COEFFICIENTS),
                scale=alt.Scale(domain=list(_COEFFICIENTS), range=list(COLOURS[: len(_COEFFICIENTS)])),
                legend=alt.Legend(orient="bottom", columns=3 if isinstance(rows, pl.DataFrame) else 1),
            ),
            tooltip=[
                alt.Tooltip("metric:N"),
                alt.Tooltip("coefficient:N"),
                alt.Tooltip("value:Q", format=".3f"),
            ],
        )
        .properties(width=_WIDTH, height=_height(rows, "metric", len(_COEFFICIENTS) * _BAR, each=alt.Step(_BAR + 2)))
    )
    return bars


def score_heat_map(rows: Rows) -> Figure:
    """Heat map of layers and tasks. Lighter is closer to the task's best layer, which is marked by a dot.

    A layer without a score for the task is an empty frame.

    Args:
        rows: Columns task, layer, depth, score (x100), share (0 at the task's worst layer, 1 at its best; null: no
            score).
    """
    base = _build_chart(rows).encode(
        alt.X("layer:O", title="layer", axis=alt.Axis(labelOverlap=True, labelAngle=0)),
        alt.Y("task:N", title=None, sort=None, axis=alt.Axis(labelLimit=_name_limit(rows), labelFontSize=_ROW_TEXT)),
        tooltip=[
            alt.Tooltip("task:N"),
            alt.Tooltip("layer:O"),
            alt.Tooltip("depth:Q", format=".2f"),
            alt.Tooltip("score:Q", title="score (x100)", format=".1f"),
        ],
    )
    cells = (
        base.mark_rect(stroke=None)
        .transform_filter("datum.share !== null")
        .encode(
            alt.Color(
                "share:Q",
                title=None,
                scale=alt.Scale(scheme="cividis", domain=[0, 1]),
                legend=alt.Legend(format=".0%", values=[0, 0.5, 1], gradientLength=alt.expr("clamp(height, 48, 180)")),
            )
        )
    )
    missing = (
        base.mark_rect(fill="transparent", stroke="#8C8C8C", strokeDash=[2, 2])
        .transform_filter("datum.share === null")
        .transform_calculate(none="'no score'")
        .encode(tooltip=[alt.Tooltip("task:N"), alt.Tooltip("layer:O"), alt.Tooltip("none:N", title="score (x100)")])
    )
    best = base.mark_point(filled=True, color="black", size=22, opacity=1).transform_filter("datum.share === 1")
    return alt.layer(cells, missing, best).properties(
        width=_WIDTH, height=_height(rows, "task", _ROW, alt.Step(_ROW + 3))
    )


def titled(chart: Figure, title: str, note: str = "") -> Figure:
    """The figure with a title that names the model, and a smaller note under it; both are wrapped."""
    lines = alt.Title(
        wrapped(title),
        subtitle=wrapped(note, TEXT_SIZE) if note else [],
        anchor="start",
        frame="bounds",
        offset=_PADDING,
    )
    return chart.properties(title=lines)


def style(*, dark: bool = False, size: int = TEXT_SIZE) -> dict[str, Any]:
    """Vega-Lite config shared by all figures.

    Args:
        dark: Use colours for a dark background. The page sets the background; pictures have a white one.
        size: Font size of all text but titles, which are larger.
    """
    ink, faint = ("#E6E6E6", "#3C3C3C") if dark else ("#222222", "#E4E4E4")
    text = {"labelFontSize": size, "titleFontSize": size, "labelColor": ink, "titleColor": ink}
    return {
        "background": None,
        "font": _FONT,
        "view": {"stroke": None},
        "axis": {
            **text,
            "titleFontWeight": "normal",
            "gridColor": faint,
            "domainColor": faint,
            "tickColor": faint,
        },
        "legend": {**text, "titleFontWeight": "normal", "titleLimit": 0},
        "title": {
            "color": ink,
            "subtitleColor": ink,
            "fontWeight": "normal",
            "fontSize": TITLE_SIZE,
            "subtitleFontSize": size,
            "limit": 0,
        },
        "text": {"color": ink, "fontSize": size},
        "rule": {"color": ink},
        "point": {"size": 22},
    }


# What is in a file, of the specification and of a function that draws it.
_WRITERS: dict[str, Callable[[dict[str, Any], Callable[[], str]], bytes]] = {
    ".png": lambda _, svg: vl_convert.svg_to_png(svg(), scale=PIXELS_PER_POINT),
    ".svg": lambda _, svg: svg().encode(),
    ".html": lambda spec, _: vl_convert.vegalite_to_html(spec, bundle=True).encode(),
}


def save_figure(chart: Figure, *paths: str | Path) -> None:
    """Save a figure with its rows as pictures, or as interactive pages that need no network.

    It is as large as a slide, or larger if its text needs more room.

    Args:
        chart: The figure.
        paths: .png, .svg or .html files, each moved into place when complete.

    Raises:
        InputError: (a ValueError) if a file has another suffix.
    """
    for path in paths:
        if Path(path).suffix.lower() not in _WRITERS:
            raise InputError(f"figure: expected a file with suffix {', '.join(_WRITERS)}, got {str(path)!r}")
    spec = slide(chart)
    svg = cache(lambda: vl_convert.vegalite_to_svg(spec))  # drawn once for all files: that is what takes time
    for path in paths:
        with atomic_file(path) as partial:
            partial.write_bytes(_WRITERS[Path(path).suffix.lower()](spec, svg))


def png(chart: Figure) -> bytes:
    """The picture that `save_figure` writes as .png, for `IPython.display.Image` in a notebook."""
    spec = slide(chart)
    return _WRITERS[".png"](spec, lambda: vl_convert.vegalite_to_svg(spec))


def specification(chart: Figure) -> dict[str, Any]:
    """The Vega-Lite specification of a chart, not compared with the schema: that takes longer than to draw it."""
    spec: dict[str, Any] = chart.to_dict(validate=False)
    return spec


def slide(chart: Figure) -> dict[str, Any]:
    """The Vega-Lite specification of a picture: on white, grown to the size of a slide."""
    spec = {**specification(chart), "config": {**style(), "background": "white"}, "padding": _PADDING}
    views = spec.get("concat", [spec])
    columns = min(spec.get("columns", 1), len(views))
    rows = -(-len(views) // columns)
    smallest = [{side: view[side] for side in _SIDES} for view in views]
    for view in views:
        view.update(width=SLIDE[0] / columns, height=SLIDE[1] / rows)
    # What surrounds the views, such as labels that are left out, depends on their size: a few steps.
    for _ in range(_STEPS):
        drawn = re.search(r'<svg[^>]* width="([\d.]+)" height="([\d.]+)"', vl_convert.vegalite_to_svg(spec))
        assert drawn is not None
        missing = [
            (whole - float(size)) / n for whole, size, n in zip(SLIDE, drawn.groups(), (columns, rows), strict=True)
        ]
        before = [dict(view) for view in views]
        for view, least in zip(views, smallest, strict=True):
            for side, more in zip(least, missing, strict=True):
                view[side] = max(view[side] + more, least[side])
        if all(abs(view[side] - old[side]) < 1 for view, old in zip(views, before, strict=True) for side in _SIDES):
            break
    return spec


def _build_over_depth(
    rows: Rows,
    marks: Rows,
    title: str | None,
    number: str,
    models: Sequence[str],
    x_title: str = "depth (layer / last layer)",
) -> Figure:
    x = alt.X(
        "depth:Q",
        title=x_title,
        axis=alt.Axis(format="%", labelFlush=False, tickCount=5),
        scale=alt.Scale(domain=[0, 1]),
    )
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False))
    # Models that are set later are named one below the other.
    columns = max(1, int(SLIDE[0] / (_SYMBOL + _LETTER * max(map(len, models))))) if models else 1
    legend = alt.Legend(
        orient="bottom",
        columns=columns,
        symbolType="stroke",
        symbolStrokeWidth=2,
        labelLimit=alt.expr(_LEGEND_LIMIT),
    )
    names = alt.ExprRef(_MODELS)
    colour = alt.Color("model:N", title=None, legend=legend, scale=alt.Scale(domain=names, range=list(COLOURS)))
    dash = alt.StrokeDash("model:N", title=None, legend=legend, scale=alt.Scale(domain=names, range=LINE_DASHES))
    value = alt.Tooltip("value:Q", title=title or "value", format=number)
    lines = (
        _build_chart(rows)
        .transform_calculate(whole=f"{_HAS_ALL_TASKS} ? datum.value : null")
        .mark_line(strokeWidth=1.8)
        .encode(x, alt.Y("whole:Q", title=title, scale=alt.Scale(zero=False)), colour, dash, order="layer:Q")
    )
    points = (
        _build_chart(rows)
        .mark_point(strokeWidth=1.5, opacity=1)
        .encode(
            x,
            y,
            colour,
            fill=alt.condition(_HAS_ALL_TASKS, colour.copy(), alt.value("transparent")),
            tooltip=[*_LAYER_TOOLTIPS, value, *_TASK_TOOLTIPS],
        )
    )
    rings = (
        _build_chart(marks)
        .mark_point(size=130, strokeWidth=2, opacity=1)
        .encode(x, y, colour, tooltip=[*_LAYER_TOOLTIPS, value, alt.Tooltip("said:N", title="chosen by")])
    )
    return alt.layer(lines, points, rings, *_build_labels(marks, x, y)).properties(width=_WIDTH, height=_HEIGHT)


def _build_labels(marks: Rows, x: alt.X, y: alt.Y) -> tuple[alt.Chart, alt.Chart]:
    """The names of marked layers above the chart, and a dotted line from each to its point.

    The outermost mark is the highest and all names point inwards, so that no line crosses a name.
    """
    lanes = (
        _build_chart(marks)
        .transform_filter("datum.word")
        .transform_calculate(inside="min(datum.depth, 1 - datum.depth)")
        .transform_window(lane="row_number()", sort=[alt.SortField("inside", order="descending")])
    )
    base = alt.expr(f"{_LANE} * (1 - datum.lane) - 6")
    is_left = "datum.depth <= 0.5"
    lines = lanes.mark_rule(strokeDash=[2, 3], opacity=0.7).encode(x, y, y2=alt.value(base))
    names = lanes.mark_text(
        y=base,
        baseline="bottom",
        align=alt.expr(f"{is_left} ? 'left' : 'right'"),
        dx=alt.expr(f"{is_left} ? 4 : -4"),
    ).encode(x, text="word:N")
    return lines, names


def _height(rows: Rows, column: str, row: int, each: alt.Step) -> int | alt.Step:
    """Height of a chart with one row per value of a column."""
    return rows[column].n_unique() * row if isinstance(rows, pl.DataFrame) else each


def _name_limit(rows: Rows) -> int:
    return _PICTURE_NAME_LIMIT if isinstance(rows, pl.DataFrame) else _NAME_LIMIT


def _params(models: Sequence[str]) -> tuple[alt.Parameter, alt.Parameter]:
    return alt.param(_MODELS, value=list(models)), alt.param(_LEGEND_LIMIT, value=SLIDE[0] - 2 * _SYMBOL)


def _build_chart(rows: Rows) -> alt.Chart:
    # Inline data: only the rows that are drawn go into the file.
    return alt.Chart(alt.InlineData(values=rows.to_dicts()) if isinstance(rows, pl.DataFrame) else rows)
