"""The figures: what stands on which axis, in one style. Rows go in, charts come out; none of it knows whose rows.

Each chart is drawn as a PNG or SVG, kept as an interactive page of its own, or given its rows later, by the page that
shows it (`alt.NamedData`). Which rows there are is the business of `figure_rows`.
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
from midlayer_embed.terms import METRIC_TABLE

Rows = pl.DataFrame | alt.NamedData
Figure = alt.Chart | alt.LayerChart | alt.FacetChart | alt.ConcatChart

# From the eighth line on, lines are dashed as well.
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [12, 4])
_DASH_OF_PLACE = [dash for dash in _DASHES for _ in COLOURS]
_MODELS = "models"
_COEFFICIENTS = ("dcor", "spearman", "kendall")
_WIDTH, _HEIGHT = 460, 280
_SCALE = 2  # pixels a unit, in PNG
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"

_WHOLE = "datum.n_tasks == datum.of_tasks"
_TOLD = [
    alt.Tooltip("model:N", title="model"),
    alt.Tooltip("layer:Q", title="layer"),
    alt.Tooltip("depth:Q", title="depth", format=".2f"),
]
_BEHIND = [alt.Tooltip("n_tasks:Q", title="tasks behind it"), alt.Tooltip("of_tasks:Q", title="of")]


def score_over_depth(
    rows: Rows, marks: Rows, models: Sequence[str] = (), *, title: str = "mean score (x100)"
) -> Figure:
    """A line a model: the score over depth (the paper's Figure 1).

    A layer that misses tasks is a hollow point, through which no line goes.

    Args:
        rows: model, layer, depth, value, n_tasks, of_tasks.
        marks: Layers to point out: model, layer, depth, value, said (to the mouse), word (that stands beside it).
        models: In the order of their colours. Where rows are given later, so is this: the chart's signal "models".
        title: Of the scores.
    """
    return _over_depth(rows, marks, title, ".1f").add_params(_models(models))


def metric_over_depth(rows: Rows, marks: Rows, models: Sequence[str] = (), *, title: str) -> Figure:
    """A line a model: one metric over depth. Arguments as of `score_over_depth`."""
    return _over_depth(rows, marks, title, ".4~g").add_params(_models(models))


def metrics_over_depth(rows: pl.DataFrame, models: Sequence[str]) -> Figure:
    """A small chart a metric, a line a model (the paper's Figures 2, 10 and 12).

    Args:
        rows: As of `metric_over_depth`, and metric.
        models: In the order of their colours.
    """
    no_marks = pl.DataFrame(schema=["model", "layer", "depth", "value", "said", "word"])
    found = set(rows["metric"])
    charts = [
        _over_depth(rows.filter(metric=name), no_marks, metric.title, ".4~g").properties(width=220, height=170)
        for name, metric in METRIC_TABLE.items()
        if name in found
    ]
    return alt.concat(*charts, columns=4 if len(charts) > 4 else 3).add_params(_models(models))


def association_bars(rows: Rows) -> Figure:
    """Bars a metric: how it goes with the score over the layers (the paper's Figures 3, 8 and 9).

    Args:
        rows: metric, coefficient (dcor, spearman or kendall), value (-1..1).
    """
    bars: alt.Chart = (
        _chart(rows)
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
    """Layers across, tasks down; the lighter, the nearer to the task's best layer, which has a dot.

    Args:
        rows: task, layer, depth, score (x100), share (0 at the task's worst layer, 1 at its best).
    """
    base = _chart(rows).encode(
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
            title="from the task's worst layer to its best",
            scale=alt.Scale(scheme="cividis", domain=[0, 1]),
            legend=alt.Legend(orient="bottom", format=".0%", gradientLength=180, titleLimit=300),
        )
    )
    best = base.mark_point(filled=True, color="black", size=18, opacity=1).transform_filter("datum.share == 1")
    return alt.layer(cells, best).properties(width=_WIDTH, height=alt.Step(14))


def style(*, dark: bool = False) -> dict[str, Any]:
    """What all figures have in common, as a config of Vega-Lite.

    Args:
        dark: For dark paper. The paper itself is the page's; pictures have a white one.
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
    """Writes a figure that has its rows: as a picture, or as a page that answers to the mouse and needs no network.

    Args:
        chart: The figure.
        path: A .png, .svg or .html file; it appears whole.

    Raises:
        InputError: (a ValueError) another kind of file.
    """
    path = Path(path)
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise InputError(f"figure: expected a file of {', '.join(_WRITERS)}, got {str(path)!r}")
    spec = {**chart.to_dict(), "config": {**style(), "background": "white"}, "padding": 12}
    with atomic_file(path) as partial:
        partial.write_bytes(write(spec))


def _over_depth(rows: Rows, marks: Rows, title: str, number: str) -> Figure:
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
    dash = alt.StrokeDash("model:N", title=None, legend=legend, scale=alt.Scale(domain=names, range=_DASH_OF_PLACE))
    value = alt.Tooltip("value:Q", title=title, format=number)
    lines = (
        _chart(rows)
        .transform_calculate(whole=f"{_WHOLE} ? datum.value : null")
        .mark_line(strokeWidth=1.8)
        .encode(x, alt.Y("whole:Q", title=title, scale=alt.Scale(zero=False)), colour, dash, order="layer:Q")
    )
    points = (
        _chart(rows)
        .mark_point(strokeWidth=1.5, opacity=1)
        .encode(
            x,
            y,
            colour,
            fill=alt.condition(_WHOLE, colour.copy(), alt.value("transparent")),
            tooltip=[*_TOLD, value, *_BEHIND],
        )
    )
    chosen = _chart(marks).encode(x, y)
    rings = chosen.mark_point(size=130, strokeWidth=2, opacity=1).encode(
        colour, tooltip=[*_TOLD, value, alt.Tooltip("said:N", title="chosen by")]
    )
    words = chosen.mark_text(dy=-13, fontSize=11).encode(text="word:N")
    return alt.layer(lines, points, rings, words).properties(width=_WIDTH, height=_HEIGHT)


def _models(names: Sequence[str]) -> alt.Parameter:
    return alt.param(_MODELS, value=list(names))


def _chart(rows: Rows) -> alt.Chart:
    # Inline: what is drawn, and no more, goes into the file.
    return alt.Chart(alt.InlineData(values=rows.to_dicts()) if isinstance(rows, pl.DataFrame) else rows)
