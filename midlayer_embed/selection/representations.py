"""What forward passes over a corpus leave behind at every layer, and each metric of the paper measured on that.

Token states are measured while they pass and never kept; the pooled vectors of augmented views lie in a scratch file.
Which metric chooses a layer is `selection`'s; tables are `profile`'s.
"""

import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from midlayer_embed import metrics
from midlayer_embed.errors import InputError
from midlayer_embed.forward.batching import distinct
from midlayer_embed.forward.layerwise import LayerwiseEncoder, PooledBatch, TokenMeasure
from midlayer_embed.metrics.gram import divisor
from midlayer_embed.texts.views import augmented_views

METRICS = ("prompt_entropy", "dataset_entropy", "curvature", "infonce", "lidar", "dime", "effective_rank")
# What each metric is measured on: the tokens of each text, the pooled vectors of the texts, or those of their views.
TOKEN_METRICS = ("prompt_entropy", "curvature")
VECTOR_METRICS = ("dataset_entropy", "effective_rank")
PAIR_METRICS = ("infonce", "dime")
LIDAR_VIEWS = 16
# What a metric's value may be divided by is `metrics.NORMALIZATIONS`; this is none of that, and this is no division.
RAW, MI_LOWER_BOUND = "raw", "mi_lower_bound"


def check_metrics(names: str | Sequence[str]) -> list[str]:
    """Metrics by name, each once.

    Raises:
        InputError: (a ValueError) an unknown one, or none at all.
    """
    return _known("metrics", names, METRICS)


def check_normalizations(names: str | Sequence[str]) -> list[str]:
    """Normalisations by name, each once.

    Raises:
        InputError: (a ValueError) an unknown one, or none at all.
    """
    return _known("normalizations", names, metrics.NORMALIZATIONS)


def _known(argument: str, names: str | Sequence[str], known: Sequence[str]) -> list[str]:
    """The names, each once, if all are known."""
    if isinstance(names, str):
        names = [names]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        got = repr(unknown[0]) if unknown else "none"
        raise InputError(f"{argument}: expected some of {', '.join(known)}, got {got}")
    return list(dict.fromkeys(names))


@dataclass(frozen=True)
class MetricSettings:
    """What the numbers depend on, besides model and texts.

    Attributes:
        alpha: Order of the matrix entropy behind prompt entropy, dataset entropy and DiME.
        temperature: Of InfoNCE.
        seed: Of the views and of DiME's permutations.
        n_permutations: Of DiME.
    """

    alpha: float = 1.0
    temperature: float = 0.1
    seed: int = 0
    n_permutations: int = 10


