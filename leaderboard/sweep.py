"""The sweep: every layer of a model over tasks, one forward pass a task. What is finished is never computed again.

Task by task: the first layer that mteb scores makes the store encode the task's texts for all layers; the others are
served from it. How files are written is `results_folder`'s, how vectors are kept `store`'s.
"""

import logging
import random
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import mteb
import numpy as np
import polars as pl
from mteb.abstasks.abstask import AbsTask
from mteb.benchmarks.benchmark import Benchmark
from mteb.models.model_meta import ModelMeta
from mteb.results import TaskResult
from mteb.types import EncodeKwargs
from tqdm.auto import tqdm

from leaderboard.layer_view import MEASURED, SCORED, LayerView, StoreFiller
from leaderboard.model_meta import layer_meta
from leaderboard.results import PROVENANCE, Leaderboard, load_results, model_label
from leaderboard.results_folder import METRICS_SCHEMA, ResultsFolder
from leaderboard.store import VectorStore
from leaderboard.tasks import resolve_tasks
from midlayer_embed import __version__
from midlayer_embed.backbone import Checkpoint, check_max_seq_length, find_checkpoint, resolve_device, resolve_dtype
from midlayer_embed.errors import InputError, InputTypeError
from midlayer_embed.layers import layer_numbers
from midlayer_embed.layerwise import LayerwiseEncoder
from midlayer_embed.metrics import dataset_entropy
from midlayer_embed.pooling import check_pooling_mode

logger = logging.getLogger(__name__)

# Texts a task's metrics are measured on, at most; as in the paper.
METRIC_TEXTS = 1000
# How many texts mteb hands over at a time. No forward pass depends on it: the store encodes what it is given at once.
_ENCODE_KWARGS: EncodeKwargs = {"batch_size": 512, "show_progress_bar": False}


def run_sweep(
    model: str | Path | LayerwiseEncoder,
    benchmark_or_tasks: str | Benchmark | AbsTask | Iterable[str | AbsTask],
    results_dir: str | Path,
    *,
    layers: str | Sequence[int | float] = "all",
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

    Results appear in `results_dir` one (task, layer) at a time and whole; a rerun computes what is missing.

    Args:
        model: A folder, a hub id, "starter", or a LayerwiseEncoder, whose own settings then hold.
        benchmark_or_tasks: "starter", an mteb Benchmark, or tasks by name or as objects, loaded ones too.
        results_dir: Results in the layout of mteb's ResultCache, one experiment a layer.
        layers: "all", or layers and depths such as [0, 6, -1].
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
    folder = ResultsFolder(results_dir)
    with _calm_libraries():
        for number, task in enumerate(tasks, start=1):
            label = f"[{number}/{len(tasks)}] {task.metadata.name}"
            _TaskSweep(lazy, task, label, folder, numbers, seed, overwrite, show_progress).run()
    return load_results(results_dir)


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

    def run(self) -> None:
        unscored = [layer for layer in self.layers if self.overwrite or not self._is_scored(layer)]
        unmeasured = self.layers if self.overwrite else self._unmeasured()
        if not unscored and not unmeasured:
            logger.info("%s is finished", self.name)
            return
        encoder = self.lazy.load()
        was_loaded = self.task.data_loaded
        self._load_data()
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
        if not was_loaded:
            self.task.unload_data()

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
        if result is None or result.dataset_revision != self.data:
            return False
        return not result.get_missing_evaluations(self.task)

    def _unmeasured(self) -> list[int]:
        measured = set(self.folder.load_metrics(self.name, self._meta(None), self.data)["layer"])
        return [layer for layer in self.layers if layer not in measured]

    def _load_data(self) -> None:
        try:
            self.task.load_data()
        except (OSError, ConnectionError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"task {self.name}: its data cannot be loaded here: {reason}") from error

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
            **self.lazy.settings,
            "max_seq_length": self.lazy.load().max_seq_length,
            "device": self.lazy.device,
            "seed": self.seed,
            "weights": self.lazy.checkpoint.revision,
            "bidirectional": self.lazy.checkpoint.bidirectional,
            "adapters": [adapter.name for adapter in self.lazy.checkpoint.adapters],
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
