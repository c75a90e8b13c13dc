"""Tiny tasks of the types of the paper, in memory; what tells whether they score as by mteb; a stand-in of the hub."""

import hashlib
import itertools
import json
import logging
import math
import os
import random
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import datasets
import mteb
import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from mteb.abstasks import (
    AbsTaskClassification,
    AbsTaskClustering,
    AbsTaskClusteringLegacy,
    AbsTaskPairClassification,
    AbsTaskRetrieval,
    AbsTaskSTS,
)
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta
from mteb.results import TaskResult
from mteb.types import EncodeKwargs
from threadpoolctl import threadpool_info

from leaderboard.scoring import ENCODE_KWARGS, prepared, score

_NOUNS = ["matrix", "signal", "cluster", "tree", "kernel", "mesh", "graph", "filter", "image", "sample"]
_VERBS = ["factors", "smooths", "splits", "draws", "solves", "fits", "counts", "sorts", "rotates", "merges"]
_ENDS = ["slowly", "at random", "in place", "without a copy", "twice", "as long as it takes", "for every row"]


def _sentences(seed: int, n: int) -> list[str]:
    """Distinct sentences, and no two of the same words: at layer 0, which knows no order, they would be exact ties."""
    rng = random.Random(seed)
    found: dict[tuple[str, ...], str] = {}
    while len(found) < n:
        text = f"The {rng.choice(_NOUNS)} {rng.choice(_VERBS)} the {rng.choice(_NOUNS)} {rng.choice(_ENDS)}."
        found.setdefault(tuple(sorted(text.lower().split())), text)
    return list(found.values())


def _metadata(name: str, task_type: str, main_score: str) -> TaskMetadata:
    return TaskMetadata(
        name=name,
        description="A tiny task for tests.",
        reference=None,
        dataset={"path": "tests/tiny", "revision": "1"},
        type=task_type,
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=main_score,
        date=("2026-01-01", "2026-01-01"),
        domains=["Programming"],
        task_subtypes=[],
        license="apache-2.0",
        annotations_creators="derived",
        dialect=[],
        sample_creation="created",
        bibtex_citation="",
    )


class _InMemory:
    """Data made on `load_data`; counts how often that was."""

    loads = 0

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        if not self.data_loaded:  # type: ignore[has-type]
            type(self).loads += 1
            self.dataset = self.make()  # type: ignore[attr-defined]
            self.data_loaded = True


class TinyClassification(_InMemory, AbsTaskClassification):
    metadata = _metadata("TinyClassification", "Classification", "accuracy")
    samples_per_label = 6
    n_experiments = 3

    def make(self) -> DatasetDict:
        texts = _sentences(1, 60)
        labels = [_NOUNS.index(text.split()[1]) % 3 for text in texts]
        halves = {"train": slice(0, 30), "test": slice(20, 60)}  # ten texts are in both
        return DatasetDict({k: Dataset.from_dict({"text": texts[s], "label": labels[s]}) for k, s in halves.items()})


class TinyClustering(_InMemory, AbsTaskClusteringLegacy):
    metadata = _metadata("TinyClustering", "Clustering", "v_measure")

    def make(self) -> DatasetDict:
        texts = _sentences(2, 40)
        labels = [_NOUNS.index(text.split()[1]) % 4 for text in texts]
        sets = {"sentences": [texts[:30], texts[10:]], "labels": [labels[:30], labels[10:]]}
        return DatasetDict({"test": Dataset.from_dict(sets)})


class TinyFastClustering(_InMemory, AbsTaskClustering):
    """Its evaluation draws from the task's own random state."""

    metadata = _metadata("TinyFastClustering", "Clustering", "v_measure")
    max_document_to_embed = 30
    max_fraction_of_documents_to_embed = None

    def make(self) -> DatasetDict:
        texts = _sentences(3, 40)
        labels = [_NOUNS.index(text.split()[1]) % 4 for text in texts]
        return DatasetDict({"test": Dataset.from_dict({"sentences": texts, "labels": labels})})


class TinyPairClassification(_InMemory, AbsTaskPairClassification):
    metadata = _metadata("TinyPairClassification", "PairClassification", "max_ap")

    def make(self) -> DatasetDict:
        texts = _sentences(4, 50)
        pairs = list(itertools.pairwise(texts))
        columns = {
            "sentence1": [a for a, _ in pairs],
            "sentence2": [b for _, b in pairs],
            "labels": [int(a.split()[1] < b.split()[1]) for a, b in pairs],
        }
        return DatasetDict({"test": Dataset.from_dict(columns)})


class TinyReranking(_InMemory, AbsTaskRetrieval):
    metadata = _metadata("TinyReranking", "Reranking", "map_at_1000")

    def make(self) -> dict[str, dict[str, dict[str, Any]]]:
        texts = _sentences(5, 48)
        queries, documents = texts[:8], texts[8:]
        ranked = {f"q{i}": [f"d{(i * 5 + j) % 40}" for j in range(10)] for i in range(8)}
        split = {
            "queries": Dataset.from_dict({"id": list(ranked), "text": queries}),
            "corpus": Dataset.from_dict({"id": [f"d{i}" for i in range(40)], "text": documents, "title": [""] * 40}),
            "relevant_docs": {q: {d: int(n < 3) for n, d in enumerate(docs)} for q, docs in ranked.items()},
            "top_ranked": ranked,
        }
        return {"default": {"test": split}}


