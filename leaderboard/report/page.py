"""The page: one HTML file that shows a leaderboard in a browser without a network.

This module turns the tables into the data of the page. Charts are defined in `figures`, the layout and the behaviour of
the page in `page_files`.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Sized
from dataclasses import asdict
from importlib.resources import files
from typing import Any, get_args

import altair as alt
import jinja2
import polars as pl
import vl_convert
from markupsafe import Markup

from leaderboard.analysis.layer_means import MODEL, metric_curves, score_curves
from leaderboard.analysis.schemes import Tasks, notes
from leaderboard.analysis.task_sets import task_sets
from leaderboard.config_files import read_config
from leaderboard.report import figures
from leaderboard.report.answer import answer, answer_of_all
from leaderboard.report.cells import format_cell
from leaderboard.report.figure_rows import association_rows, heat_map, marks, score_figure
from leaderboard.report.glossary import PAPER, glossary, metric_words, scheme_words
from leaderboard.report.snippets import encoder_snippet, export_command, folder_name
from leaderboard.results.remarks import some_names
from leaderboard.results.tables import Tables
from midlayer_embed import __version__
from midlayer_embed.ground.pictures import COLOURS
from midlayer_embed.terms import METRIC_TABLE, RAW

# Pixels of the text in charts.
_TEXT_SIZE = 12
# Key of all tasks together in the data of the page.
_ALL = "all"
_FILES = files("leaderboard.report") / "page_files"
_SCRIPTS = ("dom.js", "table.js", "rows.js", "charts.js", "page.js")


def page(board: Tables, **options: Any) -> str:
    """The page as HTML.

    Args:
        board: The tables, with at least one score.
        **options: Options of `Leaderboard.schemes`: tasks (the initial choice of the table), complete_only, seed.
    """
    scripts = {
        "library": vl_convert.javascript_bundle(snippet="window.vegaEmbed = vegaEmbed;"),
        "script": "\n".join((_FILES / name).read_text(encoding="utf-8") for name in _SCRIPTS),
    }
    # A browser ends a script at the first "</script", even inside a string.
    assert not any("</script" in script or "<!--" in script for script in scripts.values())
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        (_FILES / "page.html.j2").read_text(encoding="utf-8")
    )
    data = _data(board, options)
    headline, answers = _answers(board, data["groups"]["available"])
    return template.render(
        version=__version__,
        page=data,
        answer=headline,
        answers=answers,
        glossary=glossary(),
        paper=PAPER,
        picture=_picture(board, options),
        points=lambda value: format_cell("score", value),
        arrow=_arrow,
        style=Markup((_FILES / "page.css").read_text(encoding="utf-8")),
        data=Markup(_script_json(data)),
        hashes=" ".join(f"'sha256-{_sha256(script)}'" for script in scripts.values()),
        **{name: Markup(script) for name, script in scripts.items()},
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


def _data(board: Tables, options: dict[str, Any]) -> dict[str, Any]:
    how = {key: value for key, value in options.items() if key != "tasks"}
    tasks = board.scores.sort("task_type", "task")["task"].unique(maintain_order=True).to_list()
    raw = board.metrics.filter(pl.col("normalization") == RAW, pl.col("task").is_in(tasks))
    measured = set(raw["metric"])
    metrics = [name for name in METRIC_TABLE if name in measured]
    tables = {
        "scores": board.scores.with_columns(score=pl.col("main_score") * 100),
        "score_curves": score_curves(board.scores),
        "shares": heat_map(board.scores),
        "metrics": raw,
        "metric_curves": metric_curves(board.scores, board.metrics),
        "marks": marks(board, **how),
        **{over: board.schemes(tasks=over, **how) for over in get_args(Tasks)},
    }
    by_model = {name: frame.partition_by(MODEL, as_dict=True) for name, frame in tables.items()}
    return {
        "tasks": tasks,
        "metrics": [{"metric": name, **asdict(word)} for name, word in metric_words(metrics).items()],
        "schemes": [{"scheme": scheme, **asdict(word)} for scheme, word in scheme_words().items()],
        "over": options.get("tasks", "available"),
        "groups": {over: _groups(board, tables[over]) for over in get_args(Tasks)},
        "remarks": _remarks(board, tasks),
        "notes": {over: notes(tables[over]) for over in get_args(Tasks)},
        "models": [
            {
                "label": label,
                "model": which[0],
                "revision": which[1],
                **_numbers({name: found.get(which, tables[name].clear()) for name, found in by_model.items()}, tasks),
                "associations": _associations(board, which, tasks),
                "use": _use(board, which),
            }
            for which, label in board.labels().items()
        ],
        "charts": {"light": _charts(dark=False), "dark": _charts(dark=True)},
        "colours": list(COLOURS),
    }


def _groups(board: Tables, schemes: pl.DataFrame) -> list[dict[str, Any]]:
    """The models whose means are comparable, by their places in `board.models()`, the best of each group first."""
    rows = {(row["model"], row["revision"]): row for row in schemes.iter_rows(named=True)}
    place = {model: index for index, model in enumerate(board.models())}
    sets = [(_n_tasks(tasks), some_names(tasks), models) for tasks, models in task_sets(board.scores).items()]
    if schemes["tasks"][0] == "common" and schemes["n_tasks"].equals(schemes["n_shared"]):
        scored = [model for model, row in rows.items() if row["n_tasks"]]
        others = [model for model in rows if model not in scored]
        names = f"those that all {'models' if len(scored) > 1 else 'schemes'} have"
        sets = [(_n_tasks(range(max(schemes["n_tasks"].to_list()))), names, scored), (_n_tasks(()), "", others)]
    return [
        {
            "n_tasks": n_tasks,
            "title": f"{n_tasks}: {names}" if names else n_tasks,
            "models": [place[model] for model in sorted(models, key=lambda model: _by_best(rows[model]))],
        }
        for n_tasks, names, models in sets
        if models
    ]


def _n_tasks(tasks: Sized) -> str:
    return f"{len(tasks)} task{'s' if len(tasks) != 1 else ''}" if tasks else "no task with a score"


def _by_best(row: dict[str, Any]) -> tuple[Any, ...]:
    """Sorts by the score of the best layer, downwards. Means over all tasks come first: others are not comparable."""
    return -row["n_best"], -(row["best"] or 0.0), row["model"], row["revision"]


def _remarks(board: Tables, tasks: list[str]) -> list[str]:
    """What has to be known before the numbers are read."""
    starter = read_config("benchmarks", "starter")
    is_starter = any(task.startswith(starter["display_name"]) for task in tasks)
    return [*([f"{starter['display_name']} tasks: {starter['description']}"] if is_starter else []), *board.remarks]


def _answers(board: Tables, groups: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """The answer in one sentence, and the groups of models with the answer for each model, the highest score first."""
    labels = list(board.labels().values())
    found = [board.summary(*model) for model in board.models()]

    def by_score(place: int) -> tuple[bool, float]:
        summary = found[place]
        return summary is None, 0.0 if summary is None else -summary.best_score

    answers = [
        {
            **group,
            "models": [
                {"label": labels[place], "answer": answer(found[place])}
                for place in sorted(group["models"], key=by_score)
            ],
        }
        for group in groups
    ]
    return answer(found[0]) if len(found) == 1 else answer_of_all(found), answers


def _picture(board: Tables, options: dict[str, Any]) -> str:
    """The scores over depth for browsers without JavaScript, as the address of an SVG; "" if there are none."""
    how = {key: value for key, value in options.items() if key != "tasks"}
    tasks, models = next(iter(task_sets(board.scores).items()))
    if not tasks:
        return ""
    together = marks(board, **how).filter(pl.col("task").is_null())
    svg = vl_convert.vegalite_to_svg(figures.slide(score_figure(board, models[: len(COLOURS)], together)))
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _charts(*, dark: bool) -> dict[str, Any]:
    """The charts without data, compiled for Vega."""
    rows, points = alt.NamedData("rows"), alt.NamedData("marks")
    charts = {
        "scores": figures.score_over_depth(rows, points, title="score (x100)"),
        "metrics": figures.metric_over_depth(rows, points, title=None),
        "associations": figures.association_bars(rows),
        "heat": figures.score_heat_map(rows),
    }
    style = figures.style(dark=dark, size=_TEXT_SIZE)
    return {
        name: vl_convert.vegalite_to_vega({**chart.properties(width="container").to_dict(), "config": style})
        for name, chart in charts.items()
    }


def _numbers(of: dict[str, pl.DataFrame], tasks: list[str]) -> dict[str, Any]:
    """The numbers of one model: lists over the layers, in objects by the index of a task or "all"."""
    depths = of["scores"].select("layer", "depth").unique("layer").sort("layer")
    layers = depths["layer"].to_list()
    layer_marks: dict[str, dict[int, str]] = {}
    for task, layer, said in of["marks"].select("task", "layer", "said").iter_rows():
        layer_marks.setdefault(_task_key(task, tasks), {})[layer] = said
    by_metric = of["metrics"].partition_by("metric", as_dict=True)
    curves = of["metric_curves"].partition_by("metric", as_dict=True)
    return {
        "layers": layers,
        "depths": _rounded(depths["depth"]),
        "scores": {**_curve(of["score_curves"], "score", layers), **_of_tasks(of["scores"], "score", layers, tasks)},
        "shares": _of_tasks(of["shares"], "share", layers, tasks),
        "metrics": {
            name: {**_curve(curves[name,], "value", layers), **_of_tasks(frame, "value", layers, tasks)}
            for (name,), frame in by_metric.items()
            if (name,) in curves
        },
        "marks": layer_marks,
        "schemes": {over: _row(of[over]) for over in get_args(Tasks)},
    }


def _row(schemes: pl.DataFrame) -> dict[str, Any]:
    return {key: _round(value) for key, value in schemes.drop(*MODEL, "tasks").row(0, named=True).items()}


def _associations(board: Tables, which: tuple[str, str], tasks: list[str]) -> dict[str, list[list[Any]]]:
    """Rows of metric, coefficient and value, for all tasks together and for each task."""
    found: dict[str, list[list[Any]]] = {}
    together = board.associations(*which).with_columns(task=pl.lit(None, pl.String))
    for associations in (together, board.associations(*which, per_task=True)):
        rows = association_rows(associations).select("task", "metric", "coefficient", "value")
        for task, metric, coefficient, value in rows.iter_rows():
            found.setdefault(_task_key(task, tasks), []).append([metric, coefficient, _round(value)])
    return found


def _use(board: Tables, which: tuple[str, str]) -> dict[str, Any]:
    """Snippets that load and export each layer, in the order of the layers."""
    origin = board.origin(*which)
    layers = board.only(*which).scores["layer"].unique().sort().to_list()
    name = origin.loaded_from
    note = ""
    if which not in board.origins:
        note = f"{name} is the name in the table: replace it with the hub id or folder of the model."
    elif name.startswith("path/to/"):
        note = f"Replace {name} with the folder of the model."
    return {
        "note": note,
        "python": [encoder_snippet(name, layer, origin.settings) for layer in layers],
        "command": [
            export_command(name, folder_name(origin.hub_id or name, layer), layer, origin.settings) for layer in layers
        ],
    }


def _task_key(task: str | None, tasks: list[str]) -> str:
    """The key of a task in the data of the page: its index, because its name may be any string."""
    return _ALL if task is None else str(tasks.index(task))


def _curve(means: pl.DataFrame, column: str, layers: list[int]) -> dict[str, dict[str, list[Any]]]:
    """The means over all tasks, with the number of tasks in each."""
    names = {"value": column, "n_tasks": "n_tasks", "of_tasks": "of_tasks"}
    return {_ALL: {name: _by_layer(means.select("layer", column), layers) for name, column in names.items()}}


def _of_tasks(frame: pl.DataFrame, column: str, layers: list[int], tasks: list[str]) -> dict[str, list[Any]]:
    return {
        _task_key(task, tasks): _by_layer(rows.select("layer", column), layers)
        for (task,), rows in frame.partition_by("task", as_dict=True).items()
    }


def _by_layer(values: pl.DataFrame, layers: list[int]) -> list[Any]:
    """The values of two columns, layer and value, in the order of `layers`; null if a layer has none."""
    found = dict(values.iter_rows())
    return _rounded(found.get(layer) for layer in layers)


def _rounded(values: Iterable[Any]) -> list[Any]:
    return [_round(value) for value in values]


def _round(value: Any) -> Any:
    """Rounds to six significant digits, more than the page shows. NaN and infinity, which JSON lacks, become null."""
    if not isinstance(value, float):
        return value
    rounded = float(f"{value:.6g}")
    return rounded if abs(rounded) < float("inf") else None
