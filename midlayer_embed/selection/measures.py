"""How each metric of `terms.METRIC_TABLE` is computed from the states it is measured on: one function per metric."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from midlayer_embed import metrics
from midlayer_embed.ground.checks import check_above_zero, check_bool
from midlayer_embed.metrics.trajectory import without_first

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class MetricSettings:
    """Settings that the values depend on, besides the model and the texts.

    Attributes:
        alpha: Order of the matrix entropy behind prompt entropy, dataset entropy and DiME.
        temperature: Temperature of InfoNCE.
        seed: Seed of the views and of DiME's permutations.
        n_permutations: Number of DiME's permutations.
        first_token: Whether the first token of a text counts, BOS or not: in prompt entropy, in curvature, and in what
            is pooled.
    """

    alpha: float = 1.0
    temperature: float = 0.1
    seed: int = 0
    n_permutations: int = 10
    first_token: bool = True

    def __post_init__(self) -> None:
        for name in ("alpha", "temperature"):
            check_above_zero(name, getattr(self, name))
        object.__setattr__(self, "first_token", check_bool("first_token", self.first_token))

    def counted(self, mask: "torch.Tensor") -> "torch.Tensor":
        """The mask (b, T) of the tokens that count."""
        return mask if self.first_token else without_first(mask)


# The arguments of a function depend on `Metric.measured_on`; the settings come last:
#   tokens: states (b, T, dim) and mask (b, T) of some texts -> a value for each text, (b,), NaN if it is too short
#   vectors: (n, dim), the pooled vectors of the texts -> a number
#   layers: (n, dim) twice, the pooled vectors of the texts at a layer and at the next one -> a number; the value of a
#       layer is the mean of those with the layer below and the layer above
#   views: (n_views, n, dim), the pooled vectors of the views of those texts that have such views -> a number
MEASURES: dict[str, Callable[..., Any]] = {
    "prompt_entropy": lambda states, mask, settings: metrics.prompt_entropy(
        states, settings.counted(mask), alpha=settings.alpha
    ),
    "dataset_entropy": lambda vectors, settings: metrics.dataset_entropy(vectors, alpha=settings.alpha),
    "curvature": lambda states, mask, settings: metrics.curvature(states, settings.counted(mask)),
    "infonce": lambda views, settings: metrics.infonce(views[0], views[1], temperature=settings.temperature),
    "lidar": lambda views, settings: metrics.lidar(views.swapaxes(0, 1)),
    "dime": lambda views, settings: metrics.dime(
        views[0], views[1], alpha=settings.alpha, n_permutations=settings.n_permutations, seed=settings.seed
    ),
    "effective_rank": lambda vectors, settings: metrics.effective_rank(vectors),
    "half_retrieval": lambda views, settings: metrics.retrieval(views[0], views[1]),
    "drop_retrieval": lambda views, settings: metrics.retrieval(views[0], views[1]),
    "two_nn": lambda vectors, settings: metrics.two_nn(vectors),
    "isotropy": lambda vectors, settings: metrics.isotropy(vectors),
    "alpha_req": lambda vectors, settings: metrics.alpha_req(vectors),
    "uniformity": lambda vectors, settings: metrics.uniformity(vectors),
    "agreement": lambda lower, upper, settings: metrics.neighbour_agreement(lower, upper),
    "sink": lambda states, mask, settings: metrics.sink(states, mask),
}
