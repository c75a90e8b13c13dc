"""One task under one template: encodes its texts once, and scores the layers under each transform.

`leaderboard.sweep.task` loads the task's data and collects its texts, once for all templates.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mteb.abstasks.abstask import AbsTask
from mteb.models.model_meta import ModelMeta
from mteb.results import TaskResult

from leaderboard.models.meta import layer_meta
from leaderboard.results.files.folder import ResultsFolder, result_path
from leaderboard.results.provenance import NO_SCORE, PROVENANCE, agrees, entries_of, provenance_of
from leaderboard.results.remarks import said_of_not_finite
from leaderboard.scoring.prompts import TaskPrompts
from leaderboard.sweep.corpus import Corpus, refused
from leaderboard.sweep.kept_texts import KeptTexts
from leaderboard.sweep.layers.layer_job import FitRows, LayerJob
from leaderboard.sweep.layers.layer_view import StoreFiller
from leaderboard.sweep.layers.processes import scored_layers
from leaderboard.sweep.measuring import TaskMetrics
from leaderboard.sweep.options import SweepOptions
from leaderboard.sweep.plan import TaskPlan, count_metric_tokens, count_tokens, layer_groups
from leaderboard.sweep.store import VectorStore, layer_bytes
from leaderboard.tasks.fitting_texts import sha256_of
from leaderboard.tasks.items import content_of
from leaderboard.tasks.names import TASK, TRAIN
from midlayer_embed.errors import InputError
from midlayer_embed.forward.after_pooling import AfterPooling
from midlayer_embed.forward.one_pass import OnePassEncoder
from midlayer_embed.ground.progress import progress
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.selection.representations import TextPass
from midlayer_embed.terms import n_views

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OfTask:
    """What a task has for each of its templates.

    Attributes:
        task: The task.
        prompts: The model's prompts.
        made_with: What the provenance of a result has to say for it to count as finished.
        folder: The results folder.
        timed: Measures the time of a part of the work.
    """

    task: AbsTask
    prompts: TaskPrompts
    made_with: Mapping[str, Any]
    folder: ResultsFolder
    timed: Callable[[str], AbstractContextManager[None]]


class TemplateSweep:
    """One task under one template.

    Args:
        of_task: What the task has for each template.
        checkpoint: The model.
        settings: A value for each key of `leaderboard.models.labels.DEFAULT_SETTINGS`, the template among them.
        options: Options of the sweep.
        label: Label of log lines and progress bars.
        metrics: The metrics of the task; None if they are not measured here.

    Attributes:
        name: Name of the task.
        template: The template; None for plain texts.
        unscored: The transforms without a finished score, by layer.
        n_saved: Number of results that were saved.
    """

    def __init__(
        self,
        of_task: OfTask,
        checkpoint: Checkpoint,
        settings: dict[str, Any],
        options: SweepOptions,
        label: str,
        metrics: TaskMetrics | None,
    ) -> None:
        self.name = str(of_task.task.metadata.name)
        self.template: str | None = settings["template"]
        self._of_task = of_task
        self._checkpoint = checkpoint
        self._settings = settings
        self._options = options
        self._label = label
        self._metrics = metrics
        self._after_pooling: dict[bool, AfterPooling] = {}
        # Why layers have no score, for those whose vectors are not finite.
        self._not_finite: dict[int, str] = {}
        self._fitted_on = options.fit_on.name
        self._check: Callable[[], None] = lambda: None
        self.n_saved = 0
        # Missing results when the sweep begins; results files are not read again.
        asked = {layer: list(options.transforms) for layer in options.layers}
        self.unscored = asked if options.overwrite else self._still_missing(asked)

    @property
    def has_work(self) -> bool:
        """Whether a score or a metric is missing."""
        return bool(self.unscored or (self._metrics is not None and self._metrics.missing))

    @property
    def fits(self) -> bool:
        """Whether a transform has to be fitted."""
        return any(name is not None for names in self.unscored.values() for name in names)

    def refresh(self) -> None:
        """Leaves out what has been finished since: by a worker that has died after it had begun this shard."""
        if not self._options.overwrite:
            self.unscored = self._still_missing(self.unscored)
            if self._metrics is not None:
                self._metrics.refresh()

    def fall_back(self) -> None:
        """Fits on the evaluated texts, because the task has no other split; finished results of that kind are kept."""
        self._fitted_on = TASK
        if not self._options.overwrite:
            self.unscored = self._still_missing(self.unscored)

    def plan(self, encoder: OnePassEncoder, texts: KeptTexts, corpus: Corpus | None) -> TaskPlan:
        """Estimates the cost; the arguments are those of `run`.

        Raises:
            InputError: (a ValueError) the model's own modules cannot be loaded.
        """
        for layer in self.unscored:
            self._after(encoder, layer)
        groups = self._groups(encoder, texts, corpus)
        encoded = texts.to_encode if self.unscored else []
        # Metrics without views are computed in the pass for the scores, if there is one.
        wanted = [] if self._metrics is None else self._metrics.wanted(self._options.layers)
        alone = [name for name in wanted if not encoded or n_views([name])]
        return TaskPlan(
            task=self.name,
            n_texts=len(encoded),
            groups=groups,
            score_tokens=len(groups) * count_tokens(encoder, encoded),
            metric_tokens=len(groups) * count_metric_tokens(encoder, texts.sample, alone, self._options.seed),
            disk=self._bytes_a_layer(encoder, texts) * max(map(len, groups), default=0),
            template=self.template,
            n_scores=sum(map(len, self.unscored.values())),
        )

    def run(
        self,
        encoder: OnePassEncoder,
        texts: KeptTexts,
        corpus: Corpus | None,
        made_with: dict[str, Any],
        check: Callable[[], None],
    ) -> None:
        """Computes and saves the missing scores and metrics.

        Args:
            encoder: The model, with the template in it.
            texts: The texts of the task.
            corpus: What transforms are fitted on, if that is encoded apart from the task.
            made_with: The provenance of the results, without layer and transform.
            check: Called before anything is saved; raises an error if this process may not save it anymore.
        """
        self._check = check
        for group in self._groups(encoder, texts, corpus):
            unscored = {layer: names for layer, names in self.unscored.items() if layer in group}
            missing = [] if self._metrics is None else [layer for layer in self._metrics.missing if layer in group]
            with self._of_task.folder.storage.scratch() as scratch:
                text_pass = None
                if unscored:
                    text_pass = self._text_pass(encoder, texts, missing, list(unscored))
                    self._score(encoder, texts, unscored, text_pass, corpus, scratch, made_with)
                if self._metrics is not None:
                    self._metrics.measure(encoder, texts.sample, missing, text_pass, scratch, made_with, check)
        with self._of_task.folder.storage.scratch() as scratch:
            self._save_not_finite(texts, scratch, made_with)

    def _text_pass(
        self, encoder: OnePassEncoder, texts: KeptTexts, missing: list[int], unscored: list[int]
    ) -> TextPass | None:
        if self._metrics is None:
            return None
        return self._metrics.text_pass(encoder, texts.sample, texts.all, missing, unscored)

    def _groups(self, encoder: OnePassEncoder, texts: KeptTexts, corpus: Corpus | None) -> tuple[tuple[int, ...], ...]:
        measured = () if self._metrics is None else self._metrics.missing
        needed = sorted({*self.unscored, *measured})
        room = self._options.store_budget - (0 if corpus is None else corpus.disk)
        return layer_groups(needed, self._bytes_a_layer(encoder, texts), room)

    def _bytes_a_layer(self, encoder: OnePassEncoder, texts: KeptTexts) -> int:
        """Bytes of one layer in the store, or of the metrics' views, which are written after the store is deleted."""
        wanted = [] if self._metrics is None else self._metrics.wanted(self._options.layers)
        views = n_views(wanted) * len(texts.sample)
        store = len(texts.to_encode) if self.unscored else 0
        return max(
            layer_bytes(store, encoder.dim, self._options.store_dtype), layer_bytes(views, encoder.dim, "float32")
        )

    def _after(self, encoder: OnePassEncoder, layer: int) -> AfterPooling:
        """What turns the pooled vectors of a layer into its embeddings."""
        site = encoder.recipe.site
        is_last = self._checkpoint.is_last(layer, site)
        if is_last not in self._after_pooling:
            self._after_pooling[is_last] = AfterPooling.of(self._checkpoint, layer, encoder.dim, site)
        return self._after_pooling[is_last]

    def _score(
        self,
        encoder: OnePassEncoder,
        texts: KeptTexts,
        unscored: dict[int, list[str | None]],
        text_pass: TextPass | None,
        corpus: Corpus | None,
        scratch: Path,
        made_with: dict[str, Any],
    ) -> None:
        timed, task, options = self._of_task.timed, self._of_task.task, self._options
        after = {layer: self._after(encoder, layer) for layer in unscored}
        with VectorStore(scratch, list(unscored), encoder.dim, options.store_dtype) as store:
            filler = StoreFiller(
                encoder,
                store,
                final_norm=self._settings["final_norm"],
                label=self._label,
                show_progress=options.show_progress,
            )
            with timed("encoding"):
                if text_pass is not None:
                    filler.fill(encoder.prompted(texts.sample), text_pass)
                filler.fill(texts.to_encode)
                n_scored = len(texts.all)
                wrong = {layer: filler.n_not_finite(layer, range(n_scored)) for layer in unscored}
                fit = dict(self._fit_rows(encoder, texts, store, filler, corpus))
            jobs = [
                LayerJob(
                    layer, {name: self._meta(layer, name) for name in names}, n_scored, after[layer], fit.get(layer)
                )
                for layer, names in unscored.items()
                if not wrong[layer]
            ]
            with timed("scoring"):
                results = scored_layers(task, store, jobs, filler.fill, options.jobs, self._of_task.prompts)
                n_results, label = sum(len(job.metas) for job in jobs), f"{self._label}: scoring"
                shown, at_once = options.show_progress, options.jobs
                with closing(results):  # an error here has to reach what scores, before the task is released
                    for scored in progress(n_results, label, "score", shown, items=results, at_once=at_once):
                        result = scored.result or self._without_score()
                        self._save(result, scored.layer, scored.transform, texts, scratch, made_with, scored.no_score)
            for layer in filter(wrong.get, unscored):
                self._not_finite[layer] = said_of_not_finite(wrong[layer], n_scored)

    def _fit_rows(
        self,
        encoder: OnePassEncoder,
        texts: KeptTexts,
        store: VectorStore,
        filler: StoreFiller,
        corpus: Corpus | None,
    ) -> Iterator[tuple[int, FitRows]]:
        """What the transforms of each layer are fitted on."""
        if not self.fits:
            return
        rows = store.rows(texts.fit)
        for layer in store.layers:
            if corpus is not None:
                yield layer, corpus.rows(encoder, layer)
            else:
                yield layer, FitRows(rows, refused(filler.n_not_finite(layer, rows.tolist()), len(rows)))

    def _save(
        self,
        result: TaskResult,
        layer: int,
        transform: str | None,
        texts: KeptTexts,
        scratch: Path,
        made_with: dict[str, Any],
        no_score: str | None = None,
    ) -> None:
        said = {} if no_score is None else {NO_SCORE: no_score}
        fitted = {} if transform is None else {**self._fit_settings(transform), **self._fit_provenance(texts)}
        for entry in entries_of(result):
            entry[PROVENANCE] = {"layer": layer, **made_with, **fitted, **said}
        self._check()
        self._of_task.folder.save_result(result, self._meta(layer, transform), scratch)
        self.n_saved += 1

    def _save_not_finite(self, texts: KeptTexts, scratch: Path, made_with: dict[str, Any]) -> None:
        """Saves a result without a score for each layer with vectors that are not finite.

        Raises:
            InputError: (a ValueError) that is every layer of the sweep, finished ones included; then nothing is saved.
        """
        if self._not_finite and set(self._not_finite) == set(self._options.layers):
            layer, reason = next(iter(self._not_finite.items()))
            raise InputError(f"no layer has finite vectors; at layer {layer}, {reason}")
        for layer, reason in self._not_finite.items():
            for transform in self.unscored[layer]:
                self._save(self._without_score(), layer, transform, texts, scratch, made_with, reason)

    def _without_score(self) -> TaskResult:
        task = self._of_task.task
        none = {"main_score": float("nan")}
        scores = {split: {subset: dict(none) for subset in task.hf_subsets} for split in task.eval_splits}
        return TaskResult.from_task_results(task, scores, evaluation_time=0.0)

    def _fit_settings(self, transform: str, fitted_on: str | None = None) -> dict[str, Any]:
        return {"transform": transform, "transform_texts": fitted_on or self._fitted_on}

    def _fit_provenance(self, texts: KeptTexts) -> dict[str, Any]:
        """What a provenance says of the texts that a transform was fitted on."""
        fit_on = self._options.fit_on
        fitted = list(fit_on.texts) if fit_on.is_corpus else [content_of(text) for text in texts.fit]
        found = {"n_fit_texts": len(fitted), "fit_sha256": sha256_of(fitted), **self._fit_identity}
        return found if fit_on.name != TRAIN else {**found, "has_other_splits": self._fitted_on == TRAIN}

    @cached_property
    def _fit_identity(self) -> dict[str, Any]:
        """What the provenance of a transform has to say for its result to count as finished."""
        options = self._options
        if options.fit_on.is_corpus:
            return {"fit_sha256": sha256_of(options.fit_on.texts)}
        return {"fit_texts": options.fit_texts, "fit_seed": options.seed}

    def _meta(self, layer: int, transform: str | None = None, fitted_on: str | None = None) -> ModelMeta:
        fitted = {} if transform is None else self._fit_settings(transform, fitted_on)
        return layer_meta(self._checkpoint, layer, {**self._settings, **fitted})

    def _still_missing(self, asked: Mapping[int, list[str | None]]) -> dict[int, list[str | None]]:
        """Those of some layers and transforms that have no finished result; complete layers are left out."""
        metas = [meta for layer, names in asked.items() for name in names for meta in self._metas(layer, name)]
        self._there = self._of_task.folder.load_results(self.name, metas)
        missing: defaultdict[int, list[str | None]] = defaultdict(list)
        for layer, names in asked.items():
            for name in names:
                if not self._is_scored(layer, name):
                    missing[layer].append(name)
        return dict(missing)

    def _metas(self, layer: int, transform: str | None) -> list[ModelMeta]:
        """What a result of a layer may be stored under."""
        if transform is None:
            return [self._meta(layer)]
        # A task without other splits falls back; that it has none is not known before its data are loaded.
        return [self._meta(layer, transform), *([self._meta(layer, transform, TASK)] * (self._fitted_on == TRAIN))]

    def _is_scored(self, layer: int, transform: str | None) -> bool:
        fitted: Mapping[str, Any] = {} if transform is None else self._fit_identity
        own, *fallen_back = self._metas(layer, transform)
        if self._is_finished(own, fitted):
            return True
        return any(self._is_finished(meta, {**fitted, "has_other_splits": False}) for meta in fallen_back)

    def _is_finished(self, meta: ModelMeta, fitted: Mapping[str, Any]) -> bool:
        """Whether there is a result whose provenance agrees, also about what a transform was fitted on."""
        task = self._of_task.task
        result = self._there.get(result_path(self.name, meta))
        found = None if result is None else provenance_of(result)
        if result is None or found is None or not agrees(found, self._of_task.made_with):
            return False
        if any(found.get(key) != value for key, value in fitted.items()):
            return False
        if result.dataset_revision != str(task.metadata.revision):
            return False
        return not result.get_missing_evaluations(task)