@dataclass(frozen=True)
class Representations:
    """Layers of a corpus of n texts.

    Attributes:
        layers: Which, 0..L; all axes of layers are in this order.
        n_texts: n.
        dim: Width of a state.
        n_tokens: (n,) tokens of each text, special ones included; empty where no metric asks for them.
        token_values: For each token metric (n_layers, n), NaN where a text is too short for it.
        vectors: (n_layers, n, dim) float32, pooled; None where no metric asks for them.
        views: (n_layers, n_views, n, dim) float32, pooled; None where no metric asks for them.
        settings: What the numbers depend on.
    """

    layers: Sequence[int]
    n_texts: int
    dim: int
    n_tokens: np.ndarray
    token_values: Mapping[str, np.ndarray]
    vectors: np.ndarray | None
    views: np.ndarray | None
    settings: MetricSettings

    def measure(self, metric: str, rows: np.ndarray | None = None) -> np.ndarray:
        """A metric at each of the layers: float64 (n_layers,), unnormalised.

        Args:
            metric: One of `METRICS` for which these representations were made.
            rows: Some of the texts, for resampling; None for all.

        Raises:
            InputError: (a ValueError) states that are not finite; the message names the layer.
        """
        if metric in TOKEN_METRICS:
            return _mean_of_known(self.token_values[metric], rows)
        kept = slice(None) if rows is None else rows
        values = []
        for slot, layer in enumerate(self.layers):
            try:
                values.append(self._at_slot(metric, slot, kept))
            except InputError as error:
                raise InputError(f"{metric} of layer {layer}: {error}") from error
        return np.array(values)

    def curves(
        self, wanted: Sequence[str], normalizations: Sequence[str], *, show_progress: bool = False
    ) -> dict[tuple[str, str], np.ndarray]:
        """Metrics as a table has them: for each (metric, normalization) float64 (n_layers,).

        Args:
            wanted: As `measure` takes them.
            normalizations: What entropies are divided by. "raw" is there in any case, and InfoNCE's `mi_lower_bound`.
            show_progress: A bar on stderr.
        """
        found: dict[tuple[str, str], np.ndarray] = {}
        for metric in tqdm(wanted, desc="Measuring", unit="metric", dynamic_ncols=True, disable=not show_progress):
            values = found[metric, RAW] = self.measure(metric)
            for name in normalizations:
                if name != RAW and (divided := self.normalized(metric, values, name)) is not None:
                    found[metric, name] = divided
            if metric == "infonce":
                found[metric, MI_LOWER_BOUND] = np.log(self.n_texts) - values
        return found

    def normalized(self, metric: str, values: np.ndarray, normalization: str) -> np.ndarray | None:
        """A metric divided by what its entropy could be at most, or by a part of it: (n_layers,).

        Args:
            metric: One of `METRICS`.
            values: What `measure` gave for it.
            normalization: One of `metrics.NORMALIZATIONS`.

        Returns:
            NaN where the divisor is ln 1; None for a metric that is no entropy.
        """
        if metric in ("dataset_entropy", "dime", "lidar"):
            n = torch.tensor([self.n_texts])
            return np.asarray(values / self._divisors(normalization, n))
        if metric != "prompt_entropy":
            return None
        shares = self.token_values[metric] / self._divisors(normalization, torch.from_numpy(self.n_tokens))
        return _mean_of_known(shares, None)

    def _divisors(self, normalization: str, n: torch.Tensor) -> np.ndarray:
        if self.dim == 1 and normalization != "logN":  # ln 1
            return np.full(len(n), np.nan)
        found = divisor(normalization, n, self.dim).numpy()
        return np.asarray(np.where(found > 0, found, np.nan))

    def _at_slot(self, metric: str, slot: int, rows: slice | np.ndarray) -> float:
        settings = self.settings
        if metric in VECTOR_METRICS:
            assert self.vectors is not None
            vectors = self.vectors[slot, rows]
            if metric == "effective_rank":
                return float(metrics.effective_rank(vectors))
            return float(metrics.dataset_entropy(vectors, alpha=settings.alpha))
        assert self.views is not None
        if metric == "lidar":
            return float(metrics.lidar(self.views[slot][:, rows].swapaxes(0, 1)))
        a, b = (self.views[slot, view, rows] for view in (0, 1))
        if metric == "infonce":
            return float(metrics.infonce(a, b, temperature=settings.temperature))
        return float(
            metrics.dime(a, b, alpha=settings.alpha, n_permutations=settings.n_permutations, seed=settings.seed)
        )


def _mean_of_known(values: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    """The mean over texts (n_layers,) of those that are long enough; NaN where none is."""
    values = values if rows is None else values[:, rows]
    known = np.isfinite(values)
    counts = known.sum(axis=1)
    sums = np.where(known, values, 0.0).sum(axis=1)
    return np.asarray(np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0))


class TextPass:
    """What one forward pass over the texts leaves behind: for the metrics that look at no view of them.

    Args:
        n_texts: How many texts there are.
        layers: Which layers, 0..L.
        dim: Width of a state.
        wanted: Which of `METRICS`.
        settings: What the numbers depend on.
        final_norm: Whether normed states are measured.

    Attributes:
        measures: What `pooled_batches` is to measure while it passes; `take` takes it in this order.
    """

    def __init__(
        self,
        n_texts: int,
        layers: Sequence[int],
        dim: int,
        wanted: Collection[str],
        settings: MetricSettings,
        *,
        final_norm: bool,
    ) -> None:
        names = [name for name in TOKEN_METRICS if name in wanted]
        self.measures = [TokenMeasure(_token_function(name, settings.alpha), final_norm) for name in names]
        self.n_tokens = np.zeros(n_texts, dtype=np.int64)
        self.token_values = {name: np.full((len(layers), n_texts), np.nan) for name in names}
        self.vectors = np.zeros((len(layers), n_texts, dim), dtype=np.float32)

    @staticmethod
    def is_needed(wanted: Collection[str]) -> bool:
        """Whether some of the metrics look at the texts themselves."""
        return any(name in wanted for name in (*TOKEN_METRICS, *VECTOR_METRICS))

    def take(self, rows: np.ndarray, sources: np.ndarray, pooled: PooledBatch, vectors: np.ndarray) -> None:
        """Takes a batch.

        Args:
            rows: (m,) which texts it serves.
            sources: (m,) out of which of its rows.
            pooled: The batch, `measures` measured on it.
            vectors: (n_layers, b, dim) those of its vectors that pool the states which are measured.
        """
        self.n_tokens[rows] = pooled.n_tokens[sources]
        self.vectors[:, rows] = vectors[:, sources]
        for values, measured in zip(self.token_values.values(), pooled.measured, strict=True):
            values[:, rows] = measured[:, sources]


