"""Tables out of files, and every mistake in them told with its place."""

from collections.abc import Callable
from math import inf, nan
from pathlib import Path

import polars as pl
import pytest

from leaderboard import Leaderboard, load_tables
from leaderboard.analysis.variants import RECIPE
from leaderboard.results.schemas import METRICS_SCHEMA, SCORES_SCHEMA
from midlayer_embed.errors import InputError

_SCORES = pl.DataFrame(
    {
        "model": ["m", "m", "m", "n"],
        "revision": ["1e5", "1e5", "007", "main"],  # digits, and no numbers
        "layer": [0, 3, 6, 2],
        "task": ["A", "A", "A", "A"],
        "task_type": ["STS"] * 4,
        "main_score": [0.5, -0.03, 0.1 + 0.2, 1.0],
    }
)
_METRICS = pl.DataFrame(
    {
        "model": ["m", "m"],
        "revision": ["main", "main"],
        "task": ["A", "A"],
        "metric": ["dime", "lidar"],
        "normalization": ["raw", "logD"],
        "layer": [0, 0],
        "value": [-0.25, nan],
    }
)


def _write(frame: pl.DataFrame, path: Path) -> Path:
    writers: dict[str, Callable[[], None]] = {
        ".parquet": lambda: frame.write_parquet(path),
        ".csv": lambda: frame.write_csv(path),
        ".gz": lambda: frame.write_csv(path, compression="gzip"),
    }
    writers[path.suffix]()
    return path


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet"])
def test_tables_come_back_as_they_were_written(tmp_path: Path, ending: str) -> None:
    board = load_tables(_write(_SCORES, tmp_path / f"s[1]{ending}"), _write(_METRICS, tmp_path / f"m*{ending}"))
    assert board.scores.schema == SCORES_SCHEMA and board.metrics.schema == METRICS_SCHEMA
    assert board.scores.drop("depth", *RECIPE).equals(_SCORES)
    assert board.metrics.equals(_METRICS.with_columns(pl.col("value").fill_nan(None)))


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_score_that_is_no_number_is_missing_and_told_with_its_layer_and_task(
    tmp_path: Path, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    changed = _with(_SCORES, "main_score", [0.5, nan, None, 1.0])
    board = load_tables(_write(changed, tmp_path / f"s{ending}"))
    assert board.scores["main_score"].to_list() == [0.5, None, None, 1.0]
    assert caplog.messages == ["m: layer 3 has no score on A: NaN; layer 6 has no score on A: NaN"]
    board.to_csv(tmp_path / "again")
    assert load_tables(tmp_path / "again" / "scores.csv").scores.equals(board.scores)


def test_a_metric_that_is_no_number_is_missing_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    raw = _METRICS.with_columns(normalization=pl.lit("raw"))
    changed = pl.concat([raw.with_columns(layer=pl.lit(n, pl.Int64), value=v) for n, v in enumerate([inf, nan])])
    board = load_tables(metrics=_write(changed, tmp_path / "m.csv"))
    assert board.metrics["value"].to_list() == [None] * 4
    said = "metrics: 4 values are no finite numbers and count as missing, the first is dime of layer 0 of m on A"
    assert caplog.messages == [said]


def test_whole_numbers_may_have_a_point(tmp_path: Path) -> None:
    for name in ("s.csv", "s.parquet"):
        board = load_tables(_write(_SCORES.with_columns(pl.col("layer").cast(pl.Float64)), tmp_path / name))
        assert board.scores["layer"].to_list() == [0, 3, 6, 2]


def test_depth_is_made_of_the_highest_layer_of_each_model_and_revision(tmp_path: Path) -> None:
    frame = pl.concat([_SCORES, _SCORES.head(1).with_columns(model=pl.lit("of one layer"))])
    board = load_tables(_write(frame, tmp_path / "s.csv"))
    assert board.scores["depth"].to_list() == [0, 1, 1, 1, 0]
    assert board.metrics.equals(Leaderboard.empty().metrics)
    told = load_tables(_write(_SCORES.with_columns(depth=pl.lit(0.125)), tmp_path / "t.csv"))
    assert told.scores["depth"].to_list() == [0.125] * 4


def test_what_is_left_out_is_empty(tmp_path: Path) -> None:
    board = load_tables(metrics=_write(_METRICS, tmp_path / "m.csv"))
    assert board.scores.equals(Leaderboard.empty().scores)
    assert load_tables().metrics.is_empty()


def test_without_a_revision_it_is_main_and_other_columns_are_not_kept(tmp_path: Path) -> None:
    frame = (
        _SCORES.drop("revision")
        .with_columns(note=pl.lit("x"))
        .select(reversed(["note", *_SCORES.columns[2:], "model"]))
    )
    board = load_tables(_write(frame, tmp_path / "s.parquet"))
    assert board.scores.columns == list(SCORES_SCHEMA)
    assert set(board.scores["revision"]) == {"main"}


def test_older_names_of_metrics_are_read_as_ours(tmp_path: Path) -> None:
    names = ["entropy_prompt", "entropy_sentence", "entropy_dataset", "infonce"]
    frame = pl.concat(
        [_METRICS.head(1).with_columns(metric=pl.lit(name), task=pl.lit(name)) for name in names]
    ).with_columns(normalization=pl.Series(["raw", "raw", "raw", "mi-lower-bound"]))
    found = load_tables(metrics=_write(frame, tmp_path / "m.csv")).metrics
    assert found["metric"].to_list() == ["prompt_entropy", "prompt_entropy", "dataset_entropy", "infonce"]
    assert found["normalization"].to_list() == ["raw", "raw", "raw", "mi_lower_bound"]


def _with(frame: pl.DataFrame, column: str, values: list[object]) -> pl.DataFrame:
    return frame.with_columns(pl.Series(column, values, strict=False))


@pytest.mark.parametrize(
    ("which", "change", "message"),
    [
        ("scores", lambda f: f.drop("task"), "has no column 'task'; its columns are model, revision, layer"),
        ("metrics", lambda f: f.drop("task"), "has no column 'task'; its columns are model, revision, metric"),
        (
            "scores",
            lambda f: _with(f, "task", ["A", "mean", "B", "C"]),
            "'task', row 2: expected a name that is no column of a table of layers, got 'mean'",
        ),
        (
            "scores",
            lambda f: _with(f, "main_score", [0.5, 51.9, 0, 0]),
            "'main_score', row 2: expected a fraction from -1",
        ),
        (
            "scores",
            lambda f: _with(f, "main_score", [0.5, 0, -inf, 0]),
            "'main_score', row 3: expected a fraction from -1 to 1, not points, got -inf",
        ),
        ("scores", lambda f: _with(f, "layer", [None, 0, 0, 0]), "'layer', row 1: expected an int, got None"),
        (
            "scores",
            lambda f: _with(f, "main_score", ["0", "0", "0", "?"]),
            "'main_score', row 4: expected a number, got '?'",
        ),
        ("scores", lambda f: _with(f, "layer", [0, -1, 2, 3]), "'layer', row 2: expected 0 or more, got -1"),
        ("scores", lambda f: _with(f, "layer", [0, 1.5, 2, 3]), "'layer', row 2: expected an int, got "),
        ("scores", lambda f: _with(f, "model", ["m", "m", None, "n"]), "'model', row 3: expected a string, got None"),
        (
            "scores",
            lambda f: f.with_columns(depth=pl.Series([0.0, 1.0, 2.0, 1.0])),
            "'depth', row 3: expected 0 to 1, got 2.0",
        ),
        (
            "scores",
            lambda f: pl.concat([f, f[1:2]]),
            "rows 2 and 5 have the same values: model 'm', revision '1e5', layer 3, task 'A'",
        ),
        ("metrics", lambda f: _with(f, "value", ["0", "low"]), "'value', row 2: expected a number, got 'low'"),
        (
            "metrics",
            lambda f: pl.concat([f, f[:1]]),
            "rows 1 and 3 have the same values: model 'm', revision 'main', task 'A'",
        ),
        (
            "metrics",
            lambda f: _with(
                _with(f, "metric", ["entropy_prompt", "entropy_sentence"]), "normalization", ["raw", "raw"]
            ),
            "rows 1 and 2 have the same values: .*metric 'prompt_entropy'",
        ),
    ],
)
@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_mistake_is_told_with_file_column_and_row(
    tmp_path: Path, which: str, change: Callable[[pl.DataFrame], pl.DataFrame], message: str, ending: str
) -> None:
    path = _write(change(_SCORES if which == "scores" else _METRICS), tmp_path / f"table{ending}")
    with pytest.raises(InputError, match=message) as told:
        load_tables(**{which: path})
    assert str(told.value).startswith(f"{which}: {path}")
    assert "\n" not in str(told.value)


def test_a_column_of_another_type_is_told(tmp_path: Path) -> None:
    path = _write(_SCORES.with_columns(task=pl.lit(7)), tmp_path / "s.parquet")
    with pytest.raises(InputError, match="column 'task', row 1: expected a string, got 7"):
        load_tables(path)


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"^scores: expected a file with suffix \.csv, \.csv\.gz, \.parquet, got '.*s\.json'$"
    ):
        load_tables(tmp_path / "s.json")
    with pytest.raises(InputError, match=r"^metrics: there is no file '.*m\.csv'$"):
        load_tables(metrics=tmp_path / "m.csv")
    for name in ("s.parquet", "s.csv.gz", "s.csv"):
        (tmp_path / name).write_bytes(b"" if name == "s.csv" else b"PAR1 and nothing else")
        with pytest.raises(InputError, match=r"^scores: .* (cannot be read|has no column)"):
            load_tables(tmp_path / name)


def test_the_papers_tables_are_read_whole(paper_folder: Path) -> None:
    board = load_tables(paper_folder / "scores.csv.gz", paper_folder / "metrics.csv.gz")
    assert (board.scores.height, board.metrics.height) == (17806, 262309)
    assert board.scores.schema == SCORES_SCHEMA and board.metrics.schema == METRICS_SCHEMA
    assert "prompt_entropy" in set(board.metrics["metric"]) and "entropy_sentence" not in set(board.metrics["metric"])
    with pytest.raises(InputError, match="has no column 'task'"):  # a corpus is no task
        load_tables(metrics=paper_folder / "metrics_wikitext.csv.gz")
