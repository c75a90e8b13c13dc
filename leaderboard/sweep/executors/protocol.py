"""What an executor runs, and what it can do. Nothing slow is imported here."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

ENGINES = ("local", "slurm", "ray")
# How often a worker starts again that a signal has killed or whose node is lost.
RESTARTS = 3
# Exit code of a worker that is gone without one; no signal has this number.
LOST = -1000


@dataclass(frozen=True)
class Worker:
    """A process that does shards of a sweep.

    Attributes:
        name: Its part of the sweep, such as "2-of-8".
        arguments: `run MODEL ... --shard i/n`.
        log: File that its output is added to.
        folder: Its working directory, where that exists.
        environment: Variables that it gets beside those of the process that starts it.
        module: What runs, as with `python -m`.
    """

    name: str
    arguments: tuple[str, ...]
    log: str
    folder: str
    environment: dict[str, str] = field(default_factory=dict)
    module: str = "leaderboard"

    def line(self) -> str:
        """The worker as a line for a shell."""
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join([*variables, "midlayer-leaderboard", shlex.join(self.arguments)])

    def as_dict(self) -> dict[str, Any]:
        """The worker as strings in lists and dictionaries: all that an engine pickles of ours."""
        return {**asdict(self), "arguments": list(self.arguments)}

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> "Worker":
        """The worker of `as_dict`."""
        return cls(**{**given, "arguments": tuple(given["arguments"])})


class Handle(Protocol):
    """A worker that was started."""

    def poll(self) -> int | None:
        """The exit code of the worker, negative if it was killed or lost; None while it runs or waits to run."""

    def stop(self) -> None:
        """Tells the worker to end in order; does not wait for it."""

    def kill(self) -> None:
        """Ends the worker at once."""


class Executor(Protocol):
    """Runs workers.

    Attributes:
        name: Name of the engine.
        detached: Whether the workers go on without us, so that nobody has to stay.
    """

    name: str
    detached: bool

    def describe(self, workers: Sequence[Worker]) -> str:
        """What `start` would run, as text. Starts nothing and writes nothing."""

    def start(self, workers: Sequence[Worker]) -> Sequence[Handle]:
        """Starts the workers.

        Raises:
            InputError: (a ValueError) the engine does not take them; the message says why.
        """

    def said(self) -> str:
        """A line about what was started: the job, or the address of the cluster; empty for nothing to say."""

    def close(self) -> None:
        """Releases what was started besides the workers."""
