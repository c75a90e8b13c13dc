"""How the numbers of the tables are spelt for people, in a terminal and in Markdown alike."""

from collections.abc import Mapping
from typing import Any

from midlayer_embed.selection.representations import METRICS


def format_cell(column: str, value: float | int | None) -> str:
    """A number of the layer table as people read it: points to 1, depths to 2, metrics to 3 decimals.

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
    """A number of the associations' table: coefficients to 3 decimals, counts as they are.

    Example:
        >>> format_coefficient(-0.5885), format_coefficient(29), format_coefficient(None)
        ('-0.589', '29', '-')
    """
    return f"{value:.3f}" if isinstance(value, float) else "-" if value is None else str(value)


SCHEME_COLUMNS = ("scheme", "score", "95% interval", "regret", "tasks")


def scheme_cells(row: Mapping[str, Any], scheme: str) -> tuple[str, ...]:
    """One scheme of a row of the schemes' table, as it stands under `SCHEME_COLUMNS`.

    The best single layer is named, where there is one. A single task has no interval: its resamples are all the same.

    Example:
        >>> row = {"last": 45.5, "last_low": 40.53, "last_high": 51.0, "regret_last": 6.5, "n_last": 32}
        >>> scheme_cells(row, "last")
        ('last', '45.5', '40.5 to 51.0', '6.5', '32')
    """
    named = scheme == "best" and row["best_layer"] is not None
    name = f"best: layer {row['best_layer']}" if named else scheme
    n = row[f"n_{scheme}"]
    ends = (format_cell(scheme, row[f"{scheme}_{end}"]) for end in ("low", "high"))
    interval = " to ".join(ends) if n > 1 else "-"
    regret = format_cell("regret", row.get(f"regret_{scheme}"))
    return (name, format_cell(scheme, row[scheme]), interval, regret, str(n))


def fewer_tasks(row: Mapping[str, Any], scheme: str) -> int | None:
    """How many tasks are behind a scheme in a row of the schemes' table, where it has some but not all of them.

    Example:
        >>> fewer_tasks({"n_tasks": 32, "n_min_dime": 29, "n_last": 32}, "min_dime")
        29
    """
    n = row[f"n_{scheme}"]
    return n if 0 < n < row["n_tasks"] else None
