"""Python processes that start at once: forks of one that has imported the libraries, but neither of our packages.

A fresh interpreter spends five seconds on imports, a fork a tenth of one. `run` takes the place of
`subprocess.run([sys.executable, "-c", code, ...])`, `Fork` that of `subprocess.Popen`; pytest-xdist's workers are
forks, too (see `as_python`). The process they are forked from starts with the session and imports on the first request.

What a fork does not prove: anything about the order of imports, the hash seed or the interpreter's options. Such tests
start a process of their own.
"""

import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import os
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

# The variable that says where the process to fork from listens.
_ADDRESS = "TESTS_FORK_SERVER"
_LIBRARIES = (
    "torch",
    "transformers",
    "sentence_transformers",
    "mteb.models.model_implementations",
    "peft",
    "scipy.stats",
    "sklearn.svm",
    "altair",
    "hypothesis",
)
_OURS = ("midlayer_embed", "leaderboard")


# --- Starting forks


class Fork:
    """A running fork.

    Args:
        command: What an interpreter would be started with: `[sys.executable, "-c", code, argument, ...]`.
        env: The environment; that of this process by default.
        cwd: The working directory; that of this process by default.
        stdin, stdout, stderr: Open files; those of this process by default.
        pass_fds: Other open files that it gets, under the same numbers.

    Attributes:
        pid: The process.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        stdin: IO[Any] | int = 0,
        stdout: IO[Any] | int = 1,
        stderr: IO[Any] | int = 2,
        pass_fds: Sequence[int] = (),
    ) -> None:
        environment = dict(os.environ if env is None else env)
        if environment.get("PYTHONHASHSEED") != os.environ.get("PYTHONHASHSEED"):
            raise ValueError("env: a fork cannot have another PYTHONHASHSEED; start a process of its own")
        request = {
            "arguments": list(command[1:]),
            "env": environment,
            "cwd": os.fspath(cwd or Path.cwd()),
            "files": [0, 1, 2, *pass_fds],
        }
        content = json.dumps(request).encode()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.connect(os.environ[_ADDRESS])
        files = [file if isinstance(file, int) else file.fileno() for file in (stdin, stdout, stderr)]
        socket.send_fds(self._server, [len(content).to_bytes(8, "big")], [*files, *pass_fds])
        self._server.sendall(content)
        self._answers = self._server.makefile("r")
        self.pid = int(self._answers.readline() or 0)
        if not self.pid:
            raise RuntimeError("the process to fork from is gone; its error is above")
        self._exit_code: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end. Returns the exit code, that of a signal being negative.

        Raises:
            TimeoutError: it still runs after `timeout` seconds.
        """
        if self._exit_code is None:
            self._server.settimeout(timeout)
            self._exit_code = int(self._answers.readline())
            self._server.close()
        return self._exit_code

    def kill(self) -> None:
        """Sends SIGKILL, unless the end is known already."""
        if self._exit_code is None:
            os.kill(self.pid, signal.SIGKILL)


def run(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    input: str = "",
    check: bool = False,
    timeout: float = 300,
    **_: Any,
) -> "subprocess.CompletedProcess[str]":
    """As `subprocess.run(command, capture_output=True, text=True)`."""
    with contextlib.ExitStack() as stack:
        stdin, stdout, stderr = (stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3))
        stdin.write(input)
        stdin.seek(0)
        fork = Fork(command, env=env, cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr)
        try:
            code = fork.wait(timeout)
        finally:
            fork.kill()
        said = []
        for file in (stdout, stderr):
            file.seek(0)
            said.append(file.read())
    if check and code:
        sys.stderr.write(said[1])
        raise subprocess.CalledProcessError(code, command, *said)
    return subprocess.CompletedProcess(command, code, *said)


def run_code(code: str, *arguments: object, **options: Any) -> str:
    """Runs code in a fork, as `python -c` would, and returns what it printed; a failure is an error. See `run`."""
    done = run([sys.executable, "-c", code, *map(str, arguments)], check=True, **options)
    return done.stdout


# At the start of code whose point is who imports mteb.
WITHOUT_MTEB = """
import sys
for name in [name for name in sys.modules if name.partition(".")[0] == "mteb"]:
    del sys.modules[name]
"""

_STRANGER = """
import json, sys
sys.modules["midlayer_embed"] = sys.modules["leaderboard"] = None
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu")
assert type(model) is SentenceTransformer
print(json.dumps(model.encode(json.loads(sys.argv[2])).tolist()))
"""


def vectors_of_a_stranger(folder: Path, texts: list[str]) -> list[list[float]]:
    """What plain sentence-transformers gives where our packages cannot be imported: on a stranger's machine."""
    vectors: list[list[float]] = json.loads(run_code(_STRANGER, folder, json.dumps(texts)).splitlines()[-1])
    return vectors


def as_python() -> str:
    """A program that behaves as `python` would, but is a fork."""
    return os.environ[_ADDRESS].removesuffix("socket") + "python"


# --- The process they are forked from


@contextlib.contextmanager
def server() -> Iterator[None]:
    """The process to fork from, for as long as the block lasts."""
    with _serving(os.environ) as folder:
        os.environ[_ADDRESS] = str(folder / "socket")
        try:
            yield
        finally:
            del os.environ[_ADDRESS]


@contextlib.contextmanager
def another_server(environment: Mapping[str, str]) -> Iterator[str]:
    """A process to fork from that has imported the libraries under other variables than this one: of another Hub.

    Yields:
        A program, as `as_python` gives it.
    """
    with _serving(environment) as folder:
        yield str(folder / "python")


