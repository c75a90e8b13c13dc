"""Scores and metrics out of table files, checked row by row; what is asked of them is the business of `results`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import polars as pl

from leaderboard.results.folder import METRICS_SCHEMA
from leaderboard.results.tables import SCORES_SCHEMA, Leaderboard
from midlayer_embed.errors import InputError
from midlayer_embed.selection.representations import MI_LOWER_BOUND


def _csv(path: Path) -> pl.DataFrame:
    return pl.read_csv(path, infer_schema=False, glob=False)  # a revision of digits is no number


_READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    ".csv": _csv,
    ".csv.gz": _csv,
    ".parquet": lambda path: pl.read_parquet(path, glob=False),
}
# What older tables call metrics and normalizations.
_OLDER_NAMES = {
    "metric": {
        "entropy_prompt": "prompt_entropy",
        "entropy_sentence": "prompt_entropy",
        "entropy_dataset": "dataset_entropy",
    },
    "normalization": {"mi-lower-bound": MI_LOWER_BOUND},
}
_MAY_BE_ABSENT = ("revision", "depth")
_REVISION = "main"


def load_tables(scores: str | Path | None = None, metrics: str | Path | None = None) -> Leaderboard:
    """Reads scores and metrics of any number of models out of files, those of `Leaderboard.to_csv` or anyone's.

    Columns may stand in any order, and others beside them. Without `revision`, all rows are of "main"; without `depth`,
    it is the layer by the highest layer of the model and revision. Metrics of a corpus, which belong to no task, have
    no place in these tables: a file without `task` is refused.

    Args:
        scores: A .csv, .csv.gz or .parquet file: model, revision, layer, depth, task, task_type, main_score. Scores
            are fractions, not points. They may be negative, as correlations are.
        metrics: The same of metrics: model, revision, task, metric, normalization, layer, value. entropy_prompt and
            entropy_sentence are read as prompt_entropy, entropy_dataset as dataset_entropy. A value may be NaN.

    Returns:
        The leaderboard; empty tables for what is left out.

    Raises:
        InputError: (a ValueError) no such file, a column is missing, a value is not what it should be, or a row comes
            twice; the message names the file, the column and the row, counted from 1 without the header.

    Example:
        >>> board = load_tables(scores="scores.csv.gz", metrics="metrics.parquet")     # doctest: +SKIP
        >>> board.schemes()                                                            # doctest: +SKIP
    """
    board = Leaderboard.empty()
    return Leaderboard(
        board.scores if scores is None else _scores(_Source("scores", Path(scores))),
        board.metrics if metrics is None else _metrics(_Source("metrics", Path(metrics))),
    )


class _Source:
    """A table file, and how its mistakes are told."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path

    def read(self, schema: dict[str, Any]) -> pl.DataFrame:
        """The columns of the schema that are there, in their types."""
        found = self._read()
        missing = [column for column in schema if column not in found.columns and column not in _MAY_BE_ABSENT]
        if missing:
            has = ", ".join(found.columns) or "none"
            raise InputError(f"{self.name}: {self.path} has no column {missing[0]!r}; its columns are {has}")
        return pl.DataFrame(
            [self._typed(found[column], dtype) for column, dtype in schema.items() if column in found.columns]
        )

    def check(self, frame: pl.DataFrame, column: str, right: pl.Expr, expected: str) -> None:
        """Refuses a table for the first row of which `right` is not true."""
        wrong = frame.select(wrong=~right)["wrong"].arg_true()
        if len(wrong):
            self.refuse(column, wrong[0], f"expected {expected}, got {frame[column][wrong[0]]!r}")

    def check_once(self, frame: pl.DataFrame, key: list[str]) -> None:
        """Refuses a table in which two rows say something of the same."""
        twice = (~frame.select(first=pl.struct(key).is_first_distinct())["first"]).arg_true()
        if len(twice):
            row = frame.row(twice[0], named=True)
            first = frame.select(same=pl.all_horizontal(pl.col(name) == row[name] for name in key))["same"].arg_true()
            said = ", ".join(f"{name} {row[name]!r}" for name in key)
            raise InputError(
                f"{self.name}: {self.path}, columns {', '.join(key)}: rows {first[0] + 1} and {twice[0] + 1} are both "
                f"of {said}"
            )

    def refuse(self, column: str, row: int, message: str) -> NoReturn:
        raise InputError(f"{self.name}: {self.path}, column {column!r}, row {row + 1}: {message}")

    def _read(self) -> pl.DataFrame:
        ending = next((known for known in _READERS if self.path.name.lower().endswith(known)), None)
        if ending is None:
            raise InputError(f"{self.name}: expected a file of {', '.join(_READERS)}, got {str(self.path)!r}")
        if not self.path.is_file():
            raise InputError(f"{self.name}: there is no file {str(self.path)!r}")
        try:
            return _READERS[ending](self.path)
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{self.name}: {self.path} cannot be read as {ending}: {reason}") from error

    def _typed(self, values: pl.Series, dtype: Any) -> pl.Series:
        """In the type of a column, where nothing is lost by it: 12.0 is an int, 12.5 is none."""
        expected = {pl.String: "a string", pl.Int64: "an int", pl.Float64: "a number"}[dtype]
        is_text = isinstance(values.dtype, pl.String | pl.Categorical | pl.Enum)
        if not (is_text or (dtype != pl.String and values.dtype.is_numeric())) and len(values):
            self.refuse(values.name, 0, f"expected {expected}, got {values[0]!r}")
        plain = values.cast(pl.String if dtype == pl.String else pl.Float64, strict=False)
        typed = plain.cast(dtype, strict=False)
        wrong = (typed.is_null() | (typed.cast(plain.dtype) != plain)).arg_true()
        if len(wrong):
            self.refuse(values.name, wrong[0], f"expected {expected}, got {values[wrong[0]]!r}")
        return typed


def _scores(source: _Source) -> pl.DataFrame:
    found = _of_revision(source.read(SCORES_SCHEMA))
    source.check(found, "layer", pl.col("layer") >= 0, "0 or more")
    source.check(found, "main_score", pl.col("main_score").is_between(-1, 1), "a fraction of at most 1, not points")
    if "depth" not in found.columns:
        highest = pl.col("layer").max().over("model", "revision")
        found = found.with_columns(depth=pl.when(highest > 0).then(pl.col("layer") / highest).otherwise(0.0))
    source.check(found, "depth", pl.col("depth").is_between(0, 1), "0 to 1")
    source.check_once(found, ["model", "revision", "layer", "task"])
    return found.select(list(SCORES_SCHEMA))


def _metrics(source: _Source) -> pl.DataFrame:
    found = _of_revision(source.read(METRICS_SCHEMA))
    found = found.with_columns(pl.col(column).replace(names) for column, names in _OLDER_NAMES.items())
    source.check(found, "layer", pl.col("layer") >= 0, "0 or more")
    source.check_once(found, [column for column in METRICS_SCHEMA if column != "value"])
    return found.select(list(METRICS_SCHEMA))


def _of_revision(found: pl.DataFrame) -> pl.DataFrame:
    return found if "revision" in found.columns else found.with_columns(revision=pl.lit(_REVISION))
