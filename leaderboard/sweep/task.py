"""One task of a sweep: its data, loaded once and kept in files from the plan until the task is run, and its items.

`leaderboard.sweep.template_sweep` encodes and scores them under each template; `leaderboard.sweep.run` chooses the
tasks and handles errors.
"""

import logging
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from mteb.abstasks.abstask import AbsTask

from leaderboard.models.meta import layer_meta
from leaderboard.results.files.folder import MeasuredOn, ResultsFolder
from leaderboard.results.provenance import provenance
from leaderboard.scoring.prompts import TaskPrompts
from leaderboard.scoring.score import prepared
from leaderboard.scoring.texts import TaskTexts, collect_texts
from leaderboard.shards.claims import Claim
from leaderboard.sweep.corpus import Corpus
from leaderboard.sweep.kept_texts import KeptTexts
from leaderboard.sweep.measuring import TaskMetrics
from leaderboard.sweep.options import SweepOptions
from leaderboard.sweep.plan import TaskPlan
from leaderboard.sweep.template_sweep import OfTask, TemplateSweep
from leaderboard.tasks.data import TaskData
from leaderboard.tasks.fitting_texts import draw, other_items
from leaderboard.tasks.items import Item, content_of
from leaderboard.tasks.names import TRAIN
from midlayer_embed.forward.one_pass import OnePassEncoder
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.recipes.transform import warn_of_few

logger = logging.getLogger(__name__)

_TEXTS = "texts.jsonl"
# A model with a template in it.
Encoders = Callable[[str | None], OnePassEncoder]


