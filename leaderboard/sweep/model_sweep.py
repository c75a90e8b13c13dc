"""The tasks of one model that this process does: plans them, claims their shards one by one and does these."""

import errno
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path

from mteb.abstasks.abstask import AbsTask

from leaderboard.models.meta import layer_meta
from leaderboard.results.files.folder import ResultsFolder
from leaderboard.shards.claims import RUNNING, Claim, ClaimLost, Crew
from leaderboard.shards.costs import shard_cost
from leaderboard.shards.shard import Shard
from leaderboard.shards.sizes import ModelSize, task_sizes
from leaderboard.sweep.corpus import Corpus
from leaderboard.sweep.model import SweptModel
from leaderboard.sweep.options import SweepOptions
from leaderboard.sweep.plan import Plan, TaskPlan, measure_speed
from leaderboard.sweep.task import TaskSweep
from leaderboard.tasks.items import Item
from midlayer_embed.errors import InputError
from midlayer_embed.forward.one_pass import OnePassEncoder
from midlayer_embed.ground.failures import reason_of, report_failures
from midlayer_embed.ground.interrupts import tell_interrupt
from midlayer_embed.recipes.transform import warn_of_few

logger = logging.getLogger(__name__)


class ModelSweep:
    """One model on all tasks of a sweep.

    Args:
        swept: The model.
        tasks: The tasks.
        templates: The templates.
        options: Options of the sweep.
        folder: The results folder.
        prefix: What comes before the names of tasks in messages, where there are several models.

    Attributes:
        shards: Its shards, in the order of the tasks.
        failures: The error of each task that failed here, by its name.
    """

    def __init__(
        self,
        swept: SweptModel,
        tasks: Sequence[AbsTask],
        templates: Sequence[str | None],
        options: SweepOptions,
        folder: ResultsFolder,
        prefix: str = "",
    ) -> None:
        self.swept = swept
        self.failures: dict[str, Exception] = {}
        self._not_begun: list[tuple[Shard, Exception]] = []
        self._options = options
        self._folder = folder
        self._prefix = prefix
        self._settings = {
            template: {**swept.settings(template), "limit": options.limit, "store_dtype": options.store_dtype}
            for template in templates
        }
        self._place = {self._shard(task, template): (task, template) for task in tasks for template in templates}
        self.shards = list(self._place)

    def has_failed(self, shard: Shard) -> bool:
        """Whether the task of a shard has failed in this process."""
        return self._prefix + shard.task in self.failures

    def do(self, shards: Sequence[Shard], crew: Crew, on_plan: Callable[[Plan], bool]) -> bool:
        """Does what is left of some shards, unless other workers do it.

        Args:
            shards: Shards of this model.
            crew: This process among the others.
            on_plan: Called with the plan; if it returns False, nothing is done.

        Returns:
            Whether `on_plan` agreed, or was not asked because there is nothing to do.
        """
        agreed = self._do(shards, crew, on_plan)
        if agreed and self._folder.storage.exists():  # a folder is not made to say that nothing can be done
            for shard, error in self._not_begun:
                if isinstance(claim := crew.take(shard), Claim):
                    claim.fail(error)
        self._not_begun.clear()
        return agreed

    def _do(self, shards: Sequence[Shard], crew: Crew, on_plan: Callable[[Plan], bool]) -> bool:
        sweeps = self._sweeps(shards)
        for sweep in sweeps:  # missing data are reported before hours are spent on other tasks
            with self._before_claims(sweep.name, self._shards_of(sweep)):
                sweep.find_data()
        finished = [sweep for sweep in sweeps if not sweep.has_work]
        for sweep in finished:
            logger.info("%s is finished", self._named(sweep))
        working = [sweep for sweep in sweeps if sweep.has_work and self._named(sweep) not in self.failures]
        states = crew.states([shard for sweep in working for shard in self._shards_of(sweep)])
        for sweep in [sweep for sweep in working if all(states[shard] == RUNNING for shard in self._shards_of(sweep))]:
            working.remove(sweep)
            logger.info("%s is being done by another worker", self._named(sweep))
        if not working:
            return True
        self._folder.storage.check_writable()
        # An error here would fail every task.
        self.swept.encoder(working[0].templates_with_work[0])
        with self._folder.storage.scratch() as scratch, self._tell_interrupt(finished, len(sweeps)):
            corpus = self._corpus(working, scratch)
            plan = self._plan(working, scratch, len(finished), corpus)
            if not plan.tasks:
                return True
            if not on_plan(plan):
                return False
            crew.note_finished([shard for sweep in finished for shard in self._shards_of(sweep, sweep.templates)])
            for sweep in working:
                if self._named(sweep) not in self.failures and self._run(sweep, crew, corpus):
                    finished.append(sweep)
        return True

    def _run(self, sweep: TaskSweep, crew: Crew, corpus: Corpus | None) -> bool:
        """Whether a task was done here."""
        name = self._named(sweep)
        with self._reporting(name):
            try:
                with ExitStack() as stack:
                    claims: dict[str | None, Claim] = {}
                    for template, shard in zip(sweep.templates_with_work, self._shards_of(sweep), strict=True):
                        taken = crew.take(shard)
                        if isinstance(taken, Claim):
                            claims[template] = stack.enter_context(taken)
                        else:
                            logger.info("%s is %s by another worker", shard.label, taken)
                    if claims:
                        sweep.run(self.swept.encoder, claims, corpus)
                    return bool(claims)
            except ClaimLost as lost:
                logger.warning("%s", lost)
        return False

    def _shard(self, task: AbsTask, template: str | None) -> Shard:
        options, checkpoint = self._options, self.swept.checkpoint
        cost = shard_cost(
            task_sizes(task),
            self._size,
            n_layers=len(options.layers),
            n_transforms=len(options.transforms),
            metrics=options.metrics if template is None else (),
            metric_texts=options.metric_texts,
            limit=options.limit,
            template=template,
        )
        variant = layer_meta(checkpoint, None, self._settings[template]).experiment_name or ""
        name = str(task.metadata.name)
        return Shard(checkpoint.name, checkpoint.revision, variant, name, template, cost, options.asks)

    @cached_property
    def _size(self) -> ModelSize:
        return ModelSize.of(self.swept.checkpoint)

    def _sweeps(self, shards: Sequence[Shard]) -> list[TaskSweep]:
        """The tasks of some shards, each with the templates that are asked for."""
        of_tasks: dict[str, list[Shard]] = {}
        for shard in shards:
            of_tasks.setdefault(shard.task, []).append(shard)
        found = []
        for number, (name, some) in enumerate(of_tasks.items(), start=1):
            task = self._place[some[0]][0]
            templates = [self._place[shard][1] for shard in some]
            with self._before_claims(name, some, or_if=lambda error: isinstance(error, InputError)):
                found.append(
                    TaskSweep(
                        task,
                        self.swept.checkpoint,
                        [self._settings[template] for template in templates],
                        [self.swept.max_seq_length(template) for template in templates],
                        self._options,
                        self._folder,
                        f"{self._prefix}[{number}/{len(of_tasks)}] {name}",
                    )
                )
        return found

    def _shards_of(self, sweep: TaskSweep, templates: Sequence[str | None] | None = None) -> list[Shard]:
        wanted = sweep.templates_with_work if templates is None else templates
        of = {template: shard for shard, (task, template) in self._place.items() if task.metadata.name == sweep.name}
        return [of[template] for template in wanted]

    def _plan(self, working: list[TaskSweep], scratch: Path, n_finished: int, corpus: Corpus | None) -> Plan:
        """The expected cost of the tasks. Their data and texts are kept in `scratch`; tasks without data fail here."""
        swept = self.swept
        plans: list[TaskPlan] = []
        some: list[Item] = []
        for sweep in working:
            with self._before_claims(sweep.name, self._shards_of(sweep)):
                found, texts = sweep.plan(swept.encoder, scratch, corpus)
                plans += found
                some += texts[:: max(1, len(texts) // 100)]
        corpora: tuple[TaskPlan, ...] = ()
        if corpus is not None:
            templates = dict.fromkeys(template for sweep in working for template in sweep.to_fit)
            corpora = tuple(corpus.plan(swept.encoder(template)) for template in templates)
        encoder = swept.encoder(plans[0].template) if plans else None
        speed = _speed(encoder, some) if some and encoder else None
        items, name = f"{swept.checkpoint.modality}s", swept.checkpoint.name
        return Plan(tuple(plans), n_finished, speed, corpora, items, name)

    def _corpus(self, working: list[TaskSweep], scratch: Path) -> Corpus | None:
        """The corpus that transforms are fitted on, if it is encoded once for all tasks."""
        fit_on = self._options.fit_on
        templates = {template for sweep in working for template in sweep.to_fit}
        if not (templates and fit_on.is_corpus):
            return None
        widest = max(self.swept.encoder(template).dim for template in templates)
        corpus = Corpus(fit_on, self._options, scratch, len(templates), widest)
        if corpus.is_apart:
            warn_of_few(f"{fit_on.name}: transforms are", len(fit_on.texts), widest)
            return corpus
        logger.warning(
            "%s takes more than half of the store budget, so it is encoded again with each task", fit_on.name
        )
        return None

    @contextmanager
    def _before_claims(
        self, name: str, shards: Sequence[Shard], or_if: Callable[[Exception], bool] = lambda _: False
    ) -> Iterator[None]:
        """As `_reporting`, before the shards of a task are claimed: why they failed is recorded later."""
        with self._reporting(self._prefix + name, or_if):
            try:
                yield
            except Exception as error:
                self._not_begun += [(shard, error) for shard in shards]
                raise

    @contextmanager
    def _reporting(self, name: str, or_if: Callable[[Exception], bool] = lambda _: False) -> Iterator[None]:
        """Records and logs why a task fails. A full disk ends the sweep: it would fail every other task, too.

        Args:
            name: Name of the task.
            or_if: Other errors that end the sweep.
        """
        stops = lambda error: _is_disk_full(error) or or_if(error)  # noqa: E731
        with report_failures(name, self.failures, logger, stops_all=stops):
            yield

    def _named(self, sweep: TaskSweep) -> str:
        return self._prefix + sweep.name

    def _tell_interrupt(self, finished: list[TaskSweep], n_tasks: int) -> "nullcontext[None]":
        return tell_interrupt(  # type: ignore[return-value]
            lambda: f"{len(finished)} of {n_tasks} tasks are finished; run the same command again to resume"
        )


def _speed(encoder: OnePassEncoder, texts: list[Item]) -> float | None:
    """Tokens per second; None if it cannot be measured, since a text that cannot be encoded is its task's failure."""
    try:
        return measure_speed(encoder, texts)
    except Exception as error:
        logger.warning("the plan has no times, since the speed cannot be measured: %s", reason_of(error))
        logger.debug("the speed cannot be measured", exc_info=error)
        return None


def _is_disk_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