class TinySTS(_InMemory, AbsTaskSTS):
    metadata = _metadata("TinySTS", "STS", "cosine_spearman")

    def make(self) -> DatasetDict:
        texts = _sentences(6, 60)
        scores = [float(len(set(a.split()) & set(b.split()))) for a, b in zip(texts[:30], texts[30:], strict=True)]
        return DatasetDict(
            {"test": Dataset.from_dict({"sentence1": texts[:30], "sentence2": texts[30:], "score": scores})}
        )


_TASKS = [
    TinyClassification,
    TinyClustering,
    TinyFastClustering,
    TinyPairClassification,
    TinyReranking,
    TinySTS,
]


@pytest.fixture
def tiny_tasks() -> Callable[[], list[AbsTask]]:
    """Makes a fresh set of tasks of all types, none of them loaded."""
    return lambda: [task() for task in _TASKS]


@pytest.fixture
def forked(tiny_tasks: Callable[[], list[AbsTask]]) -> ForkServerContext:
    """Where processes of their own come from that have the libraries: imports take longer than a tiny sweep."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["leaderboard.sweep", type(tiny_tasks()[0]).__module__])
    return context


@pytest.fixture(scope="session")
def tiny_sts_class() -> type[AbsTask]:
    """The class of the STS task, of which others are made."""
    return TinySTS


@pytest.fixture
def tiny_sts() -> Callable[[], AbsTask]:
    """Makes a fresh STS task, the fastest to score."""
    return TinySTS


@pytest.fixture(scope="session")
def task_texts() -> Callable[[AbsTask], set[str]]:
    """All texts of a loaded tiny task, found the plain way: every string in its data that has a space."""

    def texts_in(value: Any) -> set[str]:
        if isinstance(value, str):
            return {value} if " " in value else set()
        if isinstance(value, dict):
            return set().union(*map(texts_in, value.values()))
        if isinstance(value, Dataset):
            return texts_in([list(row.values()) for row in value])
        if isinstance(value, list):
            return set().union(*map(texts_in, value))
        return set()

    return lambda task: texts_in(dict(task.dataset))


@pytest.fixture(scope="session")
def mteb_mirror() -> Path:
    """Real data of MTEB tasks, which are no part of the repository: beside it, or where MTEB_MIRROR says."""
    beside = Path(__file__).parents[3] / "shared" / "mteb_mirror"
    folder = Path(os.environ.get("MTEB_MIRROR", beside))
    if not folder.is_dir():
        pytest.skip(f"there is no folder {folder} with real data of MTEB tasks")
    return folder


@pytest.fixture(scope="session")
def paper_folder() -> Path:
    """The paper's published results, which are no part of the repository: beside it, or where PAPER_TABLES says."""
    beside = Path(__file__).parents[3] / "shared" / "paper"
    folder = Path(os.environ.get("PAPER_TABLES", beside))
    if not folder.is_dir():
        pytest.skip(f"there is no folder {folder} with the paper's published results")
    return folder


_LARGE = (".gz", ".parquet")


