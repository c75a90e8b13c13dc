"""The data of the page: the tables as lists and objects, for its template and its scripts."""

from collections.abc import Iterable, Sized
from dataclasses import asdict, replace
from typing import Any, get_args

import polars as pl

from leaderboard.analysis import recipes
from leaderboard.analysis.layer_means import metric_curves, score_curves
from leaderboard.analysis.regret import notes as notes_of_regret
from leaderboard.analysis.rules import RULE
from leaderboard.analysis.schemes import Tasks, notes, shown_schemes
from leaderboard.analysis.task_sets import task_sets
from leaderboard.analysis.variants import MODEL, VARIANT, Variant, distinct
from leaderboard.config_files import read_config
from leaderboard.models.labels import without_pooling
from leaderboard.models.origin import Origin
from leaderboard.report.answer import answer_of_recipes, answers_of_types
from leaderboard.report.cells import (
    format_cell,
    recipe_cells,
    recipe_name,
    regret_cells,
    regret_cost,
    regret_counts,
    variant_of,
)
from leaderboard.report.figure_rows import RecipeCurves, association_rows, heat_map, marks, recipe_curves
from leaderboard.report.glossary import metric_words, scheme_words
from leaderboard.report.snippets import encode_command, export_command, folder_name, images_command, layer_snippet
from leaderboard.results.remarks import some_names
from leaderboard.results.tables import Tables
from leaderboard.tasks.names import OWN_BENCHMARKS, starter_tasks
from midlayer_embed.ground.pictures import COLOURS
from midlayer_embed.terms import METRIC_TABLE, RAW

# Key of all tasks together in the data of the page.
_ALL = "all"
# What the command below the snippet does.
_OF_LAYERS = "Or export a folder that plain sentence-transformers loads:"
_OF_IMAGES = "Or embed a folder of images, as a file of vectors:"
_OF_SITES = (
    "Stock models return the output of whole blocks, so only a layer can be exported. To embed a file at this site:"
)


def page_data(board: Tables, options: dict[str, Any]) -> dict[str, Any]:
    """All that the page shows, except its charts' definitions.

    Args:
        board: The tables.
        options: Options of `Leaderboard.schemes`.
    """
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
    shown = shown_schemes(pl.concat([tables[over] for over in get_args(Tasks)]))
    of_recipes = _names_of_recipes(board)
    by_variant = {name: frame.partition_by(_keys(frame), as_dict=True) for name, frame in tables.items()}
    return {
        "tasks": tasks,
        "metrics": [{"metric": name, **asdict(word)} for name, word in metric_words(metrics).items()],
        "schemes": [{"scheme": scheme, **asdict(word)} for scheme, word in scheme_words().items() if scheme in shown],
        "over": options.get("tasks", "available"),
        "groups": {over: _groups(board, tables[over]) for over in get_args(Tasks)},
        "remarks": _remarks(board, tasks),
        "notes": {over: notes(tables[over]) for over in get_args(Tasks)},
        "models": [
            {
                "label": label,
                "model": variant.model,
                "revision": variant.revision,
                "base": without_pooling(variant.model)[0],
                "short": of_recipes[variant],
                "recipe": None if variant.is_plain else variant.words(whole=True),
                "transductive": variant.is_transductive,
                **_numbers({name: _of(variant, by, tables[name]) for name, by in by_variant.items()}, tasks),
                "associations": _associations(board, variant, tasks),
                "use": _use(board, variant),
            }
            for variant, label in board.variant_labels().items()
        ],
        "recipes": _recipes(board, options.get("tasks", "available")),
        "recipe_notes": recipes.notes(recipes.compared(board.recipes(tasks=options.get("tasks", "available")))),
        "regret": _regret(board, options.get("seed", 0)),
        "colours": list(COLOURS),
    }


def _names_of_recipes(board: Tables) -> dict[Variant, str]:
    """What the recipes of a model are called beside each other."""
    found: dict[Variant, str] = {}
    for of_model in board.recipes().partition_by(MODEL):
        found |= distinct({variant_of(row): recipe_name(row) for row in of_model.iter_rows(named=True)})
    return found


