"""The sweep: every layer of a model over tasks, one forward pass a task. What is finished is never computed again.

Which model, which tasks, what comes first, and what becomes of a task that fails. What is done to one task is
`task_sweep`'s.
"""

import errno
import logging
import shutil
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from mteb.abstasks.abstask import AbsTask
from mteb.benchmarks.benchmark import Benchmark

from leaderboard.board import Leaderboard, load_results
from leaderboard.models.known import resolve_known_model
from leaderboard.models.meta import scoring_settings
from leaderboard.quiet import calm_libraries
from leaderboard.results.folder import ResultsFolder
from leaderboard.sweep.executors.local import check_jobs
from leaderboard.sweep.plan import Plan, TaskPlan, measure_speed, parse_bytes
from leaderboard.sweep.store import check_dtype
from leaderboard.sweep.task import SweepOptions, TaskSweep
from leaderboard.tasks.benchmarks import resolve_tasks
from leaderboard.tasks.limit import check_limit
from leaderboard.tasks.mirror import check_data_dir
from midlayer_embed.errors import InputError, first_line
from midlayer_embed.forward.layerwise import LayerwiseEncoder
from midlayer_embed.ground.checks import check_int
from midlayer_embed.layers import layer_numbers
from midlayer_embed.models.checkpoint import Checkpoint, find_checkpoint
from midlayer_embed.models.weights import resolve_device, resolve_dtype
from midlayer_embed.options import FILE_OPTIONS, ModelOptions, Recipe, fold, takes_options
from midlayer_embed.terms import METRICS, check_metrics

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)

# Texts a task's metrics are measured on, at most; as in the paper.
METRIC_TEXTS = 1000
# What a store may take of the disk's free room, unless told otherwise.
_FREE_SHARE = 0.8


class TasksFailed(RuntimeError):
    """Tasks of a sweep failed; all others are finished.

    Attributes:
        failures: The error of each task that failed, by the task's name.
        leaderboard: Of all that is in the results folder, as `run_sweep` would have returned it.
    """

    def __init__(self, failures: dict[str, Exception], n_tasks: int, leaderboard: Leaderboard) -> None:
        self.failures = failures
        self.leaderboard = leaderboard
        super().__init__(f"{len(failures)} of {n_tasks} tasks failed: {', '.join(failures)}")


@takes_options(without=FILE_OPTIONS)
def run_sweep(
    model: str | Path | LayerwiseEncoder,
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
    seed: int = 0,
    overwrite: bool = False,
    show_progress: bool = True,
    on_plan: Callable[[Plan], bool] | None = None,
    **options: "Unpack[ModelOptions]",
) -> Leaderboard:
    """Scores layers of a model on tasks, and measures representation metrics of the same texts.

    Results appear in `results_dir` one (task, layer) at a time and whole; a rerun computes what is missing. A task that
    fails is logged with its reason and does not stop the others.

    Args:
        model: The name of a model in `configs/models`, a hub id, a folder, "starter", or a LayerwiseEncoder, whose own
            settings then hold.
        benchmark_or_tasks: "starter", "paper", an mteb Benchmark, or tasks by name or as objects, loaded ones too.
        results_dir: Results in the layout of mteb's ResultCache, one experiment a layer.
        layers: "all", or layers and depths such as [0, 6, -1].
        data_dir: A folder that every dataset is read from, FOLDER/<org>/<name> in the layout of the hub, instead of the
            hub. Tasks that are loaded already, and those that make their own data, do without.
        jobs: Processes that score layers.
        store_budget: Bytes on the disk, such as 20_000_000_000 or "20GB", that vectors may take at a time. Where all
            layers of a task take more, they go in groups, each with forward passes of its own. None: four fifths of
            what is free.
        store_dtype: What vectors are kept as on the disk: "float32", or "float16", which takes half of it and moves
            scores a little (the results say so).
        limit: Evaluated items of each split that are kept, drawn by the seed, for a first look. The results are those
            of a part: they stand apart from whole ones, under a name that says so.
        metrics: "all", "none", or some of `midlayer_embed.terms.METRICS`. InfoNCE, DiME and LiDAR encode augmented
            views of each text, LiDAR the most.
        metric_texts: Texts of a task that metrics are measured on, at most: those of the evaluated splits.
        seed: Chooses the texts that metrics are measured on, their views, and what `limit` leaves.
        overwrite: Compute finished layers again.
        show_progress: Bars with an ETA on stderr.
        on_plan: Function that gets the plan before anything is encoded; nothing is encoded if it returns False. None:
            the plan is logged.
        **options: The fields of `Recipe` and `Source`, as for LayerwiseEncoder, without gguf_file and
            trust_remote_code. final_norm: whether the scored vectors pool normed states; metrics are always of raw
            states. Ignored where `model` is a LayerwiseEncoder, which has its own.

    Returns:
        The leaderboard of all that is in `results_dir`, this sweep's results among it.

    Raises:
        InputError: (a ValueError) an unknown task or model, a layer out of range, ...; nothing is written then.
        TasksFailed: (a RuntimeError) once all other tasks are finished; it has their leaderboard.

    Example:
        >>> board = run_sweep("starter", "starter", "results/starter")                  # doctest: +SKIP
        >>> print(board.summary())                                                      # doctest: +SKIP
    """
    tasks = resolve_tasks(benchmark_or_tasks)
    if isinstance(model, LayerwiseEncoder):
        lazy = _LazyEncoder.of(model)
    else:
        asked, recipe = fold(options)
        name, source = resolve_known_model(model, asked)
        lazy = _LazyEncoder(
            find_checkpoint(name, source), recipe, resolve_dtype(source.dtype), resolve_device(source.device)
        )
    seed = check_int("seed", seed, 0)
    metric_texts = check_int("metric_texts", metric_texts, 2)
    if Path(results_dir).exists() and not Path(results_dir).is_dir():
        raise InputError(f"results: {results_dir} is a file; expected a folder")
    wanted = SweepOptions(
        layers=layer_numbers(layers, lazy.checkpoint.n_blocks),
        metrics=_metrics(metrics),
        metric_texts=metric_texts,
        seed=seed,
        limit=check_limit(limit),
        jobs=check_jobs(jobs),
        store_budget=_free_bytes(Path(results_dir)) if store_budget is None else parse_bytes(store_budget),
        store_dtype=check_dtype(store_dtype),
        overwrite=overwrite,
        show_progress=show_progress,
    )
    settings = {**scoring_settings(lazy.recipe, lazy.dtype), "limit": wanted.limit, "store_dtype": wanted.store_dtype}
    data_folder = None if data_dir is None else check_data_dir(data_dir)
    folder = ResultsFolder(results_dir)
    failures: dict[str, Exception] = {}
    with calm_libraries():
        sweeps = []
        for number, task in enumerate(tasks, start=1):
            label = f"[{number}/{len(tasks)}] {task.metadata.name}"
            sweeps.append(TaskSweep(task, lazy.checkpoint, settings, wanted, folder, label))
        for sweep in sweeps:  # what is missing is told before hours are spent on what is there
            with _told(sweep.name, failures):
                sweep.find_data(data_folder)
        working = [sweep for sweep in sweeps if sweep.has_work and sweep.name not in failures]
        finished = [sweep for sweep in sweeps if not sweep.has_work]
        for sweep in finished:
            logger.info("%s is finished", sweep.name)
        if working:
            encoder = lazy.load()  # what fails here would fail for every task
            plan = _plan(working, encoder, len(finished), failures)
            if plan.tasks and (on_plan or log_plan)(plan):
                for sweep in working:
                    if sweep.name not in failures:
                        with _told(sweep.name, failures), sweep.data.loaded():
                            sweep.run(encoder)
    # Where every task failed, there may be no folder.
    board = load_results(results_dir) if folder.root.is_dir() else Leaderboard.empty()
    if failures:
        raise TasksFailed(failures, len(tasks), board)
    return board


