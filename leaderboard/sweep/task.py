"""One task of a sweep: plans, computes and saves its missing scores and metrics, layer by layer.

The texts of the task are encoded for all layers at once, or for as many as fit on the disk; metrics are computed from
the same forward pass. The task's data are loaded once, for the plan, and kept in files until the task is run.
`leaderboard.sweep.run` chooses the tasks and handles errors.
"""

import logging
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
from mteb.abstasks.abstask import AbsTask
from mteb.models.model_meta import ModelMeta
from mteb.results import TaskResult

from leaderboard.models.meta import layer_meta, model_label
from leaderboard.results.folder import MeasuredOn, ResultsFolder
from leaderboard.results.provenance import NO_SCORE, PROVENANCE, agrees, entries_of, provenance, provenance_of
from leaderboard.results.remarks import said_of_not_finite
from leaderboard.results.schemas import METRICS_SCHEMA
from leaderboard.results.scores import score_of
from leaderboard.scoring.prompts import TaskPrompts
from leaderboard.scoring.score import ENCODE_KWARGS, prepared
from leaderboard.scoring.texts import collect_texts
from leaderboard.sweep.executors.local import scored_layers
from leaderboard.sweep.kept_texts import KeptTexts
from leaderboard.sweep.layer_view import StoreFiller
from leaderboard.sweep.plan import TaskPlan, count_metric_tokens, count_tokens, layer_groups
from leaderboard.sweep.store import VectorStore, layer_bytes
from leaderboard.tasks.data import TaskData
from midlayer_embed.errors import InputError
from midlayer_embed.forward.after_pooling import AfterPooling
from midlayer_embed.forward.batching import Text
from midlayer_embed.forward.layerwise import LayerwiseEncoder
from midlayer_embed.ground.progress import progress
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.selection.measures import MetricSettings
from midlayer_embed.selection.representations import MetricRequest, PassOptions, TextPass, build_representations
from midlayer_embed.terms import METRIC_TABLE, NORMALIZATIONS, n_views
from midlayer_embed.texts.corpora import sample_texts

logger = logging.getLogger(__name__)

_TEXTS = "texts.jsonl"


@dataclass(frozen=True)
class SweepOptions:
    """Options of a sweep that hold for every task.

    Attributes:
        layers: Layers to score, 0..L.
        metrics: Metrics to measure.
        metric_texts: Maximum number of texts per task that metrics are measured on.
        seed: Seed of the choice of these texts, and of the items that `limit` keeps.
        limit: Evaluated items to keep of each split; None for all.
        jobs: Number of processes that score layers.
        store_budget: Bytes on disk that vectors may take at a time.
        store_dtype: dtype of the vectors on disk.
        overwrite: Whether to compute finished layers again.
        show_progress: Whether to show progress bars with an ETA on stderr.
        max_seq_length: Number of tokens to which texts are truncated, the limit in force.
        data_dir: Folder of datasets; None for the Hub.
    """

    layers: list[int]
    metrics: list[str]
    metric_texts: int
    seed: int
    limit: int | None
    jobs: int
    store_budget: int
    store_dtype: str
    overwrite: bool
    show_progress: bool
    max_seq_length: int
    data_dir: Path | None = None


