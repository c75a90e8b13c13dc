"""Reads scores and metrics from table files and checks every row. Queries on them are in `tables`."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import polars as pl

from leaderboard.analysis.variants import CORPUS, RECIPE, TASK, with_recipe
from leaderboard.results.known import known_by_name
from leaderboard.results.remarks import said_of_no_scores
from leaderboard.results.schemas import METRICS_SCHEMA, SCORES_SCHEMA
from leaderboard.results.tables import Tables
from leaderboard.tasks.names import OTHER_COLUMNS
from midlayer_embed.errors import InputError
from midlayer_embed.ground.paths import user_path
from midlayer_embed.terms import MI_LOWER_BOUND, RAW


def _csv(path: Path) -> pl.DataFrame:
    return pl.read_csv(path, infer_schema=False, glob=False)  # a revision of digits stays a string


_READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    ".csv": _csv,
    ".csv.gz": _csv,
    ".parquet": lambda path: pl.read_parquet(path, glob=False),
}
# Names of metrics and normalizations in older tables, with their names here.
_OLDER_NAMES = {
    "metric": {
        "entropy_prompt": "prompt_entropy",
        "entropy_sentence": "prompt_entropy",
        "entropy_dataset": "dataset_entropy",
    },
    "normalization": {"mi-lower-bound": MI_LOWER_BOUND},
}
_MAY_BE_ABSENT = ("revision", "depth", *RECIPE)
# Columns whose values may be missing: empty or NaN.
_MAY_BE_MISSING = ("main_score", "value", *RECIPE)
_REVISION = "main"


def read_tables(scores: str | Path | None = None, metrics: str | Path | None = None) -> Tables:
    """The tables in files: what `leaderboard.load_tables` returns, without the writers.

    `load_tables` describes the columns of the files.

    Args:
        scores: A .csv, .csv.gz or .parquet file of scores.
        metrics: A .csv, .csv.gz or .parquet file of metrics.

    Returns:
        The tables; a table is empty if its file is not given.

    Raises:
        InputError: (a ValueError) no such file, a missing column, a value of the wrong type or range, or a duplicate
            row; the message names the file, the column and the row, counted from 1 without the header.
    """
    empty = Tables.empty()
    tables = Tables(
        empty.scores if scores is None else _scores(_Source("scores", user_path(scores, "scores"))),
        empty.metrics if metrics is None else _metrics(_Source("metrics", user_path(metrics, "metrics"))),
    )
    remarks = (*said_of_no_scores(tables.no_scores()), *_said_of_no_values(tables.metrics))
    return replace(tables, remarks=remarks, known=known_by_name(tables.models()))


def read_corpus_metrics(metrics: str | Path) -> pl.DataFrame:
    """Metrics that were measured over one corpus, not over tasks.

    Args:
        metrics: A .csv, .csv.gz or .parquet file with the columns model, metric, normalization, layer and value, and
            revision ("main" where there is none).

    Returns:
        Columns model, revision, metric, named (the metric's name in the file), normalization, layer, value, n_rows. A
        value that the file has several times is their mean, and n_rows says of how many; missing values have no row.

    Raises:
        InputError: (a ValueError) as `read_tables`; or the file has a column of tasks.
    """
    source = _Source("metrics", user_path(metrics, "metrics"))
    schema = {column: dtype for column, dtype in METRICS_SCHEMA.items() if column != "task"}
    found = _with_revision(source.read(schema))
    if "task" in source.whole.columns:
        raise InputError(f"metrics: {source.path} has a column 'task'; expected metrics over one corpus")
    source.check(found, "layer", pl.col("layer") >= 0, "0 or more")
    key = ["model", "revision", "metric", "named", "normalization", "layer"]
    return (
        found.with_columns(named=pl.col("metric"))
        .with_columns(pl.col(column).replace(names) for column, names in _OLDER_NAMES.items())
        .filter(pl.col("value").is_finite())
        .group_by(key, maintain_order=True)
        .agg(pl.col("value").mean(), n_rows=pl.len().cast(pl.Int64))
    )


def _said_of_no_values(metrics: pl.DataFrame) -> list[str]:
    missing = metrics.filter(pl.col("value").is_null(), pl.col("normalization") == RAW)
    if missing.is_empty():
        return []
    model, task, metric, layer = missing.select("model", "task", "metric", "layer").row(0)
    first = f"{metric} of layer {layer} of {model} on {task}"
    return [f"metrics: {missing.height} values are no finite numbers and count as missing, the first is {first}"]


class _Source:
    """A table file; error messages name it."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path

    def read(self, schema: dict[str, Any]) -> pl.DataFrame:
        """The columns of the schema that the file has, with the types of the schema."""
        found = self.whole
        missing = [column for column in schema if column not in found.columns and column not in _MAY_BE_ABSENT]
        if missing:
            has = ", ".join(found.columns) or "none"
            raise InputError(f"{self.name}: {self.path} has no column {missing[0]!r}; its columns are {has}")
        return pl.DataFrame(
            [
                self._typed(found[column], dtype, may_be_missing=column in _MAY_BE_MISSING)
                for column, dtype in schema.items()
                if column in found.columns
            ]
        )

    def check(self, frame: pl.DataFrame, column: str, right: pl.Expr, expected: str) -> None:
        """Refuses the table if `right` is false for a row; the error names the first such row."""
        wrong = frame.select(wrong=~right)["wrong"].fill_null(value=False).arg_true()
        if len(wrong):
            self.refuse(column, wrong[0], f"expected {expected}, got {frame[column][wrong[0]]!r}")

    def check_once(self, frame: pl.DataFrame, key: list[str]) -> None:
        """Refuses the table if two rows have the same key."""
        twice = (~frame.select(first=pl.struct(key).is_first_distinct())["first"]).arg_true()
        if len(twice):
            row = frame.row(twice[0], named=True)
            same = (pl.col(name).eq_missing(pl.lit(row[name])) for name in key)
            first = frame.select(same=pl.all_horizontal(same))["same"].arg_true()
            key = [name for name in key if row[name] is not None]
            values = ", ".join(f"{name} {row[name]!r}" for name in key)
            raise InputError(
                f"{self.name}: {self.path}, columns {', '.join(key)}: rows {first[0] + 1} and {twice[0] + 1} have the "
                f"same values: {values}"
            )

    def refuse(self, column: str, row: int, message: str) -> NoReturn:
        raise InputError(f"{self.name}: {self.path}, column {column!r}, row {row + 1}: {message}")

    @cached_property
    def whole(self) -> pl.DataFrame:
        """The file with all of its columns, as they are."""
        ending = next((known for known in _READERS if self.path.name.lower().endswith(known)), None)
        if ending is None:
            raise InputError(f"{self.name}: expected a file with suffix {', '.join(_READERS)}, got {str(self.path)!r}")
        if not self.path.is_file():
            raise InputError(f"{self.name}: there is no file {str(self.path)!r}")
        try:
            return _READERS[ending](self.path)
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{self.name}: {self.path} cannot be read as {ending}: {reason}") from error

    def _typed(self, values: pl.Series, dtype: Any, *, may_be_missing: bool) -> pl.Series:
        """Casts a column without loss: 12.0 is an int, 12.5 is refused. NaN and the empty string are null."""
        expected = {pl.String: "a string", pl.Int64: "an int", pl.Float64: "a number"}[dtype]
        is_text = isinstance(values.dtype, pl.String | pl.Categorical | pl.Enum)
        if not (is_text or (dtype != pl.String and values.dtype.is_numeric())) and values.null_count() < len(values):
            self.refuse(values.name, 0, f"expected {expected}, got {values[0]!r}")
        missing = values.is_null()
        if may_be_missing:
            plain_text = values.cast(pl.String).str.strip_chars().str.to_lowercase()
            missing = missing | plain_text.is_in(["", "nan"]).fill_null(value=True)
        plain = values.cast(pl.String if dtype == pl.String else pl.Float64, strict=False)
        typed = plain.cast(dtype, strict=False)
        is_wrong = typed.is_null() | (typed.cast(plain.dtype) != plain)
        wrong = (is_wrong & ~missing if may_be_missing else is_wrong).arg_true()
        if len(wrong):
            self.refuse(values.name, wrong[0], f"expected {expected}, got {values[wrong[0]]!r}")
        return pl.select(pl.when(~missing).then(typed).alias(values.name)).to_series() if may_be_missing else typed


def _scores(source: _Source) -> pl.DataFrame:
    found = with_recipe(_with_revision(source.read(SCORES_SCHEMA)))
    source.check(found, "layer", pl.col("layer") >= 0, "0 or more")
    source.check(found, "main_score", pl.col("main_score").is_between(-1, 1), "a fraction from -1 to 1, not points")
    if "depth" not in found.columns:
        highest = pl.col("layer").max().over("model", "revision")  # of all its recipes: they have the same layers
        found = found.with_columns(depth=pl.when(highest > 0).then(pl.col("layer") / highest).otherwise(0.0))
    source.check(found, "depth", pl.col("depth").is_between(0, 1), "0 to 1")
    source.check(found, "task", ~pl.col("task").is_in(OTHER_COLUMNS), "a name that is no column of a table of layers")
    fitted, is_transformed = pl.col("fitted_on"), pl.col("transform").is_not_null()
    is_named = fitted.is_in(["train", TASK]) | (fitted.str.starts_with(CORPUS) & (fitted.str.len_chars() > len(CORPUS)))
    expected = f"train, {TASK} or {CORPUS}<name> where there is a transform, else nothing"
    source.check(found, "fitted_on", is_transformed.eq(fitted.is_not_null()) & (fitted.is_null() | is_named), expected)
    source.check_once(found, ["model", "revision", "layer", "task", *RECIPE])
    return found.select(list(SCORES_SCHEMA))


def _metrics(source: _Source) -> pl.DataFrame:
    found = _with_revision(source.read(METRICS_SCHEMA))
    found = found.with_columns(pl.col(column).replace(names) for column, names in _OLDER_NAMES.items())
    source.check(found, "layer", pl.col("layer") >= 0, "0 or more")
    source.check_once(found, [column for column in METRICS_SCHEMA if column != "value"])
    return found.select(list(METRICS_SCHEMA))


def _with_revision(found: pl.DataFrame) -> pl.DataFrame:
    return found if "revision" in found.columns else found.with_columns(revision=pl.lit(_REVISION))
