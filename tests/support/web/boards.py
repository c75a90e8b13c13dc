"""Leaderboards without a sweep."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from leaderboard import Leaderboard
from leaderboard.analysis.variants import RECIPE
from leaderboard.results.schemas import METRICS_SCHEMA, SCORES_SCHEMA


def scores_of(rows: Sequence[Sequence[Any]]) -> pl.DataFrame:
    """A table of scores: the values of its columns without those of a recipe, for plain layers, or with them."""
    none = (None,) * len(RECIPE)
    whole = [(*row, *none)[: len(SCORES_SCHEMA)] for row in rows]
    return pl.DataFrame(whole, schema=SCORES_SCHEMA, orient="row")


def board_of(models: list[str], tasks: list[str], n_layers: int, metrics: tuple[str, ...]) -> Leaderboard:
    """A score and metrics of every layer, each number another one."""
    last = n_layers - 1
    cells = [(m, t, k) for m in range(len(models)) for t in range(len(tasks)) for k in range(n_layers)]

    def number(*places: int) -> float:
        return (
            sum((place + 1) * step for place, step in zip(places, (7919, 104729, 1299709, 611953), strict=False)) % 9973
        ) / 9973

    scores = [(models[m], "main", k, k / last, tasks[t], "STS", number(m, t, k)) for m, t, k in cells]
    values = [
        (models[m], "main", tasks[t], metric, "raw", k, number(m, t, k, i))
        for m, t, k in cells
        for i, metric in enumerate(metrics)
    ]
    return Leaderboard(
        scores_of(scores),
        pl.DataFrame(values, schema=METRICS_SCHEMA, orient="row"),
    )
