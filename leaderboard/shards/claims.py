"""Claims: the right to do a shard. A process that dies loses it, and another one takes the shard up.

    shards/<model>/<revision>/<variant>/<Task>/shard.json   what the shard is
    .../0001.claim   a worker does it: created by one worker only
    .../0001.json    how that ended, once it has
    .../0001.log     its log
    .../0002.claim   the next try

The last number counts. A claim without an end is alive as long as its worker is; if that has died, whoever creates the
next number has the shard. Files are created and never renamed, removed or locked, so there is nothing to race for, on a
local disk, on NFS or on an object store.
"""

import hashlib
import json
import logging
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from types import TracebackType
from typing import Any

from leaderboard.shards.expiry import beat_of
from leaderboard.shards.shard import SHARDS, SWEEPS, Shard, sweep_file
from leaderboard.shards.workers import Worker, read_workers
from leaderboard.storage.protocol import Storage
from midlayer_embed.ground.failures import reason_of
from midlayer_embed.sharing.life import EXPIRY

logger = logging.getLogger(__name__)

# How a try ended.
FINISHED, FAILED, STOPPED, LOST = "finished", "failed", "stopped", "lost"
# What can be said of a shard besides.
WAITING, RUNNING, DEAD, OTHER = "waiting", "running", "dead", "asked for something else"


class ClaimLost(RuntimeError):
    """Another worker has taken the shard up, because this one gave no sign of life for too long."""


