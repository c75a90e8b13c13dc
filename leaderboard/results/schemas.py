"""Columns of the tables, with their types. Reading and querying tables is done elsewhere."""

import polars as pl

from leaderboard.analysis.variants import RECIPE

SCORES_SCHEMA = {
    "model": pl.String,
    "revision": pl.String,
    "layer": pl.Int64,
    "depth": pl.Float64,
    "task": pl.String,
    "task_type": pl.String,
    "main_score": pl.Float64,
    **dict.fromkeys(RECIPE, pl.String),  # null for a plain layer
}

METRICS_SCHEMA = {
    "model": pl.String,
    "revision": pl.String,
    "task": pl.String,
    "metric": pl.String,
    "normalization": pl.String,
    "layer": pl.Int64,
    "value": pl.Float64,
}
