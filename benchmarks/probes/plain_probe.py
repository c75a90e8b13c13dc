"""An attention probe of one layer as anyone would write it: modules of torch, keys and values of every token."""

import copy
import math

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from leaderboard.probes.arguments import Settings
from leaderboard.probes.attention import EPS, AttentionProbes


class PlainProbe(nn.Module):
    """The probe of one layer."""

    def __init__(self, dim: int, n_classes: int, heads: int, seed: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.BatchNorm1d(dim, eps=EPS, affine=False, momentum=None)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.classifier = nn.Linear(dim, n_classes)
        start = AttentionProbes(1, dim, n_classes, heads, seed)
        self.query = nn.Parameter(start.query[0].detach().clone())
        with torch.no_grad():
            self.key.weight.copy_(start.key[0].reshape(dim, dim))
            self.value.weight.copy_(start.value[0].reshape(dim, dim))
            self.classifier.weight.copy_(start.weight[0])
            self.classifier.bias.copy_(start.bias[0])

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits (b, n_classes) of tokens (b, T, d)."""
        n_images, n_tokens, dim = tokens.shape
        normed = self.norm(tokens.transpose(1, 2)).transpose(1, 2)
        shape = (n_images, n_tokens, self.heads, dim // self.heads)
        keys, values = self.key(normed).view(shape), self.value(normed).view(shape)
        attention = (torch.einsum("bthe,he->bth", keys, self.query) / math.sqrt(shape[-1])).softmax(dim=1)
        logits: torch.Tensor = self.classifier(torch.einsum("bth,bthe->bhe", attention, values).reshape(n_images, dim))
        return logits


def train_plainly(
    tokens: torch.Tensor,
    targets: np.ndarray,
    fitted: np.ndarray,
    held: np.ndarray,
    settings: Settings,
    n_classes: int,
) -> tuple[PlainProbe, int]:
    """Train the probe of one layer on tokens (n, T, d); returns it as it was after its best epoch, and that epoch."""
    probe = PlainProbe(tokens.shape[-1], n_classes, settings.heads, settings.seed)
    optimizer = torch.optim.Adam(probe.parameters(), lr=settings.lr)
    order = np.random.default_rng(settings.seed)
    goal = torch.from_numpy(targets)
    best, lowest, best_epoch = copy.deepcopy(probe), math.inf, 0
    for epoch in range(1, settings.max_epochs(len(fitted)) + 1):
        probe.train()
        for rows in np.array_split(order.permutation(fitted), settings.batches(len(fitted))):
            optimizer.zero_grad()
            cross_entropy(probe(tokens[rows]), goal[rows], label_smoothing=settings.smoothing).backward()
            optimizer.step()
        if not len(held):
            continue
        probe.eval()
        with torch.no_grad():
            loss = float(cross_entropy(probe(tokens[held]), goal[held]))
        if loss < lowest:
            best, lowest, best_epoch = copy.deepcopy(probe), loss, epoch
        elif epoch - best_epoch >= settings.waits(len(fitted)):
            break
    return (best, best_epoch) if len(held) else (probe, settings.max_epochs(len(fitted)))
