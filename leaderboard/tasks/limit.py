"""Limits the evaluated items of a task, for trials that take minutes. The scores are not MTEB scores.

`leaderboard.sweep.task` chooses the texts that representation metrics are measured on.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Value
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

from leaderboard.tasks.names import check_limit
from midlayer_embed.errors import InputError


def limit_task(task: AbsTask, limit: int, seed: int) -> None:
    """Keep a random sample of at most `limit` items in each evaluated split of each subset, in their original order.

    An item is a row (classification, STS, clustering, images), a pair (pair classification), a sentence of each set
    (legacy clustering) or a query with its candidate documents (reranking, retrieval). A corpus without candidate lists
    and training splits are kept whole. The sample of a split does not depend on other splits.

    Args:
        task: Task whose data are loaded. The data are replaced, not modified in place. A clustering task that embeds a
            fraction of its rows afterwards embeds all rows that were kept.
        limit: Maximum number of items, at least 2: a single pair has no correlation.
        seed: Seed of the samples, at least 0.

    Raises:
        InputError: (a ValueError) if the limit is below 2, the data are not loaded, or the task type is not supported.

    Example:
        >>> from leaderboard.tasks.benchmarks import get_task
        >>> task = get_task("StarterSTS")
        >>> task.load_data()
        >>> limit_task(task, 20, seed=0)
        >>> len(task.dataset["test"])
        20
    """
    check_limit(limit)
    cut = _find_cut(task)
    if not task.data_loaded:
        raise InputError(f"limit: expected a task with loaded data; call {task.metadata.name}.load_data() first")
    if isinstance(task, AbsTaskRetrieval):
        task.convert_v1_dataset_format_to_v2(num_proc=None)
    data: Any = task.dataset
    for subset in task.hf_subsets:
        is_plain = subset == "default" and subset not in data
        splits = data if is_plain else data[subset]
        limited = {split: cut(task, splits[split], limit, np.random.default_rng(seed)) for split in task.eval_splits}
        splits = type(splits)({**splits, **limited})
        data = splits if is_plain else type(data)({**data, subset: splits})
    task.dataset = data
    if isinstance(task, AbsTaskClustering):
        task.max_fraction_of_documents_to_embed = None


def _draw(n: int, limit: int, rng: np.random.Generator) -> list[int]:
    drawn: list[int] = np.sort(rng.permutation(n)[:limit]).tolist()
    return drawn


def _cut_rows(task: AbsTask, rows: Dataset, limit: int, rng: np.random.Generator) -> Dataset:
    return rows.select(_draw(len(rows), limit, rng))


def _cut_labelled_rows(task: AbsTaskClassification, rows: Dataset, limit: int, rng: np.random.Generator) -> Dataset:
    """Never keep exactly two of several labels: mteb treats that as binary, and fails if neither label is 1."""
    _, labels = np.unique(rows[task.label_column_name][:], return_inverse=True)
    order = rng.permutation(len(rows))
    drawn, rest = order[:limit], order[limit:]
    found = np.unique(labels[drawn])
    others = rest[~np.isin(labels[rest], found)]
    if len(found) == 2 and len(others):
        if limit == 2:
            drawn = drawn[:1]
        else:  # add a third label in place of a row whose label occurs more than once
            repeated = np.flatnonzero(labels[drawn] == np.bincount(labels[drawn]).argmax())[-1]
            drawn[repeated] = others[0]
    return rows.select(np.sort(drawn))


def _cut_documents(task: AbsTaskClustering, rows: Dataset, limit: int, rng: np.random.Generator) -> Dataset:
    share = task.max_fraction_of_documents_to_embed
    embedded = len(rows) if share is None else int(share * len(rows))
    return rows.select(_draw(len(rows), min(limit, embedded), rng))


def _cut_sentences(task: AbsTaskClusteringLegacy, sets: Dataset, limit: int, rng: np.random.Generator) -> Dataset:
    if isinstance(sets.features[task.label_column_name], (Value, ClassLabel)):  # one set, a row for each: images
        return _cut_rows(task, sets, limit, rng)
    sets = sets.select_columns([task.input_column_name, task.label_column_name])
    limited = []
    for row in sets:
        drawn = _draw(len(row[task.label_column_name]), limit, rng)
        limited.append({column: [values[index] for index in drawn] for column, values in row.items()})
    return Dataset.from_list(limited, features=sets.features)


def _cut_pairs(task: AbsTask, pairs: Dataset, limit: int, rng: np.random.Generator) -> Dataset:
    in_one_row = len(pairs) == 1  # lists of all pairs
    if in_one_row:
        pairs = Dataset.from_dict(pairs[0])
    limited = _cut_rows(task, pairs, limit, rng)
    return Dataset.from_list([limited.to_dict()]) if in_one_row else limited


def _cut_queries(task: AbsTask, tables: dict[str, Any], limit: int, rng: np.random.Generator) -> dict[str, Any]:
    names = tables["queries"]["id"][:]
    # mteb skips queries without relevant documents.
    with_answers = [index for index, name in enumerate(names) if tables["relevant_docs"].get(name)]
    drawn = [with_answers[index] for index in _draw(len(with_answers), limit, rng)]
    kept = {names[index] for index in drawn}
    limited = {**tables, "queries": tables["queries"].select(drawn)}
    limited["relevant_docs"] = _keep_names(tables["relevant_docs"], kept)
    if tables["top_ranked"]:
        limited["top_ranked"] = _keep_names(tables["top_ranked"], kept)
        ranked = set().union(*limited["top_ranked"].values())
        documents = tables["corpus"]["id"][:]
        limited["corpus"] = tables["corpus"].select([n for n, document in enumerate(documents) if document in ranked])
    return limited


def _keep_names(table: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name in names}


_CUTS: dict[type[AbsTask], Callable[..., Any]] = {
    AbsTaskClassification: _cut_labelled_rows,
    AbsTaskClustering: _cut_documents,
    AbsTaskClusteringLegacy: _cut_sentences,
    AbsTaskPairClassification: _cut_pairs,
    AbsTaskRetrieval: _cut_queries,
    AbsTaskSTS: _cut_rows,
}
# Subclasses of the types above whose labels are not classes.
_UNSUPPORTED: Sequence[type[AbsTask]] = (AbsTaskMultilabelClassification, AbsTaskRegression)


def _find_cut(task: AbsTask) -> Callable[..., Any]:
    name = task.metadata.name
    if isinstance(task, AbsTaskClassification) and task.train_split in task.eval_splits:
        raise InputError(
            f"limit: {name} is evaluated on its training split {task.train_split!r}, which is never limited"
        )
    for kind, cut in _CUTS.items():
        if isinstance(task, kind) and not isinstance(task, tuple(_UNSUPPORTED)):
            return cut
    known = ", ".join(kind.__name__ for kind in _CUTS)
    raise InputError(f"limit: expected a task of type {known}, got {name} ({task.metadata.type})")
