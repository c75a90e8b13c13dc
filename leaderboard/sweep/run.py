"""The sweep: scores every layer of a model on tasks, with one forward pass per task. Finished results are kept.

This module resolves the model and the tasks, plans, and handles failing tasks. `leaderboard.sweep.task` does the work
on one task.
"""

import errno
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mteb.abstasks.abstask import AbsTask
from mteb.benchmarks.benchmark import Benchmark

from leaderboard.board import Leaderboard, load_results
from leaderboard.quiet import calm_libraries
from leaderboard.results.files.folder import ResultsFolder
from leaderboard.sweep.arguments import (
    check_fit_texts,
    check_jobs,
    check_metric_texts,
    check_seed,
    check_store_dtype,
    check_transform_texts,
    parse_bytes,
)
from leaderboard.sweep.corpus import Corpus
from leaderboard.sweep.model import SweptModel
from leaderboard.sweep.options import SweepOptions
from leaderboard.sweep.plan import Plan, TaskPlan, measure_speed
from leaderboard.sweep.task import TaskSweep
from leaderboard.tasks.benchmarks import resolve_tasks
from leaderboard.tasks.fitting_texts import FIT_TEXTS, FitOn, fit_on
from leaderboard.tasks.items import Item
from leaderboard.tasks.names import TRAIN, check_data_dir, check_limit
from midlayer_embed.errors import InputError
from midlayer_embed.forward.one_pass import OnePassEncoder
from midlayer_embed.ground.failures import reason_of, report_failures
from midlayer_embed.ground.interrupts import tell_interrupt
from midlayer_embed.layers import layer_numbers
from midlayer_embed.options import FILE_OPTIONS, ModelOptions, takes_options
from midlayer_embed.recipes.names import NONE, check_templates, check_transforms
from midlayer_embed.recipes.transform import warn_of_few

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)

# Maximum number of texts per task that metrics are measured on, as in the paper.
METRIC_TEXTS = 1000
# Default share of the free disk space that vectors may take.
_FREE_SHARE = 0.8


class TasksFailed(RuntimeError):
    """Some tasks of a sweep failed; all others are finished.

    Attributes:
        failures: The error of each failed task, by the name of the task.
        leaderboard: All results in the results folder, as `run_sweep` would have returned them.
    """

    def __init__(self, failures: dict[str, Exception], n_tasks: int, leaderboard: Leaderboard) -> None:
        self.failures = failures
        self.leaderboard = leaderboard
        super().__init__(f"{len(failures)} of {n_tasks} tasks failed: {', '.join(failures)}")