def n_views(wanted: Collection[str]) -> int:
    """How many augmented views of each text some metrics look at.

    Example:
        >>> n_views(["curvature"]), n_views(["dime", "infonce"]), n_views(["dime", "lidar"])
        (0, 2, 16)
    """
    return LIDAR_VIEWS if "lidar" in wanted else 2 if any(name in wanted for name in PAIR_METRICS) else 0


@contextmanager
def represent(
    encoder: LayerwiseEncoder,
    texts: Sequence[str],
    wanted: Collection[str],
    settings: MetricSettings,
    *,
    final_norm: bool,
    layers: Sequence[int] | None = None,
    text_pass: TextPass | None = None,
    rates: str = "paper",
    workers: int | None = None,
    batch_tokens: int | None = None,
    scratch: Path | None = None,
    show_progress: bool = False,
    label: str = "",
) -> Iterator[Representations]:
    """The forward passes that some metrics need: one over the texts, one over each augmented view, none twice.

    Args:
        encoder: The model.
        texts: As `corpora.sample_texts` gives them.
        wanted: Which of `METRICS`.
        settings: What the numbers depend on.
        final_norm: Whether normed states are measured.
        layers: Which layers, 0..L; None for all.
        text_pass: The pass over the texts, where somebody else has made it already.
        rates: Of augmentation, as in `views.augmented_views`.
        workers: Processes that augment, as there.
        batch_tokens: Tokens a forward pass, as in LayerwiseEncoder.
        scratch: The folder for a file that holds the views' vectors; None for the system's own.
        show_progress: Bars with an ETA on stderr.
        label: What stands before the bars' own labels.

    Yields:
        The representations; their scratch file goes when the block ends.
    """
    numbers = list(range(encoder.n_layers)) if layers is None else list(layers)
    n_texts, dim = len(texts), encoder.dim

    def passes(
        texts: Sequence[str], measures: Sequence[TokenMeasure], description: str
    ) -> Iterator[tuple[np.ndarray, np.ndarray, PooledBatch]]:
        """Each distinct text once through the model: which texts a batch serves, out of which of its rows."""
        unique, where = distinct(texts)
        served = np.split(np.argsort(where, kind="stable"), np.cumsum(np.bincount(where, minlength=len(unique)))[:-1])
        for pooled in encoder.pooled_batches(
            unique,
            numbers,
            norms=[final_norm],
            measures=measures,
            batch_tokens=batch_tokens,
            show_progress=show_progress,
            description=label + description,
        ):
            rows = [served[row] for row in pooled.rows]
            yield np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(some) for some in rows]), pooled

    if text_pass is None and TextPass.is_needed(wanted):
        text_pass = TextPass(n_texts, numbers, dim, wanted, settings, final_norm=final_norm)
        for rows, sources, pooled in passes(texts, text_pass.measures, "Encoding"):
            text_pass.take(rows, sources, pooled, pooled.vectors[0])

    def representations(views: np.ndarray | None) -> Representations:
        return Representations(
            layers=numbers,
            n_texts=n_texts,
            dim=dim,
            n_tokens=np.zeros(0, dtype=np.int64) if text_pass is None else text_pass.n_tokens,
            token_values={} if text_pass is None else text_pass.token_values,
            vectors=None if text_pass is None else text_pass.vectors,
            views=views,
            settings=settings,
        )

    count = n_views(wanted)
    if not count:
        yield representations(None)
        return
    augmented = augmented_views(
        texts, count, seed=settings.seed, rates=rates, workers=workers, show_progress=show_progress
    )
    with _scratch_array((len(numbers), count, n_texts, dim), scratch) as views:
        flat = views.reshape(len(numbers), count * n_texts, dim)
        for rows, sources, pooled in passes([text for view in augmented for text in view], [], "Encoding views"):
            flat[:, rows] = pooled.vectors[0][:, sources]
        yield representations(views)


def _token_function(metric: str, alpha: float) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    def measure(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if metric == "curvature":
            return torch.as_tensor(metrics.curvature(states, mask))
        return torch.as_tensor(metrics.prompt_entropy(states, mask, alpha=alpha))

    return measure


@contextmanager
def _scratch_array(shape: tuple[int, ...], folder: Path | None) -> Iterator[np.ndarray]:
    """float32 zeros in a file that goes with the block: 16 views of a large model are more than memory holds."""
    with tempfile.TemporaryFile(prefix="midlayer-embed-", dir=folder) as file:
        size = 4 * int(np.prod(shape, dtype=np.int64))
        if hasattr(os, "posix_fallocate"):  # else a full disk would end the process at some write
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                raise InputError(
                    f"views: {size / 1e9:.1f} GB are needed for their vectors in {folder or tempfile.gettempdir()}: "
                    f"{error.strerror}; measure fewer texts, or use a larger disk (TMPDIR, where no folder is named)"
                ) from error
        yield np.memmap(file, dtype=np.float32, mode="r+", shape=shape)  # type: ignore[call-overload]
