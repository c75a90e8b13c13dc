"""Figures of the experiments in the house style: small multiples of curves over the layers."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import polars as pl

from leaderboard.report.figures import LINE_DASHES, Figure
from midlayer_embed.ground.pictures import COLOURS, TEXT_SIZE
from midlayer_embed.terms import METRIC_TABLE, RAW

# The lightest colours of the scheme are left out: they are hard to see on white.
_SCHEME = alt.SchemeParams("viridis", extent=[0.95, 0.08])
_WIDTH, _HEIGHT = 150, 100
# More values than this are not named one by one, but by a colour bar.
_MOST_NAMES = 20


def layer_curves(
    table: pl.DataFrame,
    colour: str,
    *,
    scale: str = "nominal",
    rows: str = "metric",
    columns: str | None = None,
    x: str = "depth",
    title: str | None = None,
    names: Mapping[float, str] | None = None,
) -> Figure:
    """Small multiples of curves over the layers.

    Args:
        table: Columns model, layer, depth, metric, value and those that are named; values that are not raw are left
            out, if there is a column `normalization`.
        colour: Column that has a line each.
        scale: "nominal" for names; "linear" or "log" for numbers, which are coloured from light (low) to dark (high).
        rows: Column with a row of charts for each value.
        columns: Column with a column of charts for each value; None: the charts of `rows` stand side by side.
        x: "depth" or "layer".
        title: What the colours mean; None: the name of the column.
        names: What some of the numbers are called in the legend.

    Returns:
        The figure, for `leaderboard.report.figures.save_figure`.
    """
    drawn = table.filter(pl.col("normalization") == RAW) if "normalization" in table.columns else table
    drawn = drawn.filter(pl.col("value").is_finite())
    values = drawn[colour].unique(maintain_order=True).to_list()
    colours: list[Any] = [colour_of(colour, scale, values, title, names)]
    if scale == "nominal" and len(values) > len(COLOURS):  # colours come again, with another dash
        dashes = alt.Scale(domain=values, range=LINE_DASHES)
        colours.append(alt.StrokeDash(f"{colour}:N", title=None, scale=dashes, legend=colours[0]["legend"]))
    charts: list[alt.Chart] = []
    width = 1
    for row in _in_order(rows, drawn[rows].unique(maintain_order=True).to_list()):
        of_row = drawn.filter(pl.col(rows) == row)
        if columns is None:
            charts.append(_chart(of_row, x, _name(rows, row), colours, colour))
            continue
        across = drawn[columns].unique(maintain_order=True).to_list()
        width = len(across)
        for column in across:
            some = of_row.filter(pl.col(columns) == column)
            said = f"{_name(rows, row)}: {_name(columns, column)}" if width > 1 else _name(rows, row)
            charts.append(_chart(some, x, said, colours, colour))
    width = width if width > 1 else 2 if len(charts) in (2, 4) else min(3, len(charts))
    figure: alt.ConcatChart = alt.concat(*charts, columns=width).resolve_scale(color="shared", strokeDash="shared")
    return figure


def _chart(rows: pl.DataFrame, x: str, said: str, colours: Sequence[Any], colour: str) -> alt.Chart:
    depth = alt.X(
        "depth:Q",
        title="depth",
        axis=alt.Axis(format="%", labelFlush=False, tickCount=5),
        scale=alt.Scale(domain=[0, 1]),
    )
    place = depth if x == "depth" else alt.X(f"{x}:Q", title=x, axis=alt.Axis(tickMinStep=1))
    kept = list(dict.fromkeys(["model", "layer", "depth", "value", colour]))
    tips = [alt.Tooltip(f"{name}:{'N' if name in ('model', colour) else 'Q'}") for name in kept]
    chart: alt.Chart = (
        alt.Chart(rows.select(kept))
        .mark_line(strokeWidth=1.6, point=alt.OverlayMarkDef(size=14, opacity=1))
        .encode(
            place,
            alt.Y("value:Q", title=None, scale=alt.Scale(zero=False)),
            *colours,
            detail=list(dict.fromkeys(["model:N", f"{colour}:N"])),
            order="layer:Q",
            tooltip=tips,
        )
        .properties(
            width=_WIDTH,
            height=_HEIGHT,
            title=alt.Title(said, fontSize=TEXT_SIZE + 1, anchor="start", frame="group"),
        )
    )
    return chart


def colour_of(
    column: str,
    scale: str,
    values: Sequence[Any],
    title: str | None = None,
    names: Mapping[float, str] | None = None,
) -> alt.Color:
    """The colours of a column's values, with a legend below the figure.

    Args:
        column: The column.
        scale: As for `layer_curves`.
        values: Its values, in the order of a nominal scale.
        title: Title of the legend; None: the name of the column.
        names: What some of the numbers are called in the legend.
    """
    said = column if title is None else title
    if scale == "nominal":
        domain = alt.Scale(domain=list(values), range=list(COLOURS))
        legend = alt.Legend(
            orient="bottom", columns=4, symbolType="stroke", symbolStrokeWidth=2, symbolOpacity=1, labelLimit=0
        )
        return alt.Color(f"{column}:N", title=None if column == "model" else said, scale=domain, legend=legend)
    kind = alt.Scale(type=scale, scheme=_SCHEME)  # type: ignore[arg-type]
    if len(values) <= _MOST_NAMES:
        numbers = sorted(value for value in values if isinstance(value, (int, float)))
        strokes: dict[str, Any] = {"symbolType": "stroke", "symbolStrokeWidth": 2, "labelLimit": 0}
        legend = alt.Legend(orient="right", type="symbol", values=numbers, labelExpr=_in_words(names), **strokes)
    else:
        legend = alt.Legend(orient="right", type="gradient", gradientLength=200, labelExpr=_in_words(names))
    return alt.Color(f"{column}:Q", title=said, scale=kind, legend=legend)


def _in_words(names: Mapping[float, str] | None) -> str:
    """The expression of Vega for the label of a number: its name if it has one."""
    cases = [f"datum.value == {number!r} ? {json.dumps(name)}" for number, name in (names or {}).items()]
    return " : ".join([*cases, f"format(datum.value, '{'~s' if names else '~g'}')"])


def _in_order(column: str, values: Sequence[str]) -> list[str]:
    """Metrics in the order of the table of metrics; other values as they come."""
    if column != "metric":
        return list(values)
    order = list(METRIC_TABLE)
    return sorted(values, key=lambda name: order.index(name) if name in order else len(order))


def _name(column: str, value: str) -> str:
    known = METRIC_TABLE.get(value) if column == "metric" else None
    return str(value) if known is None else known.title