@takes_options(without=(*FILE_OPTIONS, "template"))
def run_sweep(
    model: str | Path | OnePassEncoder,
    benchmark_or_tasks: str | Benchmark | AbsTask | Iterable[str | AbsTask],
    results_dir: str | Path,
    *,
    layers: str | Sequence[int | float] = "all",
    data_dir: str | Path | None = None,
    jobs: int = 1,
    store_budget: int | str | None = None,
    store_dtype: str = "float32",
    limit: int | None = None,
    metrics: str | Sequence[str] = "all",
    metric_texts: int = METRIC_TEXTS,
    templates: Sequence[str | None] | None = None,
    transforms: Sequence[str | None] = (NONE,),
    transform_texts: str | Path | Sequence[str] = TRAIN,
    fit_texts: int = FIT_TEXTS,
    seed: int = 0,
    overwrite: bool = False,
    show_progress: bool = True,
    on_plan: Callable[[Plan], bool] | None = None,
    **options: "Unpack[ModelOptions]",
) -> Leaderboard:
    """Scores layers of a model on tasks, and measures representation metrics of the same texts or images.

    The result of each (task, layer, template, transform) appears in `results_dir` as soon as it is computed; a rerun
    computes only missing results. Each dataset is loaded once, and only the data of one task are in memory at a time;
    until their task is run, texts and data that are not memory-mapped wait in files in `results_dir`. A task that fails
    is logged with its reason and does not stop the others.

    Args:
        model: Name of a model in `configs/models`, a hub id, a folder, "starter", or a LayerwiseEncoder or
            ImageLayerwiseEncoder, which is used with its own settings.
        benchmark_or_tasks: "starter", "paper" or "paper-fast", for image encoders "starter-vision", "vision" or
            "vision-large"; an mteb Benchmark, or tasks by name or as objects, which may be loaded already. All of them
            on texts, or all of them on images.
        results_dir: Results folder, in the layout of mteb's ResultCache with one experiment per layer.
        layers: "all", or layers and depths such as [0, 6, -1]. A layer that is named twice is scored once.
        data_dir: A folder to read all datasets from instead of the Hub, FOLDER/<org>/<name> laid out as on the Hub. It
            is not used for tasks that are loaded already or make their own data.
        jobs: Number of processes that score layers.
        store_budget: Bytes on disk that vectors may take at a time, such as 20_000_000_000 or "20GB". If all layers of
            a task take more, they are split into groups, each with its own forward passes. None: four fifths of the
            free space.
        store_dtype: dtype of the vectors on disk: "float32", or "float16", which takes half the space and changes
            scores slightly; its results are stored under another name.
        limit: Evaluated items to keep of each split, drawn with the seed, for a first look. Such results are stored
            under another name than complete ones.
        metrics: "all", "none", or some of `midlayer_embed.terms.METRICS`. InfoNCE, DiME and LiDAR encode augmented
            views of each text, LiDAR the most. Images have none of the metrics whose views are made of words.
        metric_texts: Maximum number of texts per task that metrics are measured on, drawn from the evaluated splits.
        templates: Templates to score, with a forward pass each: None for plain texts, "eol", "echo", or texts with
            {text} in them once or twice. None: plain texts, or the template of a LayerwiseEncoder. Metrics are measured
            on plain texts only: without None among the templates there are none.
        transforms: Transforms to score, all of them from the same vectors: "none", "center", "standardize", "remove:k",
            "whiten:r" or "whiten" (whiten:10). Each is fitted on the pooled vectors of the very layer and template.
        transform_texts: What they are fitted on, never with labels. "train": texts of the task's splits that are not
            evaluated; a task without one falls back to "task". "task": the evaluated texts themselves. A file of texts,
            or a list: the same for every task, for models of texts. Scores say on which in `fitted_on`.
        fit_texts: Maximum number of distinct texts that transforms are fitted on, drawn by the seed.
        seed: Seed of the texts that metrics are measured on, of their views, of the texts that transforms are fitted
            on, and of the items that `limit` keeps.
        overwrite: Whether to compute finished layers again.
        show_progress: Whether to show progress bars with an ETA on stderr.
        on_plan: Called with the plan of all tasks before anything is encoded; if it returns False, the sweep stops.
            None: log the plan.
        **options: The fields of `Recipe` and `Source`, as for LayerwiseEncoder, without gguf_file and
            trust_remote_code. final_norm: whether scores use pooled normed states; metrics always use raw states.
            Ignored if `model` is a LayerwiseEncoder, which has its own.

    Returns:
        The leaderboard of all results in `results_dir`, including earlier ones.

    Raises:
        InputError: (a ValueError) an invalid argument, such as an unknown task or a layer out of range; nothing is
            written then.
        TasksFailed: (a RuntimeError) tasks failed; raised after all other tasks are finished, with their leaderboard.

    Example:
        >>> board = run_sweep("starter", "starter", "results/starter")                  # doctest: +SKIP
        >>> print(board.summary())                                                      # doctest: +SKIP
    """
    tasks = resolve_tasks(benchmark_or_tasks)
    swept = SweptModel.of(model, options)
    swept.check_tasks(tasks)
    asked = (swept.asked.template,) if templates is None else check_templates(templates)
    wanted_transforms = check_transforms(transforms)
    check_transform_texts(transform_texts)
    n_fit, seed = check_fit_texts(fit_texts), check_seed(seed)
    site = swept.checkpoint.resolved(swept.asked).site
    is_fitted = any(name is not None for name in wanted_transforms)
    folder = ResultsFolder(results_dir)
    wanted = SweepOptions(
        layers=list(dict.fromkeys(layer_numbers(layers, swept.checkpoint.n_blocks, site))),
        metrics=swept.metrics(metrics),
        metric_texts=check_metric_texts(metric_texts),
        seed=seed,
        limit=check_limit(limit),
        jobs=check_jobs(jobs),
        store_budget=int(_FREE_SHARE * folder.storage.free_bytes())
        if store_budget is None
        else parse_bytes(store_budget),
        store_dtype=check_store_dtype(store_dtype),
        overwrite=overwrite,
        show_progress=show_progress,
        data_dir=None if data_dir is None else check_data_dir(data_dir),
        transforms=wanted_transforms,
        fit_on=fit_on(transform_texts, n_fit, seed) if is_fitted else FitOn(TRAIN),
        fit_texts=n_fit,
    )
    if wanted.metrics and None not in asked:
        logger.info("no metrics are measured: they are those of plain texts, and the templates have no None")
        wanted = replace(wanted, metrics=[])
    swept.checkpoint.check_layers(wanted.layers, site)
    swept.check_recipes(asked, wanted.fit_on)
    settings = [
        {**swept.settings(template), "limit": wanted.limit, "store_dtype": wanted.store_dtype} for template in asked
    ]
    limits = [swept.max_seq_length(template) for template in asked]
    failures: dict[str, Exception] = {}
    with calm_libraries():
        sweeps = []
        for number, task in enumerate(tasks, start=1):
            name = task.metadata.name
            with _report_failures(name, failures, or_if=lambda error: isinstance(error, InputError)):
                label = f"[{number}/{len(tasks)}] {name}"
                sweeps.append(TaskSweep(task, swept.checkpoint, settings, limits, wanted, folder, label))
        for sweep in sweeps:  # missing data are reported before hours are spent on other tasks
            with _report_failures(sweep.name, failures):
                sweep.find_data()
        working = [sweep for sweep in sweeps if sweep.has_work and sweep.name not in failures]
        finished = [sweep for sweep in sweeps if not sweep.has_work]
        for sweep in finished:
            logger.info("%s is finished", sweep.name)
        if working:
            folder.storage.check_writable()
            swept.encoder(asked[0])  # outside of `_report_failures`: an error here would fail every task
            with folder.storage.scratch() as scratch, tell_interrupt(lambda: _what_is_kept(len(finished), len(tasks))):
                corpus = _corpus(working, swept, wanted, scratch)
                plan = _plan(working, swept, scratch, len(finished), failures, corpus)
                if plan.tasks and (on_plan or log_plan)(plan):
                    for sweep in working:
                        if sweep.name not in failures:
                            with _report_failures(sweep.name, failures):
                                sweep.run(swept.encoder, corpus)
                                finished.append(sweep)
    # There may be no folder if every task failed.
    board = load_results(results_dir) if folder.storage.exists() else Leaderboard.empty()
    if failures:
        raise TasksFailed(failures, len(tasks), board)
    return board


