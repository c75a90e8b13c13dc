"""Formats the numbers of the tables, for the terminal and for Markdown."""

from collections.abc import Mapping
from typing import Any

from leaderboard.analysis.variants import Variant, default_pooling
from midlayer_embed.terms import METRICS


def format_cell(column: str, value: float | int | None) -> str:
    """Format a number of the layer table: points with 1 decimal, depths with 2, metrics with 3.

    Example:
        >>> format_cell("layer", 3), format_cell("mean", 51.48), format_cell("dataset_entropy", None)
        ('3', '51.5', '-')
    """
    if value is None:
        return "-"
    if isinstance(value, int):
        return str(value)
    decimals = 2 if column == "depth" else 3 if column in METRICS else 1
    return f"{value:.{decimals}f}"


def format_coefficient(value: float | int | None) -> str:
    """Format a number of the associations table: coefficients with 3 decimals, counts as integers.

    Example:
        >>> format_coefficient(-0.5885), format_coefficient(29), format_coefficient(None)
        ('-0.589', '29', '-')
    """
    return f"{value:.3f}" if isinstance(value, float) else "-" if value is None else str(value)


def plain_cell(value: object) -> str:
    """Format a value of any table: numbers with 3 digits that count.

    Example:
        >>> plain_cell(0.12345), plain_cell(12), plain_cell(None), plain_cell("attn_out")
        ('0.123', '12', '-', 'attn_out')
    """
    if value is None or value != value:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


SCHEME_COLUMNS = ("scheme", "score", "95% interval", "regret", "tasks")


def scheme_cells(row: Mapping[str, Any], scheme: str) -> tuple[str, ...]:
    """Format one scheme of a row of the schemes table, in the order of `SCHEME_COLUMNS`.

    The name of `best` includes its layer, if there is one; so does that of `last` if the model's last layer did not
    run. There is no interval over a single task, because all its
    resamples are equal.

    Example:
        >>> row = {"last": 45.5, "last_low": 40.53, "last_high": 51.0, "regret_last": 6.5, "n_last": 32}
        >>> scheme_cells(row, "last")
        ('last', '45.5', '40.5 to 51.0', '6.5', '32')
    """
    named = scheme == "best" and row["best_layer"] is not None
    name = f"best: layer {row['best_layer']}" if named else scheme
    if scheme == "last" and row.get("last_layer") != row.get("n_blocks"):
        name = f"last that ran: layer {row['last_layer']}"
    n = row[f"n_{scheme}"]
    ends = (format_cell("score", row[f"{scheme}_{end}"]) for end in ("low", "high"))
    interval = " to ".join(ends) if n > 1 else "-"
    regret = format_cell("regret", row.get(f"regret_{scheme}"))
    return (name, format_cell("score", row[scheme]), interval, regret, str(n))


def fewer_tasks(row: Mapping[str, Any], scheme: str) -> int | None:
    """Number of tasks that a scheme is averaged over, if it lacks some; None if it has all tasks, or none.

    Example:
        >>> fewer_tasks({"n_tasks": 32, "n_min_dime": 29, "n_last": 32}, "min_dime")
        29
    """
    n = row[f"n_{scheme}"]
    return n if 0 < n < row["n_tasks"] else None


RECIPE_COLUMNS = ("recipe", "pooling", "best", "at", "last", "gain", "tasks")


def recipe_cells(row: Mapping[str, Any], *, whole: bool = False) -> tuple[str, ...]:
    """Format a row of the recipes table, in the order of `RECIPE_COLUMNS`.

    Args:
        row: Row of `Leaderboard.recipes`.
        whole: Whether a long template is told whole.

    Example:
        >>> row = {"model": "m", "revision": "r", "template": "echo", "transform": "whiten:10", "fitted_on": "train"}
        >>> numbers = {"best": 71.34, "best_layer": 24, "last": 70.0, "gain": 36.44, "n_tasks": 4}
        >>> recipe_cells({**row, **numbers, "pooling": "weightedmean"})
        ('echo, whiten:10 on train', 'weightedmean', '71.3', '24', '70.0', '+36.4', '4')
    """
    gain = "-" if row["gain"] is None else f"{row['gain']:+.1f}"
    points = (format_cell(name, row[name]) for name in ("best", "best_layer", "last"))
    return (variant_of(row).words(whole=whole), row["pooling"], *points, gain, str(row["n_tasks"]))


def recipe_name(row: Mapping[str, Any]) -> str:
    """A recipe in words, with a pooling that its template does not have by itself."""
    words = variant_of(row).words()
    return words if row["pooling"] == default_pooling(row["template"]) else f"{words}, {row['pooling']} pooling"


def variant_of(row: Mapping[str, Any]) -> Variant:
    """The variant of a row of any table; in a table of recipes, its model has the column label."""
    names = ("revision", "template", "transform", "fitted_on")
    return Variant(row.get("label", row["model"]), *(row[name] for name in names))


# The lowest regret that a table shows.
_ANY = 0.05

REGRET_COLUMNS = ("criterion", "regret", "95% interval", "worst", "where")
REGRET_TITLES = {
    "model": "one layer a model: points below its best layer, on the mean over the types of tasks",
    "type": "the same layer: points below the best layer of each type of tasks",
    "task": "one layer a task: points below its best layer",
}


def regret_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Format a row of the regrets table, in the order of `REGRET_COLUMNS`.

    Example:
        >>> row = {"criterion": "last", "regret": 2.04, "low": 1.0, "high": 3.06, "worst": 4.6, "worst_on": "STS17"}
        >>> where = {"worst_model": "org/m", "worst_revision": "main", "worst_template": None}
        >>> regret_cells({**row, **where, "worst_transform": None, "worst_fitted_on": None})
        ('last', '2.0', '1.0 to 3.1', '4.6', 'org/m, STS17')
    """
    low, high = (format_cell("regret", row[end]) for end in ("low", "high"))
    where = "-"
    if (row["worst"] or 0) >= _ANY:
        variant = variant_of({name.removeprefix("worst_"): value for name, value in row.items()})
        name = None if variant.revision == "main" else f"{variant.model} ({variant.revision})"
        where = ", ".join(filter(None, (variant.label(name), row["worst_on"])))
    interval = "-" if row["low"] is None else f"{low} to {high}"
    return (
        row["criterion"],
        format_cell("regret", row["regret"]),
        interval,
        format_cell("regret", row["worst"]),
        where,
    )


def regret_counts(row: Mapping[str, Any]) -> str:
    """How many models and tasks are behind a row of the regrets table.

    Example:
        >>> regret_counts({"n_models": 8, "n_tasks": 1})
        '8 models, 1 task'
    """
    counts = ((row["n_models"], "model"), (row["n_tasks"], "task"))
    return ", ".join(f"{n} {word}{'' if n == 1 else 's'}" for n, word in counts)


def regret_cost(row: Mapping[str, Any]) -> tuple[str, str]:
    """What a criterion needs: forward passes over the texts, and labels.

    Example:
        >>> regret_cost({"passes": 16, "labels": "none"}), regret_cost({"passes": 0, "labels": "other models"})
        (('16', '-'), ('-', 'other models'))
    """
    return str(row["passes"] or "-"), "-" if row["labels"] == "none" else row["labels"]
