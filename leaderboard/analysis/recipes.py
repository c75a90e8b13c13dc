"""Compares the recipes of a model: the best layer of each, beside the plain last layer over the same tasks."""

import polars as pl

from leaderboard.analysis.schemes import Tasks, check_comparison
from leaderboard.analysis.variants import IS_PLAIN, MODEL, RECIPE, SAID_OF_TRANSDUCTIVE, TASK
from midlayer_embed.options import DEFAULT_POOLING_MODE

_COLUMNS = (
    *("tasks", "template", "pooling", "transform", "fitted_on", "transductive", "n_tasks"),
    *("best_layer", "best", "last", "baseline", "gain", "is_best", "label"),
)
# A model's name without its pooling, and the number of a recipe of it.
_BASE, _LINE = ("base", "revision"), "line"


def recipes(scores: pl.DataFrame, tasks: Tasks = "available", per_type: bool = False) -> pl.DataFrame:
    """The recipes of every model, in points. A pooling is a part of a recipe.

    - best: the highest mean over the recipe's tasks, among the layers that have a score for all of them; best_layer.
    - last: the mean of the model's last layer with this recipe; null if it did not run, or lacks one of the tasks.
    - baseline: the mean of the plain last layer over the same tasks: what people do without a recipe. Null if it has
      not all of them. Where plain layers were pooled in several ways, those with the mean count.
    - gain: best minus baseline.
    - transductive: whether the transform was fitted on the evaluated texts themselves. Such rows come last.
    - is_best: true for one row of a model: the highest `best` among the recipes that have the most tasks and are not
      transductive. It is chosen by the labels that it is scored on: an upper bound.

    Args:
        scores: Scores with the columns of `Leaderboard.scores`, and `base`, the model's name without its pooling, and
            `pooling`.
        tasks: "available": each recipe over the tasks that it has; "common": over the tasks that all recipes of all
            models have, or, if there are none, that all recipes of a model have, or, if there are none, as available.
        per_type: Whether to compare within each type of tasks, in a column task_type.

    Returns:
        One row per recipe (and type), the best first: model, revision, (task_type,) tasks, template, pooling,
        transform, fitted_on, transductive, n_tasks, best_layer, best, last, baseline, gain, is_best, and label, the
        model's name in the other tables.

    Raises:
        InputError: (a ValueError) `tasks` is neither "available" nor "common".
    """
    check_comparison(tasks)
    lines = (
        scores.rename({"model": "label"})
        .select(*_BASE, "label", "pooling", *RECIPE)
        .unique(maintain_order=True)
        .with_row_index(_LINE)
    )
    within = ["task_type"] if per_type else []
    keys = ["label", "revision", *RECIPE]
    points = pl.when(pl.col("main_score").is_finite()).then(pl.col("main_score") * 100)
    tried = (
        scores.rename({"model": "label"})
        .join(lines.select(*keys, _LINE), on=keys, nulls_equal=True)
        .select(_LINE, "base", "revision", "task_type", "task", "layer", "depth", score=points)
        .drop_nulls("score")
    )
    if tasks == "common":
        tried = _common(tried)
    by = [_LINE, *within]
    n_tasks = tried.group_by(by).agg(n_tasks=pl.col("task").n_unique().cast(pl.Int64))
    layers = (
        tried.group_by(*by, "layer")
        .agg(mean=pl.col("score").mean(), n=pl.col("task").n_unique(), depth=pl.col("depth").first())
        .join(n_tasks, on=by)
        .filter(pl.col("n") == pl.col("n_tasks"))
        .sort("mean", "layer", descending=[True, False])
    )
    best = layers.group_by(by, maintain_order=True).agg(best_layer=pl.col("layer").first(), best=pl.col("mean").first())
    last = layers.filter(pl.col("depth") == 1).select(*by, last="mean")
    baseline = _baselines(tried, lines, by)
    found = lines
    for on, frame in ((_LINE, n_tasks), *((by, frame) for frame in (best, last, baseline))):
        found = found.join(frame, on=on, how="left", nulls_equal=True)
    found = found.with_columns(
        pl.col("n_tasks").fill_null(0),
        tasks=pl.lit(tasks),
        transductive=pl.col("fitted_on").eq_missing(pl.lit(TASK)),
        gain=pl.col("best") - pl.col("baseline"),
    )
    return _ranked(found, within)