class TaskSweep:
    """One task of a sweep.

    Args:
        task: The task.
        checkpoint: The model.
        settings: A value for each key of `leaderboard.models.meta.DEFAULT_SETTINGS`.
        options: Options of the sweep.
        folder: The results folder.
        label: Label of log lines and progress bars.

    Attributes:
        name: Name of the task.
        data: Data of the task.
        seconds: Time spent so far on encoding, scoring and metrics.
    """

    def __init__(
        self,
        task: AbsTask,
        checkpoint: Checkpoint,
        settings: dict[str, Any],
        options: SweepOptions,
        folder: ResultsFolder,
        label: str,
    ) -> None:
        self.name = str(task.metadata.name)
        self.data = TaskData(task, limit=options.limit, seed=options.seed)
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._task = task
        self._checkpoint = checkpoint
        self._settings = settings
        self._options = options
        self._folder = folder
        self._label = label
        self._kept_in: Path | None = None
        self._prompts = TaskPrompts(checkpoint.own)
        self._after_pooling: dict[bool, AfterPooling] = {}
        # Why layers have no score, for those whose vectors are not finite.
        self._not_finite: dict[int, str] = {}
        # Missing results when the sweep begins; results files are not read again.
        self._unscored = [layer for layer in options.layers if options.overwrite or not self._is_scored(layer)]
        self._unmeasured = self._missing_metrics()

    def find_data(self) -> None:
        """Locates the task's data, see `TaskData.find`; a finished task needs none."""
        if self.has_work:
            self.data.find(self._options.data_dir)

    @property
    def has_work(self) -> bool:
        """Whether a score or a metric is missing."""
        return bool(self._unscored or self._unmeasured)

    def plan(self, encoder: LayerwiseEncoder, scratch: Path) -> tuple[TaskPlan, list[Text]]:
        """Estimates the cost of the task. Its data and texts are kept in files, for `run`.

        Args:
            encoder: The model.
            scratch: Existing folder for these files.

        Returns:
            The plan, and texts of the task to measure the model's speed on.
        """
        self._kept_in = Path(tempfile.mkdtemp(prefix="task-", dir=scratch))
        with self.data.loaded(keep_in=self._kept_in):
            texts = self._collect_texts(encoder)
        texts.save(self._kept_in / _TEXTS)
        groups = self._groups(encoder, texts)
        encoded = list(texts.all) if self._unscored else []
        sample: list[Text] = encoder.prompted(texts.sample)
        # Metrics without views are computed in the pass for the scores, if there is one.
        alone = [name for name in self._wanted(self._options.layers) if not encoded or n_views([name])]
        plan = TaskPlan(
            task=self.name,
            n_texts=len(encoded),
            groups=groups,
            score_tokens=len(groups) * count_tokens(encoder, encoded),
            metric_tokens=len(groups) * count_metric_tokens(encoder, texts.sample, alone, self._options.seed),
            disk=self._bytes_a_layer(encoder, texts) * max(map(len, groups)),
        )
        return plan, encoded or sample

    def run(self, encoder: LayerwiseEncoder) -> None:
        """Computes and saves the missing scores and metrics. `plan` must be called first."""
        assert self._kept_in is not None
        try:
            with self.data.loaded():
                self._run(encoder, KeptTexts.load(self._kept_in / _TEXTS))
        finally:
            shutil.rmtree(self._kept_in, ignore_errors=True)

    def _run(self, encoder: LayerwiseEncoder, texts: KeptTexts) -> None:
        groups = self._groups(encoder, texts)
        made_with = provenance(
            encoder,
            self._task,
            self._settings,
            prompts=self._prompts.used(self.name),
            seed=self._options.seed,
            dataset_files_sha256=self.data.files_sha256,
        )
        for group in groups:
            unscored = [layer for layer in self._unscored if layer in group]
            unmeasured = {layer: names for layer, names in self._unmeasured.items() if layer in group}
            with self._folder.scratch() as scratch:
                text_pass = None
                if unscored:
                    text_pass = self._text_pass(encoder, texts, unscored, unmeasured)
                    self._score(encoder, texts, unscored, text_pass, scratch, made_with)
                self._measure(encoder, texts.sample, list(unmeasured), text_pass, scratch, made_with)
        with self._folder.scratch() as scratch:
            self._save_not_finite(scratch, made_with)
        parts = ", ".join(f"{part} {self.seconds[part]:.1f} s" for part in ("encoding", "scoring", "metrics"))
        logger.info("%s: %s", self._label, parts)

    def _collect_texts(self, encoder: LayerwiseEncoder) -> KeptTexts:
        """The texts that mteb's evaluation of the loaded task encodes, and those that metrics are measured on."""
        with prepared(self._task):
            texts = collect_texts(self._task, self._prompts)
        if not self._options.metrics:
            return KeptTexts(texts.all, [])
        sample = sample_texts(
            texts.evaluated,
            self._options.metric_texts,
            seed=self._options.seed,
            tokenizer=encoder.backbone.tokenizer,
            max_length=encoder.max_seq_length,
        )
        return KeptTexts(texts.all, sample)

    def _groups(self, encoder: LayerwiseEncoder, texts: KeptTexts) -> tuple[tuple[int, ...], ...]:
        needed = sorted({*self._unscored, *self._unmeasured})
        return layer_groups(needed, self._bytes_a_layer(encoder, texts), self._options.store_budget)

    def _bytes_a_layer(self, encoder: LayerwiseEncoder, texts: KeptTexts) -> int:
        """Bytes of one layer in the store, or of the metrics' views, which are written after the store is deleted."""
        views = n_views(self._wanted(self._options.layers)) * len(texts.sample)
        store = len(texts.all) if self._unscored else 0
        widest = max((self._after(encoder, layer).dim for layer in self._unscored), default=0)
        return max(layer_bytes(store, widest, self._options.store_dtype), layer_bytes(views, encoder.dim, "float32"))

    def _after(self, encoder: LayerwiseEncoder, layer: int) -> AfterPooling:
        """What turns the pooled vectors of a layer into its embeddings."""
        is_last = self._checkpoint.is_last(layer)
        if is_last not in self._after_pooling:
            self._after_pooling[is_last] = AfterPooling.of(self._checkpoint, layer, encoder.dim)
        return self._after_pooling[is_last]

    def _text_pass(
        self, encoder: LayerwiseEncoder, texts: KeptTexts, unscored: list[int], unmeasured: dict[int, list[str]]
    ) -> TextPass | None:
        """Computes metrics in the pass for the scores; None if none is needed, or its layers or prompts differ."""
        wanted = self._wanted(unmeasured)
        if list(unmeasured) != unscored or not TextPass.is_needed(wanted):
            return None
        if not set(encoder.prompted(texts.sample)) <= set(texts.all):  # metrics take the default prompt
            return None
        return TextPass(len(texts.sample), encoder.dim, self._request(wanted, unscored))

    def _score(
        self,
        encoder: LayerwiseEncoder,
        texts: KeptTexts,
        layers: list[int],
        text_pass: TextPass | None,
        scratch: Path,
        made_with: dict[str, Any],
    ) -> None:
        after = {layer: self._after(encoder, layer) for layer in layers}
        widths = {layer: after[layer].dim for layer in layers}
        with VectorStore(scratch, layers, max(widths.values()), self._options.store_dtype, widths) as store:
            filler = StoreFiller(
                encoder,
                after,
                store,
                final_norm=self._settings["final_norm"],
                label=self._label,
                show_progress=self._options.show_progress,
            )
            with self._timed("encoding"):
                if text_pass is not None:
                    filler.fill(encoder.prompted(texts.sample), text_pass)
                filler.fill(texts.all)
            with self._timed("scoring"):
                metas = {layer: self._meta(layer) for layer in layers if not filler.not_finite[layer]}
                results = scored_layers(self._task, store, metas, filler.fill, self._options.jobs, self._prompts)
                label, shown, jobs = f"{self._label}: scoring", self._options.show_progress, self._options.jobs
                for layer, result in progress(len(metas), label, "layer", shown, items=results, at_once=jobs):
                    equal = score_of(result) is None and store.all_equal(layer)
                    if not filler.not_finite[layer]:
                        self._save(result, layer, scratch, made_with, "all vectors are equal (NaN)" if equal else None)
            for layer in filter(filler.not_finite.get, layers):
                self._not_finite[layer] = said_of_not_finite(filler.not_finite[layer], len(store))

    def _save(
        self, result: TaskResult, layer: int, scratch: Path, made_with: dict[str, Any], no_score: str | None = None
    ) -> None:
        said = {} if no_score is None else {NO_SCORE: no_score}
        for entry in entries_of(result):
            entry[PROVENANCE] = {"layer": layer, **made_with, **said}
        self._folder.save_result(result, self._meta(layer), ENCODE_KWARGS, scratch)

    def _save_not_finite(self, scratch: Path, made_with: dict[str, Any]) -> None:
        """Saves a result without a score for each layer with vectors that are not finite.

        Raises:
            InputError: (a ValueError) that is every layer of the sweep, finished ones included; then nothing is saved.
        """
        if self._not_finite and set(self._not_finite) == set(self._options.layers):
            layer, reason = next(iter(self._not_finite.items()))
            raise InputError(f"no layer has finite vectors; at layer {layer}, {reason}")
        for layer, reason in self._not_finite.items():
            none = {"main_score": float("nan")}
            scores = {
                split: {subset: dict(none) for subset in self._task.hf_subsets} for split in self._task.eval_splits
            }
            result = TaskResult.from_task_results(self._task, scores, evaluation_time=0.0)
            self._save(result, layer, scratch, made_with, reason)

    def _measure(
        self,
        encoder: LayerwiseEncoder,
        sample: Sequence[str],
        layers: list[int],
        text_pass: TextPass | None,
        scratch: Path,
        made_with: dict[str, Any],
    ) -> None:
        meta = self._meta(None)
        head = {"model": model_label(meta), "revision": meta.revision, "task": self.name}
        missing = self._wanted(layers)
        options = PassOptions(scratch=scratch, show_progress=self._options.show_progress, label=f"{self._label}: ")
        # Metrics that need the same views are measured and saved together, those that need the fewest first.
        for views in sorted({METRIC_TABLE[name].n_views for name in missing}):
            wanted = [name for name in missing if METRIC_TABLE[name].n_views == views]
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
            self._folder.save_metrics(frame, self.name, meta, self._measured_on, made_with)

    @property
    def _measured_on(self) -> MeasuredOn:
        options = self._options
        return MeasuredOn(str(self._task.metadata.revision), options.seed, options.metric_texts, self._made_with)

    @cached_property
    def _made_with(self) -> dict[str, Any]:
        """What is no part of a result's name, and that its provenance has to say for it to count as finished."""
        seed = {} if self._options.limit is None else {"seed": self._options.seed}
        files = self.data.sha256_of_files(self._options.data_dir)
        return {"max_seq_length": self._options.max_seq_length, "dataset_files_sha256": files, **seed}

    def _request(self, metrics: list[str], layers: list[int]) -> MetricRequest:
        settings = MetricSettings(seed=self._options.seed)
        return MetricRequest(metrics, layers, final_norm=False, settings=settings, skips_not_finite=True)

    def _meta(self, layer: int | None) -> ModelMeta:
        return layer_meta(self._checkpoint, layer, self._settings)

    def _is_scored(self, layer: int) -> bool:
        result = self._folder.load_result(self.name, self._meta(layer))
        found = None if result is None else provenance_of(result)
        if result is None or found is None or not agrees(found, self._made_with):
            return False
        if result.dataset_revision != self._measured_on.dataset_revision:
            return False
        return not result.get_missing_evaluations(self._task)

    def _missing_metrics(self) -> dict[int, list[str]]:
        """The missing metrics of each layer; complete layers are left out."""
        if not self._options.metrics:
            return {}
        found: set[tuple[str, int]] = set()
        if not self._options.overwrite:
            rows = self._folder.load_metrics(self.name, self._meta(None), self._measured_on)
            found = set(rows.select("metric", "layer").iter_rows())
        missing = {
            layer: [name for name in self._options.metrics if (name, layer) not in found]
            for layer in self._options.layers
        }
        return {layer: names for layer, names in missing.items() if names}

    def _wanted(self, layers: Iterable[int]) -> list[str]:
        """The metrics that are missing at any of the layers."""
        missing = {name for layer in layers for name in self._unmeasured.get(layer, [])}
        return [name for name in self._options.metrics if name in missing]

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - start
