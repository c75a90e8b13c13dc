"""Vectorised equivalents of mteb's classification and pair classification scores, with equal results.

Replaces only what mteb computes in Python loops or repeatedly. Does not predict labels or compute similarities.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mteb.abstasks.classification import AbsTaskClassification, ClassificationMetrics
from sklearn.metrics import average_precision_score, precision_recall_fscore_support


def classification_metrics(y_test: Any, y_pred: Any) -> ClassificationMetrics:
    """Same scores as mteb's `AbsTaskClassification._calculate_scores`, which counts the predictions seven times.

    Args:
        y_test: True labels, (n,).
        y_pred: Predicted labels, (n,).

    Returns:
        Accuracy; F1, precision and recall, each as macro average and weighted by class frequency; average precision
        if there are two classes.

    Example:
        >>> classification_metrics(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 1]))["f1_weighted"]
        0.75
    """
    precision, recall, f1, support = precision_recall_fscore_support(y_test, y_pred, average=None)
    is_binary = len(np.unique(y_test)) == 2
    return ClassificationMetrics(
        accuracy=float(np.mean(np.asarray(y_test) == y_pred)),
        f1=float(np.average(f1)),
        f1_weighted=float(np.average(f1, weights=support)),
        precision=float(np.average(precision)),
        precision_weighted=float(np.average(precision, weights=support)),
        recall=float(np.average(recall)),
        recall_weighted=float(np.average(recall, weights=support)),
        ap=average_precision_score(y_test, y_pred, average="macro") if is_binary else None,
        ap_weighted=average_precision_score(y_test, y_pred, average="weighted") if is_binary else None,
    )


def best_accuracy(scores: Sequence[float], labels: np.ndarray, high_score_more_similar: bool) -> tuple[float, float]:
    """Find the threshold with the best accuracy, like mteb's `_find_best_acc_and_threshold`.

    Only midpoints between two different scores are considered.

    Args:
        scores: Score of each pair, (n,).
        labels: 1 for similar pairs, (n,).
        high_score_more_similar: False for distances.

    Returns:
        The highest accuracy and the first threshold that reaches it.

    Example:
        >>> best_accuracy([0.9, 0.8, 0.1], np.array([1, 0, 0]), True)
        (1.0, 0.8500000000000001)
    """
    ranked, similar, cuts = _find_cuts(scores, labels, high_score_more_similar)
    n_negative = np.count_nonzero(labels == 0)
    found = np.cumsum(similar)[cuts]
    accuracy = (found + n_negative - (cuts + 1 - found)) / len(labels)
    best = _find_best(accuracy)
    return (0, -1.0) if best is None else (float(accuracy[best]), _threshold(ranked, cuts[best]))


def best_f1(
    scores: Sequence[float], labels: np.ndarray, high_score_more_similar: bool
) -> tuple[float, float, float, float]:
    """Find the threshold with the best F1, like mteb's `_find_best_f1_and_threshold`.

    Only midpoints between two different scores are considered.

    Args:
        scores: Score of each pair, (n,).
        labels: 1 for similar pairs, (n,).
        high_score_more_similar: False for distances.

    Returns:
        The highest F1, its precision and recall, and the first threshold that reaches it.

    Example:
        >>> best_f1([0.9, 0.8, 0.1], np.array([1, 0, 0]), True)
        (1.0, 1.0, 1.0, 0.8500000000000001)
    """
    ranked, similar, cuts = _find_cuts(scores, labels, high_score_more_similar)
    found = np.cumsum(similar)[cuts]
    found, cuts = found[found > 0], cuts[found > 0]
    precision = found / (cuts + 1)
    recall = found / sum(labels.tolist())
    f1 = 2 * precision * recall / (precision + recall)
    best = _find_best(f1)
    if best is None:
        return 0.0, 0.0, 0.0, 0.0
    return float(f1[best]), float(precision[best]), float(recall[best]), _threshold(ranked, cuts[best])


def _find_cuts(
    scores: Sequence[float], labels: np.ndarray, high_score_more_similar: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores sorted by decreasing similarity, whether each pair is similar, and positions after which to cut."""
    values = np.asarray(scores)
    order = np.argsort(-values if high_score_more_similar else values, kind="stable")
    ranked = values[order]
    return ranked, labels[order] == 1, np.flatnonzero(ranked[1:] != ranked[:-1])


def _find_best(values: np.ndarray) -> int | None:
    """Index of the highest value; None if no value is above 0."""
    best = int(np.argmax(values)) if len(values) else None
    return None if best is None or values[best] <= 0 else best


def _threshold(ranked: np.ndarray, cut: int) -> float:
    return float((ranked[cut] + ranked[cut + 1]) / 2)


class Undersampling:
    """Caches mteb's samples of training rows, which depend on the labels and the seed but not on the layer.

    Args:
        task: Task whose `_undersample_data` is cached.
    """

    def __init__(self, task: AbsTaskClassification) -> None:
        self._undersample = task._undersample_data
        self._samples: dict[tuple[int, int], tuple[Any, Any, list[int], list[int]]] = {}

    def __call__(self, dataset: Any, experiment_num: int, idxs: list[int] | None = None) -> tuple[Any, Any, list[int]]:
        """Same as `AbsTaskClassification._undersample_data`, where a sample starts from the previous order."""
        key = (id(dataset), experiment_num)
        if key not in self._samples:
            sample, shuffled, selected = self._undersample(dataset, experiment_num, idxs)
            self._samples[key] = (dataset, sample, list(shuffled), selected)
        _, sample, shuffled, selected = self._samples[key]
        return sample, list(shuffled), list(selected)