def compared(table: pl.DataFrame) -> pl.DataFrame:
    """The rows of the models that have a recipe besides the plain one: where there is something to compare.

    Args:
        table: A result of `recipes`.
    """
    return table.filter((pl.len().over(MODEL) > 1) | IS_PLAIN.not_().any().over(MODEL))


def notes(table: pl.DataFrame) -> list[str]:
    """What has to be said beside the numbers of a table of recipes, one sentence each; empty if nothing has.

    Args:
        table: A result of `recipes`.
    """
    found = []
    models = table.group_by(MODEL, maintain_order=True).agg(
        lacks=pl.col("baseline").is_null().all(), differs=pl.col("n_tasks").n_unique() > 1
    )
    lacking = models.filter("lacks")["model"].to_list()
    if lacking:
        others = f" and {len(lacking) - 1} more models" if len(lacking) > 1 else ""
        found.append(
            f"the baseline is missing: the plain last layer of {lacking[0]}{others} has no score for these tasks, so "
            "there is no gain"
        )
    if models["differs"].any():
        means = "each gain is over the baseline on the same tasks, but do not compare the means"
        more = "the recipes share no task" if table["tasks"][0] == "common" else "tasks common takes the shared tasks"
        found.append(f"the recipes have different tasks: {means}; {more}")
    return [*found, SAID_OF_TRANSDUCTIVE] if table["transductive"].any() else found


def _common(tried: pl.DataFrame) -> pl.DataFrame:
    """The scores of the tasks that all lines have; if none is, of those that all lines of a model have, if any is."""
    n_lines = pl.col(_LINE).n_unique()
    shared = tried.filter(n_lines.over("task") == tried[_LINE].n_unique())
    if not shared.is_empty():
        return shared
    is_own = n_lines.over(*_BASE, "task") == n_lines.over(_BASE)
    return tried.filter(is_own | ~is_own.any().over(_BASE))


def _baselines(tried: pl.DataFrame, lines: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """The mean of the plain last layer over the tasks of each line."""
    plain = (
        lines.filter(IS_PLAIN)
        .sort(pl.col("pooling") != DEFAULT_POOLING_MODE, "label", maintain_order=True)
        .unique(list(_BASE), keep="first")
    )
    last = tried.join(plain.select(_LINE), on=_LINE, how="semi").filter(pl.col("depth") == 1)
    of_task = last.select(*_BASE, "task", plain="score")
    return (
        tried.unique([_LINE, "task"])
        .join(of_task, on=[*_BASE, "task"], how="left")
        .group_by(by)
        .agg(baseline=pl.when(pl.col("plain").null_count() == 0).then(pl.col("plain").mean()).first())
    )


def _ranked(found: pl.DataFrame, within: list[str]) -> pl.DataFrame:
    """Models in their order, the recipes of each from the best on, and which is named the best."""
    of = [*_BASE, *within]
    order = found.select(_BASE).unique(maintain_order=True).with_row_index("order")
    may_win = ~pl.col("transductive") & pl.col("best").is_not_null()
    most = pl.col("n_tasks").filter(~pl.col("transductive")).max().over(of)
    ranked = (
        found.join(order, on=_BASE)
        .sort(
            *("order", *within, "transductive"),
            *(pl.col("n_tasks").neg(), pl.col("best").neg(), IS_PLAIN.not_(), _LINE),
            nulls_last=True,
        )
        .with_columns(may_win=may_win & (pl.col("n_tasks") == most))
        .with_columns(is_best=pl.col("may_win") & pl.col("may_win").cum_sum().over(of).eq(1))
        .rename({"base": "model"})
    )
    return ranked.select(*MODEL, *within, *_COLUMNS)
