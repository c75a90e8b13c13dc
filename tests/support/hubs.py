"""Stand-ins of the hub on this machine: to fetch datasets from, to upload models to, to load both by their names."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

_Served = TypeVar("_Served", bound="_Hub")


class _Hub:
    """Answers HTTP requests on this machine.

    Attributes:
        asked: "METHOD path" of every request.
        url: Where.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def handle_request(self) -> None:
                hub.answer(self)

            do_HEAD = do_GET = do_POST = handle_request

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def serving(hub: _Served) -> Iterator[_Served]:
    """A hub that answers for as long as the block lasts."""
    threading.Thread(target=hub.server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield hub
    finally:
        hub.close()


def _respond(
    request: BaseHTTPRequestHandler,
    status: int,
    content: bytes,
    headers: dict[str, str] | None = None,
    until: int | None = None,
) -> None:
    """Sends an answer; of its content only so many bytes, where `until` says how many."""
    request.send_response(status)
    for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(content[:until])


_LARGE = (".gz", ".parquet")


class StandInHub(_Hub):
    """Datasets over HTTP, as the hub's client asks for them; what was asked, and what shall go wrong.

    Attributes:
        datasets: The files of each dataset, by its name and revision; those of `_LARGE` are listed by their SHA-256.
        broken: Paths of files of which only so many bytes are sent, and nothing more when they are asked for again.
        stalled: Is set once the bytes of a file in `broken` were sent; the connection stays open while `stalls`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.datasets: dict[tuple[str, str], dict[str, bytes]] = {}
        self.broken: dict[str, int] = {}
        self.stalls = False
        self.stalled, self.released = threading.Event(), threading.Event()

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
        _respond(request, status, content, headers, until)
        if request.command == "GET" and until is not None:
            request.wfile.flush()
            self.stalled.set()
            if self.stalls:
                self.released.wait(60)

    def close(self) -> None:
        self.released.set()
        super().close()


class UploadHub(_Hub):
    """Takes repositories and commits over HTTP, as the hub's client makes them.

    Attributes:
        files: What each repository holds.
        tokens: What came with them.
        refuses: The beginning of a path that is answered with 403.
    """

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, dict[str, bytes]] = {}
        self.tokens: set[str | None] = set()
        self.refuses: str | None = None

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
        _respond(request, status, json.dumps(content).encode(), {"Content-Type": "application/json"})


class LibraryHub(UploadHub):
    """Also gives models and datasets away, any revision of them, as transformers and datasets ask for them.

    Attributes:
        folders: The folder of each repository: {"models/EleutherAI/pythia-410m": ..., "datasets/mteb/banking77": ...}.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folders: dict[str, Path] = {}

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path).strip("/")
        if path.startswith("api/"):
            kind_and_name, action, rest = self._found(path.removeprefix("api/"))
        else:
            kind_and_name, action, rest = self._found(path if path.startswith("datasets/") else f"models/{path}")
        if not kind_and_name:
            if path.startswith(("api/models/", "api/repos/", "api/validate-yaml")) and request.command == "POST":
                return super().answer(request)
            if any(f"/{name}/" in f"/{path}/" for name in self.files):
                return super().answer(request)
            self.asked.append(f"{request.command} /{path}")
            return _respond(request, 404, b"{}", {"X-Error-Code": "RepoNotFound"})
        self.asked.append(f"{request.command} /{path}")
        folder = self.folders[kind_and_name]
        revision, _, inside = rest.partition("/")
        commit = hashlib.sha1(kind_and_name.encode()).hexdigest()
        if re.fullmatch("[0-9a-f]{40}", revision):
            commit = revision
        if action == "resolve":
            file = folder / inside
            headers = {"X-Repo-Commit": commit}
            if not file.is_file():
                return _respond(request, 404, b"", {**headers, "X-Error-Code": "EntryNotFound"})
            content = file.read_bytes()
            headers["ETag"] = f'"{self._sibling(folder, file)["blobId"]}"'
            return _respond(request, 200, content, headers)
        if action == "tree":
            if not (folder / inside).is_dir():
                return _respond(request, 404, b"{}", {"X-Error-Code": "EntryNotFound"})
            recursive = parse_qs(urlsplit(request.path).query).get("recursive", ["False"])[0].lower() == "true"
            found = (folder / inside).rglob("*") if recursive else (folder / inside).iterdir()
            return self._send(request, 200, [self._entry(folder, path) for path in sorted(found)])
        if action == "paths-info":
            body = request.rfile.read(int(request.headers.get("Content-Length", 0))).decode()
            asked = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body)["paths"]
            return self._send(request, 200, [self._entry(folder, folder / path) for path in asked])
        siblings = [self._sibling(folder, file) for file in sorted(folder.rglob("*")) if file.is_file()]
        info = {"id": kind_and_name.partition("/")[2], "sha": commit, "siblings": siblings, "tags": []}
        return self._send(request, 200, info)

    def _found(self, path: str) -> tuple[str, str, str]:
        """The repository that a path begins with, what is asked of it, and what follows."""
        for name in self.folders:
            if path == name or path.startswith(f"{name}/"):
                action, _, rest = path.removeprefix(name).strip("/").partition("/")
                return name, action, rest
        return "", "", ""

    def _sibling(self, folder: Path, file: Path) -> dict[str, Any]:
        content = file.read_bytes()
        blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
        return {"rfilename": file.relative_to(folder).as_posix(), "size": len(content), "blobId": blob}

    def _entry(self, folder: Path, path: Path) -> dict[str, Any]:
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            return {"type": "directory", "path": name, "oid": "0" * 40}
        listed = self._sibling(folder, path)
        return {"type": "file", "path": name, "size": listed["size"], "oid": listed["blobId"]}
