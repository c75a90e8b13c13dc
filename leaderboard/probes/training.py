"""Training of the attention probes of all layers at once: each batch of tokens is read once, and moves every probe."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from leaderboard.probes.arguments import Settings
from leaderboard.probes.attention import AttentionProbes, TokenBatch
from midlayer_embed.errors import InputError
from midlayer_embed.ground.progress import progress


class Tokens(Protocol):
    """Token states of images at several layers, wherever they are.

    Attributes:
        n_layers: Number of layers.
        dim: Width of a token.
    """

    n_layers: int
    dim: int

    def batch(self, rows: np.ndarray, layers: np.ndarray) -> TokenBatch:
        """The states of images at some of the layers, both by their numbers from 0."""


@dataclass(frozen=True)
class Trained:
    """Trained probes.

    Attributes:
        probes: The probes, each as it was after its best epoch.
        epochs: The best epoch of each layer, from 1: int (n_layers,).
        loss: Its mean loss on what was held out, in nats; NaN if nothing was: float64 (n_layers,).
        max_epochs: Number of epochs that a layer could take.
        patience: Number of epochs that it waited for a lower loss.
    """

    probes: AttentionProbes
    epochs: np.ndarray
    loss: np.ndarray
    max_epochs: int
    patience: int


def train(
    tokens: Tokens,
    targets: np.ndarray,
    fitted: np.ndarray,
    held: np.ndarray,
    settings: Settings,
    *,
    n_classes: int,
    device: torch.device,
    show_progress: bool = False,
) -> Trained:
    """Train a probe for each layer. A layer that stops keeps the weights of its best epoch and costs nothing more.

    Args:
        tokens: The states.
        targets: The class of each image: int64 (n,).
        fitted: Rows to train on.
        held: Rows that decide when a layer stops. None: every layer is trained for all epochs.
        settings: How they are trained.
        n_classes: Number of classes.
        device: Where the probes are.
        show_progress: Show a bar with an ETA on stderr.

    Raises:
        InputError: (a ValueError) the loss of a layer is not finite: the learning rate is too high.
    """
    best = AttentionProbes(tokens.n_layers, tokens.dim, n_classes, settings.heads, settings.seed).to(device)
    probes, layers = best.only(torch.arange(tokens.n_layers)), np.arange(tokens.n_layers)
    optimizer = _adam(probes, settings.lr)
    order = np.random.default_rng(settings.seed)
    epochs, loss = np.zeros(tokens.n_layers, int), np.full(tokens.n_layers, np.inf)
    goal = torch.from_numpy(targets).to(device)
    n_epochs, n_batches = settings.max_epochs(len(fitted)), settings.batches(len(fitted))
    with progress(n_epochs, "Training probes", "epoch", show_progress) as bar:
        for epoch in range(1, n_epochs + 1):
            probes.train()
            for rows in np.array_split(order.permutation(fitted), n_batches):
                optimizer.zero_grad()
                _losses(probes(tokens.batch(rows, layers)), goal[rows], settings.smoothing).sum().backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            bar.update(1)
            if not len(held):
                continue
            now = held_loss(probes, tokens, goal, held, layers, settings.batch_size)
            better = now < loss[layers]
            epochs[layers[better]], loss[layers[better]] = epoch, now[better]
            best.put(_places(layers[better], device), probes, _places(np.flatnonzero(better), device))
            goes_on = epoch - epochs[layers] < settings.waits(len(fitted))
            if not goes_on.all():
                if not goes_on.any():
                    break
                kept = _places(np.flatnonzero(goes_on), device)
                layers = layers[goes_on]
                optimizer, probes = _fewer(optimizer, probes, kept, settings.lr)
    if not len(held):
        best, epochs[:], loss[:] = probes, n_epochs, np.nan
    is_finite = torch.stack([p.detach().flatten(1).isfinite().all(1) for p in best.parameters()]).all(0).cpu().numpy()
    for layer in np.flatnonzero(~is_finite | (epochs == 0)):
        raise InputError(f"lr: training diverged at layer {layer}; expected a lower rate than {settings.lr:g}")
    return Trained(best.eval(), epochs, loss, n_epochs, settings.waits(len(fitted)))


@torch.inference_mode()
def predict(probes: AttentionProbes, tokens: Tokens, rows: np.ndarray, batch_size: int) -> np.ndarray:
    """The most likely class of images at every layer: int64 (n_layers, n)."""
    probes.eval()
    layers = np.arange(tokens.n_layers)
    parts = [probes(tokens.batch(some, layers)).argmax(dim=-1).cpu().numpy() for some in _parts(rows, batch_size)]
    return np.concatenate(parts, axis=1)


@torch.inference_mode()
def held_loss(
    probes: AttentionProbes, tokens: Tokens, goal: torch.Tensor, rows: np.ndarray, layers: np.ndarray, batch_size: int
) -> np.ndarray:
    """Mean loss of each layer, in nats: float64 (n_layers,)."""
    probes.eval()
    total = torch.zeros(len(layers), dtype=torch.float64)
    for some in _parts(rows, batch_size):
        total += _losses(probes(tokens.batch(some, layers)), goal[some]).cpu().double() * len(some)
    return total.numpy() / len(rows)


def _losses(logits: torch.Tensor, goal: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """Mean cross-entropy of each layer: (n_layers,). No layer's gradient depends on another's."""
    each = cross_entropy(logits.flatten(0, 1), goal.repeat(len(logits)), reduction="none", label_smoothing=smoothing)
    return each.view(len(logits), -1).mean(dim=1)


def _parts(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    yield from (rows[start : start + size] for start in range(0, len(rows), size))


def _places(numbers: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(numbers).to(device)


def _adam(probes: AttentionProbes, lr: float) -> torch.optim.Adam:
    return torch.optim.Adam(probes.parameters(), lr=lr, fused=True)


def _fewer(
    optimizer: torch.optim.Adam, probes: AttentionProbes, kept: torch.Tensor, lr: float
) -> tuple[torch.optim.Adam, AttentionProbes]:
    """The probes that go on, with what Adam remembers of them."""
    fewer = probes.only(kept)
    other = _adam(fewer, lr)
    for before, after in zip(probes.parameters(), fewer.parameters(), strict=True):
        state = optimizer.state[before]
        other.state[after] = {
            name: value.clone() if name == "step" else value[kept].clone() for name, value in state.items()
        }
    return other, fewer