def log_plan(plan: Plan) -> bool:
    """Tells what a sweep is going to do, and lets it."""
    for line in plan.lines():
        logger.info("%s", line)
    return True


def _plan(working: list[TaskSweep], encoder: LayerwiseEncoder, n_finished: int, failures: dict[str, Exception]) -> Plan:
    """What the tasks are going to cost. A task whose data cannot be loaded fails here already."""
    plans: list[TaskPlan] = []
    some: list[str] = []
    for sweep in working:
        with _told(sweep.name, failures), sweep.data.loaded():
            plan, texts = sweep.plan(encoder)
            plans.append(plan)
            some += texts[:: max(1, len(texts) // 100)]
    return Plan(tuple(plans), n_finished, measure_speed(encoder, some) if some else None)


def _metrics(metrics: str | Sequence[str]) -> list[str]:
    if isinstance(metrics, str) and metrics in ("all", "none"):
        return list(METRICS) if metrics == "all" else []
    return check_metrics(metrics)


def _free_bytes(folder: Path) -> int:
    """What vectors may take where the folder is, or is going to be."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())
    return int(_FREE_SHARE * shutil.disk_usage(there).free)


@contextmanager
def _told(task_name: str, failures: dict[str, Exception]) -> Iterator[None]:
    """Notes and logs, in one line, why a task fails; its traceback is for those who debug.

    A disk that is full would fail every other task as well, and ends the sweep.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        failures[task_name] = error
        reason = first_line(error)
        if not isinstance(error, InputError) and reason != type(error).__name__:
            reason = f"{type(error).__name__}: {reason}"
        logger.error("%s failed: %s", task_name, reason)
        logger.debug("%s failed", task_name, exc_info=error)
        traceback.clear_frames(error.__traceback__)  # they hold the vectors


@dataclass
class _LazyEncoder:
    """A model whose weights are read when the first text needs them: a finished sweep never reads them."""

    checkpoint: Checkpoint
    recipe: Recipe
    dtype: torch.dtype
    device: torch.device
    loaded: LayerwiseEncoder | None = None

    @classmethod
    def of(cls, encoder: LayerwiseEncoder) -> "_LazyEncoder":
        return cls(encoder.checkpoint, encoder.recipe, encoder.backbone.model.dtype, encoder.backbone.device, encoder)

    def load(self) -> LayerwiseEncoder:
        if self.loaded is None:
            self.loaded = LayerwiseEncoder.from_checkpoint(
                self.checkpoint, self.recipe, dtype=self.dtype, device=self.device
            )
        return self.loaded
