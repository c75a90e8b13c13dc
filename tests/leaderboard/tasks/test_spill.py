from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from leaderboard.tasks.spill import spill, unspill


def _plain(data: Any) -> Any:
    """The data with tables as lists of rows."""
    if isinstance(data, Dataset):
        return data.to_list()
    return {key: _plain(value) for key, value in data.items()} if isinstance(data, dict) else data


def _table(n: int = 3) -> Dataset:
    return Dataset.from_dict({"text": [f"text {i}" for i in range(n)], "label": list(range(n))})


_QRELS = {"q1": {"d1": 1, "d2": 0}, "q2": {"d1": 2}}
_RANKED = {"q1": ["d1", "d2"], "q\ud800": []}
_DATA: dict[str, Any] = {
    "splits": DatasetDict({"train": _table(2), "test": _table()}),
    "subsets": {"en": DatasetDict({"test": _table()}), "de": DatasetDict({"test": _table(1)})},
    "retrieval": {
        "default": {"test": {"corpus": _table(), "queries": _table(2), "relevant_docs": _QRELS, "top_ranked": _RANKED}}
    },
    "no top_ranked": {"default": {"test": {"corpus": _table(), "relevant_docs": _QRELS, "top_ranked": None}}},
    "rows chosen": DatasetDict({"test": _table(9).select([7, 1])}),
    "no rows": DatasetDict({"test": _table(3).select([])}),
    "numbers as keys": {"default": {"test": {"relevant_docs": {1: {"d": 1}}}}},
    "a default": {"default": defaultdict(list, {"test": _table()})},
    "tuples": {"default": {"test": {"relevant_docs": {"q": ("d1", "d2")}}}},
    "nothing": None,
}


@pytest.mark.parametrize("data", _DATA.values(), ids=_DATA)
def test_data_come_back_as_they_were(data: Any, tmp_path: Path) -> None:
    expected = _plain(data)
    found = unspill(spill(data, tmp_path))
    assert _plain(found) == expected == _plain(data)
    assert type(found) is type(data)

    def types(value: Any) -> Any:
        if isinstance(value, dict):
            return [type(value), *((key, type(key), types(item)) for key, item in value.items())]
        return type(value)

    assert types(found) == types(data)


def test_what_takes_memory_is_in_files(tmp_path: Path) -> None:
    data = _DATA["retrieval"]
    split = spill(data, tmp_path)["default"]["test"]
    assert all(split[name].cache_files for name in ("corpus", "queries"))
    assert not any(isinstance(split[name], dict) for name in ("relevant_docs", "top_ranked"))
    before = pa.total_allocated_bytes()
    large = Dataset.from_dict({"text": ["x" * 1_000_000] * 4})
    assert pa.total_allocated_bytes() - before > 3_900_000
    kept = spill({"test": large}, tmp_path)
    del large
    assert pa.total_allocated_bytes() - before < 100_000
    assert kept["test"]["text"][3] == "x" * 1_000_000


def test_tables_that_are_memory_mapped_are_not_copied(tmp_path: Path) -> None:
    _table().save_to_disk(tmp_path / "there")
    table = Dataset.load_from_disk(tmp_path / "there")
    (tmp_path / "new").mkdir()
    assert spill({"test": table}, tmp_path / "new")["test"] is table
    assert list((tmp_path / "new").iterdir()) == []


def test_features_and_formats_are_kept(tmp_path: Path) -> None:
    features = Features({"label": ClassLabel(names=["no", "yes"]), "score": Value("float32")})
    table = Dataset.from_dict({"label": [1, 0], "score": [0.5, 1.5]}, features=features).with_format("numpy")
    found = spill(table, tmp_path)
    assert found.features == features
    assert found.format["type"] == "numpy"
