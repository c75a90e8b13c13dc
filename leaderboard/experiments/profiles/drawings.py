"""Figures of tables of profiles: checkpoints from light to dark, models by name or by size."""

import polars as pl

from leaderboard.experiments.figures import layer_curves
from leaderboard.experiments.profiles.published import without_size
from leaderboard.report.figures import Figure

_PANEL = "panel"


def draw_checkpoints(table: pl.DataFrame) -> Figure:
    """Each metric over depth, one line a checkpoint: the later, the darker, on a scale of log steps.

    Checkpoints without a number of steps, as "main", follow the last one as if each had doubled the steps.

    Args:
        table: From `checkpoints`; several runs, such as a published one, are drawn side by side.
    """
    numbered = {name: step for name, step in table.select("revision", "step").unique().iter_rows() if step is not None}
    later = float(max([*numbered.values(), 1]))
    places = {name: max(float(step), 0.5) for name, step in numbered.items()}  # step 0 has no logarithm
    names = {}
    for name in table["revision"].unique(maintain_order=True):
        if name not in numbered:
            later *= 2
            places[name], names[later] = later, name
    placed = table.with_columns(
        step=pl.col("revision").replace_strict(places, return_dtype=pl.Float64),
        **{_PANEL: _panel(table)},
    )
    return layer_curves(placed, "step", scale="log", columns=_column(placed), names=names)


def draw_compare_models(table: pl.DataFrame) -> Figure:
    """Each metric over depth, one line a model; the sizes of one family are coloured from light to dark.

    Args:
        table: From `compare_models`; published models are drawn beside those that were measured.
    """
    sizes = dict(table.select("n_parameters", "model").unique(maintain_order=True).iter_rows())
    n_models = table["model"].n_unique()
    is_family = len({without_size(name) for name in sizes.values()}) == 1 < n_models and len(sizes) == n_models
    columns = "source" if table["source"].n_unique() > 1 else None
    if is_family and None not in sizes:
        return layer_curves(table, "n_parameters", scale="log", columns=columns, names=sizes, title="model")
    return layer_curves(table, "model", columns=columns)


def _panel(table: pl.DataFrame) -> pl.Expr:
    """What tells runs apart: their source, their model, or both."""
    parts = [pl.col(name) for name in ("model", "source") if table[name].n_unique() > 1]
    return pl.concat_str(parts or [pl.col("model")], separator=", ")


def _column(table: pl.DataFrame) -> str | None:
    return _PANEL if table[_PANEL].n_unique() > 1 else None
