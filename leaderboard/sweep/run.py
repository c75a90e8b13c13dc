"""The sweep: scores every layer of models on tasks, with one forward pass per task. Finished results are kept.

This module checks what is asked for, and decides which shards this process does and in which order.
`leaderboard.sweep.model_sweep` does those of one model, `leaderboard.sweep.task` the work on one task.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mteb.abstasks.abstask import AbsTask
from mteb.benchmarks.benchmark import Benchmark

from leaderboard.board import Leaderboard, load_results
from leaderboard.quiet import calm_libraries
from leaderboard.results.files.folder import ResultsFolder
from leaderboard.results.files.run_settings import write_run_settings
from leaderboard.shards.claims import DEAD, LOST, OTHER, RUNNING, STOPPED, WAITING, Crew
from leaderboard.shards.expiry import check_expiry
from leaderboard.shards.shard import Shard
from leaderboard.shards.split import split
from leaderboard.storage.opening import open_storage
from leaderboard.storage.scratch import check_scratch
from leaderboard.sweep.arguments import (
    check_fit_texts,
    check_jobs,
    check_metric_texts,
    check_seed,
    check_store_dtype,
    check_transform_texts,
    parse_bytes,
)
from leaderboard.sweep.model import SweptModel
from leaderboard.sweep.model_sweep import ModelSweep
from leaderboard.sweep.options import SweepOptions
from leaderboard.sweep.plan import Plan
from leaderboard.tasks.benchmarks import resolve_tasks
from leaderboard.tasks.fitting_texts import FIT_TEXTS, FitOn, fit_on
from leaderboard.tasks.names import TRAIN, check_data_dir, check_limit
from midlayer_embed.errors import InputError
from midlayer_embed.forward.one_pass import OnePassEncoder
from midlayer_embed.layers import layer_numbers
from midlayer_embed.options import FILE_OPTIONS, ModelOptions, takes_options
from midlayer_embed.recipes.names import NONE, check_templates, check_transforms
from midlayer_embed.sharing.life import EXPIRY
from midlayer_embed.sharing.parts import Part, parse_part, part_of_environment

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)

# Maximum number of texts per task that metrics are measured on, as in the paper.
METRIC_TEXTS = 1000
# Default share of the free disk space that vectors may take.
_FREE_SHARE = 0.8
# Seconds between two looks at a worker of which it is not known yet whether it has died.
_LOOK = 1.0


class TasksFailed(RuntimeError):
    """Some tasks of a sweep failed; all others are finished.

    Attributes:
        failures: The error of each failed task, by the name of the task; of several models, by "model: task".
        leaderboard: All results in the results folder, as `run_sweep` would have returned them.
    """

    def __init__(self, failures: dict[str, Exception], n_tasks: int, leaderboard: Leaderboard) -> None:
        self.failures = failures
        self.leaderboard = leaderboard
        super().__init__(f"{len(failures)} of {n_tasks} tasks failed: {', '.join(failures)}")


@takes_options(without=(*FILE_OPTIONS, "template"))
def run_sweep(
    model: str | Path | OnePassEncoder | Sequence[str | Path | OnePassEncoder],
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
    shard: str | None = None,
    expiry: float = EXPIRY,
    scratch: str | Path | None = None,
    show_progress: bool = True,
    on_plan: Callable[[Plan], bool] | None = None,
    **options: "Unpack[ModelOptions]",
) -> Leaderboard:
    """Scores layers of models on tasks, and measures representation metrics of the same texts or images.

    The result of each (task, layer, template, transform) appears in `results_dir` as soon as it is computed; a rerun
    computes only missing results. Each dataset is loaded once, and only the data of one task are in memory at a time;
    until their task is run, texts and data that are not memory-mapped wait in files in `results_dir`. A task that fails
    is logged with its reason and does not stop the others.

    Any number of processes, on any number of machines, can work on the same `results_dir`. Each one claims a shard,
    which is one task of one model under one template, passes over what another live process has claimed, and takes up
    what a process that died has left.

    Args:
        model: Name of a model in `configs/models`, a hub id, a folder, "starter", or a LayerwiseEncoder or
            ImageLayerwiseEncoder, which is used with its own settings. A revision may follow a name: "name@revision".
            Or several of them.
        benchmark_or_tasks: "starter", "paper" or "paper-fast", for image encoders "starter-vision", "vision" or
            "vision-large"; an mteb Benchmark, or tasks by name or as objects, which may be loaded already. All of them
            on texts, or all of them on images.
        results_dir: Results folder, in the layout of mteb's ResultCache with one experiment per layer, or the URL of
            one on an object store, such as "s3://bucket/results".
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
        shard: The part of the shards that this process does, such as "2/8": the second of eight parts of about the same
            cost, which are the same on every machine; "auto" or "auto/8": as the array job says that this process is
            in. Afterwards it does what is left of the parts of other processes that it sees in `results_dir`. None: all
            shards; in an array job it begins with those of its part.
        expiry: Seconds without a sign of life after which this process counts as dead, and others take up its shards.
        scratch: Folder for the vectors and data of a task while it is done, best on a disk of this machine. None: in
            `results_dir`; if that is a URL, in the system's temporary folder.
        show_progress: Whether to show progress bars with an ETA on stderr.
        on_plan: Called with the plan of the tasks of each model before anything of it is encoded; if it returns False,
            the model is left out. None: log the plan.
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
    given = [model] if isinstance(model, (str, Path, OnePassEncoder)) else list(model)
    if not given:
        raise InputError("model: expected at least one, got none")
    part = None if shard is None else parse_part(shard)
    folder = ResultsFolder(open_storage(results_dir, None if scratch is None else check_scratch(scratch)))
    transform_names = check_transforms(transforms)
    check_transform_texts(transform_texts)
    n_fit, seed = check_fit_texts(fit_texts), check_seed(seed)
    is_fitted = any(name is not None for name in transform_names)
    free = folder.storage.free_bytes
    wanted = SweepOptions(
        layers=[],
        metrics=[],
        metric_texts=check_metric_texts(metric_texts),
        seed=seed,
        limit=check_limit(limit),
        jobs=check_jobs(jobs),
        store_budget=int(_FREE_SHARE * free()) if store_budget is None else parse_bytes(store_budget),
        store_dtype=check_store_dtype(store_dtype),
        overwrite=overwrite,
        show_progress=show_progress,
        data_dir=None if data_dir is None else check_data_dir(data_dir),
        transforms=transform_names,
        fit_on=fit_on(transform_texts, n_fit, seed) if is_fitted else FitOn(TRAIN),
        fit_texts=n_fit,
    )
    with calm_libraries():
        sweeps = [
            _model_sweep(one, options, tasks, layers, metrics, templates, wanted, folder, is_one=len(given) == 1)
            for one in given
        ]
        _check_distinct(sweeps)
        _do(sweeps, part, folder, expiry, on_plan or log_plan)
    failures = {name: error for sweep in sweeps for name, error in sweep.failures.items()}
    # There may be no folder if every task failed.
    board = load_results(results_dir) if folder.storage.exists() else Leaderboard.empty()
    if failures:
        raise TasksFailed(failures, len(tasks) * len(given), board)
    return board


