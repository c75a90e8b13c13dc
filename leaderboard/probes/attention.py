"""Attention probes of all layers: one module holds a probe for each layer, and one step moves them all.

A probe is the one that El-Nouby et al. (2024) evaluate image encoders with: batch normalisation of the frozen tokens
without a scale or shift, attention of one learned query in several heads over keys and values that are linear in the
tokens, and a linear classifier of what it gathers. Written from that description.

Keys and values are never formed. A key meets nothing but the query, so a head's attention is one product of a token
with a vector; and attention averages, so the values of a head are its map of one averaged token. The probe is the same
to rounding, and a step costs little more than reading the tokens.
"""

import math
from typing import NamedTuple

import torch
from torch import nn

# Added to variances, as in batch normalisation.
EPS = 1e-6
_QUERY_STD = 0.02
# A variance below this share of the squared mean is rounding of float32: the feature is constant.
_ROUNDING = (8 * torch.finfo(torch.float32).eps) ** 2


class TokenBatch(NamedTuple):
    """Token states of some images at some layers, with the moments of each image's tokens.

    Attributes:
        states: (n_layers, b, T, d), float32.
        mean: Mean over the tokens: (n_layers, b, d).
        variance: Variance over the tokens, the sum of squares divided by T: (n_layers, b, d).
    """

    states: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor


def token_batch(states: torch.Tensor) -> TokenBatch:
    """The batch of these states (n_layers, b, T, d), with its moments."""
    mean = states.mean(dim=2)
    variance = torch.stack(
        [(of_layer - its_mean[:, None]).square_().mean(dim=1) for of_layer, its_mean in zip(states, mean, strict=True)]
    )
    return TokenBatch(states, mean, variance)


class AttentionProbes(nn.Module):
    """A probe for each layer. The probes start alike, and none depends on another.

    Args:
        n_layers: Number of layers.
        dim: Width of a token, d.
        n_classes: Number of classes.
        heads: Number of heads, which divides d.
        seed: Seed of the weights at the start.

    Attributes:
        query: (n_layers, heads, d / heads).
        key: (n_layers, heads, d / heads, d).
        value: (n_layers, heads, d / heads, d).
        weight: Of the classifier: (n_layers, n_classes, d).
        bias: Of the classifier: (n_layers, n_classes).
        mean: Mean over the batches that were trained on: (n_layers, d).
        variance: Their mean variance, each unbiased: (n_layers, d).
    """

    mean: torch.Tensor
    variance: torch.Tensor

    def __init__(self, n_layers: int, dim: int, n_classes: int, heads: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        bound = 1 / math.sqrt(dim)

        def uniform(*shape: int) -> nn.Parameter:
            one = torch.empty(shape).uniform_(-bound, bound, generator=generator)
            return nn.Parameter(one.expand(n_layers, *shape).clone())

        query = torch.empty(heads, dim // heads).normal_(0, _QUERY_STD, generator=generator)
        self.query = nn.Parameter(query.expand(n_layers, *query.shape).clone())
        self.key = uniform(heads, dim // heads, dim)
        self.value = uniform(heads, dim // heads, dim)
        self.weight = uniform(n_classes, dim)
        self.bias = uniform(n_classes)
        self.register_buffer("mean", torch.zeros(n_layers, dim))
        self.register_buffer("variance", torch.zeros(n_layers, dim))
        self.n_batches = 0

    def forward(self, batch: TokenBatch) -> torch.Tensor:
        """The logits of the classes: (n_layers, b, n_classes).

        In training, tokens are normalised by the moments of their batch, which enter the means of all batches; later,
        by those means.
        """
        n_layers, n_images, n_tokens, dim = batch.states.shape
        mean, variance = self._of_batch(batch) if self.training else (self.mean, self.variance)
        scale = torch.rsqrt(variance + EPS) * (variance > _ROUNDING * mean.square())
        towards = torch.einsum("lhed,lhe->ldh", self.key, self.query) / math.sqrt(self.query.shape[-1])
        # What the mean adds to a head's logits is the same for all tokens, so softmax takes it away.
        logits = torch.bmm(batch.states.reshape(n_layers, -1, dim), towards * scale[..., None])
        attention = logits.view(n_layers, n_images, n_tokens, -1).softmax(dim=2)
        gathered = torch.matmul(attention.transpose(-1, -2), batch.states)  # (n_layers, b, heads, d)
        normed = (gathered - mean[:, None, None]) * scale[:, None, None]
        values = torch.einsum("lbhd,lhed->lbhe", normed, self.value).reshape(n_layers, n_images, dim)
        return torch.baddbmm(self.bias[:, None], values, self.weight.transpose(1, 2))

    def _of_batch(self, batch: TokenBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance of all tokens of a batch: (n_layers, d) each."""
        with torch.no_grad():
            mean = batch.mean.mean(dim=1)
            variance = (batch.variance + (batch.mean - mean[:, None]).square()).mean(dim=1)
            n = batch.states.shape[1] * batch.states.shape[2]
            self.n_batches += 1
            self.mean.lerp_(mean, 1 / self.n_batches)
            self.variance.lerp_(variance * (n / max(n - 1, 1)), 1 / self.n_batches)
        return mean, variance

    def only(self, places: torch.Tensor) -> "AttentionProbes":
        """The probes at some places, as a module of their own."""
        fewer = AttentionProbes.__new__(AttentionProbes)
        nn.Module.__init__(fewer)
        for name, parameter in self.named_parameters():
            setattr(fewer, name, nn.Parameter(parameter.detach()[places].clone()))
        for name, buffer in self.named_buffers():
            fewer.register_buffer(name, buffer[places].clone())
        fewer.n_batches = self.n_batches
        return fewer.train(self.training)

    @torch.no_grad()
    def put(self, places: torch.Tensor, other: "AttentionProbes", of: torch.Tensor) -> None:
        """Take over the probes of another module at `of`, at these places."""
        for (_, mine), (_, its) in zip(self.state_dict().items(), other.state_dict().items(), strict=True):
            mine[places] = its[of]
