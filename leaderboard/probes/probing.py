"""The attention probe of frozen tokens: from an array of states and labels to an accuracy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from leaderboard.probes.arguments import Settings, check_heads, check_together, split_test
from leaderboard.probes.labels import check_labels, classes_of, hold_out, numbered
from leaderboard.probes.tokens import KeptTokens
from leaderboard.probes.training import Tokens, Trained, predict, train
from midlayer_embed.errors import InputError
from midlayer_embed.models.weights import resolve_device


def attention_probe(
    tokens: Any,
    labels: Sequence[Any] | np.ndarray,
    test_tokens: Any = None,
    test_labels: Sequence[Any] | np.ndarray | None = None,
    *,
    heads: int = Settings.heads,
    epochs: int | None = Settings.epochs,
    batch_size: int = Settings.batch_size,
    lr: float = Settings.lr,
    seed: int = 0,
    smoothing: float = Settings.smoothing,
    held_out: float = Settings.held_out,
    patience: int | None = Settings.patience,
    device: str | torch.device | None = None,
    show_progress: bool = False,
) -> Any:
    """Accuracy of an attention probe on frozen tokens, at one layer or at many at once.

    The probe normalises tokens without a scale or shift, gathers them by the attention of one learned query, and
    classifies linearly what is gathered (El-Nouby et al. 2024). Layers are trained side by side and do not influence
    each other: each gives what it gives alone, to rounding.

    Args:
        tokens: States of the images to train on: (n, T, d), or (n, n_layers, T, d); numpy or torch.
        labels: A label for each image: ints or strings.
        test_tokens: States of the images to test on, of the same layers. None: a fifth of the images, drawn by the seed
            with the share of each class kept, is the test and is not trained on.
        test_labels: Their labels.
        heads: Number of heads; divides d.
        epochs: Number of passes over the images, at most. None: as many as take 2,000 steps, and at least 10.
        batch_size: Number of images in a step, at most.
        lr: Learning rate of Adam.
        seed: Seed of the weights, of the order of the images and of what is held out.
        smoothing: Share of the target that is spread over all classes in training, 0 to 1: label smoothing.
        held_out: Share of the images to train on that only decides when to stop, 0 to 1. 0: all epochs are trained.
        patience: Number of epochs without a lower loss on what is held out, after which a layer stops; it keeps the
            weights of its best epoch. None: a fifth of the epochs, and at least 10.
        device: Where the probes are trained. None: CUDA, MPS or CPU, the fastest that is available.
        show_progress: Show a bar with an ETA on stderr.

    Returns:
        The accuracy on the test, 0 to 1: a float for one layer, float64 (n_layers,) for several.

    Raises:
        InputError: (a ValueError) shapes or labels that do not fit, states that are not finite, fewer than two classes,
            a test label that is not trained on, heads that do not divide d.

    Example:
        >>> random = np.random.default_rng(0)
        >>> labels = np.arange(200) % 2
        >>> tokens = random.standard_normal((200, 4, 16)) + 2 * labels[:, None, None]
        >>> attention_probe(tokens, labels, heads=2, device="cpu")
        1.0
    """
    settings = Settings(
        heads=heads,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
        smoothing=smoothing,
        held_out=held_out,
        patience=patience,
    ).checked()
    states = _by_layer(tokens, "tokens")
    check_heads(settings.heads, states.shape[-1])
    targets = check_labels(labels, states.shape[1])
    classes = classes_of(targets)
    numbers = numbered(targets, classes, "labels")
    where = resolve_device(device)
    check_together("tokens", test_tokens, test_labels)
    if test_tokens is None:
        train_rows, test_rows = split_test(numbers, seed)
        kept = KeptTokens(states, where)
        tested, goal = kept, numbers[test_rows]
    else:
        test_states = _by_layer(test_tokens, "test_tokens")
        _check_alike(states, test_states)
        goal = numbered(check_labels(test_labels, test_states.shape[1], "test_labels"), classes, "test_labels")
        kept, tested = KeptTokens(states, where), KeptTokens(test_states, where)
        train_rows, test_rows = np.arange(states.shape[1]), np.arange(len(goal))
    trained = fit(kept, numbers, train_rows, settings, where, len(classes), show_progress=show_progress)
    found = accuracy(trained, tested, test_rows, goal, settings)
    return found if np.ndim(tokens) == 4 else float(found[0])


def fit(
    tokens: Tokens,
    targets: np.ndarray,
    rows: np.ndarray,
    settings: Settings,
    device: torch.device,
    n_classes: int,
    *,
    show_progress: bool = False,
) -> Trained:
    """Train probes on some rows, a share of which decides when they stop."""
    kept, held = hold_out(targets[rows], settings.held_out, settings.seed)
    return train(
        tokens,
        targets,
        rows[kept],
        rows[held],
        settings,
        n_classes=n_classes,
        device=device,
        show_progress=show_progress,
    )


def accuracy(trained: Trained, tokens: Tokens, rows: np.ndarray, goal: np.ndarray, settings: Settings) -> np.ndarray:
    """Share of the rows whose class is found, at every layer: float64 (n_layers,)."""
    found: np.ndarray = (predict(trained.probes, tokens, rows, settings.batch_size) == goal).mean(axis=1)
    return found


def _by_layer(tokens: Any, name: str) -> np.ndarray:
    """The states as (n_layers, n, T, d)."""
    if isinstance(tokens, torch.Tensor):
        tokens = tokens.detach().cpu()
        tokens = (tokens.float() if tokens.is_floating_point() else tokens).numpy()
    found = np.asarray(tokens)
    if found.ndim not in (3, 4) or found.dtype.kind != "f":
        raise InputError(
            f"{name}: expected floats (n, T, d) or (n, n_layers, T, d), got shape {found.shape} of {found.dtype}"
        )
    if 0 in found.shape:
        raise InputError(f"{name}: expected at least one image, layer, token and dimension, got shape {found.shape}")
    return found[None] if found.ndim == 3 else found.swapaxes(0, 1)


def _check_alike(states: np.ndarray, test_states: np.ndarray) -> None:
    of_train, of_test = ((one.shape[0], *one.shape[2:]) for one in (states, test_states))
    if of_train != of_test:
        words = "{} layers, {} tokens, width {}"
        raise InputError(f"test_tokens: expected {words.format(*of_train)} as in tokens, got {words.format(*of_test)}")
