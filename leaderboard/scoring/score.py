"""Scores a task for one layer with mteb's own evaluators, without repeating work that is the same for every layer.

mteb reads labels and texts from lazy columns, row by row, ten times per classification task and again for each layer.
Inside `prepared(task)` they are in memory. Does not encode texts or store scores.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

import mteb
import mteb._create_dataloaders
import mteb.abstasks.clustering_legacy
import mteb.abstasks.pair_classification
import numpy as np
import sklearn
from datasets import Dataset
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.classification import AbsTaskClassification
from mteb.abstasks.clustering import AbsTaskClustering
from mteb.abstasks.clustering_legacy import AbsTaskClusteringLegacy
from mteb.abstasks.pair_classification import AbsTaskPairClassification
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.sts import AbsTaskSTS
from mteb.models import EncoderProtocol
from mteb.results import TaskResult
from mteb.tasks.reranking.eng.mind_small_reranking import MindSmallReranking
from mteb.types import EncodeKwargs
from threadpoolctl import ThreadpoolController

from leaderboard.scoring.classification import Undersampling, best_accuracy, best_f1, classification_metrics
from leaderboard.scoring.columns import Columns
from leaderboard.scoring.encode_kwargs import ENCODE_KWARGS
from leaderboard.scoring.pairs import Pairs
from leaderboard.scoring.reranking import Reranking
from leaderboard.tasks.images.pictures import not_decoded
from leaderboard.tasks.spill import with_items

# Task types whose evaluators only use what `Columns` provides.
_SUPPORTED_TYPES: tuple[type[AbsTask], ...] = (
    AbsTaskClassification,
    AbsTaskClusteringLegacy,
    AbsTaskClustering,
    AbsTaskPairClassification,
    AbsTaskRetrieval,
    AbsTaskSTS,
)
# Methods that a supported task may override: those that load its data, and those that do not use its data.
_LOADING_METHODS = ("load_data", "dataset_transform")
# Those that a task that makes its own data may override: it may add to the scores, and be known to mteb.
_OF_OWN_DATA = ("evaluate", "__init_subclass__")
_DATA_FREE_METHODS = (MindSmallReranking.task_specific_scores,)
# Modules where mteb builds datasets from lists that it has just read, and then reads them again.
_DATASET_MODULES: tuple[Any, ...] = (
    mteb._create_dataloaders,
    mteb.abstasks.clustering_legacy,
    mteb.abstasks.pair_classification,
)
# Nesting depth of a retrieval task's tables: subset, split, table.
_DATA_DEPTH = 3


def score(task: AbsTask, model: EncoderProtocol) -> TaskResult:
    """Evaluate a loaded task with mteb for one encoder, in the state of a fresh task.

    Args:
        task: Task whose data are loaded. Faster inside `prepared(task)`, with the same scores.
        model: The encoder.

    Returns:
        The scores of all splits and subsets.
    """
    # Each evaluation advances the task's random state; every layer should start from a fresh one.
    task.rng_state, task.np_rng = random.Random(task.seed), np.random.default_rng(task.seed)
    with _single_thread(model):
        evaluated = mteb.evaluate(
            model,
            task,
            cache=None,
            encode_kwargs=EncodeKwargs(**ENCODE_KWARGS),
            show_progress_bar=False,
            co2_tracker=False,
        )
    return evaluated.task_results[0]


@contextmanager
def _single_thread(model: EncoderProtocol) -> Iterator[None]:
    """Limit everything but the model's `encode` to one thread.

    Classifiers and k-means work on matrices so small that threads mostly wait for each other, even more so on a busy
    machine.
    """
    pools = ThreadpoolController()
    encode = model.encode

    def encode_with_all_threads(*args: Any, **kwargs: Any) -> Any:
        limit.restore_original_limits()
        try:
            return encode(*args, **kwargs)
        finally:
            pools.limit(limits=1)

    with pools.limit(limits=1) as limit, _patched(model, "encode", encode_with_all_threads):
        yield


@contextmanager
def prepared(task: AbsTask) -> Iterator[None]:
    """Hold the task's data in memory for mteb's evaluators, so that columns are read once instead of for every layer.

    Scores do not change. Images are not decoded: an encoder finds pictures among its inputs. Tasks of other types than
    the paper's, and tasks that override an evaluation method, are left alone but for that. The task and mteb are
    restored on exit. Nested calls for the same task are harmless. Inside, mteb builds `Columns` in every thread of the
    process: evaluate other tasks before or after, or in another process that prepares its own tasks.

    Args:
        task: Task whose data are loaded.
    """
    if not _is_supported(task):
        with _patched(task, "dataset", _without_decoding(task.dataset, _DATA_DEPTH)):
            yield
        return
    if isinstance(task, AbsTaskRetrieval):
        task.convert_v1_dataset_format_to_v2(num_proc=None)
    labels = [name for name in (getattr(task, "label_column_name", None),) if isinstance(name, str)]
    with ExitStack() as restored:
        restored.enter_context(sklearn.config_context(skip_parameter_validation=True))
        restored.enter_context(_patched(task, "dataset", _to_columns(task.dataset, labels, _DATA_DEPTH)))
        for method, replacement in _replacements(task).items():
            restored.enter_context(_patched(task, method, replacement))
        for module in _DATASET_MODULES:
            restored.enter_context(_patched(module, "Dataset", Columns))
        yield


def _replacements(task: AbsTask) -> dict[str, Callable[..., Any]]:
    """Faster replacements, with the same results, for slow methods of mteb's task types."""
    if isinstance(task, AbsTaskClassification):
        metrics: dict[str, Callable[..., Any]] = {"_calculate_scores": classification_metrics}
        return metrics if task.is_cross_validation else {**metrics, "_undersample_data": Undersampling(task)}
    if isinstance(task, AbsTaskPairClassification):
        thresholds = {"_find_best_acc_and_threshold": best_accuracy, "_find_best_f1_and_threshold": best_f1}
        return {**thresholds, "_evaluate_subset": Pairs(task)} if Pairs.supports(task) else thresholds
    if isinstance(task, AbsTaskRetrieval) and Reranking.supports(task):
        return {"_evaluate_subset": Reranking(task)}
    return {}


