"""The forward passes behind a search for a recipe, and the values of all candidates.

One pass over each view of the texts under each template gives the vectors of all poolings and all layers.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from midlayer_embed import __version__
from midlayer_embed.errors import InputError
from midlayer_embed.forward.after_pooling import AfterPooling
from midlayer_embed.forward.layerwise import LayerwiseEncoder
from midlayer_embed.ground.progress import progress
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.models.sentence_transformers_config import NORMALIZE
from midlayer_embed.models.weights import dtype_name
from midlayer_embed.options import Recipe, pooling_modes
from midlayer_embed.recipes.names import needs_covariance
from midlayer_embed.recipes.template import length_of_all_copies
from midlayer_embed.recipes.transform import Moments
from midlayer_embed.selection.criteria import cost, end_of, metrics_of, value_of
from midlayer_embed.selection.measures import MEASURES, MetricSettings
from midlayer_embed.selection.recipe.kept_passes import KeptPasses
from midlayer_embed.selection.select import random_halves
from midlayer_embed.texts.tokens import distinct, tokenize

# Candidates of a template that are measured on halves of the texts: those behind them win on no half either.
_CONTENDERS = 24
# Vectors are the same if they differ by no more than this share of their size.
_SAME = 1e-6


@dataclass(frozen=True)
class Entry:
    """What competes under one template.

    Attributes:
        encoder: An encoder that pools in every mode that is needed, joined.
        poolings: The poolings that compete, as in `Recipe.pooling_mode`.
    """

    encoder: LayerwiseEncoder
    poolings: tuple[str, ...]

    @property
    def template(self) -> str | None:
        """The template."""
        return self.encoder.recipe.template

    @property
    def limit(self) -> int:
        """The number of tokens to which an encoder of this template truncates a text."""
        backbone = self.encoder.backbone
        return length_of_all_copies(backbone.tokenizer, self.template, backbone.truncate_to)

    def dim(self, pooling: str) -> int:
        """Width of a vector of one of the poolings."""
        return self.encoder.backbone.dim * len(pooling_modes(pooling))

    def part(self, vectors: np.ndarray, pooling: str) -> np.ndarray:
        """The vectors (n, d) of one of the poolings, from joined ones (n, D)."""
        modes, dim = pooling_modes(self.encoder.pooling_mode), self.encoder.backbone.dim
        starts = [modes.index(mode) * dim for mode in pooling_modes(pooling)]
        return np.concatenate([vectors[:, start : start + dim] for start in starts], axis=1)

    def n_tokens(self, texts: Sequence[str]) -> int:
        """Number of tokens of distinct texts in a forward pass."""
        unique, _ = distinct(self.encoder.prompted(texts))
        return int(tokenize(self.encoder.backbone.tokenizer, unique, self.encoder.backbone.truncate_to).lengths.sum())


def entries_of(
    encoder: LayerwiseEncoder, base: Recipe, templates: Iterable[str | None], poolings: Sequence[str | None]
) -> tuple[list[Entry], list[str]]:
    """What competes under each template; and the templates that this model cannot take, with the reason, in words."""
    entries: list[Entry] = []
    refused: list[InputError] = []
    remarks = []
    for template in templates:
        plain = replace(base, template=template)
        try:
            resolved = [
                encoder.checkpoint.resolved(replace(plain, pooling_mode=mode)).pooling_mode for mode in poolings
            ]
            competing = tuple(dict.fromkeys(str(mode) for mode in resolved))
            joined = "+".join(dict.fromkeys(mode for pooling in competing for mode in pooling_modes(pooling)))
            entries.append(Entry(encoder.with_recipe(replace(plain, pooling_mode=joined)), competing))
        except InputError as error:
            refused.append(error)
            remarks.append(f"{template or 'no template'} was left out: {error}")
    if not entries:
        raise refused[0]
    return entries, remarks


@dataclass(frozen=True)
class Measured:
    """The values of the candidates of one template.

    Attributes:
        values: (n_poolings, n_layers), over the layers that compete; NaN where a candidate is not eligible.
        halves: (n_resamples, n_poolings, n_layers), on halves of the texts; NaN also for those that are far behind.
    """

    values: np.ndarray
    halves: np.ndarray


class Search:
    """The forward passes and measurements of a search.

    Args:
        entries: What competes.
        views: Two views of each text for each metric of the criterion, in their order.
        criterion: Its metrics are measured.
        seed: Seed of the halves of the texts.
        n_resamples: Number of these halves.
        batch_tokens: Number of tokens in a forward pass; None: a default for the device.
        measured_with: The transform of each template and pooling that vectors are measured with; None for none.
        needs_transform: Whether a layer that takes no transform is not eligible.
        layers: The layers that compete.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        views: Sequence[Sequence[str]],
        criterion: str,
        *,
        seed: int,
        n_resamples: int,
        batch_tokens: int | None,
        measured_with: Mapping[tuple[str | None, str], str | None],
        needs_transform: bool,
        layers: Sequence[int],
    ) -> None:
        self._entries, self._views = entries, views
        self._metrics, self._end = metrics_of(criterion), end_of(criterion)
        self._settings, self._batch_tokens = MetricSettings(seed=seed), batch_tokens
        self._measured_with, self._needs_transform, self._layers = measured_with, needs_transform, layers
        self._halves = random_halves(len(views[0]), n_resamples, seed)

    def run(self, kept: KeptPasses, show_progress: bool) -> list[Measured]:
        """The values of all candidates, template by template."""
        tokens = [sum(entry.n_tokens(view) for view in self._views) for entry in self._entries]
        with progress(sum(tokens), "Recipes", "tok", show_progress) as bar:
            found = []
            for number, entry in enumerate(self._entries):
                bar.set_description(f"Recipes, {entry.template or 'no template'}")
                found.append(self._of_template(entry, kept, Steps(bar, tokens[number])))
                bar.update(sum(tokens[: number + 1]) - bar.n)
        return found

    def _of_template(self, entry: Entry, kept: KeptPasses, steps: "Steps") -> Measured:
        settings = {**self._identity(entry), "seed": self._settings.seed, "n_resamples": len(self._halves)}
        shape = (len(entry.poolings), len(self._layers))
        if (found := kept.values_of(entry.template, settings)) is not None:
            steps.skip(1)
            return Measured(np.array(found["values"]), np.array(found["halves"]).reshape(-1, *shape))
        steps.share = self._share_of_passes(entry, steps.n_tokens)
        with ExitStack() as open_files:
            vectors = [
                open_files.enter_context(self._encoded(entry, number, kept, steps))
                for number in range(len(self._views))
            ]
            measured = self._measure(entry, vectors, steps)
        kept.keep_values(
            entry.template, settings, {"values": measured.values.tolist(), "halves": measured.halves.tolist()}
        )
        return measured

    @contextmanager
    def _encoded(
        self, entry: Entry, number: int, kept: KeptPasses, steps: "Steps"
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The joined vectors (n_layers, n_unique, D) of the distinct texts of a view, and the row of each text."""
        encoder, view = entry.encoder, self._views[number]
        unique, where = distinct(encoder.prompted(view))

        def fill(array: np.ndarray) -> None:
            for pooled in encoder.pooled_batches(
                unique,
                self._layers,
                norms=[encoder.final_norm],
                batch_tokens=self._batch_tokens,
                on_tokens=steps.passed,
            ):
                array[:, pooled.rows] = pooled.vectors[0]

        settings = self._identity(entry)
        if kept.has_vectors(entry.template, number, settings):
            steps.skip(steps.share * entry.n_tokens(view) / steps.n_tokens)
        shape = (len(self._layers), len(unique), encoder.dim)
        with kept.vectors(entry.template, number, settings, shape, fill) as array:
            yield array, where

    def _measure(self, entry: Entry, vectors: Sequence[tuple[np.ndarray, np.ndarray]], steps: "Steps") -> Measured:
        values = np.full((len(entry.poolings), len(self._layers)), np.nan)
        halves = np.full((len(self._halves), *values.shape), np.nan)
        n_contenders = min(_CONTENDERS, values.size)
        part = (1 - steps.share) / (values.size + n_contenders * len(self._halves) / 4)

        def states(place: int) -> list[np.ndarray]:
            return [array[place][where] for array, where in vectors]

        for place, layer in enumerate(self._layers):
            joined = states(place)
            for number, pooling in enumerate(entry.poolings):
                vectors_of = self._vectors(entry, joined, pooling, layer)
                if vectors_of is not None:
                    values[number, place] = self._value(vectors_of)
                steps.measured(part)
        order = cost(values.ravel(), self._end).argsort(kind="stable")[:n_contenders]
        for number, place in (divmod(int(candidate), len(self._layers)) for candidate in order):
            vectors_of = self._vectors(entry, states(place), entry.poolings[number], self._layers[place])
            for half, rows in enumerate(self._halves):
                if vectors_of is not None:
                    halves[half, number, place] = self._value([some[rows] for some in vectors_of])
                steps.measured(part / 4)
        return Measured(values, halves)

    def _value(self, views: Sequence[np.ndarray]) -> float:
        """The criterion's value of the vectors (n, d) of all views."""
        pairs = zip(views[::2], views[1::2], strict=True)
        found = [MEASURES[metric](pair, self._settings) for metric, pair in zip(self._metrics, pairs, strict=True)]
        return float(value_of([np.asarray(value) for value in found]))

    def _vectors(self, entry: Entry, joined: Sequence[np.ndarray], pooling: str, layer: int) -> list[np.ndarray] | None:
        """The vectors of all views to measure; None if they cannot be chosen."""
        found = [entry.part(vectors, pooling) for vectors in joined]
        checkpoint = entry.encoder.checkpoint
        if not all(np.isfinite(vectors).all() for vectors in found):
            return None
        if all(np.abs(vectors - found[0][0]).max() <= _SAME * np.abs(vectors).max() for vectors in found):
            return None
        if checkpoint.is_last(layer):
            if checkpoint.own.unsupported or (self._needs_transform and not takes_transform(checkpoint, layer)):
                return None
            try:
                after = AfterPooling.of(checkpoint, layer, found[0].shape[1])
            except InputError:  # modules that take vectors of another width
                return None
            if after.modules or after.truncate_dim is not None:
                found = [after(torch.from_numpy(vectors)).numpy() for vectors in found]
        transform = self._measured_with[entry.template, pooling]
        if not transform or not takes_transform(checkpoint, layer):
            return found
        return [
            vectors
            for first in range(0, len(found), 2)
            for vectors in _transformed(found[first : first + 2], transform)
        ]

    def _share_of_passes(self, entry: Entry, n_tokens: int) -> float:
        """The share of a template's work that the forward passes are, by the number of multiplications."""
        weights = sum(
            part.numel() for block in dict.fromkeys(entry.encoder.backbone.blocks) for part in block.parameters()
        )
        n, n_layers = len(self._views[0]), len(self._layers) * len(self._metrics)
        comparisons = sum(entry.dim(pooling) for pooling in entry.poolings) * n_layers * 4 * n * n  # in float64
        comparisons += entry.encoder.backbone.dim * n * n * len(self._halves) * _CONTENDERS * len(self._metrics)
        return n_tokens * weights / (n_tokens * weights + comparisons)

    def _identity(self, entry: Entry) -> dict[str, Any]:
        """All that the values under a template depend on."""
        encoder = entry.encoder
        texts = [repr(view) for view in self._views]
        return {
            "model": encoder.checkpoint.name,
            "revision": encoder.checkpoint.revision,
            "recipe": asdict(encoder.recipe),
            "poolings": entry.poolings,
            "measured_with": [self._measured_with[entry.template, pooling] for pooling in entry.poolings],
            "layers": list(self._layers),
            "limit": entry.limit,
            "prompt": encoder.checkpoint.own.default_prompt,
            "dtype": dtype_name(encoder.backbone.model.dtype),
            "device": encoder.backbone.device.type,
            "batch_tokens": self._batch_tokens,
            "own_code": encoder.checkpoint.trust_remote_code,
            "metrics": self._metrics,
            "texts": hashlib.sha256("\n".join(texts).encode()).hexdigest(),
            "versions": {"midlayer-embed": __version__, **{name: version(name) for name in ("torch", "transformers")}},
        }


def _transformed(pair: list[np.ndarray], transform: str) -> list[np.ndarray]:
    """The vectors (n, d) of two views under a transform that is fitted on them together."""
    moments = Moments(1, pair[0].shape[1], full=needs_covariance(transform))
    for vectors in pair:
        moments.add(vectors[:, None])
    fitted = moments.fit(transform, warn=False).of_layer(0)
    return [fitted(vectors) for vectors in pair]


class Steps:
    """The work under one template, as tokens of a bar: passes and measurements have a share of them each.

    Attributes:
        n_tokens: Number of tokens of all passes.
        share: The share of the work that the passes are.
    """

    def __init__(self, bar: Any, n_tokens: int) -> None:
        self._bar, self.n_tokens, self.share = bar, n_tokens, 1.0

    def passed(self, n_tokens: int) -> None:
        """Count tokens of a pass."""
        self._bar.update(self.share * n_tokens)

    def measured(self, part: float) -> None:
        """Count a part of the work."""
        self._bar.update(part * self.n_tokens)

    def skip(self, part: float) -> None:
        """Count a part of the work as done by an earlier search, so not towards the speed of this one."""
        self._bar.n += part * self.n_tokens
        self._bar.initial = getattr(self._bar, "initial", 0) + part * self.n_tokens


def takes_transform(checkpoint: Checkpoint, layer: int) -> bool:
    """Whether a layer takes a transform: nothing but Normalize comes after the pooling."""
    modules = checkpoint.own.modules_at(is_last=checkpoint.is_last(layer))
    return all(module.kind == NORMALIZE for module in modules)
