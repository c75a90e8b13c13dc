"""A results folder written file by file, as sweeps and mteb write it, without a model."""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
from mteb.models.model_meta import ModelMeta

from leaderboard.results.schemas import METRICS_FILE_SCHEMA
from leaderboard.shards.shard import Shard

MODEL = "org/m"


class Written:
    """A results folder.

    Args:
        root: The folder, created if needed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def put(self, path: str, content: Any) -> Path:
        """Writes bytes, a text, or what becomes JSON."""
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, bytes):
            content = (content if isinstance(content, str) else json.dumps(content)).encode()
        place.write_bytes(content)
        return place

    def result(
        self,
        task: str = "A",
        layer: int = 0,
        score: float = 0.5,
        *,
        model: str = MODEL,
        revision: str = "main",
        data: str = "1",
        date: float = 1.0,
        subset: str = "default",
        **provenance: Any,
    ) -> Path:
        """One layer's result on a task, with its meta; run settings are derived when all is done."""
        folder = f"results/{model.replace('/', '__')}/{revision}/experiments/layer_{layer}"
        told = {"layer": layer, "n_blocks": 3, "task_type": "STS", "dataset": "d/d", "device": "cpu", **provenance}
        entry = {"main_score": score, "hf_subset": subset, "languages": ["eng-Latn"], "provenance": told}
        self.put(f"{folder}/model_meta.json", _meta(model, revision, layer))
        whole = {"dataset_revision": data, "task_name": task, "mteb_version": "2", "scores": {"test": [entry]}}
        return self.put(f"{folder}/{task}.json", {**whole, "evaluation_time": date, "date": date})

    def metrics(
        self,
        values: Mapping[int, float],
        task: str = "A",
        metric: str = "dime",
        *,
        max_texts: int = 1000,
        data: str = "1",
        **provenance: Any,
    ) -> Path:
        """Values of a metric, by layer."""
        rows = [
            {
                **{"model": MODEL, "revision": "main", "task": task, "metric": metric, "normalization": "raw"},
                **{"layer": layer, "value": value, "dataset_revision": data, "seed": 0, "max_texts": max_texts},
                "provenance": json.dumps({"device": "cpu", "weights_sha256": "w", **provenance}),
            }
            for layer, value in values.items()
        ]
        place = self.root / f"metrics/{MODEL.replace('/', '__')}/main/{task}.parquet"
        place.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame(rows, schema=METRICS_FILE_SCHEMA).write_parquet(place)
        return place

    def worker(self, name: str = "w1", *, ended: bool = False, **told: Any) -> Path:
        """A worker on another machine, who has just shown that it is alive; unless it has ended."""
        about = {
            "id": name,
            "host": "host-1",
            "machine": "elsewhere",
            "process": "1 1",
            "part": "1/1",
            "started": "",
            "expiry": 120.0,
        }
        place = self.put(f"workers/{name}.json", {**about, **told})
        if ended:
            self.put(f"workers/{name}.end.json", {})
        return place

    def shard(
        self,
        task: str = "A",
        *tries: Any,
        model: str = MODEL,
        cost: float = 10.0,
        template: str | None = None,
        asks: str = "",
    ) -> str:
        """A shard with its tries: a worker's name is an open one, a dictionary how one ended."""
        shard = Shard(model, "main", template or "", task, template, cost, asks)
        self.put(shard.description, shard.to_json())
        folder = shard.folder
        for number, one in enumerate(tries, start=1):
            worker = one if isinstance(one, str) else one["worker"]
            self.put(f"{folder}/{number:04}.claim", {"worker": worker})
            self.put(f"{folder}/{number:04}.log", f"try {number} of {worker}\n")
            if not isinstance(one, str):
                self.put(f"{folder}/{number:04}.json", one)
        return folder


@cache
def _meta(model: str, revision: str, layer: int) -> bytes:
    meta = ModelMeta.create_empty({"name": model, "revision": revision, "experiment_kwargs": {"layer": layer}})
    return json.dumps(meta.to_dict(), default=str).encode()


def ended(
    state: str = "finished", worker: str = "w1", seconds: float = 5.0, error: str | None = None
) -> dict[str, Any]:
    """How a try ended."""
    return {"state": state, "worker": worker, "seconds": {"all": seconds}, "n_results": 1, "error": error}


def files_of(folder: Path) -> dict[str, str]:
    """The hash of every file, by its path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
