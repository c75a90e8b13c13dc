"""A table of plain lists and arrays with the part of the `datasets.Dataset` interface that mteb's evaluators use.

Each column is read from its dataset once; lazy columns of the datasets library format every row on every access.
Does not load or modify data. `scoring.score` decides for which tasks this interface is enough.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset

from leaderboard.tasks.images.pictures import image_columns, pictures_in
from midlayer_embed.errors import InputError
from midlayer_embed.images.pictures import Picture, check_images

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.types import BatchedInput
    from torch.utils.data import DataLoader

Column = Sequence[Any] | np.ndarray
# Loads a column: all of it, or only the rows with these indices.
Source = Callable[[Sequence[int] | None], Column]


class Columns:
    """A table whose columns are loaded on first access and then cached.

    Args:
        sources: Function that loads each column, by column name.
        n_rows: Length of the columns.
        features: The features of the columns of images, which mteb leaves as they are.

    Example:
        >>> table = Columns.of(Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, 1]}), arrays=["label"])
        >>> table["text"], table["label"]
        (['a', 'b', 'c'], array([1, 0, 1]))
        >>> table.select([2, 0]).rename_columns({"text": "sentence"})["sentence"]
        ['c', 'a']
    """

    def __init__(self, sources: Mapping[str, Source], n_rows: int, features: Mapping[str, Any] | None = None) -> None:
        self._sources = dict(sources)
        self._n_rows = n_rows
        self.features = dict(features or {})
        self._loaded: dict[str, Column] = {}
        self._map_results: dict[Callable[..., Any], Columns] = {}

    @classmethod
    def of(cls, dataset: Dataset, arrays: Sequence[str] = (), where: tuple[str, ...] = ()) -> "Columns":
        """Build from a dataset. Images become pictures, and are not decoded.

        Args:
            dataset: The dataset.
            arrays: Columns that become arrays if they hold numbers or strings.
            where: The keys that lead to the dataset in the data of its task.
        """

        def read(name: str, rows: Sequence[int] | None) -> Column:
            if name in images:
                return read_pictures(name, range(len(dataset)) if rows is None else rows)
            values: list[Any] = (dataset if rows is None else dataset.select(rows))[name][:]
            return as_array(values) if name in arrays else values

        def read_pictures(name: str, rows: Sequence[int]) -> Column:
            known = images[name]
            missing = list(dict.fromkeys(row for row in rows if row not in known))
            known.update(zip(missing, pictures_in(dataset, name, where, missing), strict=True))
            return [known[row] for row in rows]

        # The pictures that were asked for: of a large training split mteb takes few.
        images: dict[str, dict[int, Picture]] = {name: {} for name in image_columns(dataset)}
        columns = {name: partial(read, name) for name in dataset.column_names}
        return cls(columns, len(dataset), {name: dataset.features[name] for name in images})

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Column]) -> "Columns":
        """Build from columns in memory. Replaces `Dataset.from_dict`."""
        lengths = {len(values) for values in mapping.values()}
        if len(lengths) > 1:
            raise InputError(f"mapping: expected columns of one length, got {sorted(lengths)}")
        sources = {name: partial(_select_rows, values) for name, values in mapping.items()}
        return cls(sources, lengths.pop() if lengths else 0)

    @property
    def column_names(self) -> list[str]:
        """Names of all columns."""
        return list(self._sources)

    def __len__(self) -> int:
        return self._n_rows

    def __getitem__(self, key: str | int) -> Any:
        """A column by name, or a row by index."""
        if isinstance(key, str):
            if key not in self._sources:
                raise InputError(f"dataset: expected a column {key!r}, got {', '.join(self._sources)}")
            if key not in self._loaded:
                self._loaded[key] = self._sources[key](None)
            return self._loaded[key]
        return {name: self[name][key] for name in self._sources}

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Rows by index; a torch DataLoader calls this for each batch."""
        columns = {name: self[name] for name in self._sources}
        return [{name: column[index] for name, column in columns.items()} for index in indices]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[index] for index in range(self._n_rows))

    def select(self, indices: Iterable[int]) -> "Columns":
        """The rows with these indices, in this order. A column that is not loaded yet is loaded for these rows only."""
        chosen = np.fromiter(indices, dtype=np.int64)
        if np.array_equal(chosen, np.arange(self._n_rows)):
            return self

        def load(name: str, rows: Sequence[int] | None) -> Column:
            selected = (chosen if rows is None else chosen[rows]).tolist()
            return _select_rows(self._loaded[name], selected) if name in self._loaded else self._sources[name](selected)

        return Columns({name: partial(load, name) for name in self._sources}, len(chosen), self.features)

    def select_columns(self, column_names: str | Sequence[str]) -> "Columns":
        """Keep only these columns."""
        names = [column_names] if isinstance(column_names, str) else column_names
        return self._rename({name: name for name in names})

    def remove_columns(self, column_names: str | Sequence[str]) -> "Columns":
        """Drop these columns."""
        names = [column_names] if isinstance(column_names, str) else column_names
        return self._rename({name: name for name in self._sources if name not in names})

    def rename_columns(self, column_mapping: Mapping[str, str]) -> "Columns":
        """Rename columns: {old: new}."""
        return self._rename({column_mapping.get(name, name): name for name in self._sources})

    def rename_column(self, original_column_name: str, new_column_name: str) -> "Columns":
        """Rename one column."""
        return self.rename_columns({original_column_name: new_column_name})

    def add_column(self, name: str, column: Column) -> "Columns":
        """Add a column."""
        kept = {old: partial(self._load_rows, old) for old in self._sources}
        return Columns({**kept, name: partial(_select_rows, column)}, self._n_rows, self.features)

    def map(self, function: Callable[[dict[str, Any]], dict[str, Any]], **_: Any) -> "Columns":
        """Update each row with what `function` returns for it. Results are cached: one call per row and function."""
        if function not in self._map_results:
            rows = [{**row, **function(row)} for row in self]
            names = list(rows[0]) if rows else self.column_names
            self._map_results[function] = Columns.from_dict({name: [row[name] for row in rows] for name in names})
        return self._map_results[function]

    def _rename(self, names: Mapping[str, str]) -> "Columns":
        features = {new: self.features[old] for new, old in names.items() if old in self.features}
        return Columns({new: partial(self._load_rows, old) for new, old in names.items()}, self._n_rows, features)

    def _load_rows(self, name: str, rows: Sequence[int] | None) -> Column:
        if name in self.features and name not in self._loaded:  # all images of a training split are many files
            return self._sources[name](rows)
        column: Column = self[name]
        return _select_rows(column, rows)


