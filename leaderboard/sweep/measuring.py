"""The representation metrics of one task of a sweep: which are missing, measuring them, saving them.

Metrics are those of plain texts: no template, raw states. They belong to every recipe of a model.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import polars as pl
from mteb.models.model_meta import ModelMeta

from leaderboard.models.labels import model_label
from leaderboard.results.files.folder import MeasuredOn, ResultsFolder
from leaderboard.results.known import N_TEXTS
from leaderboard.results.schemas import METRICS_SCHEMA
from leaderboard.sweep.options import SweepOptions
from leaderboard.tasks.items import Item
from midlayer_embed.forward.one_pass import OnePassEncoder
from midlayer_embed.selection.auto import n_usable
from midlayer_embed.selection.measures import MetricSettings
from midlayer_embed.selection.representations import (
    MetricRequest,
    PassOptions,
    TextPass,
    build_representations,
    layers_beside,
)
from midlayer_embed.terms import METRIC_TABLE, NORMALIZATIONS


class TaskMetrics:
    """The metrics of one task.

    Args:
        task: Name of the task.
        meta: ModelMeta of the model, of no layer.
        measured_on: The texts that metrics are measured on.
        options: Options of the sweep.
        folder: The results folder.
        label: Label of progress bars.
        timed: Measures the time of a part of the task's work.

    Attributes:
        name: Name of the task.
        missing: The missing metrics of each layer when the sweep begins; complete layers are left out.
    """

    def __init__(
        self,
        task: str,
        meta: ModelMeta,
        measured_on: MeasuredOn,
        options: SweepOptions,
        folder: ResultsFolder,
        label: str,
        timed: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self.name = task
        self._meta = meta
        self._measured_on = measured_on
        self._options = options
        self._folder = folder
        self._label = label
        self._timed = timed
        self.missing = self._find_missing()

    def wanted(self, layers: Iterable[int]) -> list[str]:
        """The metrics that are missing at any of the layers."""
        missing = {name for layer in layers for name in self.missing.get(layer, [])}
        return [name for name in self._options.metrics if name in missing]

    def refresh(self) -> None:
        """Looks again for what is missing."""
        self.missing = self._find_missing()

    def text_pass(
        self,
        encoder: OnePassEncoder,
        sample: Sequence[Item],
        texts: Collection[Any],
        layers: list[int],
        scored: list[int],
    ) -> TextPass | None:
        """Collects metrics in the pass for the scores; None if none is needed, or its layers or prompts differ.

        Args:
            encoder: The model.
            sample: Texts that metrics are measured on.
            texts: The texts of the pass, under their prompts.
            layers: The layers that lack metrics.
            scored: The layers of the pass.
        """
        wanted = self.wanted(layers)
        if layers != scored or not TextPass.is_needed(wanted) or layers_beside(wanted, layers, encoder.layers):
            return None
        if not set(encoder.prompted(sample)) <= set(texts):  # metrics take the default prompt
            return None
        return TextPass(len(sample), encoder.dim, self._request(wanted, scored))

    def measure(
        self,
        encoder: OnePassEncoder,
        sample: Sequence[Item],
        layers: list[int],
        text_pass: TextPass | None,
        scratch: Path,
        made_with: Mapping[str, Any],
        check: Callable[[], None],
    ) -> None:
        """Measures and saves the missing metrics of some layers. `check` is called before anything is saved."""
        head = {"model": model_label(self._meta), "revision": self._meta.revision, "task": self.name}
        missing = self.wanted(layers)
        options = PassOptions(scratch=scratch, show_progress=self._options.show_progress, label=f"{self._label}: ")
        # Metrics that need the same views are measured and saved together, those that need the fewest first.
        for views in sorted({_views(name) for name in missing}):
            wanted = [name for name in missing if _views(name) == views]
            with (
                self._timed("metrics"),
                build_representations(
                    encoder, sample, self._request(wanted, layers), options, text_pass
                ) as representations,
            ):
                curves = representations.curves(
                    wanted, NORMALIZATIONS, show_progress=options.show_progress, label=options.label
                )
            rows = [
                {**head, "metric": metric, "normalization": normalization, "layer": layer, "value": float(value)}
                for (metric, normalization), curve in curves.items()
                for layer, value in zip(layers, curve, strict=True)
            ]
            frame = pl.DataFrame(rows, schema=METRICS_SCHEMA)
            of_texts = {**made_with, N_TEXTS: n_usable(item for item in sample if isinstance(item, str))}
            check()
            self._folder.save_metrics(frame, self.name, self._meta, self._measured_on, of_texts)

    def _request(self, metrics: list[str], layers: list[int]) -> MetricRequest:
        settings = MetricSettings(seed=self._options.seed)
        return MetricRequest(metrics, layers, final_norm=False, settings=settings, skips_not_finite=True)

    def _find_missing(self) -> dict[int, list[str]]:
        if not self._options.metrics:
            return {}
        found: set[tuple[str, int]] = set()
        if not self._options.overwrite:
            rows = self._folder.load_metrics(self.name, self._meta, self._measured_on)
            found = set(rows.select("metric", "layer").iter_rows())
        missing = {
            layer: [name for name in self._options.metrics if (name, layer) not in found]
            for layer in self._options.layers
        }
        return {layer: names for layer, names in missing.items() if names}


def _views(metric: str) -> tuple[int, str]:
    return METRIC_TABLE[metric].n_views, METRIC_TABLE[metric].views