class StandInHub:
    """Datasets over HTTP, as the hub's client asks for them; what was asked, and what shall go wrong.

    Attributes:
        datasets: The files of each dataset, by its name and revision; those of `_LARGE` are listed by their SHA-256.
        asked: "METHOD path" of every request.
        broken: Paths of files of which only so many bytes are sent, and nothing more when they are asked for again.
        stalled: Is set once the bytes of a file in `broken` were sent; the connection stays open while `stalls`.
    """

    def __init__(self) -> None:
        self.datasets: dict[tuple[str, str], dict[str, bytes]] = {}
        self.asked: list[str] = []
        self.broken: dict[str, int] = {}
        self.stalls = False
        self.stalled, self.released = threading.Event(), threading.Event()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub.answer(self)

            def do_GET(self) -> None:
                hub.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def fetched(self) -> list[str]:
        """The files that were asked for, once for each time."""
        return [line.split("/", 6)[6] for line in self.asked if line.startswith("GET /datasets/")]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path)
        self.asked.append(f"{request.command} {path}")
        listing = path.startswith("/api/")
        parts = path.removeprefix("/api").split("/", 6)
        name, revision = "/".join(parts[2:4]), parts[5]
        if not any(name == known for known, _ in self.datasets):
            return self._send(request, 404, b"", {"X-Error-Code": "RepoNotFound"})
        files = self.datasets.get((name, revision))
        if files is None:
            return self._send(request, 404, b"", {"X-Error-Code": "RevisionNotFound"})
        if listing:
            siblings = [self._listed(path, content) for path, content in files.items()]
            return self._send(request, 200, json.dumps({"id": name, "sha": revision, "siblings": siblings}).encode())
        content = files[parts[6]]
        entry = self._listed(parts[6], content)
        etag = entry["lfs"]["sha256"] if "lfs" in entry else entry["blobId"]
        if request.command == "GET" and parts[6] in self.broken and self.broken[parts[6]] == 0:
            return self._send(request, 503, b"")
        self._send(request, 200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": revision}, self.broken.get(parts[6]))
        if request.command == "GET" and parts[6] in self.broken:
            self.broken[parts[6]] = 0

    def _listed(self, path: str, content: bytes) -> dict[str, Any]:
        blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
        entry: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": blob}
        if path.endswith(_LARGE):
            sha256 = hashlib.sha256(content).hexdigest()
            entry |= {"blobId": "0" * 40, "lfs": {"sha256": sha256, "size": len(content), "pointerSize": 1}}
        return entry

    def _send(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        content: bytes,
        headers: dict[str, str] | None = None,
        until: int | None = None,
    ) -> None:
        request.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(content[:until])
            if until is not None:
                request.wfile.flush()
                self.stalled.set()
                if self.stalls:
                    self.released.wait(60)


@pytest.fixture
def stand_in_hub() -> Iterator[StandInHub]:
    """A stand-in of the hub on this machine; see StandInHub."""
    hub = StandInHub()
    thread = threading.Thread(target=hub.server.serve_forever, daemon=True)
    thread.start()
    yield hub
    hub.released.set()
    hub.server.shutdown()
    hub.server.server_close()


_WIDTH = 24


class _VectorsOfWords(AbsEncoder):
    """A text's vector is the mean of random vectors of its words: near for texts that share words."""

    mteb_model_meta: ModelMeta

    def __init__(self, seed: int = 0) -> None:
        self.mteb_model_meta = ModelMeta.create_empty({"name": "tests/words", "revision": "1"})
        self.seed = seed
        self.known: dict[str, np.ndarray] = {}
        self.threads: list[int] = []
        self.n_encoded: list[int] = []

    def encode(self, inputs: Any, **kwargs: Any) -> np.ndarray:
        self.threads += [pool["num_threads"] for pool in threadpool_info()]
        texts = [text for batch in inputs for text in batch["text"]]
        self.n_encoded.append(len(texts))
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> np.ndarray:
        if text not in self.known:
            words = [
                np.random.default_rng([self.seed, *word.encode()]).normal(size=_WIDTH) for word in text.split()[:12]
            ]
            self.known[text] = np.asarray(np.mean(words or [np.ones(_WIDTH)], axis=0), dtype=np.float32)
        return self.known[text]


def _mteb_score(task: AbsTask, model: _VectorsOfWords) -> TaskResult:
    """What mteb alone makes of the task."""
    task.rng_state, task.np_rng = random.Random(task.seed), np.random.default_rng(task.seed)
    kwargs = EncodeKwargs(**ENCODE_KWARGS)
    evaluated = mteb.evaluate(model, task, cache=None, encode_kwargs=kwargs, show_progress_bar=False, co2_tracker=False)
    return evaluated.task_results[0]


def _assert_same(found: Any, expected: Any, where: str = "") -> None:
    """Equal in structure; numbers to 1e-9."""
    if isinstance(expected, dict):
        assert list(found) == list(expected), where
        for name in expected:
            _assert_same(found[name], expected[name], f"{where}/{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            _assert_same(one, other, f"{where}/{number}")
    elif isinstance(expected, float) and not math.isnan(expected):
        assert found == pytest.approx(expected, abs=1e-9, rel=0), where
    elif isinstance(expected, float):
        assert math.isnan(found), where
    else:
        assert found == expected, where


def _assert_scored_as_by_mteb(task: AbsTask) -> None:
    """Two layers within one `prepared`, each beside mteb's own evaluation outside of it, on the same vectors."""
    models = [_VectorsOfWords(seed) for seed in (0, 1)]
    with prepared(task):
        found = [score(task, model) for model in models]
    for model, result in zip(models, found, strict=True):
        expected = _mteb_score(task, model)
        assert expected.scores
        _assert_same(result.scores, expected.scores)
    main_scores = [result.get_score() for result in found]
    assert main_scores[0] != main_scores[1]


@pytest.fixture(scope="session")
def vectors_of_words() -> type[_VectorsOfWords]:
    """Makes an encoder without a model, another for each seed."""
    return _VectorsOfWords


@pytest.fixture(scope="session")
def assert_same() -> Callable[..., None]:
    """Asserts that two results are equal in structure, and their numbers to 1e-9."""
    return _assert_same


@pytest.fixture(scope="session")
def assert_scored_as_by_mteb() -> Callable[[AbsTask], None]:
    """Asserts that a loaded task scores as by mteb, on the same vectors."""
    return _assert_scored_as_by_mteb


@pytest.fixture
def quiet_libraries() -> Iterator[None]:
    """mteb and datasets say much."""
    level = logging.getLogger("mteb").level
    logging.getLogger("mteb").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()
    logging.getLogger("mteb").setLevel(level)
