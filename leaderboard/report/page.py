"""The page: one file that shows a leaderboard in a browser, from a disk, without a network.

Here the leaderboard becomes the page's data. What a chart looks like is the business of `figures`; what the page looks
like and how it answers, of `page_files`.
"""

import base64
import hashlib
import json
from collections.abc import Iterable
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import altair as alt
import jinja2
import polars as pl
import vl_convert
from markupsafe import Markup

from leaderboard.layer_means import metric_curves, score_curves
from leaderboard.report import figures
from leaderboard.report.figure_rows import association_rows, heat_map, marks
from leaderboard.report.snippets import encoder_snippet, export_command, folder_name
from leaderboard.schemes import SCHEMES
from midlayer_embed import __version__
from midlayer_embed.curves import LABELS
from midlayer_embed.representations import RAW

if TYPE_CHECKING:
    from leaderboard.results import Leaderboard

_FILES = files("leaderboard.report") / "page_files"


def page(board: "Leaderboard", **options: Any) -> str:
    """The page as HTML.

    Args:
        board: The tables; at least one score.
        **options: Of `Leaderboard.schemes`: tasks (which the table shows first), complete_only, seed.
    """
    scripts = {
        "library": vl_convert.javascript_bundle(),
        "script": "\n".join((_FILES / name).read_text(encoding="utf-8") for name in ("charts.js", "page.js")),
    }
    # In a page, a script ends at its first "</script", wherever that stands; and so would one of ours.
    assert not any("</script" in script or "<!--" in script for script in scripts.values())
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        (_FILES / "page.html.j2").read_text(encoding="utf-8")
    )
    data = _data(board, options)
    return template.render(
        n_models=len(data["models"]),
        n_tasks=len(data["tasks"]),
        version=__version__,
        style=Markup((_FILES / "page.css").read_text(encoding="utf-8")),
        data=Markup(_for_a_script(data)),
        hashes=" ".join(f"'sha256-{_sha256(script)}'" for script in scripts.values()),
        **{name: Markup(script) for name, script in scripts.items()},
    )