def _is_supported(task: AbsTask) -> bool:
    """Whether the task has a supported type and overrides none of its evaluation methods."""
    types = [task_type for task_type in _SUPPORTED_TYPES if isinstance(task, task_type)]
    if len(types) != 1:
        return False
    base = types[0]
    owners = [owner for owner in type(task).__mro__ if owner not in base.__mro__]
    own = [(name, value) for owner in (*owners, task) for name, value in vars(owner).items() if hasattr(base, name)]
    allowed = _LOADING_METHODS + (_OF_OWN_DATA if getattr(task, "makes_its_own_data", False) else ())
    return all(
        name in allowed or value in _DATA_FREE_METHODS
        for name, value in own
        if callable(value) or isinstance(value, (classmethod, property))
    )


def _to_columns(data: Any, labels: list[str], depth: int, where: tuple[str, ...] = ()) -> Any:
    """Convert each table in the data to `Columns`; everything else stays unchanged."""
    if isinstance(data, Dataset):
        return Columns.of(data, arrays=labels, where=where)
    if isinstance(data, dict) and depth:
        return {name: _to_columns(value, labels, depth - 1, (*where, name)) for name, value in data.items()}
    return data


def _without_decoding(data: Any, depth: int) -> Any:
    """The data with encoded images; everything else stays unchanged."""
    if isinstance(data, Dataset):
        return not_decoded(data)
    if isinstance(data, dict) and depth:
        changed = {name: _without_decoding(value, depth - 1) for name, value in data.items()}
        return with_items(data, changed) if any(changed[name] is not value for name, value in data.items()) else data
    return data


@contextmanager
def _patched(owner: AbsTask | EncoderProtocol | ModuleType, name: str, value: Any) -> Iterator[None]:
    """Set an attribute of `owner`, and restore it on exit."""
    had, own = name in vars(owner), vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if had:
            setattr(owner, name, own)
        else:
            delattr(owner, name)
