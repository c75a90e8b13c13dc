"""What mteb's tasks make of predictions and similarities: the same numbers in one go over arrays.

Only what mteb computes by loops in Python, or over and over. Not for: predicting, or measuring similarity.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mteb.abstasks.classification import AbsTaskClassification, ClassificationMetrics
from sklearn.metrics import average_precision_score, precision_recall_fscore_support


def classification_metrics(y_test: Any, y_pred: Any) -> ClassificationMetrics:
    """The scores of mteb's `AbsTaskClassification._calculate_scores`, which counts the same seven times.

    Args:
        y_test: The labels, (n,).
        y_pred: The predicted labels, (n,).

    Returns:
        Accuracy; F1, precision and recall, averaged over classes and weighted by their frequency; of two classes the
        average precision.

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
    """The best threshold by accuracy, between two different scores: mteb's `_find_best_acc_and_threshold`.

    Args:
        scores: Of each pair, (n,).
        labels: 1 for similar pairs, (n,).
        high_score_more_similar: False for distances.

    Returns:
        The highest accuracy, and the first threshold that has it.

    Example:
        >>> best_accuracy([0.9, 0.8, 0.1], np.array([1, 0, 0]), True)
        (1.0, 0.8500000000000001)
    """
    ranked, similar, cuts = _cuts(scores, labels, high_score_more_similar)
    n_negative = np.count_nonzero(labels == 0)
    found = np.cumsum(similar)[cuts]
    accuracy = (found + n_negative - (cuts + 1 - found)) / len(labels)
    best = _first_best(accuracy)
    return (0, -1.0) if best is None else (float(accuracy[best]), _threshold(ranked, cuts[best]))


def best_f1(
    scores: Sequence[float], labels: np.ndarray, high_score_more_similar: bool
) -> tuple[float, float, float, float]:
    """The best threshold by F1, between two different scores: mteb's `_find_best_f1_and_threshold`.

    Args:
        scores: Of each pair, (n,).
        labels: 1 for similar pairs, (n,).
        high_score_more_similar: False for distances.

    Returns:
        The highest F1, its precision and recall, and the first threshold that has it.

    Example:
        >>> best_f1([0.9, 0.8, 0.1], np.array([1, 0, 0]), True)
        (1.0, 1.0, 1.0, 0.8500000000000001)
    """
    ranked, similar, cuts = _cuts(scores, labels, high_score_more_similar)
    found = np.cumsum(similar)[cuts]
    found, cuts = found[found > 0], cuts[found > 0]
    precision = found / (cuts + 1)
    recall = found / sum(labels.tolist())
    f1 = 2 * precision * recall / (precision + recall)
    best = _first_best(f1)
    if best is None:
        return 0.0, 0.0, 0.0, 0.0
    return float(f1[best]), float(precision[best]), float(recall[best]), _threshold(ranked, cuts[best])


def _cuts(
    scores: Sequence[float], labels: np.ndarray, high_score_more_similar: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores from the most similar pair on, whether each pair is similar, and after which of them a threshold fits."""
    values = np.asarray(scores)
    order = np.argsort(-values if high_score_more_similar else values, kind="stable")
    ranked = values[order]
    return ranked, labels[order] == 1, np.flatnonzero(ranked[1:] != ranked[:-1])


def _first_best(values: np.ndarray) -> int | None:
    """Where the highest value is, if it is above 0."""
    best = int(np.argmax(values)) if len(values) else None
    return None if best is None or values[best] <= 0 else best


def _threshold(ranked: np.ndarray, cut: int) -> float:
    return float((ranked[cut] + ranked[cut + 1]) / 2)


class Undersampling:
    """mteb's draws of training rows, each made once: they depend on the labels and the seed, never on the layer.

    Args:
        task: The task that draws.
    """

    def __init__(self, task: AbsTaskClassification) -> None:
        self._draw = task._undersample_data
        self._drawn: dict[tuple[int, int], tuple[Any, Any, list[int], list[int]]] = {}

    def __call__(self, dataset: Any, experiment_num: int, idxs: list[int] | None = None) -> tuple[Any, Any, list[int]]:
        """As `AbsTaskClassification._undersample_data`, whose draws follow from one another."""
        key = (id(dataset), experiment_num)
        if key not in self._drawn:
            sample, shuffled, selected = self._draw(dataset, experiment_num, idxs)
            self._drawn[key] = (dataset, sample, list(shuffled), selected)
        _, sample, shuffled, selected = self._drawn[key]
        return sample, list(shuffled), list(selected)