def _keys(frame: pl.DataFrame) -> list[str]:
    """Metrics have no recipe: those of a model are of all its variants."""
    return [name for name in VARIANT if name in frame.columns]


def _of(variant: Variant, by_variant: dict[tuple[Any, ...], pl.DataFrame], frame: pl.DataFrame) -> pl.DataFrame:
    return by_variant.get(variant[: len(_keys(frame))], frame.clear())


def _recipes(board: Tables, over: Tasks) -> list[dict[str, Any]]:
    """The recipes of each model that has some, the best first, and their curves."""
    place = {variant: index for index, variant in enumerate(board.variants())}
    curves = {next(iter(one.names))[:2]: one for one in recipe_curves(board, over)}
    found = []
    table = recipes.compared(board.recipes(tasks=over))
    of_types = board.recipes(tasks=over, per_type=True)
    for of_model in table.partition_by(MODEL, maintain_order=True):
        rows = of_model.to_dicts()
        drawn = next((curves[variant_of(row)[:2]] for row in rows if variant_of(row)[:2] in curves), None)
        found.append(
            {
                "model": rows[0]["model"] if drawn is None else drawn.model,
                "answer": answer_of_recipes(rows),
                "types": answers_of_types(
                    of_types.filter(model=rows[0]["model"], revision=rows[0]["revision"]).to_dicts()
                ),
                "rows": [
                    {
                        "place": place[variant_of(row)],
                        "cells": recipe_cells(row),
                        "whole": variant_of(row).words(whole=True),
                        "is_best": row["is_best"],
                        "transductive": row["transductive"],
                    }
                    for row in rows
                ],
                "curves": None if drawn is None else _curves_of(drawn, place),
            }
        )
    return found


def _regret(board: Tables, seed: int) -> dict[str, Any] | None:
    """The table of regrets, one row per criterion, the lowest first; None if there is none.

    Each cell is its text with the value that it is sorted by. Criteria are compared where all of them pick a layer: if
    that is nowhere, as for results with other metrics each, it is a table of the models with the same metrics.
    """
    table, same = board.regret(seed=seed), ""
    if not table.filter(reading="model")["n"].sum():
        board, same = _with_same_metrics(board), ", those with the same metrics"
        table = board.regret(seed=seed)
    rows = [row for row in table.filter(reading="model").to_dicts() if row["n"]]
    if not rows:
        return None
    of_types = board.regret(per_type=True, seed=seed).filter(reading="type")
    types = sorted(of_types["task_type"].unique())
    by_type = {(rule, kind): value for rule, kind, value in of_types.select(RULE, "task_type", "regret").iter_rows()}
    of_task = dict(table.filter(reading="task").select(RULE, "regret").iter_rows())
    found = []
    for row in rows:
        name, regret, interval, worst, where = regret_cells(row)
        points = [*(by_type.get((name, kind)) for kind in types), of_task[name]]
        passes, labels = regret_cost(row)
        found.append(
            [
                (name, name),
                (regret, row["regret"]),
                (interval, row["high"]),
                (worst, row["worst"]),
                *((format_cell("regret", value), value) for value in points),
                (passes, row["passes"]),
                (labels, labels),
                (where, where),
            ]
        )
    return {
        "over": f"{regret_counts(rows[0])}{same}",
        "types": types,
        "rows": [[{"text": text, "value": _round(value)} for text, value in cells] for cells in found],
        "notes": notes_of_regret(table),
    }


def _with_same_metrics(board: Tables) -> Tables:
    """The models with one set of metrics: the set that most models have."""
    raw = board.metrics.filter(pl.col("normalization") == RAW)
    sets = raw.group_by(MODEL, maintain_order=True).agg(pl.col("metric").unique().sort())
    if sets.is_empty():
        return board
    most = (
        sets.group_by("metric", maintain_order=True)
        .agg(pl.struct(MODEL).alias("models"))
        .sort(pl.col("models").list.len(), descending=True, maintain_order=True)
    )
    models = most.select("models").head(1).explode("models").unnest("models")
    scores, metrics = (frame.join(models, on=MODEL, how="semi") for frame in (board.scores, board.metrics))
    return replace(board, scores=scores, metrics=metrics)


