"""A task cut to a part of what it evaluates, for trials that take minutes. Not for: anything that a score is made of.

Which texts metrics are measured on is `sweep`'s.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from mteb.abstasks import (
    AbsTaskClassification,
    AbsTaskClustering,
    AbsTaskClusteringLegacy,
    AbsTaskMultilabelClassification,
    AbsTaskPairClassification,
    AbsTaskRegression,
    AbsTaskRetrieval,
    AbsTaskSTS,
)
from mteb.abstasks.abstask import AbsTask

from midlayer_embed.errors import InputError, InputTypeError


def check_limit(limit: int | None) -> int | None:
    """The limit, if it is one; None is none.

    Raises:
        InputTypeError: (a ValueError and a TypeError) no int, or less than 2.
    """
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 2):
        raise InputTypeError(f"limit: expected an int from 2, got {limit!r}")
    return limit


def limit_task(task: AbsTask, limit: int, seed: int) -> None:
    """Keeps at most `limit` items in each evaluated split of each subset, drawn by the seed, in the order they had.

    An item is a row of classification, STS and clustering, a pair of pair classification, a sentence of each set of a
    legacy clustering task, and a query of reranking and retrieval, with the documents it ranks: a corpus without
    rankings is kept whole. Training splits are. What is drawn from a split does not depend on the others.

    Args:
        task: Its data are loaded. They are replaced, never changed in place; a clustering task that would embed a share
            of its rows embeds all that are kept from now on.
        limit: From 2: a single pair has no correlation.
        seed: From 0.

    Raises:
        InputError: (a ValueError) a limit below 2, data that are not loaded, or a task whose items are unknown.

    Example:
        >>> from leaderboard.tasks.benchmarks import get_task
        >>> task = get_task("StarterSTS")
        >>> task.load_data()
        >>> limit_task(task, 20, seed=0)
        >>> len(task.dataset["test"])
        20
    """
    check_limit(limit)
    cut = _cut_of(task)
    if not task.data_loaded:
        raise InputError(f"limit: the data of {task.metadata.name} are not loaded")
    if isinstance(task, AbsTaskRetrieval):
        task.convert_v1_dataset_format_to_v2(num_proc=None)
    data: Any = task.dataset
    for subset in task.hf_subsets:
        is_plain = subset == "default" and subset not in data
        splits = data if is_plain else data[subset]
        few = {split: cut(task, splits[split], limit, np.random.default_rng(seed)) for split in task.eval_splits}
        splits = type(splits)({**splits, **few})
        data = splits if is_plain else type(data)({**data, subset: splits})
    task.dataset = data
    if isinstance(task, AbsTaskClustering):
        task.max_fraction_of_documents_to_embed = None


def _drawn(n: int, limit: int, rng: np.random.Generator) -> list[int]:
    drawn: list[int] = np.sort(rng.permutation(n)[:limit]).tolist()
    return drawn


def _rows(task: AbsTask, rows: Dataset, limit: int, rng: np.random.Generator) -> Dataset:
    return rows.select(_drawn(len(rows), limit, rng))


def _labelled_rows(task: AbsTaskClassification, rows: Dataset, limit: int, rng: np.random.Generator) -> Dataset:
    """Never two labels of more: mteb takes such rows for a binary task, and fails where neither of them is 1."""
    _, labels = np.unique(rows[task.label_column_name][:], return_inverse=True)
    order = rng.permutation(len(rows))
    drawn, rest = order[:limit], order[limit:]
    found = np.unique(labels[drawn])
    others = rest[~np.isin(labels[rest], found)]
    if len(found) == 2 and len(others):
        if limit == 2:
            drawn = drawn[:1]
        else:  # a third label, instead of a row that leaves its label another one
            repeated = np.flatnonzero(labels[drawn] == np.bincount(labels[drawn]).argmax())[-1]
            drawn[repeated] = others[0]
    return rows.select(np.sort(drawn))


def _documents(task: AbsTaskClustering, rows: Dataset, limit: int, rng: np.random.Generator) -> Dataset:
    share = task.max_fraction_of_documents_to_embed
    embedded = len(rows) if share is None else int(share * len(rows))
    return rows.select(_drawn(len(rows), min(limit, embedded), rng))


def _sentences(task: AbsTaskClusteringLegacy, sets: Dataset, limit: int, rng: np.random.Generator) -> Dataset:
    sets = sets.select_columns([task.input_column_name, task.label_column_name])
    few = []
    for row in sets:
        drawn = _drawn(len(row[task.label_column_name]), limit, rng)
        few.append({column: [values[number] for number in drawn] for column, values in row.items()})
    return Dataset.from_list(few, features=sets.features)


def _pairs(task: AbsTask, pairs: Dataset, limit: int, rng: np.random.Generator) -> Dataset:
    in_one_row = len(pairs) == 1  # the lists of all pairs
    if in_one_row:
        pairs = Dataset.from_dict(pairs[0])
    few = _rows(task, pairs, limit, rng)
    return Dataset.from_list([few.to_dict()]) if in_one_row else few


def _queries(task: AbsTask, tables: dict[str, Any], limit: int, rng: np.random.Generator) -> dict[str, Any]:
    names = tables["queries"]["id"][:]
    # mteb evaluates no others.
    with_answers = [number for number, name in enumerate(names) if tables["relevant_docs"].get(name)]
    drawn = [with_answers[number] for number in _drawn(len(with_answers), limit, rng)]
    kept = {names[number] for number in drawn}
    few = {**tables, "queries": tables["queries"].select(drawn)}
    few["relevant_docs"] = _of(kept, tables["relevant_docs"])
    if tables["top_ranked"]:
        few["top_ranked"] = _of(kept, tables["top_ranked"])
        ranked = set().union(*few["top_ranked"].values())
        documents = tables["corpus"]["id"][:]
        few["corpus"] = tables["corpus"].select([n for n, document in enumerate(documents) if document in ranked])
    return few


def _of(names: set[str], table: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name in names}


_CUTS: dict[type[AbsTask], Callable[..., Any]] = {
    AbsTaskClassification: _labelled_rows,
    AbsTaskClustering: _documents,
    AbsTaskClusteringLegacy: _sentences,
    AbsTaskPairClassification: _pairs,
    AbsTaskRetrieval: _queries,
    AbsTaskSTS: _rows,
}
# Classification by name; but their labels are no classes.
_OTHERS: Sequence[type[AbsTask]] = (AbsTaskMultilabelClassification, AbsTaskRegression)


def _cut_of(task: AbsTask) -> Callable[..., Any]:
    name = task.metadata.name
    if isinstance(task, AbsTaskClassification) and task.train_split in task.eval_splits:
        raise InputError(f"limit: {name} is evaluated on its training split {task.train_split!r}, which is kept whole")
    for kind, cut in _CUTS.items():
        if isinstance(task, kind) and not isinstance(task, tuple(_OTHERS)):
            return cut
    known = ", ".join(kind.__name__ for kind in _CUTS)
    raise InputError(f"limit: {name} is a task of type {task.metadata.type}; expected one that is a {known}")
