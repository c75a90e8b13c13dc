"""The sweep: every layer of a model over tasks, one forward pass a task. What is finished is never computed again.

Task by task: the first layer that mteb scores makes the store encode the task's texts for all layers; the others are
served from it. How files are written is `results_folder`'s, how vectors are kept `store`'s, where data are `mirror`'s.
"""

import logging
import random
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import datasets
import mteb
import numpy as np
import polars as pl
from datasets.exceptions import DatasetGenerationError
from mteb.abstasks.abstask import AbsTask
from mteb.benchmarks.benchmark import Benchmark
from mteb.models.model_meta import ModelMeta
from mteb.results import TaskResult
from mteb.types import EncodeKwargs
from tqdm.auto import tqdm

from leaderboard.layer_view import MEASURED, SCORED, LayerView, StoreFiller
from leaderboard.mirror import check_data_dir, dataset_folder, folder_sha256, reading_from
from leaderboard.model_meta import layer_meta
from leaderboard.results import PROVENANCE, Leaderboard, load_results, model_label, provenance_of
from leaderboard.results_folder import METRICS_SCHEMA, ResultsFolder
from leaderboard.store import VectorStore
from leaderboard.tasks import resolve_tasks
from midlayer_embed import __version__
from midlayer_embed.backbone import Checkpoint, check_max_seq_length, find_checkpoint, resolve_device, resolve_dtype
from midlayer_embed.errors import InputError, InputTypeError, first_line
from midlayer_embed.layers import layer_numbers
from midlayer_embed.layerwise import LayerwiseEncoder
from midlayer_embed.metrics import dataset_entropy
from midlayer_embed.pooling import check_pooling_mode

logger = logging.getLogger(__name__)

# Texts a task's metrics are measured on, at most; as in the paper.
METRIC_TEXTS = 1000
# How many texts mteb hands over at a time. No forward pass depends on it: the store encodes what it is given at once.
_ENCODE_KWARGS: EncodeKwargs = {"batch_size": 512, "show_progress_bar": False}


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


