from pathlib import Path

import numpy as np
import pytest

from leaderboard.store import VectorStore


def test_what_was_written_is_read_back_across_segments(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texts = [f"text {number}" for number in range(20)]
    vectors = rng.normal(size=(3, 20, 4)).astype(np.float32)
    with VectorStore(tmp_path, layers=[0, 5, 2], dim=4, kinds=["a", "b"]) as store:
        for start, stop in [(0, 7), (7, 8), (8, 20)]:
            rows, segment = store.grow(texts[start:stop])
            assert list(rows) == list(range(start, stop))
            segment["a"][:] = vectors[:, start:stop]
            segment["b"][:] = -vectors[:, start:stop]
        asked = list(rng.choice(20, size=50))
        rows = store.rows([texts[number] for number in asked])
        for slot, layer in enumerate([0, 5, 2]):
            np.testing.assert_array_equal(store.vectors("a", layer, rows), vectors[slot][asked])
            np.testing.assert_array_equal(store.vectors("b", layer, rows), -vectors[slot][asked])
    assert list(tmp_path.iterdir()) == []


def test_missing_texts_are_named_once_in_order(tmp_path: Path) -> None:
    with VectorStore(tmp_path, layers=[0], dim=2, kinds=["a"]) as store:
        store.grow(["b"])
        assert store.missing(["c", "b", "a", "c"]) == ["c", "a"]
        assert len(store) == 1
        with pytest.raises(KeyError):
            store.rows(["c"])


def test_a_text_has_one_row(tmp_path: Path) -> None:
    with VectorStore(tmp_path, layers=[0], dim=2, kinds=["a"]) as store:
        store.grow(["a"])
        with pytest.raises(ValueError, match="not in the store yet"):
            store.grow(["b", "a"])


def test_the_folder_goes_even_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), VectorStore(tmp_path, layers=[0], dim=2, kinds=["a"]) as store:
        store.grow(["a"])
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
