import csv
import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from midlayer_embed.texts import files as text_files
from midlayer_embed.texts.files import describe, find_texts, read_chunks, read_rows, read_texts, survey

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
        survey(read_texts(find_texts(_write(tmp_path, suffix, AWKWARD), None if suffix == ".txt" else "body")))
        for suffix in (".txt", ".jsonl", ".csv", ".parquet")
    }
    assert len(surveys) == 1
    found = surveys.pop()
    assert (found.n_texts, found.n_blank) == (len(AWKWARD), 2)
    assert survey(["ab"]).sha256 != survey(["a", "b"]).sha256


@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\r\n\r\nb\r\n", ["a", "", "b"]),
        (b"\xef\xbb\xbfa\n\n", ["a", ""]),
        (b"a\rb\n", ["a\rb"]),
        (b"a\r\rb", ["a", "", "b"]),  # an old Mac's
        (b"a\rb\r", ["a", "b"]),
        ("a\n\u4e2d\n".encode("utf-16"), ["a", "\u4e2d"]),
        (b"\xfe\xff" + "a\r\nb\u0a0a".encode("utf-16-be"), ["a", "b\u0a0a"]),
        ("a\x0bb\x0cc\x85d\u2028e\u2029f\x1cg\n".encode(), ["a\x0bb\x0cc\x85d\u2028e\u2029f\x1cg"]),
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


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_the_one_column_of_strings_needs_no_name(tmp_path: Path, suffix: str) -> None:
    assert find_texts(_write(tmp_path, suffix, ["a"])).column == "body"


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_numbers_dates_and_ids_are_no_texts_unless_there_is_nothing_else(tmp_path: Path, suffix: str) -> None:
    table = {
        "id": ["1", "2"],
        "uuid": ["0f8fad5b-d9cb-469f-a165-70867728950e", "7c9e6679-7425-40de-944b-e07fc1f90ae7"],
        "date": ["2026-01-31 10:00", ""],
        "ok": ["true", "False"],
        "number": ["-1.5e3", "7"],
        "body": ["我有3个苹果", "a text"],
    }
    path = tmp_path / f"a{suffix}"
    for columns, chosen in ((list(table), "body"), (["id"], "id")):
        _write_table(path, {name: table[name] for name in columns})
        assert find_texts(path).column == chosen
    _write_table(path, {**table, "title": ["one", "two"]})
    with pytest.raises(ValueError, match="more than one column of strings, .*; its columns are id, uuid, .*, title"):
        find_texts(path)