class TaskSweep:
    """One task of a sweep.

    Args:
        task: The task.
        checkpoint: The model.
        settings: For each template a value for each key of `leaderboard.models.labels.DEFAULT_SETTINGS`, and as
            max_seq_length what was asked for.
        limits: The number of tokens to which texts are truncated, the limit in force, for each template; None for
            images.
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
        settings: Sequence[dict[str, Any]],
        limits: Sequence[int | None],
        options: SweepOptions,
        folder: ResultsFolder,
        label: str,
    ) -> None:
        self.name = str(task.metadata.name)
        self.data = TaskData(task, limit=options.limit, seed=options.seed)
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._task = task
        self._settings = {one["template"]: one for one in settings}
        self._options = options
        self._label = label
        self._kept_in: Path | None = None
        self._prompts = TaskPrompts(checkpoint.own)
        self._templates = []
        for one, limit in zip(settings, limits, strict=True):
            made_with = {"max_seq_length": limit, **self._made_with}
            of_task = OfTask(task, self._prompts, made_with, folder, self._timed)
            metrics = None
            if one["template"] is None:
                revision = str(task.metadata.revision)
                measured_on = MeasuredOn(revision, options.seed, options.metric_texts, made_with)
                meta = layer_meta(checkpoint, None, one)
                metrics = TaskMetrics(self.name, meta, measured_on, options, folder, label, self._timed)
            self._templates.append(TemplateSweep(of_task, checkpoint, one, options, label, metrics))

    def find_data(self) -> None:
        """Locates the task's data, see `TaskData.find`; a finished task needs none."""
        if self.has_work:
            self.data.find(self._options.data_dir)

    @property
    def has_work(self) -> bool:
        """Whether a score or a metric is missing."""
        return any(sweep.has_work for sweep in self._templates)

    @property
    def templates(self) -> list[str | None]:
        """The templates."""
        return [sweep.template for sweep in self._templates]

    @property
    def templates_with_work(self) -> list[str | None]:
        """The templates under which a score or a metric is missing."""
        return [sweep.template for sweep in self._templates if sweep.has_work]

    @property
    def to_fit(self) -> list[str | None]:
        """The templates under which a transform has to be fitted."""
        return [sweep.template for sweep in self._templates if sweep.fits]

    def plan(
        self, encoders: Encoders, scratch: Path, corpus: Corpus | None = None
    ) -> tuple[list[TaskPlan], list[Item]]:
        """Estimates the cost of the task. Its data and texts are kept in files, for `run`.

        Args:
            encoders: The model.
            scratch: Existing folder for these files.
            corpus: What transforms are fitted on, if that is encoded apart from the tasks.

        Returns:
            A plan for each template, and texts of the task to measure the model's speed on.
        """
        self._kept_in = Path(tempfile.mkdtemp(prefix="task-", dir=scratch))
        encoder = encoders(None if self._options.metrics else self._templates[0].template)
        with self.data.loaded(keep_in=self._kept_in):
            texts = self._collect_texts(encoder, corpus_apart=corpus is not None)
        texts.save(self._kept_in / _TEXTS)
        plans = [sweep.plan(encoders(sweep.template), texts, corpus) for sweep in self._templates if sweep.has_work]
        return plans, list(texts.all) if any(plan.n_texts for plan in plans) else encoder.prompted(texts.sample)

    def run(self, encoders: Encoders, claims: Mapping[str | None, Claim], corpus: Corpus | None = None) -> None:
        """Computes and saves the missing scores and metrics of the claimed shards. `plan` must be called first.

        Args:
            encoders: The model.
            claims: The claims by template; they end as soon as their templates are done.
            corpus: What transforms are fitted on, if that is encoded apart from the tasks.

        Raises:
            ClaimLost: Another worker has taken up a shard.
        """
        assert self._kept_in is not None
        try:
            with self.data.loaded():
                texts = KeptTexts.load(self._kept_in / _TEXTS, self._task.dataset)
                for sweep in self._templates:
                    if (claim := claims.get(sweep.template)) is not None:
                        before = dict(self.seconds)
                        if not claim.is_fresh:
                            sweep.refresh()
                        if sweep.has_work:
                            encoder = encoders(sweep.template)
                            made_with = self._provenance(encoder, sweep.template)
                            sweep.run(encoder, texts, corpus, made_with, claim.check)
                        seconds = {part: spent - before.get(part, 0.0) for part, spent in self.seconds.items()}
                        claim.finish(seconds, sweep.n_saved)
        finally:
            shutil.rmtree(self._kept_in, ignore_errors=True)
        parts = ", ".join(f"{part} {self.seconds[part]:.1f} s" for part in ("encoding", "scoring", "metrics"))
        logger.info("%s: %s", self._label, parts)

    def _provenance(self, encoder: OnePassEncoder, template: str | None) -> dict[str, Any]:
        return provenance(
            encoder,
            self._task,
            self._settings[template],
            prompts=self._prompts.used(self.name),
            seed=self._options.seed,
            dataset_files_sha256=self.data.files_sha256,
        )

    def _collect_texts(self, encoder: OnePassEncoder, *, corpus_apart: bool) -> KeptTexts:
        """The texts that mteb's evaluation of the loaded task encodes, those of the metrics and those of transforms."""
        with prepared(self._task):
            texts = collect_texts(self._task, self._prompts)
        fit: list[Item] = []
        if self.to_fit and not corpus_apart:
            fit = self._fitting_texts(encoder, texts)
            if fit:
                warn_of_few(f"{self._label}: transforms are", len(fit), encoder.dim)
        if not self._options.metrics:
            return KeptTexts(texts.all, [], fit)
        sample = encoder.inputs.sample(texts.evaluated, self._options.metric_texts, seed=self._options.seed)
        return KeptTexts(texts.all, sample, fit)

    def _fitting_texts(self, encoder: OnePassEncoder, texts: TaskTexts) -> list[Item]:
        fit_on, n, seed = self._options.fit_on, self._options.fit_texts, self._options.seed
        if fit_on.is_corpus:
            return encoder.prompted(fit_on.texts)
        if fit_on.name == TRAIN:
            if found := draw(other_items(self._task, n, seed), n, seed):
                return self._prompts.prompted(found, self._task.metadata, None)
            logger.warning("%s has no other split: its transforms are fitted on the evaluated texts", self._label)
            for sweep in self._templates:
                sweep.fall_back()
            if not self.to_fit:  # finished by an earlier sweep
                return []
        by_content = {content_of(text): text for text in texts.evaluated_prompted}
        return [by_content[text] for text in draw(by_content, n, seed)]

    @cached_property
    def _made_with(self) -> dict[str, Any]:
        """What is no part of a result's name, and that its provenance has to say for it to count as finished."""
        seed = {} if self._options.limit is None else {"seed": self._options.seed}
        return {"dataset_files_sha256": self.data.sha256_of_files(self._options.data_dir), **seed}

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - start
