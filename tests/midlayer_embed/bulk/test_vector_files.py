import errno
import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from midlayer_embed.bulk.row_files import RowFile, row_file
from midlayer_embed.bulk.vector_files import UnfinishedVectors, check_target, partial_folder, what_is_kept
from midlayer_embed.texts.files import TextFile, find_texts

TEXTS = ["one", 'two "2"', "", "vier — 四"]
VECTORS = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32) * np.float32(1e-3)
VECTORS[1] = [0, np.finfo(np.float32).max, np.finfo(np.float32).smallest_subnormal]


def _fill(target: Path, file: TextFile | None = None, **settings: Any) -> None:
    with UnfinishedVectors(target, (4, 3), settings) as vectors:
        for start in range(vectors.done, 4, 2):
            vectors.append(VECTORS[start : start + 2])
        vectors.finish(_rows(target, file))


def _rows(target: Path, file: TextFile | None) -> RowFile | None:
    rows = None if file is None else row_file(target, file)
    if rows is not None:
        list(rows.read())
    return rows


def _source(folder: Path, texts: list[str]) -> TextFile:
    path = folder / "source.jsonl"
    path.write_text("".join(json.dumps({"body": text}) + "\n" for text in texts))
    return find_texts(path, "body")


@pytest.mark.parametrize("suffix", [".npy", ".jsonl", ".parquet"])
def test_each_format_holds_the_vectors_exactly(tmp_path: Path, suffix: str) -> None:
    target = tmp_path / "deep" / f"v{suffix}"
    _fill(target, _source(tmp_path, TEXTS))
    if suffix == ".npy":
        found = np.load(target, allow_pickle=False)
    else:
        if suffix == ".jsonl":
            rows = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
        else:
            rows = pq.read_table(target).to_pylist()
        assert [row["body"] for row in rows] == TEXTS
        found = np.array([row["embedding"] for row in rows], dtype=np.float32)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, VECTORS)
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("suffix", [".npy", ".jsonl", ".parquet"])
def test_no_texts_make_an_empty_file(tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"v{suffix}"
    source = _source(tmp_path, [])
    with UnfinishedVectors(target, (0, 3), {}) as vectors:
        vectors.finish(_rows(target, source))
    if suffix == ".npy":
        assert np.load(target).shape == (0, 3)
    elif suffix == ".jsonl":
        assert target.read_bytes() == b""
    else:
        assert (pq.read_table(target).num_rows, pq.read_table(target).column_names) == (0, ["body", "embedding"])
    assert set(tmp_path.iterdir()) == {target, source.path}


def test_rows_survive_and_torn_ones_do_not(tmp_path: Path) -> None:
    target = tmp_path / "v.npy"
    with pytest.raises(RuntimeError), UnfinishedVectors(target, (4, 3), {"layer": 1}) as vectors:
        vectors.append(VECTORS[:2])
        raise RuntimeError
    assert not target.exists()
    with (partial_folder(target) / "vectors.npy").open("ab") as rows:  # a kill in the middle of a write
        rows.write(b"half a row")
    with UnfinishedVectors(target, (4, 3), {"layer": 1}) as vectors:
        assert vectors.done == 2
        vectors.append(VECTORS[2:])
        vectors.finish()
    np.testing.assert_array_equal(np.load(target), VECTORS)


@pytest.mark.parametrize(
    ("shape", "settings"), [((4, 3), {"layer": 2}), ((3, 3), {"layer": 1}), ((4, 3), {"layer": 1, "new": 0})]
)
def test_other_settings_start_afresh_and_say_so(
    tmp_path: Path, shape: tuple[int, int], settings: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    with UnfinishedVectors(tmp_path / "v.npy", (4, 3), {"layer": 1}) as vectors:
        vectors.append(VECTORS[:2])
    with caplog.at_level(logging.WARNING), UnfinishedVectors(tmp_path / "v.npy", shape, settings) as vectors:
        assert vectors.done == 0
    assert "starting over: the 2 vectors of an earlier run differ in" in caplog.text


@pytest.mark.parametrize("state", ["", "[]", '{"done": 9}', '{"settings": {"shape": [4, 3]}, "done": 4}'])
def test_a_state_that_cannot_be_true_is_not_believed(tmp_path: Path, state: str) -> None:
    with UnfinishedVectors(tmp_path / "v.npy", (4, 3), {}) as vectors:
        vectors.append(VECTORS[:2])
    (partial_folder(tmp_path / "v.npy") / "state.json").write_text(state)
    _fill(tmp_path / "v.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), VECTORS)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with UnfinishedVectors(tmp_path / "v.npy", (4, 3), {}) as vectors:
        vectors.append(VECTORS[:2])
        with (
            pytest.raises(ValueError, match=r"another process is writing .*v\.npy"),
            UnfinishedVectors(tmp_path / "v.npy", (4, 3), {}),
        ):
            pass
        vectors.append(VECTORS[2:])
        vectors.finish()
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), VECTORS)


def test_a_full_disk_keeps_what_is_done_and_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target = tmp_path / "v.npy"
    with UnfinishedVectors(target, (4, 3), {}) as vectors:
        vectors.append(VECTORS[:2])
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(ValueError, match="No space left on device; 2 of 4 vectors are kept; run the same command"):
            vectors.append(VECTORS[2:])
    monkeypatch.undo()
    with UnfinishedVectors(target, (4, 3), {}) as vectors:
        assert vectors.done == 2


def test_an_unfinished_chunk_survives_with_its_batches(tmp_path: Path) -> None:
    target = tmp_path / "v.npy"
    with UnfinishedVectors(target, (4, 3), {}) as vectors:
        vectors.append(VECTORS[:1])
        chunk = vectors.chunk(3)
        chunk.vectors[2] = VECTORS[3]
        chunk.n_batches, chunk.n_rows = 1, 1
        vectors.save(chunk)
        chunk.vectors[0] = VECTORS[1]  # not saved
    assert what_is_kept(target) == "2 of 4 vectors are kept; run the same command again to resume"
    with UnfinishedVectors(target, (4, 3), {}) as vectors:
        chunk = vectors.chunk(3)
        assert (vectors.done, vectors.n_kept, chunk.n_batches, chunk.n_rows) == (1, 2, 1, 1)
        np.testing.assert_array_equal(chunk.vectors, [[0] * 3, [0] * 3, VECTORS[3]])
        chunk.vectors[:2] = VECTORS[1:3]
        vectors.append(chunk.vectors)
        vectors.finish()
    np.testing.assert_array_equal(np.load(target), VECTORS)


def test_a_chunk_that_is_not_whole_on_disk_is_made_anew(tmp_path: Path) -> None:
    target = tmp_path / "v.npy"
    with UnfinishedVectors(target, (4, 3), {}) as vectors:
        vectors.append(VECTORS[:2])
        chunk = vectors.chunk(2)
        chunk.n_batches, chunk.n_rows = 1, 1
        vectors.save(chunk)
    rows = partial_folder(target) / "vectors.npy"
    os.truncate(rows, rows.stat().st_size - 1)
    with UnfinishedVectors(target, (4, 3), {}) as vectors:
        assert (vectors.done, vectors.n_kept, vectors.chunk(2).n_batches) == (2, 2, 0)


def test_nothing_done_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), UnfinishedVectors(tmp_path / "v.npy", (4, 3), {}):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_what_is_in_the_way_is_told_beforehand(tmp_path: Path) -> None:
    source, there = tmp_path / "a.jsonl", tmp_path / "there.npy"
    for path in (source, there):
        path.write_text("")
    (tmp_path / "folder.npy").mkdir()

    def check(name: str, columns: tuple[str, ...] = ("text",), overwrite: bool = False) -> Path:
        return check_target(tmp_path / name, TextFile(source, columns[0], columns), overwrite=overwrite)

    for name, message in {
        "v.bin": "expected a file ending in .npy, .jsonl, .parquet, got",
        "there.npy": "use --overwrite to replace it",
        "folder.npy": "expected a file, got a folder",
        "a.jsonl/v.npy": "is not a folder",
    }.items():
        with pytest.raises(ValueError, match=message):
            check(name)
    with pytest.raises(ValueError, match="expected another file than the input"):
        check("a.jsonl", overwrite=True)
    for name in ("v.jsonl", "v.parquet"):
        for columns in (("embedding",), ("text", "embedding")):
            with pytest.raises(ValueError, match="its column 'embedding' would be taken for the vectors"):
                check(name, columns)
        with pytest.raises(ValueError, match="more than one column 'id'"):
            check(name, ("text", "id", "id"))
    assert check("there.npy", overwrite=True) == there
    assert check("v.npy", ("embedding", "id", "id")).name == "v.npy"
