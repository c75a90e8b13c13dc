from pathlib import Path

import numpy as np
import pytest
from support.forks import run_code

from leaderboard.sweep.store import VectorStore, layer_bytes


def test_what_was_written_is_read_back_across_segments(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texts = [f"text {number}" for number in range(20)]
    vectors = rng.normal(size=(3, 20, 4)).astype(np.float32)
    with VectorStore(tmp_path, layers=[0, 5, 2], dim=4) as store:
        for start, stop in [(0, 7), (7, 8), (8, 20)]:
            rows, segment = store.grow(texts[start:stop])
            assert list(rows) == list(range(start, stop))
            segment[:] = vectors[:, start:stop]
        asked = list(rng.choice(20, size=50))
        # Another process reads the same.
        for reader in (store, VectorStore.published(store.publish())):
            rows = reader.rows([texts[number] for number in asked])
            for slot, layer in enumerate([0, 5, 2]):
                np.testing.assert_array_equal(reader.vectors(layer, rows), vectors[slot][asked])
    assert list(tmp_path.iterdir()) == []


def test_half_precision_takes_half_the_room_and_rounds(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(2, 100, 8)).astype(np.float32)
    sizes = {}
    for dtype in ("float32", "float16"):
        with VectorStore(tmp_path, layers=[0, 1], dim=8, dtype=dtype) as store:
            store.grow([f"text {number}" for number in range(100)])[1][:] = vectors
            found = store.vectors(1, np.arange(100))
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, vectors[1], rtol=0 if dtype == "float32" else 1e-3, atol=1e-6)
            (file,) = store.folder.iterdir()
            sizes[dtype] = file.stat().st_size - 128  # numpy's header
            assert sizes[dtype] == 2 * layer_bytes(100, 8, dtype)
    assert sizes["float16"] * 2 == sizes["float32"]
    with pytest.raises(ValueError, match=r"store_dtype: expected one of float32, float16, got 'int8'"):
        VectorStore(tmp_path, layers=[0], dim=2, dtype="int8")


@pytest.mark.process
def test_a_disk_without_room_is_told_of_before_anything_is_written(tmp_path: Path) -> None:
    """As a full disk does, a limit on the size of files refuses a file's room."""
    code = f"""
import resource
from pathlib import Path
from leaderboard.sweep.store import VectorStore, layer_bytes
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with VectorStore(Path({str(tmp_path)!r}), layers=[0, 1], dim=64) as store:
    store.grow([str(number) for number in range(50)])
    try:
        store.grow([str(number) for number in range(50, 1000)])
    except ValueError as error:
        print(error)
    print(len(store), sorted(path.name for path in store.folder.iterdir()))
"""
    message, left = run_code(code).splitlines()
    assert message.startswith(
        "the vectors of its texts need 0.0 GB in the results folder: File too large; free some space"
    )
    assert left == "50 ['vectors-0000.npy']"


def test_missing_texts_are_named_once_in_order(tmp_path: Path) -> None:
    with VectorStore(tmp_path, layers=[0], dim=2) as store:
        store.grow(["b"])
        assert store.missing(["c", "b", "a", "c"]) == ["c", "a"]
        assert len(store) == 1
        with pytest.raises(KeyError):
            store.rows(["c"])


def test_a_text_has_one_row(tmp_path: Path) -> None:
    with VectorStore(tmp_path, layers=[0], dim=2) as store:
        store.grow(["a"])
        with pytest.raises(ValueError, match="not in the store yet"):
            store.grow(["b", "a"])


def test_the_folder_goes_even_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), VectorStore(tmp_path, layers=[0], dim=2) as store:
        store.grow(["a"])
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