class Crew:
    """This process among all that work on a results folder. A context manager.

    It joins the others as soon as it takes a shard, or has to tell whether another one is alive: a process that has
    nothing to do writes nothing.

    Args:
        storage: The results folder.
        shards: All shards of the sweep, for others to see how much there is to do.
        part: The part of the shards that is its own, for others to see.
        expiry: Seconds without a sign of life after which this worker counts as dead.
    """

    def __init__(
        self,
        storage: Storage,
        shards: Sequence[Shard] = (),
        part: str = "1/1",
        *,
        expiry: float = EXPIRY,
    ) -> None:
        self.storage = storage
        self._shards = shards
        self.me = Worker.here(part, expiry)
        self._beat = beat_of(expiry)
        self._claims: list[Claim] = []
        self._known: frozenset[str] = frozenset()
        self._workers: dict[str, Worker] = {}
        self._clock = (0.0, 0.0)
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Crew":
        self._known = frozenset(self.storage.paths(SHARDS))
        return self

    @property
    def has_joined(self) -> bool:
        """Whether this process has done anything here."""
        return self._thread is not None

    def _join(self) -> None:
        if self._thread is not None:
            return
        if self._shards:
            content = sweep_file(self._shards)
            self.storage.create(f"{SWEEPS}/{hashlib.sha256(content).hexdigest()[:16]}.json", content)
        self.storage.create(self.me.file, self.me.to_json())
        self._show_life()
        self._thread = threading.Thread(target=self._live, name="sign-of-life", daemon=True)
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is None:
            return
        self._ended.set()
        self._thread.join()
        try:
            self.storage.create(self.me.end, b"{}")
        except Exception as failed:
            logger.warning("the end of this worker cannot be written: %s", reason_of(failed))

    def take(self, shard: Shard) -> "Claim | str":
        """Claims a shard.

        Returns:
            The claim; or why there is none: `RUNNING` if a live worker has it, or how it ended since this worker began,
            if that one was asked for the same.
        """
        paths = self.storage.paths(shard.folder)
        state, number = self._state(shard, paths)
        ended = state in (FINISHED, FAILED) and _record(shard, number) not in self._known
        if state == RUNNING or (ended and self._asks(shard, number) == shard.asks):
            return state
        self._join()
        self.storage.create(shard.description, shard.to_json())
        content = json.dumps({"worker": self.me.id, "asks": shard.asks}).encode()
        if not self.storage.create(_claim(shard, number + 1), content):
            return RUNNING
        is_untouched = self._known.issuperset(paths) and state not in (DEAD, RUNNING)
        claim = Claim(self, shard, number + 1, is_fresh=is_untouched)
        with self._lock:
            self._claims.append(claim)
        return claim

    def states(self, shards: Sequence[Shard]) -> dict[Shard, str]:
        """The state of each shard: `WAITING`, `RUNNING`, `DEAD`, or how its last try ended.

        What a worker does or has done since this one began counts as `OTHER` if it was asked for something else.
        """
        by_folder: dict[str, list[str]] = {}
        for path in self.storage.paths(SHARDS):
            by_folder.setdefault(path.rpartition("/")[0], []).append(path)
        found = {}
        for shard in shards:
            state, number = self._state(shard, by_folder.get(shard.folder, []))
            is_new = state == RUNNING or (state == FINISHED and _record(shard, number) not in self._known)
            found[shard] = OTHER if is_new and self._asks(shard, number) != shard.asks else state
        return found

    def is_running(self, shard: Shard) -> bool:
        """Whether a live worker does a shard, whatever it was asked for."""
        return self._state(shard, self.storage.paths(shard.folder))[0] == RUNNING

    def note_finished(self, shards: Sequence[Shard]) -> None:
        """Notes shards that were finished before there were records of them, for `status`."""
        for shard in shards:
            if _claim(shard, 1) not in self._known and isinstance(claim := self.take(shard), Claim):
                claim.finish({}, 0)

    def parts(self) -> set[str]:
        """The parts of the workers that have ever been seen in this folder."""
        return {worker.part for worker in self._all_workers(again=True).values()}

    def is_uncertain(self, shard: Shard) -> bool:
        """Whether a shard is done by a worker of which it will soon be known whether it has died."""
        number = _last(self.storage.paths(shard.folder))
        worker = self._worker_of(shard, number)
        if worker is None or self.storage.read(_record(shard, number)) is not None:
            return False
        age = self._age(worker)
        return age is not None and age > 2 * beat_of(worker.expiry)

    def lost(self, claim: "Claim") -> bool:
        """Whether another worker has taken up the shard of a claim."""
        return _last(self.storage.paths(claim.shard.folder)) > claim.number

    def release(self, claim: "Claim") -> None:
        """Forgets a claim that has ended."""
        with self._lock:
            self._claims.remove(claim)

    def _state(self, shard: Shard, paths: Sequence[str]) -> tuple[str, int]:
        number = _last(paths)
        if number == 0:
            return WAITING, 0
        if _record(shard, number) in paths:
            return _ending(self.storage.read(_record(shard, number))), number
        worker = self._worker_of(shard, number)
        return (RUNNING if worker is not None and self._is_alive(worker) else DEAD), number

    def _said(self, shard: Shard, number: int) -> dict[str, str]:
        """The content of a claim; empty if it cannot be read."""
        try:
            found = json.loads(self.storage.read(_claim(shard, number)) or b"")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _asks(self, shard: Shard, number: int) -> str:
        return str(self._said(shard, number).get("asks", ""))

    def _worker_of(self, shard: Shard, number: int) -> Worker | None:
        name = str(self._said(shard, number).get("worker"))
        return self._all_workers().get(name) or self._all_workers(again=True).get(name)

    def _all_workers(self, *, again: bool = False) -> dict[str, Worker]:
        if again:
            self._workers = read_workers(self.storage)
        return self._workers

    def _is_alive(self, worker: Worker) -> bool:
        if worker.id == self.me.id:
            return True
        if worker.exists is False or self.storage.modified(worker.end) is not None:
            return False
        return worker.is_alive(self._age(worker))

    def _age(self, worker: Worker) -> float | None:
        """Seconds since a worker's last sign of life."""
        self._join()  # its own file tells what time it is
        seen = self.storage.modified(worker.file)
        at, when = self._clock
        return None if seen is None else at + (time.monotonic() - when) - seen

    def _show_life(self) -> None:
        self.storage.touch(self.me.file)
        at = self.storage.modified(self.me.file)
        if at is not None:
            self._clock = (at, time.monotonic())

    def _live(self) -> None:
        while not self._ended.wait(self._beat):
            try:
                self._show_life()
                with self._lock:
                    claims = list(self._claims)
                for claim in claims:
                    claim.write_log()
                    if self.lost(claim):
                        claim.is_lost = True
            except Exception as error:  # such as a network that is down for a while
                logger.warning("no sign of life can be given: %s", reason_of(error))


