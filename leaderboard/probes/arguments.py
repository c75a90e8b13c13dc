"""Arguments of probes, checked without anything slow, and the images that are the test if none are given."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leaderboard.probes.labels import hold_out
from midlayer_embed.errors import InputError
from midlayer_embed.ground.checks import check_above_zero, check_int, check_optional_int

# Share of the images that is the test if none are given.
TEST_SHARE = 0.2
# What an attention probe is given to learn, unless the epochs are told: few images take more epochs.
_STEPS, _LEAST_EPOCHS = 2000, 10
ATTENTION, LINEAR = "attention", "linear"
PROBES = (ATTENTION, LINEAR)


@dataclass(frozen=True)
class Settings:
    """How attention probes are trained.

    Attributes:
        heads: Number of heads of the attention.
        epochs: Number of passes over the images, at most. None: as many as take 2,000 steps, and at least 10.
        batch_size: Number of images in a step, at most; batches of an epoch are of nearly the same size.
        lr: Learning rate of Adam.
        seed: Seed of the weights, of the order of the images and of what is held out.
        smoothing: Share of the target that is spread over all classes (Szegedy et al. 2016). Without it, probes of few
            images grow sure of them, and classify others worse.
        held_out: Share of the images to train on that only decides when to stop.
        patience: Number of epochs without a lower loss on these after which a layer stops. None: a fifth of the epochs,
            and at least 10.

    Example:
        >>> Settings(heads=4).checked().heads
        4
        >>> Settings(held_out=1).checked()
        Traceback (most recent call last):
        midlayer_embed.errors.InputError: held_out: expected a share of at least 0 and below 1, got 1
    """

    heads: int = 8
    epochs: int | None = None
    batch_size: int = 128
    lr: float = 1e-3
    seed: int = 0
    smoothing: float = 0.1
    held_out: float = 0.1
    patience: int | None = None

    def checked(self) -> "Settings":
        """The same settings.

        Raises:
            InputError: (a ValueError) one of them is out of range.
        """
        check_int("heads", self.heads, 1)
        check_int("batch_size", self.batch_size, 1)
        check_optional_int("epochs", self.epochs, 1)
        check_optional_int("patience", self.patience, 1)
        check_int("seed", self.seed, 0)
        check_above_zero("lr", self.lr)
        for name in ("smoothing", "held_out"):
            _check_share(name, getattr(self, name))
        return self

    def batches(self, n: int) -> int:
        """Number of batches of an epoch over n images."""
        return max(1, -(-n // self.batch_size))

    def max_epochs(self, n: int) -> int:
        """Number of epochs over n images, at most.

        Example:
            >>> Settings().max_epochs(1280), Settings(epochs=3).max_epochs(1280)
            (200, 3)
        """
        return max(_LEAST_EPOCHS, -(-_STEPS // self.batches(n))) if self.epochs is None else self.epochs

    def waits(self, n: int) -> int:
        """Number of epochs over n images that a layer waits for a lower loss."""
        return max(_LEAST_EPOCHS, self.max_epochs(n) // 5) if self.patience is None else self.patience


def _check_share(name: str, share: object) -> None:
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1:
        raise InputError(f"{name}: expected a share of at least 0 and below 1, got {share!r}")


def check_probes(probes: Sequence[str]) -> list[str]:
    """The kinds of probes, each once.

    Raises:
        InputError: (a ValueError) an unknown one, or none.

    Example:
        >>> check_probes(["linear"])
        ['linear']
    """
    names = [probes] if isinstance(probes, str) else list(dict.fromkeys(probes))
    if not names or not set(names) <= set(PROBES):
        raise InputError(f"probes: expected some of {', '.join(PROBES)}, got {', '.join(map(str, names)) or 'none'}")
    return names


def check_window(window: Any, n_layers: int | None = None) -> int | None:
    """The number of layers that are averaged; None for no windows.

    Args:
        window: What was asked for.
        n_layers: L + 1; None: not known yet.

    Raises:
        InputError: (a ValueError) below 2, or more than the model has.
    """
    found = check_optional_int("window", window, 2)
    if found is not None and n_layers is not None and found > n_layers:
        raise InputError(f"window: the model has {n_layers} layers, got {found}")
    return found


def check_heads(heads: int, dim: int) -> None:
    """Reject heads that do not divide the width of a token.

    Raises:
        InputError: (a ValueError) the message has numbers that do.
    """
    if dim % heads:
        divide = ", ".join(str(n) for n in range(1, min(dim, 32) + 1) if dim % n == 0)
        raise InputError(f"heads: expected a number that divides the width of a token, {dim} ({divide}), got {heads}")


def check_together(what: str, test: Any, test_labels: Any) -> None:
    """Reject what is to be tested without its labels, and labels without it.

    Raises:
        InputError: (a ValueError) one is missing.
    """
    if (test is None) != (test_labels is None):
        missing = f"test_{what}" if test is None else "test_labels"
        raise InputError(f"{missing}: test_{what} and test_labels belong together, and it is missing")


def split_test(targets: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows to test on: a fifth of each class.

    Raises:
        InputError: (a ValueError) there are too few images for a test.
    """
    train_rows, test_rows = hold_out(targets, TEST_SHARE, seed)
    if not len(test_rows):
        raise InputError(f"labels: {len(targets)} images of {targets.max() + 1} classes are too few to test on some")
    return train_rows, test_rows
