"""The results folder of sweeps: its layout, and reading and writing its files. Every file appears whole or not at all.

    results/<org__name>/<revision>/experiments/layer_12/<Task>.json            mteb's own result, in mteb's own layout
    results/<org__name>/<revision>/experiments/layer_12/model_meta.json        created once, by whoever is first
    results/<org__name>/<revision>/experiments/layer_12/run_settings.jsonl     derived from the results, at the end
    metrics/<org__name>/<revision>/<Task>.parquet                              representation metrics of every layer

Many processes can write at the same time, because each of the files of results and metrics has one owner: who has
claimed their shard, see `leaderboard.shards`. `leaderboard.results.load` builds tables from them. mteb is imported by
what gives or takes its objects, and not by what reads tables.
"""

import io
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from leaderboard.results.files.stored import StoredMeta, StoredResult
from leaderboard.results.provenance import agrees
from leaderboard.results.schemas import META, METRICS_FILE_SCHEMA, METRICS_SCHEMA, OF_TEXTS, RUN_SETTINGS
from leaderboard.storage.opening import open_storage
from leaderboard.storage.protocol import Storage
from midlayer_embed.ground.failures import reason_of

if TYPE_CHECKING:
    from mteb.models.model_meta import ModelMeta
    from mteb.results import TaskResult

_Meta = TypeVar("_Meta")
_Result = TypeVar("_Result")
logger = logging.getLogger(__name__)


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


class ResultsFolder:
    """The results of any number of models in one folder.

    Args:
        storage: The folder, as the user gives it, or what has been opened already.
    """

    def __init__(self, storage: str | Path | Storage) -> None:
        self.storage = open_storage(storage) if isinstance(storage, (str, Path)) else storage
        self._described: set[str] = set()

    def load_results(self, task_name: str, metas: "Iterable[ModelMeta]") -> "dict[str, TaskResult]":
        """The finished ones among the results of a task, by their paths.

        A file that cannot be read is logged as a warning and counts as missing.
        """
        paths = [result_path(task_name, meta) for meta in metas]
        parse = _mteb_readers()[1]
        found = {path: self._parsed(path, content, parse) for path, content in self.storage.read_many(paths)}
        return {path: result for path, result in found.items() if result is not None}

    def save_result(self, result: "TaskResult", meta: "ModelMeta", scratch: Path) -> None:
        """Saves a result, and before it the description of its model, unless that is there.

        Args:
            result: The scores.
            meta: Meta of the model and layer.
            scratch: A folder for the file that mteb writes.
        """
        path = PurePosixPath(result_path(result.task_name, meta))
        self._describe(str(path.with_name(META)), meta)
        written = scratch / path.name
        result.to_disk(written)
        self.storage.write(str(path), written.read_bytes())
        written.unlink()

    def _describe(self, path: str, meta: "ModelMeta") -> None:
        if path in self._described:
            return
        content = json.dumps(meta.to_dict(), default=str, indent=4).encode()
        if not self.storage.create(path, content):
            there = self.storage.read(path)
            if there is None or self._parsed(path, there, _mteb_readers()[0]) is None:
                self.storage.write(path, content)  # nobody could read the results beside it
        self._described.add(path)

    def load_metrics(self, task_name: str, meta: "ModelMeta", of: MeasuredOn) -> pl.DataFrame:
        """The metrics that were measured on these texts of a task, with the columns of `METRICS_SCHEMA`."""
        return self._of_texts(task_name, meta, of).select(list(METRICS_SCHEMA))

    def save_metrics(
        self, rows: pl.DataFrame, task_name: str, meta: "ModelMeta", of: MeasuredOn, provenance: Mapping[str, Any]
    ) -> None:
        """Adds metrics that were measured on these texts of a task. Rows of the same metric and layer are replaced.

        Only the owner of the task's shard may do so: two processes that add to one file would lose rows.
        """
        added = rows.with_columns(
            *(pl.lit(getattr(of, name), dtype=dtype).alias(name) for name, dtype in OF_TEXTS.items()),
            provenance=pl.lit(json.dumps(provenance, default=str)),
        )
        kept = self._of_texts(task_name, meta, of)
        self.storage.write(metrics_path(task_name, meta), metrics_file([kept, added.select(list(METRICS_FILE_SCHEMA))]))

    def _of_texts(self, task_name: str, meta: "ModelMeta", of: MeasuredOn) -> pl.DataFrame:
        path = metrics_path(task_name, meta)
        found = self.metrics_in(path, self.storage.read(path))
        found = found.filter(pl.all_horizontal(pl.col(name) == getattr(of, name) for name in OF_TEXTS))
        kept = [row for row in found["provenance"].unique() if agrees(json.loads(row), of.made_with)]
        return found.filter(pl.col("provenance").is_in(kept))

    def results(self) -> "Iterator[tuple[ModelMeta, TaskResult]]":
        """Every readable result, with the ModelMeta that mteb wrote for it, as objects of mteb."""
        return self._results(*_mteb_readers())

    def stored(self) -> Iterator[tuple[StoredMeta, StoredResult]]:
        """Every readable result, with the description of its model, without mteb."""
        return self._results(StoredMeta.model_validate_json, StoredResult.model_validate_json)

    def _results(
        self, parse_meta: Callable[[bytes], _Meta], parse_result: Callable[[bytes], _Result]
    ) -> Iterator[tuple[_Meta, _Result]]:
        wanted: list[str] = []
        for folder, files in experiments(self.storage.paths("results")):
            if f"{folder}/{META}" in files:
                wanted += sorted(files, key=lambda path: (not path.endswith(f"/{META}"), path))
            elif files:
                logger.warning("%s lacks %s, so its results are left out: %d", self._named(folder), META, len(files))
        meta = None
        for path, content in self.storage.read_many(wanted):
            if path.endswith(f"/{META}"):
                meta, of = self._parsed(path, content, parse_meta), path.removesuffix(META)
            elif (
                meta is not None
                and path.startswith(of)
                and (result := self._parsed(path, content, parse_result)) is not None
            ):
                yield meta, result

    def lacks_run_settings(self) -> bool:
        """Whether an experiment has no run_settings.jsonl: whoever had to derive it was killed."""
        paths = set(self.storage.paths("results"))
        return any(f"{folder}/{RUN_SETTINGS}" not in paths for folder, _ in experiments(sorted(paths)))

    def without_layer(self) -> dict[str, int]:
        """The number of results that mteb itself wrote, by model: they belong to no layer."""
        files = [PurePosixPath(path).parts for path in self.storage.paths("results")]
        ours = [parts for parts in files if len(parts) == 4 and parts[-1].endswith(".json") and parts[-1] != META]
        return Counter(parts[1].replace("__", "/", 1) for parts in ours)

    def metrics(self) -> pl.DataFrame:
        """The metrics of all models and tasks: columns of `METRICS_SCHEMA`, max_texts, provenance and others."""
        paths = [path for path in self.storage.paths("metrics") if path.endswith(".parquet")]
        frames = [self.metrics_in(path, content) for path, content in self.storage.read_many(paths)]
        return pl.concat([pl.DataFrame(schema=METRICS_FILE_SCHEMA), *frames])

    def metrics_in(self, path: str, content: bytes | None) -> pl.DataFrame:
        """The rows of a file of metrics; none if there is no such file, or if it cannot be read, which is logged."""
        if content is not None:
            with self._left_out(path):
                found = pl.read_parquet(io.BytesIO(content)).select(list(METRICS_FILE_SCHEMA))
                return found.cast(METRICS_FILE_SCHEMA)  # type: ignore[arg-type]
        return pl.DataFrame(schema=METRICS_FILE_SCHEMA)

    def _parsed(self, path: str, content: bytes, parse: Callable[[bytes], _Result]) -> _Result | None:
        with self._left_out(path):
            return parse(content)
        return None

    @contextmanager
    def _left_out(self, path: str) -> Iterator[None]:
        """Log a file that cannot be read: one file never hides the others.

        Whatever error comes counts: the readers of mteb fail in many ways on what is not theirs, such as a list.
        """
        try:
            yield
        except Exception as error:
            logger.warning("%s cannot be read and is left out: %s", self._named(path), reason_of(error))

    def _named(self, path: str) -> str:
        return f"{self.storage.name.rstrip('/')}/{path}"