def _write_table(path: Path, table: dict[str, list[str]]) -> None:
    rows = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
    if path.suffix == ".parquet":
        pq.write_table(pa.table(table), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([list(table), *(row.values() for row in rows)])


@pytest.mark.parametrize(
    ("data", "columns", "delimiter"),
    [
        ("id;text\n1;a, b\n2;c\n", ["id", "text"], ";"),
        ("id\ttext\n1\ta; b\n", ["id", "text"], "\t"),
        ("id|text\n1|a, b\n", ["id", "text"], "|"),
        ("id,text\n1,a;b\n2,c;d\n", ["id", "text"], ","),
        ("id;name, first;text\n1;x, y;a\n2;x;b, c\n", ["id", "name, first", "text"], ";"),
        ('text\n"a, b; c"\n', ["text"], ","),
        ('"a;b",text\n1,x\n', ["a;b", "text"], ","),
        ('id;text\n1;"two\nlines, one; text"\n', ["id", "text"], ";"),
        ("id;text\r1;a\r2;b\r", ["id", "text"], ";"),
        ("\ufeffid;text\r\n1;a\r\n", ["id", "text"], ";"),
        ("id;text\n" + "1;a, b\n" * 5000 + '3;"c\nd"\n', ["id", "text"], ";"),
        ("text\n" + "a" * 2_000_000 + "\n", ["text"], ","),
        ("", ["text"], ","),
    ],
)
def test_what_separates_the_fields_of_a_csv_is_found(
    tmp_path: Path, data: str, columns: list[str], delimiter: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(data, encoding="utf-8", newline="")
    file = find_texts(path, "text")
    assert (list(file.columns), file.delimiter) == (columns, delimiter)
    found = list(csv.DictReader(io.StringIO(data.removeprefix("\ufeff"), newline=""), delimiter=delimiter))
    assert list(read_texts(file)) == [row["text"] for row in found]


def test_a_tsv_is_separated_by_tabs_whatever_its_header_holds(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("a, b, c\ttext\n1\tx\n")
    assert find_texts(tmp_path / "a.tsv", "text").columns == ("a, b, c", "text")


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".csv", ".tsv", ".ndjson", ".json"])
def test_compressed_files_are_read(tmp_path: Path, suffix: str) -> None:
    data = {".txt": "one\ntwo\n", ".csv": "text\none\ntwo\n", ".tsv": "id\ttext\n1\tone\n2\ttwo\n"}.get(
        suffix, '{"text": "one"}\n{"text": "two"}\n'
    )
    path = tmp_path / f"a{suffix}.gz"
    path.write_bytes(gzip.compress(data.encode()))
    assert list(read_texts(find_texts(path))) == ["one", "two"]
    path.write_bytes(gzip.compress(data.encode() * 9999)[:-9])
    with pytest.raises(ValueError, match="is not a whole gzip file"):
        list(read_texts(find_texts(path)))
    path.write_text(data)
    with pytest.raises(ValueError, match="cannot be read: Not a gzipped file"):
        list(read_texts(find_texts(path)))


@pytest.mark.parametrize("name", ["a.b", "a", "", ".", " x ", 'it\'s "q"', "Ünï — 中", "a,b", "embedding", "a.list.b"])
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_column_may_have_any_name(tmp_path: Path, suffix: str, name: str) -> None:
    path = tmp_path / f"a{suffix}"
    _write_table(path, {"n": ["1", "2"], name: ["x", "y"], "A": ["2", "2"]})
    assert find_texts(path).column == name
    assert list(read_texts(find_texts(path, name))) == ["x", "y"]


def test_a_parquet_column_is_not_mistaken_for_a_field_of_a_struct(tmp_path: Path) -> None:
    table = {"a": [{"b": "struct", "b.c": "s"}] * 2, "a.b": ["x", "y"], "a.b.c": ["u", "v"]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet", row_group_size=1)
    for name in ("a.b", "a.b.c"):
        assert list(read_texts(find_texts(tmp_path / "a.parquet", name))) == table[name]
        rows = list(read_rows(find_texts(tmp_path / "a.parquet", name)))
        assert [row.values["a"]["b"] for row in rows] == ["struct"] * 2
    with pytest.raises(ValueError, match=r"no column 'a.x' \(a field inside of a column cannot be read\)"):
        find_texts(tmp_path / "a.parquet", "a.x")


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
        ("a.doc", b"t\n", "expected a file ending in .txt, .jsonl, .ndjson, .json, .csv, .tsv, .parquet (all but"),
        ("a.parquet.gz", b"t\n", "expected a file ending in .txt"),
        ("a.gz", b"t\n", "expected a file ending in .txt"),
        ("a.txt", "ä".encode("utf-32"), "a.txt is UTF-32; expected UTF-8"),
        ("a.txt", "text".encode("utf-16-le"), "a.txt looks like UTF-16 without a byte order mark; expected UTF-8"),
        ("a.txt", b"\xff\xfea\x00\x00\xd8b\x00", "a.txt is not valid UTF-16"),
        ("a.txt", b"fine\rb\xe4d\r", "a.txt, line 2: not UTF-8 (byte 0xe4 at 2)"),
        ("a.txt", "ä".encode() + b"\xff", "a.txt, line 1: not UTF-8 (byte 0xff at 3)"),
        ("a.json", b'[\n{"t": "a"}]', "line 1: not valid JSON"),
        ("a.json", b'[{"t": "a"}]', "line 1: expected a JSON object, got a list; expected one object per line"),
        ("a.csv", b"t;u\na;b\nc\n", "row 2 (line 3): expected 2 fields, got 1 (separated by ';'"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_place(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError) as told:  # noqa: PT011
        list(read_texts(find_texts(tmp_path / name, column=None if name.endswith("txt") else "t")))
    assert message in str(told.value)


def test_a_parquet_value_that_is_no_string_is_told(tmp_path: Path) -> None:
    table = {"t": ["a", "b", None], "n": [1, 2, 3], "b": [b"x"] * 3, "l": [["x"]] * 3}
    pq.write_table(pa.table(table), tmp_path / "a.parquet", row_group_size=2)
    with pytest.raises(ValueError, match="row 3: expected a string in column 't', got null"):
        list(read_texts(find_texts(tmp_path / "a.parquet", "t")))
    for name, kind in {"n": "int64", "b": "binary", "l": "list<"}.items():
        with pytest.raises(ValueError, match=f"column: .*a.parquet: expected strings in column '{name}', got {kind}"):
            find_texts(tmp_path / "a.parquet", name)


def test_what_was_read_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id;text\n1;a\n")
    assert describe(find_texts(path), 1) == f"{path}: 1 text in column 'text' of 2 (id, text), separated by ';'"
    path.write_text(",".join("abcdefghij") + "\n")
    assert "of 10 (a, b, c, d, e, f, g, h, ...)" in describe(find_texts(path, "a"), 5)
    assert describe(find_texts(path, "a"), 0) == f"{path} has no texts, only blank lines or a header"
    path.write_text("")
    assert describe(find_texts(path), 0) == f"{path} is empty"


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
