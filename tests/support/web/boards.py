"""Leaderboards without a sweep."""

import polars as pl

from leaderboard import Leaderboard
from leaderboard.results.schemas import METRICS_SCHEMA, SCORES_SCHEMA


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
        pl.DataFrame(scores, schema=SCORES_SCHEMA, orient="row"),
        pl.DataFrame(values, schema=METRICS_SCHEMA, orient="row"),
    )
