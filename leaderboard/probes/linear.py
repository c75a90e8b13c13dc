"""The linear probe: logistic regression on pooled vectors, layer by layer, with scikit-learn."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from leaderboard.probes.arguments import check_together, split_test
from leaderboard.probes.labels import check_labels, classes_of, numbered
from midlayer_embed.errors import InputError
from midlayer_embed.ground.checks import check_int
from midlayer_embed.ground.progress import progress

_MAX_ITER = 1000


def linear_probe(
    vectors: Any,
    labels: Sequence[Any] | np.ndarray,
    test_vectors: Any = None,
    test_labels: Sequence[Any] | np.ndarray | None = None,
    *,
    seed: int = 0,
    show_progress: bool = False,
) -> Any:
    """Accuracy of logistic regression on vectors, at one layer or at many.

    Dimensions are standardised by the images to train on; the penalty and the solver are scikit-learn's defaults, with
    at most 1,000 iterations.

    Args:
        vectors: (n, d), or (n, n_layers, d) as `ImageLayerwiseEncoder.encode` gives them.
        labels: A label for each image: ints or strings.
        test_vectors: Vectors of the images to test on. None: a fifth of the images, as in `attention_probe`.
        test_labels: Their labels.
        seed: Seed of that fifth.
        show_progress: Show a bar with an ETA on stderr.

    Returns:
        The accuracy on the test, 0 to 1: a float for one layer, float64 (n_layers,) for several.

    Raises:
        InputError: (a ValueError) shapes or labels that do not fit, vectors that are not finite, fewer than two
            classes, a test label that is not trained on.

    Example:
        >>> labels = np.arange(40) % 2
        >>> linear_probe(np.stack([labels, -labels], axis=1) * 1.0, labels)
        1.0
    """
    check_int("seed", seed, 0)
    check_together("vectors", test_vectors, test_labels)
    trained = _by_layer(vectors, "vectors")
    said = check_labels(labels, trained.shape[1])
    classes = classes_of(said)
    targets = numbered(said, classes, "labels")
    if test_vectors is None:
        train_rows, test_rows = split_test(targets, seed)
        tested, goal = trained[:, test_rows], targets[test_rows]
        trained, targets = trained[:, train_rows], targets[train_rows]
    else:
        tested = _by_layer(test_vectors, "test_vectors")
        if (tested.shape[0], tested.shape[2]) != (trained.shape[0], trained.shape[2]):
            raise InputError(f"test_vectors: expected {trained.shape[0]} layers of width {trained.shape[2]}")
        goal = numbered(check_labels(test_labels, tested.shape[1], "test_labels"), classes, "test_labels")
    scores = []
    for mine, its in progress(
        len(trained), "Linear probes", "layer", show_progress, items=zip(trained, tested, strict=True)
    ):
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_MAX_ITER))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the accuracy has settled long before the weights
            model.fit(mine, targets)
        scores.append(float(model.score(its, goal)))
    return np.array(scores) if np.ndim(vectors) == 3 else scores[0]


def _by_layer(vectors: Any, name: str) -> np.ndarray:
    """The vectors as (n_layers, n, d)."""
    found = np.asarray(vectors)
    if found.ndim not in (2, 3) or found.dtype.kind != "f" or 0 in found.shape:
        raise InputError(f"{name}: expected floats (n, d) or (n, n_layers, d), got shape {found.shape}, {found.dtype}")
    by_layer = found[None] if found.ndim == 2 else found.swapaxes(0, 1)
    for layer, of_layer in enumerate(by_layer):
        if not np.isfinite(of_layer).all():
            raise InputError(f"{name}: those of layer {layer} are not finite")
    return by_layer
