"""The results folder of sweeps: its layout, and reading and writing its files. Every file appears atomically.

    results/<org__name>/<revision>/experiments/layer_12/<Task>.json   mteb's own result, in mteb's own layout
    metrics/<org__name>/<revision>/<Task>.parquet                     representation metrics of every layer

`leaderboard.results.load` builds tables from them.
"""

import json
import logging
import os
import shutil
import socket
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock
from mteb.cache import ResultCache
from mteb.models.model_meta import ModelMeta
from mteb.results import TaskResult

from leaderboard.results.provenance import agrees
from leaderboard.results.schemas import METRICS_SCHEMA
from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.ground.failures import reason_of
from midlayer_embed.ground.paths import followed, user_path

logger = logging.getLogger(__name__)

_LOCK = ".lock"
_META = "model_meta.json"


@dataclass(frozen=True)
class MeasuredOn:
    """The texts of a task that metrics were measured on. Metrics of different texts are never mixed.

    Attributes:
        dataset_revision: Revision of the task's dataset.
        seed: Seed of the choice of texts.
        max_texts: Number of texts, at most.
        made_with: What their provenance has to agree with, see `leaderboard.results.provenance.agrees`.
    """

    dataset_revision: str
    seed: int
    max_texts: int
    made_with: Mapping[str, Any] = field(default_factory=dict)


# Columns of the files: the texts that each row was measured on, and its provenance as JSON.
_OF_TEXTS = {"dataset_revision": pl.String, "seed": pl.Int64, "max_texts": pl.Int64}
_FILE_SCHEMA = {**METRICS_SCHEMA, **_OF_TEXTS, "provenance": pl.String}


