"""Tiny tasks of the types of the paper, in memory; what tells whether they score as by mteb; a stand-in of the hub."""

import hashlib
import json
import logging
import math
import os
import random
import threading
from collections.abc import Callable, Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote, urlsplit

import datasets
import mteb
import numpy as np
import pytest
import vl_convert
from datasets import Dataset
from mteb.abstasks.abstask import AbsTask
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta
from mteb.results import TaskResult
from mteb.types import EncodeKwargs
from support.tiny_tasks import TINY_TASKS, TinySTS
from threadpoolctl import threadpool_info

from leaderboard.scoring.score import ENCODE_KWARGS, prepared, score


@pytest.fixture(scope="session", autouse=True)
def _one_bundle() -> Iterator[None]:
    """The scripts of a page are the same for every page, and take a second to bundle."""
    with patch.object(vl_convert, "javascript_bundle", cache(vl_convert.javascript_bundle)):
        yield


@pytest.fixture
def tiny_tasks() -> Callable[[], list[AbsTask]]:
    """Makes a fresh set of tasks of all types, none of them loaded."""
    return lambda: [task() for task in TINY_TASKS]


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
    thread = threading.Thread(target=hub.server.serve_forever, args=(0.02,), daemon=True)
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