class Claim:
    """The right of this process to do a shard. A context manager; what is not told before its end has failed.

    Attributes:
        shard: The shard.
        number: Number of the try.
        is_fresh: Whether nobody has touched the shard since this process began.
        is_lost: Whether another worker has taken the shard up.
    """

    def __init__(self, crew: Crew, shard: Shard, number: int, *, is_fresh: bool) -> None:
        self.shard, self.number, self.is_fresh = shard, number, is_fresh
        self.is_lost = False
        self._crew = crew
        self._began = time.monotonic()
        self._is_over = False
        self._writing = threading.Lock()
        self._log = _Log()
        self._log.add(logging.INFO, f"{shard.label}: try {number}, begun by {crew.me.id}, part {crew.me.part}")
        for name in _LOGGED:
            logging.getLogger(name).addHandler(self._log)

    def __enter__(self) -> "Claim":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_over:
            return
        if error is None:
            self.finish({}, 0)
        elif isinstance(error, ClaimLost):
            self._end(LOST)
        else:
            self._end(FAILED if isinstance(error, Exception) else STOPPED, error=error)

    def check(self) -> None:
        """Raises `ClaimLost` if another worker has taken the shard up. To be called before anything is written."""
        if self.is_lost:
            raise ClaimLost(f"{self.shard.label} was taken up by another worker, since this one gave no sign of life")

    def finish(self, seconds: Mapping[str, float], n_results: int) -> None:
        """Records that the shard is finished.

        Args:
            seconds: Seconds that its parts took.
            n_results: Number of results that were saved.
        """
        self._end(FINISHED, seconds=dict(seconds), n_results=n_results)

    def fail(self, error: Exception) -> None:
        """Records that the shard has failed."""
        self._end(FAILED, error=error)

    def write_log(self) -> None:
        """Writes the log so far. The thread that gives signs of life does so, too: an older log never comes last."""
        with self._writing:
            if self._log.has_grown:
                content = self._log.content()
                self._crew.storage.write(f"{self.shard.folder}/{self.number:04}.log", content)

    def _end(self, state: str, error: BaseException | None = None, **said: Any) -> None:
        self._is_over = True
        for name in _LOGGED:
            logging.getLogger(name).removeHandler(self._log)
        self._crew.release(self)
        seconds = {**said.pop("seconds", {}), "all": time.monotonic() - self._began}
        record = {
            "state": state,
            "worker": self._crew.me.id,
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
            "ended": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            **said,
        }
        if error is not None:
            record["error"] = reason_of(error) if isinstance(error, Exception) else type(error).__name__
            self._log.add(logging.ERROR, "".join(traceback.format_exception(error)).rstrip())
        taken = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
        self._log.add(logging.INFO, f"{state}: {taken}")
        try:
            self.write_log()
            self._crew.storage.create(_record(self.shard, self.number), json.dumps(record, indent=1).encode())
        except Exception as failed:  # such as a full disk: others see that this worker is gone
            if error is None:
                raise
            logger.debug("the end of %s cannot be recorded: %s", self.shard.label, reason_of(failed))


_LOGGED = ("leaderboard", "midlayer_embed")


class _Log(logging.Handler):
    """Keeps the lines of a log."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._lines: list[str] = []
        self._n_read = 0

    def add(self, level: int, message: str) -> None:
        """Adds a line that no logger has to let through."""
        self.emit(logging.LogRecord(__name__, level, __file__, 0, message, None, None))

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))

    @property
    def has_grown(self) -> bool:
        """Whether there are lines that nobody has read."""
        return len(self._lines) > self._n_read

    def content(self) -> bytes:
        """The lines."""
        lines = list(self._lines)
        self._n_read = len(lines)
        return "".join(f"{line}\n" for line in lines).encode()


def _claim(shard: Shard, number: int) -> str:
    return f"{shard.folder}/{number:04}.claim"


def _record(shard: Shard, number: int) -> str:
    return f"{shard.folder}/{number:04}.json"


def _last(paths: Sequence[str]) -> int:
    """The number of the last try, 0 if there is none."""
    names = (path.rpartition("/")[2].partition(".") for path in paths)
    return max((int(stem) for stem, _, ending in names if ending == "claim" and stem.isdigit()), default=0)


def _ending(content: bytes | None) -> str:
    """How a try ended. What cannot be read may be done again."""
    try:
        state = json.loads(content or b"")["state"]
    except (ValueError, KeyError, TypeError):
        return STOPPED
    return state if state in (FINISHED, FAILED, LOST) else STOPPED