class ResultsFolder:
    """The results of any number of models in one folder.

    Args:
        root: The folder, created on the first write.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = followed(user_path(root, "results"))

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A temporary folder in the results folder, for files that only this process needs.

        It is deleted on exit, and so are the results folder and its parents if they were created here and are empty.
        Scratch folders of processes on this machine that were killed are deleted, too.
        """
        created = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
        self.root.mkdir(parents=True, exist_ok=True)
        mark = f".scratch-{socket.gethostname()}-"
        for orphan in self.root.glob(f"{mark}*"):
            if not _is_alive(orphan.name.removeprefix(mark).partition("-")[0]):
                shutil.rmtree(orphan, ignore_errors=True)
        try:
            with tempfile.TemporaryDirectory(prefix=f"{mark}{os.getpid()}-", dir=self.root) as folder:
                yield Path(folder)
        finally:
            with suppress(OSError):  # not empty: results were written
                for path in created:
                    path.rmdir()

    def load_result(self, task_name: str, meta: ModelMeta) -> TaskResult | None:
        """A finished result, or None. A file that cannot be read is logged as a warning and counts as missing."""
        return _read_result(self._result_path(task_name, meta))

    def save_result(self, result: TaskResult, meta: ModelMeta, encode_kwargs: Mapping[str, Any], scratch: Path) -> None:
        """Lets mteb write a result with its model_meta.json and run_settings.jsonl, and moves the files into place.

        The result is moved last: if it exists, so do the other files.

        Args:
            result: The scores.
            meta: Meta of the model and layer.
            encode_kwargs: Keywords that mteb records in run_settings.jsonl.
            scratch: Folder on the same file system, where the files are written first.
        """
        final = self._result_path(result.task_name, meta)
        final.parent.mkdir(parents=True, exist_ok=True)
        with self._locked(), tempfile.TemporaryDirectory(dir=scratch) as staging:
            cache = ResultCache(staging)
            staged = cache.get_task_result_path(result.task_name, meta)
            staged.parent.mkdir(parents=True)
            settings = final.parent / "run_settings.jsonl"
            if settings.exists():  # mteb appends the settings of this task
                shutil.copy(settings, staged.parent)
            cache.save_to_cache(result, meta, encode_kwargs=encode_kwargs)
            for path in sorted(staged.parent.iterdir(), key=lambda path: path.name == staged.name):
                os.replace(path, final.parent / path.name)

    def load_metrics(self, task_name: str, meta: ModelMeta, of: MeasuredOn) -> pl.DataFrame:
        """The metrics that were measured on these texts of a task, with the columns of `METRICS_SCHEMA`."""
        return self._of_texts(task_name, meta, of).select(list(METRICS_SCHEMA))

    def save_metrics(
        self, rows: pl.DataFrame, task_name: str, meta: ModelMeta, of: MeasuredOn, provenance: Mapping[str, Any]
    ) -> None:
        """Adds metrics that were measured on these texts of a task. Rows of the same metric and layer are replaced."""
        added = rows.with_columns(
            *(pl.lit(getattr(of, name), dtype=dtype).alias(name) for name, dtype in _OF_TEXTS.items()),
            provenance=pl.lit(json.dumps(provenance, default=str)),
        )
        key = [name for name in METRICS_SCHEMA if name != "value"]
        with self._locked():
            kept = self._of_texts(task_name, meta, of)
            merged = pl.concat([kept, added.select(list(_FILE_SCHEMA))]).unique(key, keep="last").sort(key)
            with atomic_file(self._metrics_path(task_name, meta)) as partial:
                merged.write_parquet(partial)

    def _of_texts(self, task_name: str, meta: ModelMeta, of: MeasuredOn) -> pl.DataFrame:
        found = _read_metrics(self._metrics_path(task_name, meta))
        found = found.filter(pl.all_horizontal(pl.col(name) == getattr(of, name) for name in _OF_TEXTS))
        kept = [row for row in found["provenance"].unique() if agrees(json.loads(row), of.made_with)]
        return found.filter(pl.col("provenance").is_in(kept))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Locks the folder for writing: two processes that extend the same file would lose rows."""
        with FileLock(self.root / _LOCK):
            yield

    def results(self) -> Iterator[tuple[ModelMeta, TaskResult]]:
        """Every readable result, with the ModelMeta that mteb wrote for it."""
        layers = sorted((self.root / "results").glob("*/*/experiments/*/"))
        for folder in layers:
            if not (folder / _META).exists() and (n_results := len(list(folder.glob("*.json")))):
                logger.warning("%s lacks %s, so its results are left out: %d", folder, _META, n_results)
        for meta_path in (folder / _META for folder in layers if (folder / _META).exists()):
            meta = None
            with _left_out(meta_path):
                meta = ModelMeta.model_validate_json_resolved(meta_path.read_bytes())
            if meta is None:
                continue
            for path in sorted(meta_path.parent.glob("*.json")):
                if path != meta_path and (result := _read_result(path)) is not None:
                    yield meta, result

    def without_layer(self) -> dict[str, int]:
        """The number of results that mteb itself wrote, by model: they belong to no layer."""
        files = (self.root / "results").glob("*/*/*.json")
        return Counter(path.parts[-3].replace("__", "/", 1) for path in sorted(files) if path.name != _META)

    def metrics(self) -> pl.DataFrame:
        """The metrics of all models and tasks: columns of `METRICS_SCHEMA`, max_texts, provenance and others."""
        frames = [_read_metrics(path) for path in sorted((self.root / "metrics").rglob("*.parquet"))]
        return pl.concat([pl.DataFrame(schema=_FILE_SCHEMA), *frames])

    def _result_path(self, task_name: str, meta: ModelMeta) -> Path:
        return _layout(self.root, task_name, meta)

    def _metrics_path(self, task_name: str, meta: ModelMeta) -> Path:
        result = _layout(self.root, task_name, meta)
        return self.root / "metrics" / result.relative_to(self.root / "results").with_suffix(".parquet")


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:  # a process of another user
        return True
    return True


def _layout(root: Path, task_name: str, meta: ModelMeta) -> Path:
    """Path of a result in mteb's ResultCache, which would create the folder if asked for it."""
    folder = root / "results" / meta.model_name_as_path() / str(meta.revision)
    if meta.experiment_name:
        folder = folder / "experiments" / meta.experiment_name
    return folder / f"{task_name}.json"


@contextmanager
def _left_out(path: Path) -> Iterator[None]:
    """Log a file that cannot be read: one file never hides the others.

    Whatever error comes counts: the readers of mteb fail in many ways on what is not theirs, such as a list.
    """
    try:
        yield
    except Exception as error:
        logger.warning("%s cannot be read and is left out: %s", path, reason_of(error))


def _read_result(path: Path) -> TaskResult | None:
    if not path.exists():
        return None
    with _left_out(path):
        return TaskResult.from_disk(path)
    return None


def _read_metrics(path: Path) -> pl.DataFrame:
    if path.exists():
        with _left_out(path):
            return pl.read_parquet(path, glob=False).select(list(_FILE_SCHEMA)).cast(_FILE_SCHEMA)  # type: ignore[arg-type]
    return pl.DataFrame(schema=_FILE_SCHEMA)
