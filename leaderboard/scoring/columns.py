"""Columns: a table of plain lists and arrays that answers what mteb's evaluators ask of a `datasets.Dataset`.

Each column is read out of its dataset once; the lazy columns of the datasets library format a row at a time, every
time. Not for: loading or changing data. Only what mteb's evaluators ask is answered; `scoring` knows for which tasks
that is enough.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset

if TYPE_CHECKING:
    from mteb.types import BatchedInput
    from torch.utils.data import DataLoader

from midlayer_embed.errors import InputError

Column = Sequence[Any] | np.ndarray
# Makes a column: all of it, or the rows of these numbers.
Source = Callable[[Sequence[int] | None], Column]


class Columns:
    """A table whose columns are made when they are first asked for, and then kept.

    Args:
        sources: For each column what makes it, or some rows of it.
        n_rows: How long the columns are.

    Example:
        >>> table = Columns.of(Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, 1]}), arrays=["label"])
        >>> table["text"], table["label"]
        (['a', 'b', 'c'], array([1, 0, 1]))
        >>> table.select([2, 0]).rename_columns({"text": "sentence"})["sentence"]
        ['c', 'a']
    """

    def __init__(self, sources: Mapping[str, Source], n_rows: int) -> None:
        self._sources = dict(sources)
        self._n_rows = n_rows
        self._made: dict[str, Column] = {}
        self._mapped: dict[Callable[..., Any], Columns] = {}

    @classmethod
    def of(cls, dataset: Dataset, arrays: Sequence[str] = ()) -> "Columns":
        """The columns of a dataset; those named in `arrays` as arrays, if they hold numbers or strings."""

        def read(name: str, rows: Sequence[int] | None) -> Column:
            values: list[Any] = (dataset if rows is None else dataset.select(rows))[name][:]
            return as_array(values) if name in arrays else values

        return cls({name: partial(read, name) for name in dataset.column_names}, len(dataset))

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Column]) -> "Columns":
        """Of columns that are there already. In place of `Dataset.from_dict`."""
        lengths = {len(values) for values in mapping.values()}
        if len(lengths) > 1:
            raise InputError(f"mapping: expected columns of one length, got {sorted(lengths)}")
        sources = {name: partial(_rows, values) for name, values in mapping.items()}
        return cls(sources, lengths.pop() if lengths else 0)

    @property
    def column_names(self) -> list[str]:
        """Of all columns, made or not."""
        return list(self._sources)

    def __len__(self) -> int:
        return self._n_rows

    def __getitem__(self, key: str | int) -> Any:
        """A column by its name, or a row by its number."""
        if isinstance(key, str):
            if key not in self._sources:
                raise InputError(f"its data have no column {key!r}; expected one, got {', '.join(self._sources)}")
            if key not in self._made:
                self._made[key] = self._sources[key](None)
            return self._made[key]
        return {name: self[name][key] for name in self._sources}

    def __getitems__(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Rows by their numbers: what a torch DataLoader asks for a batch."""
        columns = {name: self[name] for name in self._sources}
        return [{name: column[number] for name, column in columns.items()} for number in numbers]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[number] for number in range(self._n_rows))

    def select(self, indices: Iterable[int]) -> "Columns":
        """The rows of these numbers, in their order. A column that is not made yet is not made whole for them."""
        chosen = np.fromiter(indices, dtype=np.int64)
        if np.array_equal(chosen, np.arange(self._n_rows)):
            return self

        def take(name: str, rows: Sequence[int] | None) -> Column:
            numbers = (chosen if rows is None else chosen[rows]).tolist()
            return _rows(self._made[name], numbers) if name in self._made else self._sources[name](numbers)

        return Columns({name: partial(take, name) for name in self._sources}, len(chosen))

    def select_columns(self, column_names: str | Sequence[str]) -> "Columns":
        """Only these columns."""
        names = [column_names] if isinstance(column_names, str) else column_names
        return self._with({name: name for name in names})

    def remove_columns(self, column_names: str | Sequence[str]) -> "Columns":
        """All but these columns."""
        names = [column_names] if isinstance(column_names, str) else column_names
        return self._with({name: name for name in self._sources if name not in names})

    def rename_columns(self, column_mapping: Mapping[str, str]) -> "Columns":
        """Columns under other names: {old: new}."""
        return self._with({column_mapping.get(name, name): name for name in self._sources})

    def add_column(self, name: str, column: Column) -> "Columns":
        """One column more."""
        kept = {old: partial(self._part, old) for old in self._sources}
        return Columns({**kept, name: partial(_rows, column)}, self._n_rows)

    def map(self, function: Callable[[dict[str, Any]], dict[str, Any]], **_: Any) -> "Columns":
        """Each row with what `function` makes of it. The same function is called for each row once only."""
        if function not in self._mapped:
            rows = [{**row, **function(row)} for row in self]
            names = list(rows[0]) if rows else self.column_names
            self._mapped[function] = Columns.from_dict({name: [row[name] for row in rows] for name in names})
        return self._mapped[function]

    def _with(self, names: Mapping[str, str]) -> "Columns":
        return Columns({new: partial(self._part, old) for new, old in names.items()}, self._n_rows)

    def _part(self, name: str, rows: Sequence[int] | None) -> Column:
        column: Column = self[name]
        return _rows(column, rows)


def as_array(values: list[Any]) -> Column:
    """Numbers or strings as an array (n,); other values (lists, None) as they are."""
    if not values or isinstance(values[0], (list, dict)):
        return values
    array = np.asarray(values)
    return array if array.ndim == 1 and array.dtype.kind in "biufU" else values


def _rows(column: Column, rows: Sequence[int] | None) -> Column:
    if rows is None:
        return column
    return column[rows] if isinstance(column, np.ndarray) else [column[row] for row in rows]


def texts_in(inputs: "DataLoader[BatchedInput]") -> list[str]:
    """The texts that mteb hands to an encoder: its batches are the rows of a table in turn."""
    table: object = inputs.dataset
    return list(table["text"]) if isinstance(table, Columns) else [text for batch in inputs for text in batch["text"]]