def as_array(values: list[Any]) -> Column:
    """Convert numbers or strings to an array (n,); return other values (lists, None) unchanged."""
    if not values or isinstance(values[0], (list, dict)):
        return values
    array = np.asarray(values)
    return array if array.ndim == 1 and array.dtype.kind in "biufU" else values


def _select_rows(column: Column, rows: Sequence[int] | None) -> Column:
    if rows is None:
        return column
    return column[rows] if isinstance(column, np.ndarray) else [column[row] for row in rows]


def texts_in(inputs: "DataLoader[BatchedInput]") -> list[str]:
    """The texts that mteb passes to an encoder. Its batches are consecutive rows of a table."""
    return _items_in(inputs, "text")


def items_in(inputs: "DataLoader[BatchedInput]", task_metadata: "TaskMetadata") -> list[Any]:
    """The texts that mteb passes to an encoder, or the pictures if it is a task on images."""
    if not on_images(task_metadata):
        return texts_in(inputs)
    return check_images(_items_in(inputs, "image"), task_metadata.name)


def on_images(task_metadata: "TaskMetadata") -> bool:
    """Whether a task is on images alone."""
    return list(task_metadata.modalities) == ["image"]


def _items_in(inputs: "DataLoader[BatchedInput]", column: str) -> list[Any]:
    table: object = inputs.dataset
    if isinstance(table, Columns):
        return list(table[column])
    batches: Any = inputs
    return [item for batch in batches for item in batch[column]]
