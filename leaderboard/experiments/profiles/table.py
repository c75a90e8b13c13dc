"""The table of profiles: one row for each number, measured here or published, and mean scores as one more metric."""

from pathlib import Path

import polars as pl

from leaderboard.analysis.variants import IS_PLAIN, with_recipe
from leaderboard.results.load import read_results
from leaderboard.results.table_files import read_tables
from midlayer_embed.errors import InputError
from midlayer_embed.ground.paths import is_url, user_path
from midlayer_embed.terms import RAW

SCHEMA = {
    "model": pl.String,
    "revision": pl.String,
    "source": pl.String,  # MEASURED, or where it was published
    "step": pl.Int64,  # of the training; null where the revision's name tells none
    "n_blocks": pl.Int64,
    "n_parameters": pl.Int64,  # without a head; null where nothing tells
    "layer": pl.Int64,
    "depth": pl.Float64,
    "metric": pl.String,
    "normalization": pl.String,
    "value": pl.Float64,
    "n_texts": pl.Int64,  # null where it was published
    "final_norm": pl.Boolean,
    "max_seq_length": pl.Int64,
    "seed": pl.Int64,
}
MEASURED = "measured"
# The mean score over tasks, in points, beside the metrics.
SCORE = "score"
_CURVE = ["model", "revision", "source"]


def with_scores(table: pl.DataFrame, scores: "str | Path | pl.DataFrame") -> pl.DataFrame:
    """The table with one more metric, "score": the mean main score of each layer, in points.

    The mean is over the tasks that all models have that are in both tables; a layer without one of them has no row.

    Args:
        table: From `checkpoints`, `compare_models`, or published.
        scores: A results folder, a .csv, .csv.gz or .parquet file, or a table with the columns of `Leaderboard.scores`.
            Scores of recipes are not taken.

    Raises:
        InputError: (a ValueError) no model of the table has scores, or the models have no task in common.
    """
    found = with_recipe(_read_scores(scores)).filter(IS_PLAIN, pl.col("main_score").is_finite())
    curves = table.select(*_CURVE, "step", "n_blocks", "n_parameters").unique(_CURVE, maintain_order=True)
    matched = _matched(curves, found)
    if matched.is_empty():
        have = ", ".join(found["model"].unique(maintain_order=True)) or "none"
        asked = ", ".join(curves["model"].unique(maintain_order=True))
        raise InputError(f"scores: expected scores of {asked}; there are those of {have}")
    n_curves = matched.select(_CURVE).n_unique()
    n_with = pl.struct(_CURVE).n_unique().over("task")
    common = matched.filter(n_with == n_curves)
    if common.is_empty():
        names = ", ".join(matched["model"].unique(maintain_order=True))
        raise InputError(f"scores: there is no task that all of {names} have scores of")
    n_tasks = common["task"].n_unique()
    means = (
        common.group_by(*_CURVE, "step", "n_blocks", "n_parameters", "layer", maintain_order=True)
        .agg(value=pl.col("main_score").mean() * 100, n_tasks=pl.col("task").n_unique())
        .filter(pl.col("n_tasks") == n_tasks)
        .sort("layer", maintain_order=True)
        .with_columns(depth=pl.col("layer") / pl.col("n_blocks"), metric=pl.lit(SCORE), normalization=pl.lit(RAW))
    )
    return pl.concat([table, means.drop("n_tasks")], how="diagonal").select(table.columns)


def _read_scores(scores: "str | Path | pl.DataFrame") -> pl.DataFrame:
    if isinstance(scores, pl.DataFrame):
        return scores
    is_folder = is_url(scores) or user_path(scores, "scores").is_dir()
    return (read_results(scores) if is_folder else read_tables(scores=scores)).scores


def _matched(curves: pl.DataFrame, scores: pl.DataFrame) -> pl.DataFrame:
    """The scores of the models of a table, with the columns of the table.

    A model with one revision in both tables is the same model, whatever its revision is called: a folder has a hash,
    and a table of scores that names no revision has "main".
    """
    exact = curves.join(scores, on=["model", "revision"])
    alone = pl.col("revision").n_unique().over("model") == 1
    rest = curves.filter(alone).join(exact, on=_CURVE, how="anti")
    by_name = rest.join(scores.filter(alone).drop("revision"), on="model")
    return pl.concat([exact, by_name.select(exact.columns)])
