"""Workers: the processes that do shards, and whether they are alive. Each has one file, which it alone writes.

    workers/<id>.json       who it is; it is touched every few seconds, as a sign of life
    workers/<id>.end.json   it has ended in order

The times of files are compared with those of other files of the same storage only, so clocks of machines may differ.
"""

import json
import os
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from typing import Any
from uuid import uuid4

from leaderboard.storage.protocol import Storage
from midlayer_embed.sharing import life

WORKERS = "workers"
_ENDED = ".end.json"
_TYPES: dict[Any, Callable[[Any], Any]] = {str: str, float: float}


@dataclass(frozen=True)
class Worker:
    """A process that does shards.

    Attributes:
        id: Its name, unique among all that ever used the results folder.
        host: Its machine, for people.
        machine: Its machine, until the next boot, and its container: process numbers mean something in there only.
        process: Number of the process, and when it began.
        part: The part of the shards that is its own, such as "2/8".
        expiry: Seconds without a sign of life after which it counts as dead.
        started: When it began, for people.
    """

    id: str
    host: str
    machine: str
    process: str
    part: str
    expiry: float
    started: str

    @classmethod
    def here(cls, part: str, expiry: float) -> "Worker":
        """This process."""
        started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        host = socket.gethostname()
        return cls(
            f"{host}-{os.getpid()}-{uuid4().hex[:8]}",
            host,
            life.this_place(),
            life.process_name(os.getpid()) or "",
            part,
            expiry,
            started,
        )

    @classmethod
    def from_json(cls, content: bytes) -> "Worker":
        """A worker from its file.

        Raises:
            ValueError: The content is no worker.
        """
        found = json.loads(content)
        try:
            return cls(**{field.name: _TYPES[field.type](found[field.name]) for field in fields(cls)})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no worker: {error}") from None

    def to_json(self) -> bytes:
        """The content of its file."""
        return json.dumps(asdict(self), indent=1).encode()

    @property
    def file(self) -> str:
        """Path of its file."""
        return f"{WORKERS}/{self.id}.json"

    @property
    def end(self) -> str:
        """Path of the file that says that it has ended in order."""
        return f"{WORKERS}/{self.id}{_ENDED}"

    @property
    def exists(self) -> bool | None:
        """Whether the process exists; None if it is on another machine, or in another container."""
        return life.is_alive(self.machine, self.process)

    def is_alive(self, age: float | None) -> bool:
        """Whether a worker that has not ended in order is alive.

        Args:
            age: Seconds since its last sign of life; None if that is not known.
        """
        return self.exists is not False and age is not None and age < self.expiry


def read_workers(storage: Storage) -> dict[str, Worker]:
    """All workers that ever used a storage, by id. What cannot be read is left out."""
    found = {}
    paths = [path for path in storage.paths(WORKERS) if path.endswith(".json") and not path.endswith(_ENDED)]
    for _, content in storage.read_many(paths):
        try:
            worker = Worker.from_json(content)
        except ValueError:
            continue
        found[worker.id] = worker
    return found
