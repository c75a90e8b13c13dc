"""Columns of the tables with their types, and names of files. Reading and querying tables is done elsewhere."""

import polars as pl

from leaderboard.analysis.variants import RECIPE

# Files that mteb has beside the results of an experiment.
META, RUN_SETTINGS = "model_meta.json", "run_settings.jsonl"

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

# Columns of the files of metrics besides: the texts that each row was measured on, and its provenance as JSON.
OF_TEXTS = {"dataset_revision": pl.String, "seed": pl.Int64, "max_texts": pl.Int64}
METRICS_FILE_SCHEMA = {**METRICS_SCHEMA, **OF_TEXTS, "provenance": pl.String}

# Numbers of one name that differ by less are the same: results of two machines differ in the last digits.
ROUNDING = 1e-6