@contextlib.contextmanager
def _serving(environment: Mapping[str, str]) -> Iterator[Path]:
    """A process to fork from, and the folder where it listens."""
    with tempfile.TemporaryDirectory() as folder:
        address = str(Path(folder) / "socket")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen()
            command = [sys.executable, str(Path(__file__).resolve()), "--serve", str(listener.fileno())]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, pass_fds=[listener.fileno()])
        program = Path(folder) / "python"
        this = shlex.join([sys.executable, "-S", "-E", str(Path(__file__).resolve()), "--python"])
        program.write_text(f'#!/bin/sh\nexport {_ADDRESS}={shlex.quote(address)}\nexec {this} "$@"\n')
        program.chmod(0o755)
        try:
            yield Path(folder)
        finally:
            process.communicate()  # it ends when its standard input does


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    head, files, _, _ = socket.recv_fds(connection, 8, 100)
    size, content = int.from_bytes(head, "big"), b""
    while len(content) < size:
        content += connection.recv(size - len(content))
    return json.loads(content), files


def _serve(listener: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Forks for each request. Returns it in the fork, and None when the session ends.

    A fork ends with the process that asked for it.
    """
    running: dict[int, socket.socket] = {}
    ended, wake = socket.socketpair()
    for end in (ended, wake):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(wake.fileno())
    selector = selectors.DefaultSelector()
    for ready in (listener, ended, sys.stdin):
        selector.register(ready, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is sys.stdin:
                signal.set_wakeup_fd(-1)
                for pid in running:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                return None
            if key.data is not None:  # nothing is said on a connection, so its other end is gone
                if running.get(key.data) is key.fileobj:
                    selector.unregister(key.fileobj)
                    os.kill(key.data, signal.SIGKILL)
                continue
            if key.fileobj is ended:
                ended.recv(4096)
                while running and (found := os.waitpid(-1, os.WNOHANG))[0]:
                    with running.pop(found[0]) as connection:
                        with contextlib.suppress(KeyError):
                            selector.unregister(connection)
                        with contextlib.suppress(OSError):
                            connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(found[1]))
                continue
            connection, _ = listener.accept()
            request, files = _receive(connection)
            for library in _LIBRARIES:
                with contextlib.suppress(ImportError):
                    importlib.import_module(library)
            sys.modules["torch"].set_num_threads(1)  # as in the tests' own process
            assert not [name for name in sys.modules if name.partition(".")[0] in _OURS]
            assert threading.active_count() == 1
            gc.freeze()  # or every fork's garbage collector copies the pages of all that is imported
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                selector.close()
                for end in (listener, connection, ended, wake, *running.values()):
                    end.close()
                return request, files
            for file in files:
                os.close(file)
            running[pid] = connection
            connection.sendall(b"%d\n" % pid)
            selector.register(connection, selectors.EVENT_READ, pid)


def _become(request: dict[str, Any], files: list[int], own_paths: list[str]) -> str:
    """Makes this fork what a fresh interpreter would be with these arguments. Returns the code to run."""
    # Out of the way first: a file may have come under a number that another one is going to have.
    above = max(request["files"]) + 1
    files = [fcntl.fcntl(file, fcntl.F_DUPFD, above) for file in files]
    for target, file in zip(request["files"], files, strict=True):
        os.dup2(file, target)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, buffering, closefd=False)  # noqa: SIM115
        for number, mode, buffering in ((0, "r", -1), (1, "w", -1), (2, "w", 1))
    )
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    os.chdir(request["cwd"])
    before = {name: value for name, value in os.environ.items() if name.startswith("HF_")}
    os.environ.clear()
    os.environ.update(request["env"])
    paths = list(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))
    sys.path[:] = ["", *paths, *own_paths]
    importlib.invalidate_caches()
    if before != {name: value for name, value in os.environ.items() if name.startswith("HF_")}:
        for name in ("huggingface_hub.constants", "datasets.config"):
            importlib.reload(importlib.import_module(name))
    arguments = request["arguments"]
    while arguments[0] != "-c":
        if arguments.pop(0) not in ("-u", "-B"):
            raise ValueError("of the interpreter's options a fork knows -u, -B and -c")
    code: str = arguments.pop(1)
    sys.argv[:] = arguments
    return code


def _main() -> str | None:
    mode, *arguments = sys.argv[1:]
    if mode == "--python":
        inherited = [number for number in map(int, os.listdir("/dev/fd")) if number > 2]
        inherited = [number for number in inherited if Path(f"/dev/fd/{number}").exists()]  # not the listing's
        sys.exit(Fork([sys.executable, *arguments], pass_fds=inherited).wait() & 255)
    given = set(os.environ.get("PYTHONPATH", "").split(os.pathsep))
    own_paths = [str(Path(__file__).resolve().parents[1]), *(path for path in sys.path[1:] if path not in given)]
    request = _serve(socket.socket(fileno=int(arguments[0])))
    return _become(*request, own_paths) if request else None


def _run(code: str) -> int:
    """Runs code as a main module. Returns the exit code."""
    # Processes that it starts must not take this module for their main module.
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        exec(compile(code, "<string>", "exec"), vars(main))
    except SystemExit as exit_:
        if exit_.code is None or isinstance(exit_.code, int):
            return (exit_.code or 0) & 255
        print(exit_.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__" and (code := _main()):
    exit_code = _run(code)
    # What an interpreter does at its end but for clearing every module, which would copy all pages: two seconds.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
