"""A section about other models: their best layers by published scores, which this package has."""

import altair as alt
import polars as pl
import vl_convert

from leaderboard.models.published import Published, published_layers
from leaderboard.report.figures import Figure, slide, titled
from leaderboard.report.page_files.sections import Section
from midlayer_embed.errors import InputError
from midlayer_embed.ground.pictures import COLOURS

_TITLE = "Best layers by published scores"


def published_section() -> Section:
    """The best layers of `configs/published`, each beside the last one.

    Raises:
        InputError: (a ValueError) nothing is published.
    """
    found = list(published_layers().values())[::-1]  # in the order of the files
    if not found:
        raise InputError("published: no scores are published in configs/published")
    sources = ", ".join(sorted({one.source for one in found}))
    return Section(
        anchor="published",
        title=_TITLE,
        lead="Where the best layer of other models is. This page has no layer by layer scores of them.",
        svg=vl_convert.vegalite_to_svg(slide(titled(_figure(found), _TITLE, "Mean score (x100)"))),
        caption="For each model, the score of the last layer and that of its best layer.",
        columns=("model", "best layer", "of", "depth", "best", "last", "gain", "tasks"),
        rows=[_cells(one) for one in found],
        n_names=1,
        note=f"Means of mteb's main scores, in points. Source: {sources}.",
    )


def _name(one: Published) -> str:
    return one.name if one.revision == "main" else f"{one.name} ({one.revision})"


def _cells(one: Published) -> tuple[str, ...]:
    depth = f"{one.layer / one.n_blocks:.2f}"
    points = (f"{one.best:.1f}", f"{one.last:.1f}", f"{one.best - one.last:+.1f}")
    return (_name(one), str(one.layer), str(one.n_blocks), depth, *points, str(one.n_tasks))


def _figure(found: list[Published]) -> Figure:
    names = [_name(one).rpartition("/")[2] for one in found]
    rows = pl.DataFrame({"model": names, "best": [one.best for one in found], "last": [one.last for one in found]})
    points = rows.unpivot(index="model", variable_name="layer", value_name="score")
    y = alt.Y("model:N", title=None, sort=None, axis=alt.Axis(labelLimit=300))
    x = alt.X("score:Q", title=None, scale=alt.Scale(zero=False))
    which = list(rows.columns[1:])
    colour = alt.Color(
        "layer:N",
        title=None,
        legend=alt.Legend(orient="bottom"),
        scale=alt.Scale(domain=which, range=list(COLOURS[: len(which)])),
    )
    lines = alt.Chart(rows).mark_rule(color=COLOURS[-1]).encode(y, alt.X("last:Q", title=None), alt.X2("best:Q"))
    dots = alt.Chart(points).mark_point(filled=True, size=70, opacity=1).encode(x, y, colour)
    return alt.layer(lines, dots).properties(width=400, height=14 * len(found))
