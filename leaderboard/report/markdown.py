"""The tables as Markdown."""

from collections.abc import Iterator
from typing import Any

import polars as pl

from leaderboard.analysis import recipes, regret
from leaderboard.analysis.schemes import Tasks, notes, shown_schemes
from leaderboard.analysis.variants import MODEL, Variant
from leaderboard.report.answer import answer, answer_of_recipes, answers_of_types
from leaderboard.report.cells import (
    RECIPE_COLUMNS,
    REGRET_COLUMNS,
    REGRET_TITLES,
    fewer_tasks,
    format_cell,
    format_coefficient,
    recipe_cells,
    regret_cells,
    regret_cost,
    regret_counts,
    variant_of,
)
from leaderboard.results.remarks import said_of_no_scores
from leaderboard.results.tables import Tables
from midlayer_embed.ground.markdown import escaped, table


def markdown(board: Tables, **options: Any) -> str:
    """Schemes and recipes of all models, then layers (the best in bold) and associations of each model.

    Layers and associations are those of plain layers; where a model has none, those of its best recipe.

    Args:
        board: The tables.
        **options: Options of `Leaderboard.schemes`: tasks, complete_only, seed.
    """
    over = options.get("tasks", "available")
    table = board.recipes(tasks=over)
    blocks = [_schemes(board, options), recipes_markdown(board, over)]
    best = [variant_of(row) for row in table.iter_rows(named=True)]
    for model, revision in board.models():
        plain, first = Variant(model, revision), next(one for one in best if one[:2] == (model, revision))
        variant = plain if plain in best else first
        blocks += [_layers(board, variant), _associations(board, variant)]
    return "\n".join("\n".join(block) for block in blocks)


def overview(board: Tables) -> str:
    """A few lines for who has just run a sweep: the answer, and the layers of one model or the best of several.

    Args:
        board: The tables.
    """
    variants = board.variants()
    if not variants:
        return "No task is finished yet."
    if len(variants) == 1:
        (one,) = variants
        summary = board.summary(*one[:2], **one.recipe())
        layers = board.layer_table(*one[:2], **one.recipe())
        said, shown = answer(summary), layers_markdown(layers, None if summary is None else summary.best)
        return f"**{escaped(one.label(one.model))}**: {said}\n\n{shown}"
    found = board.recipes()
    several = set(found.select(MODEL).unique().filter(pl.len().over("model") > 1)["model"])
    rows: list[tuple[str, ...]] = [("model", *RECIPE_COLUMNS)]
    for row in found.iter_rows(named=True):
        name = f"{row['model']} ({row['revision']})" if row["model"] in several else row["model"]
        rows.append((escaped(name), *map(escaped, recipe_cells(row))))
    lines = [table(rows, right=True)]
    remarks = [*recipes.notes(found), *notes(board.schemes())]
    lines += [f"{escaped(note[:1].upper() + note[1:])}." for note in remarks]
    return "\n\n".join(["Scores in points: each model and recipe at its best layer, and at its last.", *lines])


def _schemes(board: Tables, options: dict[str, Any]) -> Iterator[str]:
    yield "## Schemes\n"
    yield "Scores in points. In brackets: the number of tasks in a mean that lacks some of the model's tasks.\n"
    found = board.schemes(**options)
    variants = board.variants()
    named = ["model", "revision"] if all(one.is_plain for one in variants) else ["model", "revision", "recipe"]
    shown = shown_schemes(found)
    rows = [[*named, "n_tasks", "best_layer", *shown]]
    for row in found.iter_rows(named=True):
        names = (row["model"], row["revision"], variant_of(row).words())[: len(named)]
        cells = [*map(escaped, names), str(row["n_tasks"])]
        cells.append(format_cell("best_layer", row["best_layer"]))
        for scheme in shown:
            n = fewer_tasks(row, scheme)
            cells.append(format_cell("score", row[scheme]) + (f" ({n})" if n else ""))
        rows.append(cells)
    yield table(rows, right=True)
    yield ""
    for note in notes(found):
        yield f"{escaped(note[:1].upper() + note[1:])}.\n"