def _curves_of(drawn: RecipeCurves, place: dict[Variant, int]) -> dict[str, Any]:
    """The rows of the chart, each with the place of its variant among the models of the page."""
    places = {name: place[variant] for variant, name in drawn.names.items()}

    def rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
        return [
            {name: _round(value) for name, value in {**row, "place": places[row["model"]]}.items()}
            for row in frame.iter_rows(named=True)
        ]

    return {"names": list(places), "rows": rows(drawn.scores), "marks": rows(drawn.marks), "note": drawn.note}


def _groups(board: Tables, schemes: pl.DataFrame) -> list[dict[str, Any]]:
    """The models and recipes whose means are comparable, by their places, the best of each group first."""
    rows = {variant_of(row): row for row in schemes.iter_rows(named=True)}
    place = {variant: index for index, variant in enumerate(board.variants())}
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
    """Sorts by the score of the best layer, downwards.

    Means over all tasks come first: others are not comparable. Transforms that saw the evaluated texts come last.
    """
    variant = variant_of(row)
    names = tuple(value or "" for value in variant)
    return variant.is_transductive, -row["n_best"], -(row["best"] or 0.0), *names


def _remarks(board: Tables, tasks: list[str]) -> list[str]:
    """What has to be known before the numbers are read."""
    found = [
        f"{config['display_name']} tasks: {config['description']}"
        for name, config in ((name, read_config("benchmarks", name)) for name in OWN_BENCHMARKS)
        if set(tasks).intersection(starter_tasks(name))
    ]
    return [*found, *board.remarks]


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
    return {key: _round(value) for key, value in schemes.drop(*VARIANT, "tasks").row(0, named=True).items()}


def _associations(board: Tables, variant: Variant, tasks: list[str]) -> dict[str, list[list[Any]]]:
    """Rows of metric, coefficient and value, for all tasks together and for each task."""
    found: dict[str, list[list[Any]]] = {}
    together = board.associations(*variant[:2], **variant.recipe()).with_columns(task=pl.lit(None, pl.String))
    for associations in (together, board.associations(*variant[:2], per_task=True, **variant.recipe())):
        rows = association_rows(associations).select("task", "metric", "coefficient", "value")
        for task, metric, coefficient, value in rows.iter_rows():
            found.setdefault(_task_key(task, tasks), []).append([metric, coefficient, _round(value)])
    return found


def _use(board: Tables, variant: Variant) -> dict[str, Any]:
    """Snippets that load and export each layer, in the order of the layers."""
    origin = board.origin(variant.model, variant.revision, variant.template, variant.transform)
    layers = board.of_variant(variant).scores["layer"].unique().sort().to_list()
    name, is_image = origin.loaded_from, origin.modality == "image"
    note = ""
    if variant[:2] not in board.origins:
        note = f"{name} is the name in the table: replace it with the hub id or folder of the model."
    elif name.startswith("path/to/"):
        note = f"Replace {name} with the folder of the model."
    return {
        "note": note,
        "python": [layer_snippet(origin, layer, variant.fitted_on) for layer in layers],
        "way": _OF_IMAGES if is_image else _OF_SITES if "site" in origin.settings else _OF_LAYERS,
        "command": [_command(origin, layer) for layer in layers],
    }


def _command(origin: Origin, layer: int) -> str:
    """The command of the way to use a layer."""
    name, settings = origin.loaded_from, origin.settings
    if origin.modality == "image":
        return images_command(name, layer, settings)
    if "site" in settings:
        return encode_command(name, layer, settings)
    return export_command(name, folder_name(origin.hub_id or name, layer), layer, settings)


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
