import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from midlayer_embed.bulk.row_files import row_file
from midlayer_embed.texts.files import find_texts

DIM = 3


def _written(source: Path, target: Path, column: str = "text") -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Writes a source with vectors; gives the vectors, and the rows of the target."""
    rows = row_file(target, find_texts(source, column if source.suffix != ".txt" else None))
    assert rows is not None
    texts = list(rows.read())
    vectors = np.random.default_rng(0).standard_normal((len(texts), DIM)).astype(np.float32)
    left = iter(vectors)
    rows.write(target, lambda n: np.stack([next(left) for _ in range(n)]), DIM)
    if target.suffix == ".parquet":
        return vectors, pq.read_table(target).to_pylist()
    return vectors, [json.loads(line, parse_constant=pytest.fail) for line in target.read_text("utf-8").splitlines()]


def _strip_vectors(vectors: np.ndarray, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without their vectors, which have to be these."""
    assert all(list(row)[-1] == "embedding" for row in rows)
    np.testing.assert_array_equal(np.array([row.pop("embedding") for row in rows], np.float32), vectors)
    return rows


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_csv_and_txt_keep_all_columns_as_strings(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "a.csv").write_text('id;text;\n007;"a; b";\n8;"c\nd";x\n')
    rows = _strip_vectors(*_written(tmp_path / "a.csv", tmp_path / f"v{suffix}"))
    assert rows == [{"id": "007", "text": "a; b", "": ""}, {"id": "8", "text": "c\nd", "": "x"}]
    (tmp_path / "a.txt").write_text("one\n\n")
    assert _strip_vectors(*_written(tmp_path / "a.txt", tmp_path / f"v{suffix}")) == [{"text": "one"}, {"text": ""}]


def test_jsonl_keeps_every_key_of_every_row(tmp_path: Path) -> None:
    lines = [
        r'{"id": 12345678901234567890123, "text": "one", "meta": {"a": [1, null, {"b": "ü"}]}}',
        r'{"text": "two", "half": "\ud800", "score": 0.1}',
        r'{"text": "three", "score": NaN, "bounds": [-Infinity, 1e999, 2]}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    expected = [json.loads(line) for line in lines]
    expected[2] |= {"score": None, "bounds": [None, None, 2]}  # what JSON cannot spell
    assert _strip_vectors(*_written(tmp_path / "a.jsonl", tmp_path / "v.jsonl")) == expected


def test_jsonl_becomes_parquet_with_the_types_its_values_share(tmp_path: Path) -> None:
    rows = [
        {"text": "one", "int": 1, "float": 1, "list": [], "mixed": 1, "nested": {"a": [1]}, "big": 2**70, "ok": True},
        {"text": "two", "int": None, "float": 0.5, "list": ["x", None], "mixed": "1", "nested": None, "later": [[1.5]]},
        {"text": "three", "list": None, "float": float("nan"), "deep": [{"a": 1}]},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    vectors, found = _written(tmp_path / "a.jsonl", tmp_path / "v.parquet")
    types = {field.name: str(field.type) for field in pq.read_schema(tmp_path / "v.parquet")}
    assert types == {
        "text": "string",
        "int": "int64",
        "float": "double",
        "list": "list<element: string>",
        "mixed": "string",
        "nested": "string",
        "big": "string",
        "ok": "bool",
        "later": "list<element: list<element: double>>",
        "deep": "string",
        "embedding": f"fixed_size_list<element: float>[{DIM}]",
    }
    assert np.isnan(found[2].pop("float"))
    for row in rows:
        for name in ("mixed", "nested", "big", "deep"):  # what shares no type is JSON
            if row.get(name) is not None:
                row[name] = json.dumps(row[name])
    del rows[2]["float"]
    assert _strip_vectors(vectors, found) == [{name: row.get(name) for name in found[i]} for i, row in enumerate(rows)]


def _all_types() -> pa.Table:
    day = datetime.datetime(2026, 1, 31, 12, 30)
    return pa.table(
        {
            "a": [{"b": "struct"}, None],
            "text": pa.array(["one", "two"]).dictionary_encode(),
            "a.b": ["x", None],
            "day": pa.array([day, None], pa.timestamp("us", "UTC")),
            "nano": pa.array([1, 2], pa.timestamp("ns")),
            "date": [day.date(), None],
            "decimal": [Decimal("1.10"), None],
            "bytes": [b"\xff", b""],
            "float": [float("inf"), float("nan")],
            "half": pa.array([1.5, None], pa.float32()).cast(pa.float16()),
            "list": [[float("nan"), 1.0], []],
            "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
            "null": pa.nulls(2),
        }
    ).replace_schema_metadata({"mine": "kept"})


def test_parquet_stays_as_it_is_in_parquet(tmp_path: Path) -> None:
    table = _all_types()
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1)
    vectors, _ = _written(tmp_path / "a.parquet", tmp_path / "v.parquet")
    found = pq.read_table(tmp_path / "v.parquet")
    assert found.schema.remove(len(table.schema)) == table.schema
    assert repr(found.drop_columns("embedding").to_pylist()) == repr(table.to_pylist())  # NaN is not equal to NaN
    assert found.schema.metadata[b"mine"] == b"kept"
    np.testing.assert_array_equal(np.array(found["embedding"].to_pylist(), np.float32), vectors)


def test_parquet_becomes_json_with_every_value_spelt(tmp_path: Path) -> None:
    pq.write_table(_all_types(), tmp_path / "a.parquet")
    rows = _strip_vectors(*_written(tmp_path / "a.parquet", tmp_path / "v.jsonl"))
    assert rows[0] == {
        "a": {"b": "struct"},
        "text": "one",
        "a.b": "x",
        "day": "2026-01-31T12:30:00+00:00",
        "nano": "1970-01-01T00:00:00.000000001",
        "date": "2026-01-31",
        "decimal": "1.10",
        "bytes": "/w==",
        "float": None,
        "half": 1.5,
        "list": [None, 1.0],
        "map": [["k", 1]],
        "null": None,
    }


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("source", [".jsonl", ".csv", ".parquet"])
def test_rows_stay_with_their_vectors_over_many_groups(
    tmp_path: Path, source: str, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("midlayer_embed.bulk.row_files._GROUP_ROWS", 7)
    monkeypatch.setattr("midlayer_embed.texts.files.parquet._BATCH_ROWS", 5)
    rows = [{"text": f"text {number}", "n": f"{number}"} for number in range(30)]
    path = tmp_path / f"a{source}"
    if source == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=4)
    elif source == ".csv":
        path.write_text("text,n\n" + "".join(f"{row['text']},{row['n']}\n" for row in rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert _strip_vectors(*_written(path, tmp_path / f"v{suffix}")) == rows