def _model_sweep(
    model: str | Path | OnePassEncoder,
    model_options: Mapping[str, Any],
    tasks: Sequence[AbsTask],
    layers: str | Sequence[int | float],
    metrics: str | Sequence[str],
    templates: Sequence[str | None] | None,
    options: SweepOptions,
    folder: ResultsFolder,
    *,
    is_one: bool,
) -> ModelSweep:
    """One model on all tasks, with the layers and metrics that it has.

    Raises:
        InputError: (a ValueError) there is no such model, or it does not take the tasks, layers or recipes.
    """
    swept = SweptModel.of(model, model_options)
    swept.check_tasks(tasks)
    asked = (swept.asked.template,) if templates is None else check_templates(templates)
    site = swept.checkpoint.resolved(swept.asked).site
    wanted = replace(
        options,
        layers=list(dict.fromkeys(layer_numbers(layers, swept.checkpoint.n_blocks, site))),
        metrics=swept.metrics(metrics),
    )
    if wanted.metrics and None not in asked:
        logger.info("no metrics are measured: they are those of plain texts, and the templates have no None")
        wanted = replace(wanted, metrics=[])
    swept.checkpoint.check_layers(wanted.layers, site)
    swept.check_recipes(asked, wanted.fit_on)
    return ModelSweep(swept, tasks, asked, wanted, folder, "" if is_one else f"{swept.checkpoint.name}: ")


