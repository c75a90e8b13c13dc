"""Tables of tasks and layers without holes, so that all means over the tasks are over the same tasks."""

from collections.abc import Sequence

import numpy as np
import polars as pl


def without_holes(cells: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """The cells of the tasks and layers that are left once none misses another.

    As long as a cell is missing, the task or the layer that misses the largest share is left out; of a tie the layer,
    and the lower one.
    """
    kept = []
    for group in cells.partition_by(by, maintain_order=True):
        tasks, layers = (group[name].unique().sort() for name in ("task", "layer"))
        if group.height < len(tasks) * len(layers):
            keys = group.select(
                task=pl.col("task").replace_strict(tasks, range(len(tasks)), return_dtype=pl.Int64),
                layer=pl.col("layer").replace_strict(layers, range(len(layers)), return_dtype=pl.Int64),
            ).to_numpy()
            has = np.zeros((len(tasks), len(layers)), bool)
            has[keys[:, 0], keys[:, 1]] = True
            rows, columns = _rectangle(has)
            in_tasks, in_layers = tasks[rows].to_list(), layers[columns].to_list()
            group = group.filter(pl.col("task").is_in(in_tasks), pl.col("layer").is_in(in_layers))
        kept.append(group)
    return pl.concat(kept) if kept else cells


def _rectangle(has: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows and columns that are left, as indices."""
    rows, columns = np.arange(has.shape[0]), np.arange(has.shape[1])
    while not (left := has[np.ix_(rows, columns)]).all():
        missed_by_row, missed_by_column = (~left).sum(axis=1), (~left).sum(axis=0)
        row, column = int(missed_by_row.argmax()), int(missed_by_column.argmax())
        # missed / len, compared without a division
        if missed_by_row[row] * len(rows) > missed_by_column[column] * len(columns):
            rows = np.delete(rows, row)
        else:
            columns = np.delete(columns, column)
    return rows, columns