def log_plan(plan: Plan) -> bool:
    """Logs the plan. Returns True, so that the sweep continues."""
    for line in plan.lines():
        logger.info("%s", line)
    return True


def _what_is_kept(n_finished: int, n_tasks: int) -> str:
    return f"{n_finished} of {n_tasks} tasks are finished; run the same command again to resume"


def _corpus(working: list[TaskSweep], swept: SweptModel, options: SweepOptions, scratch: Path) -> Corpus | None:
    """The corpus that transforms are fitted on, if it is encoded once for all tasks."""
    templates = {template for sweep in working for template in sweep.to_fit}
    if not (templates and options.fit_on.is_corpus):
        return None
    widest = max(swept.encoder(template).dim for template in templates)
    corpus = Corpus(options.fit_on, options, scratch, len(templates), widest)
    if corpus.is_apart:
        warn_of_few(f"{options.fit_on.name}: transforms are", len(options.fit_on.texts), widest)
        return corpus
    logger.warning(
        "%s takes more than half of the store budget, so it is encoded again with each task", options.fit_on.name
    )
    return None


def _plan(
    working: list[TaskSweep],
    swept: SweptModel,
    scratch: Path,
    n_finished: int,
    failures: dict[str, Exception],
    corpus: Corpus | None,
) -> Plan:
    """The expected cost of the tasks. Their data and texts are kept in `scratch`; tasks without data fail here."""
    plans: list[TaskPlan] = []
    some: list[Item] = []
    for sweep in working:
        with _report_failures(sweep.name, failures):
            found, texts = sweep.plan(swept.encoder, scratch, corpus)
            plans += found
            some += texts[:: max(1, len(texts) // 100)]
    corpora: tuple[TaskPlan, ...] = ()
    if corpus is not None:
        templates = dict.fromkeys(template for sweep in working for template in sweep.to_fit)
        corpora = tuple(corpus.plan(swept.encoder(template)) for template in templates)
    encoder = swept.encoder(plans[0].template) if plans else None
    speed = _speed(encoder, some) if some and encoder else None
    return Plan(tuple(plans), n_finished, speed, corpora, f"{swept.checkpoint.modality}s")


def _speed(encoder: OnePassEncoder, texts: list[Item]) -> float | None:
    """Tokens per second; None if it cannot be measured, since a text that cannot be encoded is its task's failure."""
    try:
        return measure_speed(encoder, texts)
    except Exception as error:
        logger.warning("the plan has no times, since the speed cannot be measured: %s", reason_of(error))
        logger.debug("the speed cannot be measured", exc_info=error)
        return None


def _report_failures(
    task: str, failures: dict[str, Exception], *, or_if: Callable[[Exception], bool] = lambda _: False
) -> AbstractContextManager[None]:
    """Records and logs why a task fails. A full disk ends the sweep: it would fail every other task, too.

    Args:
        task: Name of the task.
        failures: Receives the error.
        or_if: Other errors that end the sweep.
    """
    return report_failures(task, failures, logger, stops_all=lambda error: _is_disk_full(error) or or_if(error))


def _is_disk_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
