"""The states of a corpus at every layer, from as few forward passes as the metrics need.

Token states are measured during the pass and never kept; the pooled vectors of views are in a scratch file. What is
measured on the rest is in `layer_states`, tables are in `profile`, the choice of a layer in `select`.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from midlayer_embed.forward.measured import PooledBatch, TokenMeasure
from midlayer_embed.forward.one_pass import OnePassEncoder
from midlayer_embed.forward.sites import Place
from midlayer_embed.selection.layer_states import Representations, Views
from midlayer_embed.selection.measures import MEASURES, MetricSettings
from midlayer_embed.selection.scratch import scratch_array
from midlayer_embed.terms import METRIC_TABLE, ViewKind, views_of
from midlayer_embed.texts.tokens import Holders, TokenIds, distinct


@dataclass(frozen=True)
class MetricRequest:
    """The metrics to compute, and their settings.

    Attributes:
        metrics: Names of metrics.
        layers: Layers 0..L; all axes of layers are in this order.
        final_norm: Whether normed states are measured by the metrics that take raw ones by default, as in the paper.
        settings: Settings of the metrics.
        encoded_norm: The same for the others (`Metric.encoded`); None: as the encoder.
        rates: Rates of augmentation, as in `views.augmented_views`.
        skips_not_finite: Whether the metrics of a layer with states that are not finite are NaN, instead of an error.
    """

    metrics: Collection[str]
    layers: Sequence[int]
    final_norm: bool
    settings: MetricSettings
    encoded_norm: bool | None = None
    rates: str = "paper"
    skips_not_finite: bool = False


@dataclass(frozen=True)
class PassOptions:
    """Options of the forward passes. They change values by float32 rounding at most.

    Attributes:
        workers: Number of processes that augment texts, as in `views.augmented_views`.
        batch_tokens: Number of tokens in a forward pass, as in LayerwiseEncoder.
        scratch: Folder for the vectors of the views; None: the system's temporary folder.
        show_progress: Show bars with an ETA on stderr.
        label: Prefix of the labels of the bars.
        description: Label of the bar of the pass over the texts.
    """

    workers: int | None = None
    batch_tokens: int | None = None
    scratch: Path | None = None
    show_progress: bool = False
    label: str = ""
    description: str = "Encoding"


class TextPass:
    """The results of one forward pass over the texts, for the metrics that need no views.

    Args:
        n_texts: Number of texts.
        dim: Width of a state.
        request: The metrics to compute.
        beside: From `layers_beside`.

    Attributes:
        layers: The layers of the pass: those of the request, then those beside them.
        measures: Measurements for `pooled_batches` to make during the pass; `add` expects the results in this order.
    """

    def __init__(self, n_texts: int, dim: int, request: MetricRequest, beside: Sequence[int] = ()) -> None:
        names = [
            name for name, metric in METRIC_TABLE.items() if name in request.metrics and metric.measured_on == "tokens"
        ]
        self.layers = [*request.layers, *beside]
        self._not_counted = 0 if request.settings.first_token else 1
        shape = (len(self.layers), n_texts)
        self.measures = [
            TokenMeasure(partial(_measure_tokens, name, request.settings, request.skips_not_finite), request.final_norm)
            for name in names
        ]
        self.n_tokens = np.zeros(n_texts, dtype=np.int64)
        self.token_values = {name: np.full(shape, np.nan) for name in names}
        self.vectors = np.zeros((*shape, dim), dtype=np.float32)

    @staticmethod
    def is_needed(wanted: Collection[str]) -> bool:
        """Whether some of the metrics are measured on the texts themselves, not on views of them."""
        return any(METRIC_TABLE[name].measured_on != "views" for name in wanted)

    def add(self, rows: np.ndarray, sources: np.ndarray, pooled: PooledBatch, vectors: np.ndarray) -> None:
        """Add a batch.

        Args:
            rows: (m,) indices of the texts that the batch covers.
            sources: (m,) the row of the batch for each of these texts.
            pooled: The batch, with the results of `measures`.
            vectors: (n_layers, b, dim) the pooled states that are measured, raw or normed.
        """
        self.n_tokens[rows] = pooled.n_tokens[sources] - self._not_counted
        self.vectors[:, rows] = vectors[:, sources]
        for values, measured in zip(self.token_values.values(), pooled.measured, strict=True):
            values[:, rows] = measured[:, sources]


def layers_beside(metrics: Collection[str], layers: Sequence[int], available: Collection[int]) -> list[int]:
    """The layers next to these that metrics of adjacent layers need as well.

    Args:
        metrics: Names of metrics.
        layers: Layers 0..L.
        available: All layers that there are.

    Example:
        >>> layers_beside(["agreement"], [0, 1, 6], range(7)), layers_beside(["dime"], [0, 1, 6], range(7))
        ([2, 5], [])
    """
    if not any(METRIC_TABLE[name].measured_on == "layers" for name in metrics):
        return []
    near = {layer + step for layer in layers for step in (-1, 1)}
    return sorted(near.intersection(available).difference(layers))


def _measure_tokens(
    metric: str, settings: MetricSettings, skips_not_finite: bool, states: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """A token metric of each text of a batch; infinity for the whole batch if its states are not finite."""
    if skips_not_finite and not torch.isfinite(states[mask.bool()]).all():
        return torch.full((len(states),), torch.inf)
    return torch.as_tensor(MEASURES[metric](states, mask, settings))


@contextmanager
def build_representations(
    encoder: OnePassEncoder,
    texts: Sequence[Any] | TokenIds,
    request: MetricRequest,
    options: PassOptions,
    text_pass: TextPass | None = None,
) -> Iterator[Representations]:
    """Run the forward passes that some metrics need: one over the texts, one over each augmented view, none twice.

    Args:
        encoder: The model.
        texts: From `Inputs.sample`, texts or images; or token ids, for metrics that need no views.
        request: The metrics to compute.
        options: Options of the forward passes.
        text_pass: The pass over the texts, if the caller has run it already.

    Yields:
        The representations; their scratch file is deleted when the block ends.
    """
    n_texts = len(texts.lengths) if isinstance(texts, TokenIds) else len(texts)
    if text_pass is None and TextPass.is_needed(request.metrics):
        beside = layers_beside(request.metrics, request.layers, encoder.layers)
        text_pass = TextPass(n_texts, encoder.dim, request, beside)
        for rows, sources, pooled in text_batches(
            encoder,
            texts,
            text_pass.layers,
            request,
            request.final_norm,
            options,
            text_pass.measures,
            options.description,
        ):
            text_pass.add(rows, sources, pooled, pooled.vectors[0])
    n_layers = len(request.layers)
    found = Representations(
        layers=request.layers,
        n_texts=n_texts,
        dim=encoder.dim,
        n_tokens=np.zeros(0, dtype=np.int64) if text_pass is None else text_pass.n_tokens,
        token_values={}
        if text_pass is None
        else {name: values[:n_layers] for name, values in text_pass.token_values.items()},
        vectors=None if text_pass is None else text_pass.vectors,
        beside=[] if text_pass is None else text_pass.layers[n_layers:],
        views={},
        settings=request.settings,
        skips_not_finite=request.skips_not_finite,
    )
    with ExitStack() as scratch:
        views: dict[ViewKind, Views] = {}
        if not isinstance(texts, TokenIds):
            for kind, count in views_of(request.metrics).items():
                views[kind] = scratch.enter_context(_encoded_views(encoder, texts, kind, count, request, options))
        yield replace(found, views=views)


@contextmanager
def _encoded_views(
    encoder: OnePassEncoder,
    texts: Sequence[Any],
    kind: ViewKind,
    count: int,
    request: MetricRequest,
    options: PassOptions,
) -> Iterator[Views]:
    """One kind of views, from one forward pass over all of them."""
    seed, show = request.settings.seed, options.show_progress
    if kind == "augmented":
        norm = request.final_norm
    else:
        norm = encoder.final_norm if request.encoded_norm is None else request.encoded_norm
    rows, made = encoder.inputs.views(
        kind, texts, count, seed=seed, rates=request.rates, workers=options.workers, show_progress=show
    )
    shape = (len(request.layers), count, len(rows), encoder.dim)
    with scratch_array(shape, options.scratch) as vectors:
        flat = vectors.reshape(shape[0], count * len(rows), encoder.dim)
        together = [text for view in made for text in view]
        for places, sources, pooled in text_batches(
            encoder, together, request.layers, request, norm, options, [], "Encoding views"
        ):
            flat[:, places] = pooled.vectors[0][:, sources]
        yield Views(np.array(rows, dtype=np.int64), vectors)


def text_batches(
    encoder: OnePassEncoder,
    texts: Sequence[Any] | TokenIds,
    layers: Sequence[int | Place],
    request: MetricRequest,
    final_norm: bool,
    options: PassOptions,
    measures: Sequence[TokenMeasure],
    description: str,
) -> Iterator[tuple[np.ndarray, np.ndarray, PooledBatch]]:
    """Encode each distinct text once.

    Args:
        encoder: The model.
        texts: The texts or images, or token ids.
        layers: Layers, or sites of layers.
        request: The settings of the metrics.
        final_norm: Whether normed states are pooled.
        options: Options of the forward passes.
        measures: Measurements of token states.
        description: Label of the bar.

    Yields:
        The indices of the texts of a batch, the row of each in the batch, and the batch.
    """
    unique: Sequence[Any] | TokenIds
    if isinstance(texts, TokenIds):
        unique, where = texts, np.arange(len(texts.lengths))
    else:
        unique, where = distinct(encoder.prompted(texts))
    holders = Holders(where)
    for pooled in encoder.pooled_batches(
        unique,
        layers,
        norms=[final_norm],
        measures=measures,
        first_token=request.settings.first_token,
        batch_tokens=options.batch_tokens,
        show_progress=options.show_progress,
        description=options.label + description,
    ):
        yield *holders.of(pooled.rows), pooled