def _for_a_script(data: dict[str, Any]) -> str:
    """JSON in which nothing can end the script element that it stands in."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _data(board: "Leaderboard", options: dict[str, Any]) -> dict[str, Any]:
    tasks = board.scores["task"].unique(maintain_order=True).to_list()
    measured = set(board.metrics.filter(pl.col("normalization") == RAW)["metric"])
    metrics = [name for name in LABELS if name in measured]
    how = {key: value for key, value in options.items() if key != "tasks"}
    return {
        "tasks": tasks,
        "metrics": [{"name": name, "title": LABELS[name]} for name in metrics],
        "schemes": list(SCHEMES),
        "over": options.get("tasks", "available"),
        "models": [
            _model(board.only(model, revision), label, tasks, metrics, how)
            for (model, revision), label in board.labels().items()
        ],
        "charts": _charts(),
        "colours": list(figures.COLOURS),
        "styles": {"light": figures.style(), "dark": figures.style(dark=True)},
    }


def _charts() -> dict[str, Any]:
    rows, points = alt.NamedData("rows"), alt.NamedData("marks")
    charts = {
        "scores": figures.score_over_depth(rows, points, title="score (x100)"),
        "metrics": figures.metric_over_depth(rows, points, title="metric"),
        "associations": figures.association_bars(rows),
        "heat": figures.score_heat_map(rows),
    }
    return {
        name: chart.properties(
            width="container", autosize=alt.AutoSizeParams(type="fit-x", contains="padding")
        ).to_dict()
        for name, chart in charts.items()
    }


def _model(
    board: "Leaderboard", label: str, tasks: list[str], metrics: list[str], how: dict[str, Any]
) -> dict[str, Any]:
    """What the page knows of one model; lists of values go by the place of a layer, tasks by their own place."""
    (model, revision), scores = board.models()[0], board.scores
    depths = scores.select("layer", "depth").unique("layer").sort("layer")
    layers = depths["layer"].to_list()
    places = {task: str(place) for place, task in enumerate(tasks)} | {None: "all"}
    points = scores.with_columns(value=pl.col("main_score") * 100)
    heat = heat_map(scores)
    of_tasks = {name: board.metrics.filter(metric=name, normalization=RAW) for name in metrics}
    metric_means = metric_curves(scores, board.metrics)
    pointed_out: dict[str, dict[int, str]] = {}
    for task, layer, said in marks(board, **how).select("task", "layer", "said").iter_rows():
        pointed_out.setdefault(places[task], {})[layer] = said
    return {
        "label": label,
        "model": model,
        "revision": revision,
        "layers": layers,
        "depths": _rounded(depths["depth"]),
        "scores": {
            "all": _curve(score_curves(scores), "score", layers),
            **{places[task]: _values(points.filter(task=task), "value", layers) for task in scores["task"].unique()},
        },
        "shares": {places[task]: _values(heat.filter(task=task), "share", layers) for task in heat["task"].unique()},
        "metrics": {
            name: {
                "all": _curve(metric_means.filter(metric=name), "value", layers),
                **{places[task]: _values(frame.filter(task=task), "value", layers) for task in _known(frame, tasks)},
            }
            for name, frame in of_tasks.items()
            if not frame.is_empty()
        },
        "marks": pointed_out,
        "associations": _associations(board, places),
        "schemes": {
            over: {
                key: _round(value)
                for key, value in board.schemes(tasks=over, **how).row(0, named=True).items()
                if key not in ("model", "revision", "tasks")
            }
            for over in ("available", "common")
        },
        "use": _use(board, layers),
    }


def _known(frame: pl.DataFrame, tasks: list[str]) -> list[str]:
    """Tasks may have metrics and no score."""
    found = set(frame["task"])
    return [task for task in tasks if task in found]


def _associations(board: "Leaderboard", places: dict[str | None, str]) -> dict[str, list[list[Any]]]:
    model, revision = board.models()[0]
    found: dict[str, list[list[Any]]] = {}
    for frame in (
        association_rows(board.associations(model, revision)).with_columns(task=pl.lit(None, pl.String)),
        association_rows(board.associations(model, revision, per_task=True)),
    ):
        for task, metric, coefficient, value in frame.select("task", "metric", "coefficient", "value").iter_rows():
            found.setdefault(places[task], []).append([metric, coefficient, _round(value)])
    return found


def _use(board: "Leaderboard", layers: list[int]) -> dict[str, Any]:
    model, revision = board.models()[0]
    origin = board.origin(model, revision)
    name = origin.loaded_from
    note = ""
    if (model, revision) not in board.origins:
        note = f"{name} is what the table calls it: put its hub id or folder there."
    elif name.startswith("path/to/"):
        note = f"{name}: put the model's own folder there."
    return {
        "note": note,
        "python": [encoder_snippet(name, layer, origin.settings) for layer in layers],
        "command": [
            export_command(name, folder_name(origin.hub_id or name, layer), layer, origin.settings) for layer in layers
        ],
    }


def _curve(means: pl.DataFrame, column: str, layers: list[int]) -> dict[str, list[Any]]:
    return {
        "value": _values(means, column, layers),
        "n_tasks": _values(means, "n_tasks", layers),
        "of_tasks": _values(means, "of_tasks", layers),
    }


def _values(frame: pl.DataFrame, column: str, layers: list[int]) -> list[Any]:
    """A column by the place of a layer; null where there is nothing."""
    found = dict(frame.select("layer", column).iter_rows())
    return _rounded(found.get(layer) for layer in layers)


def _rounded(values: Iterable[Any]) -> list[Any]:
    return [_round(value) for value in values]


def _round(value: Any) -> Any:
    """Six significant digits: more than anyone sees, fewer than a float has. JSON knows neither NaN nor infinity."""
    if not isinstance(value, float):
        return value
    rounded = float(f"{value:.6g}")
    return rounded if abs(rounded) < float("inf") else None
