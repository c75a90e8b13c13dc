"""A real S3 server on this machine: moto's, in a process of its own.

moto looks whether there is an object before it puts one; S3 does both in one step, and so does a lock here. What else
stores do, buckets of these names do:

- `forgetful-...`: conditional puts are not conditional, as in stores that do not know them.
- `lossy-...`: the answer to the first try of every conditional put is lost.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def serving() -> Iterator[str]:
    """The address of a server, for as long as the block lasts."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve())],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.communicate()  # it ends when its standard input does


def environment(address: str) -> dict[str, str]:
    """What a user would set to reach it."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


class _AsStoresDo:
    """The server, with what its module's docstring says."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._tried: set[str] = set()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "PUT" or "HTTP_IF_NONE_MATCH" not in environ:
            return self._app(environ, start_response)
        path = environ["PATH_INFO"]
        if path.startswith("/forgetful-"):
            del environ["HTTP_IF_NONE_MATCH"]
        is_lost = path.startswith("/lossy-") and path not in self._tried
        with self._lock:
            self._tried.add(path)
            if not is_lost:
                return list(self._app(environ, start_response))
            list(self._app(environ, lambda *_: None))
        start_response("503 Service Unavailable", [("Content-Length", "0")])
        return []


def _main() -> None:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept

        def log(self, *_: Any) -> None:
            pass

    app = _AsStoresDo(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)  # type: ignore[arg-type]
    print(f"http://127.0.0.1:{server.port}", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    _main()