def run_sweep(
    model: str | Path | LayerwiseEncoder,
    benchmark_or_tasks: str | Benchmark | AbsTask | Iterable[str | AbsTask],
    results_dir: str | Path,
    *,
    layers: str | Sequence[int | float] = "all",
    data_dir: str | Path | None = None,
    final_norm: bool = True,
    pooling_mode: str = "mean",
    max_seq_length: int | None = None,
    dtype: str = "float32",
    device: str | None = None,
    revision: str | None = None,
    bidirectional: bool = False,
    adapters: Sequence[str | Path] = (),
    seed: int = 0,
    overwrite: bool = False,
    show_progress: bool = True,
) -> Leaderboard:
    """Scores layers of a model on tasks, and measures the dataset entropy of the same texts.

    Results appear in `results_dir` one (task, layer) at a time and whole; a rerun computes what is missing. A task that
    fails is logged with its reason and does not stop the others.

    Args:
        model: A folder, a hub id, "starter", or a LayerwiseEncoder, whose own settings then hold.
        benchmark_or_tasks: "starter", an mteb Benchmark, or tasks by name or as objects, loaded ones too.
        results_dir: Results in the layout of mteb's ResultCache, one experiment a layer.
        layers: "all", or layers and depths such as [0, 6, -1].
        data_dir: A folder that every dataset is read from, FOLDER/<org>/<name> in the layout of the hub, instead of the
            hub. Tasks that are loaded already, and those that make their own data, do without.
        final_norm: Whether the scored vectors pool normed states. Metrics are always of raw states.
        pooling_mode: As in LayerwiseEncoder.
        max_seq_length: As in LayerwiseEncoder.
        dtype: As in LayerwiseEncoder.
        device: As in LayerwiseEncoder.
        revision: As in LayerwiseEncoder.
        bidirectional: As in LayerwiseEncoder.
        adapters: As in LayerwiseEncoder.
        seed: Chooses the texts that metrics are measured on where a task has more than 1,000.
        overwrite: Compute finished layers again.
        show_progress: Bars with an ETA on stderr.

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
        lazy = _LazyEncoder(
            find_checkpoint(model, revision=revision, bidirectional=bidirectional, adapters=adapters),
            {
                "final_norm": final_norm,
                "pooling_mode": pooling_mode,
                "max_seq_length": check_max_seq_length(max_seq_length),
                "dtype": str(resolve_dtype(dtype)).removeprefix("torch."),
            },
            device=str(resolve_device(device)),
        )
    check_pooling_mode(lazy.settings["pooling_mode"])
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputTypeError(f"seed: expected an int from 0, got {seed!r}")
    numbers = layer_numbers(layers, lazy.checkpoint.n_blocks)
    if Path(results_dir).exists() and not Path(results_dir).is_dir():
        raise InputError(f"results: {results_dir} is a file; expected a folder")
    data_folder = None if data_dir is None else check_data_dir(data_dir)
    folder = ResultsFolder(results_dir)
    failures: dict[str, Exception] = {}
    with _calm_libraries():
        sweeps = []
        for number, task in enumerate(tasks, start=1):
            label = f"[{number}/{len(tasks)}] {task.metadata.name}"
            sweep = _TaskSweep(lazy, task, label, folder, numbers, seed, overwrite, show_progress)
            with _told(sweep.name, failures):  # what is missing is told before hours are spent on what is there
                if sweep.find_data(data_folder):
                    sweeps.append(sweep)
        for sweep in sweeps:
            try:
                with _told(sweep.name, failures):
                    if not sweep.has_work():
                        continue
                    sweep.load_data()
                if sweep.name not in failures:
                    encoder = lazy.load()  # what fails here would fail for every task
                    with _told(sweep.name, failures):
                        sweep.run(encoder)
            finally:
                sweep.unload_data()
    # Where every task failed, there may be no folder.
    board = load_results(results_dir) if folder.root.is_dir() else Leaderboard.empty()
    if failures:
        raise TasksFailed(failures, len(tasks), board)
    return board


@contextmanager
def _told(task_name: str, failures: dict[str, Exception]) -> Iterator[None]:
    """Notes and logs, in one line, why a task fails; its traceback is for those who debug."""
    try:
        yield
    except Exception as error:
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
    settings: dict[str, Any]
    device: str
    loaded: LayerwiseEncoder | None = None

    @classmethod
    def of(cls, encoder: LayerwiseEncoder) -> "_LazyEncoder":
        settings = {
            "final_norm": encoder.final_norm,
            "pooling_mode": encoder.pooling_mode,
            "max_seq_length": encoder.requested_max_seq_length,
            "dtype": str(encoder.backbone.model.dtype).removeprefix("torch."),
        }
        return cls(encoder.checkpoint, settings, str(encoder.backbone.device), encoder)

    def load(self) -> LayerwiseEncoder:
        if self.loaded is None:
            self.loaded = LayerwiseEncoder.from_checkpoint(self.checkpoint, device=self.device, **self.settings)
        return self.loaded


@dataclass
class _TaskSweep:
    """One task of a sweep."""

    lazy: _LazyEncoder
    task: AbsTask
    label: str
    folder: ResultsFolder
    layers: list[int]
    seed: int
    overwrite: bool
    show_progress: bool
    unscored: list[int] = field(init=False)
    unmeasured: list[int] = field(init=False)
    data_folder: Path | None = field(init=False, default=None)
    files_sha256: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.was_loaded = bool(self.task.data_loaded)
        self.own_metadata = vars(self.task).get("metadata")

    def has_work(self) -> bool:
        """Finds out what is not finished."""
        self.unscored = [layer for layer in self.layers if self.overwrite or not self._is_scored(layer)]
        self.unmeasured = self.layers if self.overwrite else self._unmeasured()
        if not self.unscored and not self.unmeasured:
            logger.info("%s is finished", self.name)
            return False
        return True

    def run(self, encoder: LayerwiseEncoder) -> None:
        unscored, unmeasured = self.unscored, self.unmeasured
        needed = sorted({*unscored, *unmeasured})
        norms = {SCORED: self.lazy.settings["final_norm"], MEASURED: False}
        with (
            self.folder.scratch() as scratch,
            VectorStore(scratch, needed, encoder.dim, list(norms)) as store,
        ):
            filler = StoreFiller(encoder, store, norms, self.label, self.show_progress)
            # The first layer fills the store; where all scores are there, it is scored only for its texts.
            first, *rest = unscored or needed[:1]
            result = self._score(first, store, filler)
            if unmeasured:
                self._measure(unmeasured, store)
            if unscored:
                self._save(result, first, scratch)
            bar = tqdm(
                rest, desc=f"{self.label}: scoring", unit="layer", dynamic_ncols=True, disable=not self.show_progress
            )
            for layer in bar:
                self._save(self._score(layer, store, filler), layer, scratch)

    def unload_data(self) -> None:
        if self.task.data_loaded and not self.was_loaded:
            self.task.unload_data()
            if self.own_metadata is not None:  # mteb takes them away with the data
                self.task.metadata = self.own_metadata

    @property
    def name(self) -> str:
        return str(self.task.metadata.name)

    @property
    def data(self) -> str:
        """The revision of the task's data."""
        return str(self.task.metadata.revision)

    def _meta(self, layer: int | None) -> ModelMeta:
        return layer_meta(self.lazy.checkpoint, layer, self.lazy.settings)

    def _is_scored(self, layer: int) -> bool:
        result = self.folder.load_result(self.name, self._meta(layer))
        if result is None or result.dataset_revision != self.data or provenance_of(result) is None:
            return False
        return not result.get_missing_evaluations(self.task)

    def _unmeasured(self) -> list[int]:
        measured = set(self.folder.load_metrics(self.name, self._meta(None), self.data)["layer"])
        return [layer for layer in self.layers if layer not in measured]

    def find_data(self, data_dir: Path | None) -> bool:
        """Finds the task's dataset in the folder, if there is one. False: it is not there, but the task is finished."""
        if data_dir is not None and not self.was_loaded:
            try:
                self.data_folder = dataset_folder(data_dir, self.task)
            except InputError:
                if self.has_work():
                    raise
                return False
        return True

    def load_data(self) -> None:
        """Loads the task's data, from a folder if there is one, and sees to it that they are what is evaluated."""
        if self.was_loaded:
            return
        where = "here" if self.data_folder is None else f"from {str(self.data_folder)!r}"
        try:
            with nullcontext() if self.data_folder is None else reading_from(self.data_folder, self.task):
                self.task.load_data()
        except Exception as error:  # of many kinds; this one just says that it failed
            known = isinstance(error, DatasetGenerationError) and isinstance(error.__cause__, Exception)
            reason = first_line(cast(Exception, error.__cause__) if known else error)
            raise InputError(f"its data cannot be loaded {where}: {reason}") from error
        self._check_splits(where)
        if self.data_folder is not None:
            self.files_sha256 = folder_sha256(self.data_folder)

    def _check_splits(self, where: str) -> None:
        if type(self.task).evaluate is not AbsTask.evaluate:  # other kinds of tasks keep their data in other ways
            return
        data: Any = self.task.dataset
        for subset in self.task.hf_subsets:
            splits = data if subset == "default" and subset not in data else data.get(subset, {})
            for split in self.task.eval_splits:
                if split not in splits:
                    raise InputError(
                        f"its data, loaded {where}, have no split {split!r} of subset {subset!r}; "
                        f"expected one, got {', '.join(splits) or 'none at all'}"
                    )

    def _score(self, layer: int, store: VectorStore, filler: StoreFiller) -> TaskResult:
        # A task's own random state moves on with every evaluation; each layer shall see what a fresh task sees.
        self.task.rng_state, self.task.np_rng = random.Random(self.task.seed), np.random.default_rng(self.task.seed)
        view = LayerView(layer, store, filler, self._meta(layer))
        evaluated = mteb.evaluate(
            view,
            self.task,
            cache=None,
            encode_kwargs=EncodeKwargs(**_ENCODE_KWARGS),
            show_progress_bar=False,
            co2_tracker=False,
        )
        result = evaluated.task_results[0]
        for split in result.scores.values():
            for entry in split:
                entry[PROVENANCE] = self._provenance(layer)  # type: ignore[index]
        return result

    def _save(self, result: TaskResult, layer: int, scratch: Path) -> None:
        self.folder.save_result(result, self._meta(layer), _ENCODE_KWARGS, scratch)

    def _measure(self, layers: list[int], store: VectorStore) -> None:
        texts = np.arange(len(store))
        if len(texts) > METRIC_TEXTS:
            texts = np.sort(np.random.default_rng(self.seed).choice(texts, METRIC_TEXTS, replace=False))
        meta = self._meta(None)
        head = (model_label(meta), meta.revision, self.name, "dataset_entropy", "raw")
        rows = [(*head, layer, float(dataset_entropy(store.vectors(MEASURED, layer, texts)))) for layer in layers]
        self.folder.save_metrics(pl.DataFrame(rows, schema=METRICS_SCHEMA, orient="row"), self.name, meta, self.data)

    def _provenance(self, layer: int) -> dict[str, Any]:
        packages = ("mteb", "sentence-transformers", "transformers", "torch", "scikit-learn", "numpy")
        return {
            "layer": layer,
            "n_blocks": self.lazy.checkpoint.n_blocks,
            "task_type": str(self.task.metadata.type),
            "dataset": self.task.metadata.dataset["path"],
            "dataset_files_sha256": self.files_sha256,
            **self.lazy.settings,
            "max_seq_length": self.lazy.load().max_seq_length,
            "device": self.lazy.device,
            "seed": self.seed,
            "weights": self.lazy.checkpoint.revision,
            "bidirectional": self.lazy.checkpoint.bidirectional,
            "adapters": [adapter.label for adapter in self.lazy.checkpoint.adapters],
            "versions": {"midlayer-embed": __version__, **{package: version(package) for package in packages}},
        }


@contextmanager
def _calm_libraries() -> Iterator[None]:
    """Keeps what libraries say over and over, once a layer, off the terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loud = {name: logging.getLogger(name).level for name in ("mteb", "datasets", "sentence_transformers")}
        for name in loud:
            logging.getLogger(name).setLevel(logging.ERROR)
        bars = datasets.utils.logging.is_progress_bar_enabled()
        datasets.disable_progress_bars()
        try:
            yield
        finally:
            if bars:
                datasets.enable_progress_bars()
            for name, level in loud.items():
                logging.getLogger(name).setLevel(level)
