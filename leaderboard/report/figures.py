"""Figures in one style: functions from rows to Altair charts.

A chart is saved as PNG, SVG or interactive HTML, or receives its rows later, on the page that shows it
(`alt.NamedData`). `figure_rows` prepares the rows.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl
import vl_convert

from midlayer_embed.errors import InputError
from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.ground.colours import COLOURS
from midlayer_embed.ground.paths import target_file
from midlayer_embed.terms import METRIC_TABLE

Rows = pl.DataFrame | alt.NamedData
Figure = alt.Chart | alt.LayerChart | alt.FacetChart | alt.ConcatChart

# From the eighth model on, lines are dashed as well.
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [12, 4])
_LINE_DASHES = [dash for dash in _DASHES for _ in COLOURS]
_MODELS = "models"
_COEFFICIENTS = ("dcor", "spearman", "kendall")
_WIDTH, _HEIGHT = 460, 280
_SCALE = 2  # pixels per unit, in PNG
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"

_HAS_ALL_TASKS = "datum.n_tasks == datum.of_tasks"
_LAYER_TOOLTIPS = [
    alt.Tooltip("model:N", title="model"),
    alt.Tooltip("layer:Q", title="layer"),
    alt.Tooltip("depth:Q", title="depth", format=".2f"),
]
_TASK_TOOLTIPS = [alt.Tooltip("n_tasks:Q", title="tasks"), alt.Tooltip("of_tasks:Q", title="of")]


def score_over_depth(
    rows: Rows, marks: Rows, models: Sequence[str] = (), *, title: str = "mean score (x100)"
) -> Figure:
    """Score over depth, one line per model (the paper's Figure 1).

    Layers without a score for some tasks are hollow points, not connected by a line.

    Args:
        rows: Columns model, layer, depth, value, n_tasks, of_tasks.
        marks: Layers to highlight, with columns model, layer, depth, value, said (tooltip), word (label).
        models: Model names in the order of their colours. Like rows, they can be set later: in the signal "models".
        title: Title of the score axis.
    """
    return _build_over_depth(rows, marks, title, ".1f").add_params(_build_models_param(models))


def metric_over_depth(rows: Rows, marks: Rows, models: Sequence[str] = (), *, title: str) -> Figure:
    """One metric over depth, one line per model. Takes the arguments of `score_over_depth`."""
    return _build_over_depth(rows, marks, title, ".4~g").add_params(_build_models_param(models))


def metrics_over_depth(rows: pl.DataFrame, models: Sequence[str]) -> Figure:
    """Small multiples: one chart per metric, one line per model (the paper's Figures 2, 10 and 12).

    Args:
        rows: Columns of `metric_over_depth`, and metric.
        models: Model names in the order of their colours.
    """
    no_marks = pl.DataFrame(schema=["model", "layer", "depth", "value", "said", "word"])
    measured = set(rows["metric"])
    charts = [
        _build_over_depth(rows.filter(metric=name), no_marks, metric.title, ".4~g").properties(width=220, height=170)
        for name, metric in METRIC_TABLE.items()
        if name in measured
    ]
    return alt.concat(*charts, columns=4 if len(charts) > 4 else 3).add_params(_build_models_param(models))


def association_bars(rows: Rows) -> Figure:
    """Association of each metric with the score over the layers, as bars (the paper's Figures 3, 8 and 9).

    Args:
        rows: Columns metric, coefficient (dcor, spearman or kendall), value (-1..1).
    """
    bars: alt.Chart = (
        _build_chart(rows)
        .mark_bar()
        .encode(
            alt.Y("metric:N", title=None, sort=None, axis=alt.Axis(labelLimit=200)),
            alt.X("value:Q", title="correlation with the score", scale=alt.Scale(domain=[-1, 1])),
            alt.YOffset("coefficient:N", sort=list(_COEFFICIENTS)),
            alt.Color(
                "coefficient:N",
                title=None,
                sort=list(_COEFFICIENTS),
                scale=alt.Scale(domain=list(_COEFFICIENTS), range=list(COLOURS[: len(_COEFFICIENTS)])),
                legend=alt.Legend(orient="bottom"),
            ),
            tooltip=[
                alt.Tooltip("metric:N"),
                alt.Tooltip("coefficient:N"),
                alt.Tooltip("value:Q", format=".3f"),
            ],
        )
        .properties(width=_WIDTH, height=alt.Step(9))
    )
    return bars


def score_heat_map(rows: Rows) -> Figure:
    """Heat map of layers and tasks. Lighter is closer to the task's best layer, which is marked by a dot.

    Args:
        rows: Columns task, layer, depth, score (x100), share (0 at the task's worst layer, 1 at its best).
    """
    base = _build_chart(rows).encode(
        alt.X("layer:O", title="layer", axis=alt.Axis(labelOverlap=True, labelAngle=0)),
        alt.Y("task:N", title=None, sort=None, axis=alt.Axis(labelLimit=240)),
        tooltip=[
            alt.Tooltip("task:N"),
            alt.Tooltip("layer:O"),
            alt.Tooltip("depth:Q", format=".2f"),
            alt.Tooltip("score:Q", title="score (x100)", format=".1f"),
        ],
    )
    cells = base.mark_rect(stroke=None).encode(
        alt.Color(
            "share:Q",
            title="from the task's worst layer to its best layer",
            scale=alt.Scale(scheme="cividis", domain=[0, 1]),
            legend=alt.Legend(orient="bottom", format=".0%", gradientLength=180, titleLimit=300),
        )
    )
    best = base.mark_point(filled=True, color="black", size=18, opacity=1).transform_filter("datum.share == 1")
    return alt.layer(cells, best).properties(width=_WIDTH, height=alt.Step(14))


def style(*, dark: bool = False) -> dict[str, Any]:
    """Vega-Lite config shared by all figures.

    Args:
        dark: Use colours for a dark background. The page sets the background; pictures have a white one.
    """
    ink, faint = ("#E6E6E6", "#3C3C3C") if dark else ("#222222", "#E4E4E4")
    return {
        "background": None,
        "font": _FONT,
        "view": {"stroke": None},
        "axis": {
            "labelColor": ink,
            "titleColor": ink,
            "gridColor": faint,
            "domainColor": faint,
            "tickColor": faint,
            "titleFontWeight": "normal",
        },
        "legend": {"labelColor": ink, "titleColor": ink, "titleFontWeight": "normal", "labelLimit": 260},
        "title": {"color": ink, "fontWeight": "normal"},
        "text": {"color": ink},
        "rule": {"color": ink},
        "point": {"size": 22},
    }


_WRITERS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    ".png": lambda spec: vl_convert.vegalite_to_png(spec, scale=_SCALE),
    ".svg": lambda spec: vl_convert.vegalite_to_svg(spec).encode(),
    ".html": lambda spec: vl_convert.vegalite_to_html(spec, bundle=True).encode(),
}


def save_figure(chart: Figure, path: str | Path) -> None:
    """Save a figure with its rows as a picture, or as an interactive page that needs no network.

    Args:
        chart: The figure.
        path: A .png, .svg or .html file, moved into place when complete.

    Raises:
        InputError: (a ValueError) if the file has another suffix.
    """
    path = target_file(path)
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise InputError(f"figure: expected a file with suffix {', '.join(_WRITERS)}, got {str(path)!r}")
    spec = {**chart.to_dict(), "config": {**style(), "background": "white"}, "padding": 12}
    with atomic_file(path) as partial:
        partial.write_bytes(write(spec))


def _build_over_depth(rows: Rows, marks: Rows, title: str, number: str) -> Figure:
    x = alt.X(
        "depth:Q",
        title="depth (layer / last layer)",
        axis=alt.Axis(format="%", labelFlush=False),
        scale=alt.Scale(domain=[0, 1]),
    )
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False))
    legend = alt.Legend(orient="bottom", columns=1, symbolType="stroke", symbolStrokeWidth=2)
    names = alt.ExprRef(_MODELS)
    colour = alt.Color("model:N", title=None, legend=legend, scale=alt.Scale(domain=names, range=list(COLOURS)))
    dash = alt.StrokeDash("model:N", title=None, legend=legend, scale=alt.Scale(domain=names, range=_LINE_DASHES))
    value = alt.Tooltip("value:Q", title=title, format=number)
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
    chosen = _build_chart(marks).encode(x, y)
    rings = chosen.mark_point(size=130, strokeWidth=2, opacity=1).encode(
        colour, tooltip=[*_LAYER_TOOLTIPS, value, alt.Tooltip("said:N", title="chosen by")]
    )
    labels = chosen.mark_text(dy=-13, fontSize=11).encode(text="word:N")
    return alt.layer(lines, points, rings, labels).properties(width=_WIDTH, height=_HEIGHT)


def _build_models_param(names: Sequence[str]) -> alt.Parameter:
    return alt.param(_MODELS, value=list(names))


def _build_chart(rows: Rows) -> alt.Chart:
    # Inline data: only the rows that are drawn go into the file.
    return alt.Chart(alt.InlineData(values=rows.to_dicts()) if isinstance(rows, pl.DataFrame) else rows)
