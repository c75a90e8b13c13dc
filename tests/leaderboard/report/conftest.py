"""Results of a tiny model on tiny tasks, once a session, and a stand-in of the hub that takes uploads."""

import base64
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mteb.abstasks.abstask import AbsTask

from leaderboard import run_sweep

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def named() -> Callable[[type[AbsTask], str], AbsTask]:
    """Makes a task of the same data under another name, such as that of one that mteb knows."""

    def make(task: type[AbsTask], name: str) -> AbsTask:
        metadata = task.metadata.model_copy(update={"name": name})
        return type(task.__name__, (task,), {"metadata": metadata})()

    return make


@pytest.fixture(scope="session")
def tiny_results(
    llama_folder: Path,
    tiny_sts_class: type[AbsTask],
    named: Callable[[type[AbsTask], str], AbsTask],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The results of the tiny Llama, all layers, on a task that mteb knows by its name and one that nobody knows."""
    folder = tmp_path_factory.mktemp("results")
    tasks = [tiny_sts_class(), named(tiny_sts_class, "STSBenchmark")]
    run_sweep(llama_folder, tasks, folder, metrics=["dataset_entropy", "curvature"], show_progress=False)
    return folder


class UploadHub:
    """Takes repositories and commits over HTTP, as the hub's client makes them.

    Attributes:
        files: What each repository holds.
        asked: "METHOD path" of every request.
        tokens: What came with them.
        refuses: The beginning of a path that is answered with 403.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()
        self.refuses: str | None = None
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.answer(self)

            def do_POST(self) -> None:
                hub.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        self.asked.append(f"{request.command} {path}")
        self.tokens.add(request.headers.get("Authorization"))
        if self.refuses is not None and path.startswith(self.refuses):
            return self._send(request, 403, {"error": "not yours"})
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}"
            if repo in self.files:
                return self._send(request, 409, {"error": "it is there", "url": f"{self.url}/{repo}"})
            self.files[repo] = {}
            return self._send(request, 200, {"url": f"{self.url}/{repo}"})
        if path == "/api/validate-yaml":
            return self._send(request, 200, {"errors": [], "warnings": []})
        repo = "/".join(path.split("/")[3:5])
        action = path.split("/")[5:6]
        if action == ["tree"]:
            listed = [{"type": "file", "path": name, "size": 1, "oid": "0" * 40} for name in self.files[repo]]
            return self._send(request, 200, listed)
        if action == ["preupload"]:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self._send(request, 200, {"files": files})
        if action == ["commit"]:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "deletedFile":
                    del self.files[repo][line["value"]["path"]]
            url = f"{self.url}/{repo}/commit/1"
            return self._send(request, 200, {"commitUrl": url, "commitOid": "1" * 40, "pullRequestUrl": None})
        return self._send(request, 404, {"error": f"no {path}"})

    def _send(self, request: BaseHTTPRequestHandler, status: int, content: Any) -> None:
        data = json.dumps(content).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)


@pytest.fixture
def upload_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[UploadHub]:
    """A stand-in of the hub that this process asks instead of the hub, with a token; see UploadHub."""
    hub = UploadHub()
    thread = threading.Thread(target=hub.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """Chromium without a window; tests that need it are skipped where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="pages need playwright to be tried in a browser")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with api.sync_playwright() as playwright:
        if found is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("pages need a browser to be tried in: Chromium or Chrome")
        launched = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield launched
        launched.close()