def _mteb_readers() -> "tuple[Callable[[bytes], ModelMeta], Callable[[bytes], TaskResult]]":
    from mteb.models.model_meta import ModelMeta
    from mteb.results import TaskResult

    return ModelMeta.model_validate_json_resolved, TaskResult.model_validate_json


def result_path(task_name: str, meta: "ModelMeta") -> str:
    """Path of a result, as in mteb's ResultCache, which would create the folder if asked for it."""
    folder = PurePosixPath("results", meta.model_name_as_path(), str(meta.revision))
    if meta.experiment_name:
        folder = folder / "experiments" / meta.experiment_name
    return str(folder / f"{task_name}.json")


def metrics_path(task_name: str, meta: "ModelMeta") -> str:
    """Path of the metrics of a task."""
    return str(PurePosixPath("metrics", *PurePosixPath(result_path(task_name, meta)).parts[1:]).with_suffix(".parquet"))


def metrics_file(frames: list[pl.DataFrame]) -> bytes:
    """A file of metrics. Of rows of the same metric and layer the last one counts."""
    key = [name for name in METRICS_SCHEMA if name != "value"]
    merged = pl.concat(frames).unique(key, keep="last").sort(key)
    content = io.BytesIO()
    merged.write_parquet(content)
    return content.getvalue()


def experiments(paths: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The folders of experiments among sorted paths of files, each with its .json files."""
    for folder, files in groupby(paths, key=lambda path: path.rpartition("/")[0]):
        if folder.count("/") == 4 and folder.split("/")[3] == "experiments":
            yield folder, [path for path in files if path.endswith(".json")]