def recipes_markdown(
    board: Tables, over: Tasks, model: str | None = None, revision: str | None = None
) -> Iterator[str]:
    """The recipes of each model, the best in bold; nothing if there are none.

    Args:
        board: The tables.
        over: As for `Leaderboard.recipes`.
        model: Only this model.
        revision: Only models of this revision.
    """
    found = recipes.compared(board.recipes(model, revision, tasks=over))
    if found.is_empty():
        return
    of_types = board.recipes(model, revision, tasks=over, per_type=True)
    yield "## Recipes\n"
    yield "The best layer of each recipe, in points; gain is over the plain last layer (the baseline), same tasks.\n"
    of_models = found.partition_by(MODEL, as_dict=True, maintain_order=True)
    for (name, which), of_model in of_models.items():
        rows = of_model.to_dicts()
        best = next((place for place, row in enumerate(rows, start=1) if row["is_best"]), None)
        if len(of_models) > 1:
            yield f"### {escaped(name)} ({escaped(which)})\n"
        cells = [[escaped(cell) for cell in recipe_cells(row, whole=True)] for row in rows]
        yield table([RECIPE_COLUMNS, *cells], right=True, bold=best)
        yield f"\n{escaped(answer_of_recipes(rows))}\n"
        types = answers_of_types(of_types.filter(model=name, revision=which).to_dicts())
        if types:
            yield "\n".join(f"- {escaped(line)}" for line in types) + "\n"
    for note in recipes.notes(found):
        yield f"{escaped(note[:1].upper() + note[1:])}.\n"


def regret_markdown(found: pl.DataFrame, of_types: pl.DataFrame) -> str:
    """A table of regrets for each reading, the lowest first.

    Args:
        found: Result of `Leaderboard.regret`.
        of_types: The same `per_type`.
    """
    blocks = ["## Regret\n"]
    types = sorted(of_types["task_type"].unique().drop_nulls())
    by_type = {(row["reading"], row["criterion"], row["task_type"]): row["regret"] for row in of_types.to_dicts()}
    for (reading,), of_reading in found.partition_by("reading", as_dict=True, maintain_order=True).items():
        title = REGRET_TITLES[reading]
        shown = types if reading != "model" else []
        rows = [[*REGRET_COLUMNS, *map(escaped, shown), "passes", "labels", "over"]]
        for row in of_reading.iter_rows(named=True):
            cells = [format_cell("regret", by_type.get((reading, row["criterion"], kind))) for kind in shown]
            rows.append([*map(escaped, regret_cells(row)), *cells, *regret_cost(row), regret_counts(row)])
        blocks += [f"{title[:1].upper()}{title[1:]}.\n", table(rows, right=True), ""]
    blocks += [f"{escaped(note[:1].upper() + note[1:])}.\n" for note in regret.notes(found)]
    return "\n".join(blocks)


def _layers(board: Tables, variant: Variant) -> Iterator[str]:
    summary = board.summary(*variant[:2], **variant.recipe())
    yield f"## {escaped(variant.label(f'{variant.model} ({variant.revision})'))}\n"
    found = board.layer_table(*variant[:2], **variant.recipe())
    yield layers_markdown(found, None if summary is None else summary.best)
    yield f"\n{summary}\n" if summary is not None else "\nNo layer has all tasks yet.\n"
    for said in said_of_no_scores(board.of_variant(variant).no_scores()):
        yield f"{escaped(said)}.\n"


def layers_markdown(frame: pl.DataFrame, marked: int | None) -> str:
    """A layer table, or some of its columns, as a Markdown table.

    Args:
        frame: Columns of `Leaderboard.layer_table`, including layer.
        marked: The layer whose row is bold, if any.
    """
    rows = [[escaped(name) for name in frame.columns]]
    rows += [[format_cell(name, value) for name, value in row.items()] for row in frame.iter_rows(named=True)]
    layers = frame["layer"].to_list()
    return table(rows, right=True, bold=1 + layers.index(marked) if marked in layers else None)


def _associations(board: Tables, variant: Variant) -> Iterator[str]:
    found = board.associations(*variant[:2], **variant.recipe())
    if found.is_empty():
        return
    yield "Metrics against scores, over the layers:\n"
    rows = [[escaped(name) for name in found.columns]]
    rows += [[escaped(name), *map(format_coefficient, values)] for name, *values in found.iter_rows()]
    yield table(rows, right=True)
    yield ""
