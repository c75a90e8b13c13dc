import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from midlayer_embed.texts import files as text_files
from midlayer_embed.texts.files import find_texts, read_chunks, read_texts, survey

# What a line of a file can hold and still be one text: other line breaks, quotes, commas, nothing.
AWKWARD = ["plain", "", "  kept  ", 'a "quoted", one', "naïve — 中文 🙂", "a\u2028b\x0bc\x0cd", "", "last"]


def _write(folder: Path, suffix: str, texts: list[str]) -> Path:
    path = folder / f"texts{suffix}"
    if suffix == ".txt":
        path.write_bytes("".join(f"{text}\n" for text in texts).encode())
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps({"id": 1, "body": text}) + "\n" for text in texts), encoding="utf-8")
    elif suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["id", "body"], *([1, text] for text in texts)])
    else:
        pq.write_table(pa.table({"id": pa.array([1] * len(texts), pa.int64()), "body": texts}), path, row_group_size=3)
    return path


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".csv", ".parquet"])
def test_texts_come_back_as_they_were(tmp_path: Path, suffix: str) -> None:
    path = _write(tmp_path, suffix, AWKWARD)
    file = find_texts(path, column=None if suffix == ".txt" else "body")
    assert list(read_texts(file)) == AWKWARD


def test_the_same_texts_have_the_same_hash_in_every_format(tmp_path: Path) -> None:
    surveys = {
        survey(read_chunks(find_texts(_write(tmp_path, suffix, AWKWARD), None if suffix == ".txt" else "body")))
        for suffix in (".txt", ".jsonl", ".csv", ".parquet")
    }
    assert len(surveys) == 1
    assert surveys.pop().n_texts == len(AWKWARD)
    assert survey([["ab"]]).sha256 != survey([["a", "b"]]).sha256


@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\r\n\r\nb\r\n", ["a", "", "b"]),
        (b"\xef\xbb\xbfa\n\n", ["a", ""]),
        (b"a\rb\n", ["a\rb"]),
    ],
)
def test_a_line_is_a_text(tmp_path: Path, data: bytes, texts: list[str]) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    assert list(read_texts(find_texts(path))) == texts


def test_a_csv_field_may_span_lines_and_be_long(tmp_path: Path) -> None:
    path = tmp_path / "a.CSV"
    long = "x" * 200_000
    path.write_text(f'text\n"two\nlines"\n\n{long}\n""\n')
    assert list(read_texts(find_texts(path))) == ["two\nlines", long, ""]


def test_the_one_column_of_strings_needs_no_name(tmp_path: Path) -> None:
    assert find_texts(_write(tmp_path, ".jsonl", ["a"])).column == "body"
    assert find_texts(_write(tmp_path, ".parquet", ["a"])).column == "body"
    with pytest.raises(ValueError, match="more than one column of strings, so name one .*; its columns are id, body"):
        find_texts(_write(tmp_path, ".csv", ["a"]))


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_every_kind_of_parquet_string_is_read(tmp_path: Path, kind: pa.DataType) -> None:
    pq.write_table(pa.table({"a": pa.array(["x", "y", "x"], pa.string()).cast(kind)}), tmp_path / "a.parquet")
    assert list(read_texts(find_texts(tmp_path / "a.parquet"))) == ["x", "y", "x"]


def test_chunks_end_after_so_many_texts_or_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "CHUNK_TEXTS", 3)
    monkeypatch.setattr(text_files, "CHUNK_CHARACTERS", 5)
    path = _write(tmp_path, ".txt", ["a", "b", "c", "d", "eeeeeee", "f"])
    assert list(read_chunks(find_texts(path))) == [["a", "b", "c"], ["d", "eeeeeee"], ["f"]]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_an_empty_file_has_no_texts(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"")
    assert list(read_chunks(find_texts(tmp_path / f"a{suffix}"))) == []
    assert list(read_chunks(find_texts(tmp_path / f"a{suffix}", "body"))) == []


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_an_unknown_column_is_told_with_those_there_are(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ValueError, match="has no column 'text'; its columns are id, body"):
        find_texts(_write(tmp_path, suffix, ["a"]), "text")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"fine\nb\xe4d\n", "a.txt, line 2: not UTF-8 (byte 0xe4 at 2)"),
        ("a.jsonl", b'{"t": "a"}\n{"t": "b"\n', "a.jsonl, line 2: not valid JSON"),
        ("a.jsonl", b'{"t": "a"}\n\n{"t": 3}\n', "line 3: expected a string in column 't', got a number"),
        ("a.jsonl", b'{"t": "a"}\n{"t": null}\n', "line 2: expected a string in column 't', got null"),
        ("a.jsonl", b'{"t": "a"}\n{"u": "b"}\n', "line 2: no column 't'; its columns are u"),
        ("a.jsonl", b'{"t": "a"}\n["t"]\n', "line 2: expected a JSON object, got a list"),
        ("a.jsonl", b'{"t": "a"}\n' + b"[" * 100_000, "line 2: not valid JSON"),
        ("a.jsonl", b'{"t": "a"}\n{"t": "\\ud800"}\n', "line 2: half a surrogate pair in column 't'"),
        ("a.csv", b"t,u\na,b\nc\n", "row 2 (line 3): expected 2 fields, got 1"),
        ("a.csv", b't\n"never closed\n', "not valid CSV"),
        ("a.csv", b"t,t\na,b\n", "more than one column 't'"),
        ("a.csv", b"t\n\xff\n", "a.csv, line 2: not UTF-8"),
        ("a.parquet", b"PAR1 or not", "a.parquet is not a valid Parquet file"),
        ("a.parquet", b"", "a.parquet is not a valid Parquet file"),
        ("a.tsv", b"t\n", "expected a file ending in .txt, .jsonl, .csv, .parquet, got"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_place(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError) as told:  # noqa: PT011
        list(read_texts(find_texts(tmp_path / name, column=None if name.endswith("txt") else "t")))
    assert message in str(told.value)


def test_a_parquet_value_that_is_no_string_is_told_with_its_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"t": ["a", "b", None], "n": [1, 2, 3]}), tmp_path / "a.parquet", row_group_size=2)
    with pytest.raises(ValueError, match="row 3: expected a string in column 't', got null"):
        list(read_texts(find_texts(tmp_path / "a.parquet", "t")))
    with pytest.raises(ValueError, match="row 1: expected a string in column 'n', got int"):
        list(read_texts(find_texts(tmp_path / "a.parquet", "n")))


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(ValueError, match="there is no file"):
        find_texts(tmp_path / "missing.txt")
    with pytest.raises(ValueError, match="is a folder"):
        find_texts(tmp_path / "folder.txt")
    with pytest.raises(ValueError, match=r"a \.txt file has no columns, got 'body'"):
        find_texts(_write(tmp_path, ".txt", ["a"]), "body")


def test_a_missing_pyarrow_is_told_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path, ".parquet", ["a"])
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"pip install 'midlayer-embed\[encode\]'"):
        find_texts(path)