def _check_distinct(sweeps: Sequence[ModelSweep]) -> None:
    folders = [shard.folder for sweep in sweeps for shard in sweep.shards]
    if len(set(folders)) < len(folders):
        names = [sweep.swept.checkpoint.name for sweep in sweeps]
        twice = next((name for name in names if names.count(name) > 1), names[0])
        raise InputError(f"model: {twice} is given twice; expected different models")


def _do(
    sweeps: Sequence[ModelSweep],
    part: Part | None,
    folder: ResultsFolder,
    expiry: float,
    on_plan: Callable[[Plan], bool],
) -> None:
    """Does the shards of this process, model by model, then what is left of others."""
    sweep_of = {shard: sweep for sweep in sweeps for shard in sweep.shards}
    first, own = _order(list(sweep_of), part)
    with Crew(folder.storage, list(sweep_of), str(part or Part()), expiry=check_expiry(expiry)) as crew:
        goes_on = True
        for sweep in dict.fromkeys(sweep_of[shard] for shard in first):
            mine = [shard for shard in first if sweep_of[shard] is sweep]
            goes_on &= sweep.do(mine, crew, on_plan)
            sweep.swept.release()
        if goes_on:
            _do_the_rest(sweep_of, own, part, crew)
        has_news = crew.has_joined or folder.lacks_run_settings()
        if goes_on and has_news and not any(crew.is_running(shard) for shard in sweep_of):
            write_run_settings(folder, folder.results())


def _order(shards: list[Shard], part: Part | None) -> tuple[list[Shard], list[Shard]]:
    """The shards that this process begins with, and all that are its own."""
    if part is not None:
        own = split(shards, part.count)[part.index - 1]
        return own, own
    try:
        first = part_of_environment()
    except InputError:  # no array job, or one that does not say which part this is
        return shards, shards
    return split(shards, first.count)[first.index - 1], shards


def _do_the_rest(sweep_of: Mapping[Shard, ModelSweep], own: list[Shard], part: Part | None, crew: Crew) -> None:
    """Takes up what dead workers have left, then helps the live ones with what they have not begun.

    Only parts of workers that were seen in this folder are touched: each of the others may be done elsewhere. A shard
    is tried once. Live workers are not waited for, but for one that has just gone silent, since it may have died, and
    one that does a shard of this process with other layers or metrics.
    """
    tried = {shard for shard, sweep in sweep_of.items() if sweep.has_failed(shard)}
    while True:
        shards = [shard for shard in _in_reach(list(sweep_of), own, part, crew.parts()) if shard not in tried]
        states = crew.states(shards)
        asked_else = [shard for shard in own if states.get(shard) == OTHER]
        left = [shard for shard in shards if states[shard] in (DEAD, STOPPED, LOST)]
        left += [shard for shard in asked_else if not crew.is_running(shard)]
        left += [shard for shard in shards if states[shard] == WAITING]
        if left:
            tried.add(left[0])
            sweep = sweep_of[left[0]]
            sweep.do(left[:1], crew, log_plan)
            if len(left) == 1 or sweep_of[left[1]] is not sweep:
                sweep.swept.release()
        elif asked_else or any(states[shard] == RUNNING and crew.is_uncertain(shard) for shard in shards):
            time.sleep(_LOOK)
        else:
            return


def _in_reach(shards: list[Shard], own: list[Shard], part: Part | None, seen: set[str]) -> list[Shard]:
    """The shards of a process, then those of parts that were seen, from the end: their owners are at the beginning.

    The next part comes first, so that not all processes help the same one.
    """
    if part is None or str(Part()) in seen:
        return list(dict.fromkeys([*own, *shards]))
    parts = list(enumerate(split(shards, part.count), start=1))
    parts = parts[part.index :] + parts[: part.index]
    others = [shard for index, some in parts if str(Part(index, part.count)) in seen for shard in reversed(some)]
    return list(dict.fromkeys([*own, *others]))


def log_plan(plan: Plan) -> bool:
    """Logs the plan. Returns True, so that the sweep continues."""
    for line in plan.lines():
        logger.info("%s", line)
    return True
