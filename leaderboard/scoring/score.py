"""A task's score of a layer: mteb's own evaluators, spared what they would do again for every layer.

mteb reads labels and texts out of lazy columns, row by row, ten times a classification and again for each layer. Within
`prepared(task)` they find them in memory. Not for: encoding, or what is done with the scores.
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
from leaderboard.scoring.pairs import Pairs
from leaderboard.scoring.reranking import Reranking
from leaderboard.tasks.starter import StarterSTS

# How many texts mteb hands over at a time. No forward pass depends on it: the store encodes what it is given at once.
ENCODE_KWARGS: EncodeKwargs = {"batch_size": 512, "show_progress_bar": False}

# The kinds of tasks whose evaluation is known to ask no more of a dataset than `Columns` answers.
_KINDS: tuple[type[AbsTask], ...] = (
    AbsTaskClassification,
    AbsTaskClusteringLegacy,
    AbsTaskClustering,
    AbsTaskPairClassification,
    AbsTaskRetrieval,
    AbsTaskSTS,
)
# What a task may have of its own all the same: how its data are loaded, and methods that do not ask for them.
_LOADING = ("load_data", "dataset_transform")
_ASKS_NOTHING = (MindSmallReranking.task_specific_scores, StarterSTS.evaluate)
# Where mteb makes datasets of lists that it has just read, only to read them again.
_MAKERS: tuple[Any, ...] = (
    mteb._create_dataloaders,
    mteb.abstasks.clustering_legacy,
    mteb.abstasks.pair_classification,
)
# Down to the tables of a retrieval task's split: subset, split, table.
_DEPTH = 3


def score(task: AbsTask, model: EncoderProtocol) -> TaskResult:
    """Scores a loaded task by mteb for one encoder, as of a task that was never evaluated before.

    Args:
        task: The task, its data loaded. Faster, and no different, within `prepared(task)`.
        model: The encoder.

    Returns:
        The scores of all splits and subsets.
    """
    # A task's own random state moves on with every evaluation; each layer shall see what a fresh task sees.
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
    """Within, nothing but the model's `encode` has more than one thread.

    Classifiers and k-means go over matrices so small that threads spend their time waiting for each other, all the more
    on a busy machine.
    """
    pools = ThreadpoolController()
    encode = model.encode

    def encode_by_all(*args: Any, **kwargs: Any) -> Any:
        limit.restore_original_limits()
        try:
            return encode(*args, **kwargs)
        finally:
            pools.limit(limits=1)

    with pools.limit(limits=1) as limit, _replaced(model, "encode", encode_by_all):
        yield


@contextmanager
def prepared(task: AbsTask) -> Iterator[None]:
    """Within, mteb's evaluators find the task's data in memory: columns are read once, not once a layer or experiment.

    The scores are the same. Tasks of other kinds than the paper's, and those with an evaluation method of their own,
    are left as they are. Afterwards the task and mteb are what they were. To prepare a prepared task does no harm.
    Within, mteb makes `Columns` in every thread of the process: other tasks are evaluated before or after, or in
    another process, which prepares its tasks for itself.

    Args:
        task: A task whose data are loaded.
    """
    if not _is_known(task):
        yield
        return
    if isinstance(task, AbsTaskRetrieval):
        task.convert_v1_dataset_format_to_v2(num_proc=None)
    labels = [name for name in (getattr(task, "label_column_name", None),) if isinstance(name, str)]
    with ExitStack() as restored:
        restored.enter_context(sklearn.config_context(skip_parameter_validation=True))
        restored.enter_context(_replaced(task, "dataset", _held(task.dataset, labels, _DEPTH)))
        for method, replacement in _replacements(task).items():
            restored.enter_context(_replaced(task, method, replacement))
        for module in _MAKERS:
            restored.enter_context(_replaced(module, "Dataset", Columns))
        yield


def _replacements(task: AbsTask) -> dict[str, Callable[..., Any]]:
    """Methods of mteb's kinds of tasks that are slow, and what gives the same."""
    if isinstance(task, AbsTaskClassification):
        found: dict[str, Callable[..., Any]] = {"_calculate_scores": classification_metrics}
        return found if task.is_cross_validation else {**found, "_undersample_data": Undersampling(task)}
    if isinstance(task, AbsTaskPairClassification):
        thresholds = {"_find_best_acc_and_threshold": best_accuracy, "_find_best_f1_and_threshold": best_f1}
        return {**thresholds, "_evaluate_subset": Pairs(task)} if Pairs.suits(task) else thresholds
    if isinstance(task, AbsTaskRetrieval) and Reranking.suits(task):
        return {"_evaluate_subset": Reranking(task)}
    return {}


def _is_known(task: AbsTask) -> bool:
    """Whether the task is of a known kind and evaluates by that kind's methods alone."""
    kinds = [kind for kind in _KINDS if isinstance(task, kind)]
    if len(kinds) != 1:
        return False
    kind = kinds[0]
    owners = [owner for owner in type(task).__mro__ if owner not in kind.__mro__]
    own = [(name, value) for owner in (*owners, task) for name, value in vars(owner).items() if hasattr(kind, name)]
    return all(
        name in _LOADING or value in _ASKS_NOTHING
        for name, value in own
        if callable(value) or isinstance(value, (classmethod, property))
    )


def _held(data: Any, labels: list[str], depth: int) -> Any:
    """The data with each table as `Columns`; what else there is, as it is."""
    if isinstance(data, Dataset):
        return Columns.of(data, arrays=labels)
    if isinstance(data, dict) and depth:
        return {name: _held(value, labels, depth - 1) for name, value in data.items()}
    return data


@contextmanager
def _replaced(owner: AbsTask | EncoderProtocol | ModuleType, name: str, value: Any) -> Iterator[None]:
    """Within, `owner` has another attribute of this name."""
    had, own = name in vars(owner), vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if had:
            setattr(owner, name, own)
        else:
            delattr(owner, name)
