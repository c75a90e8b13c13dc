"""What is done in a results folder, what runs, waits and failed, and how long it will take: read without writing.

Neither torch nor mteb is imported here.
"""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from leaderboard.shards.claims import DEAD, FAILED, FINISHED, RUNNING, WAITING
from leaderboard.shards.shard import DESCRIPTION, SHARDS, SWEEPS, Shard, shards_of_sweep
from leaderboard.shards.workers import read_workers
from leaderboard.storage.protocol import Storage
from midlayer_embed.ground.progress import duration

# Every state, as shown, in the order of tables. "waiting" is also what stopped in order or lost its worker and was
# given up: whoever comes next takes it.
STATES = (FAILED, DEAD, RUNNING, WAITING, FINISHED)


@dataclass(frozen=True)
class ShardState:
    """One shard: a model, its settings with the template, and a task.

    Attributes:
        path: Its folder in the results folder.
        model: Name of the model.
        revision: Revision of the model.
        variant: Name of its settings.
        task: Name of the task.
        template: The template; None for plain texts.
        cost: Its cost by the plan: seconds on some machine, the same one for all shards.
        state: One of `STATES`.
        tries: How often it was begun.
        worker: The worker of the last try; None if it was not begun.
        host: The host of that worker, if that is known.
        seconds: How long the last try took, or has taken so far; None if that is not known.
        beat: Seconds since the worker showed that it is alive; None if that is not known.
        error: Why the last try failed; None if it did not.
        log: Path of the log of the last try in the results folder; None if there is none.
    """

    path: str
    model: str
    revision: str
    variant: str
    task: str
    template: str | None
    cost: float
    state: str
    tries: int = 0
    worker: str | None = None
    host: str | None = None
    seconds: float | None = None
    beat: float | None = None
    error: str | None = None
    log: str | None = None


@dataclass(frozen=True)
class Progress:
    """The state of a results folder at one moment.

    Attributes:
        name: The folder, as the user named it.
        shards: Every shard that a run has planned.
        workers: The live workers, by name: the seconds since each showed that it is alive.
        n_results: Number of results of a task, at one layer each where they are of layers.
        models: Names of the models that have results.
        tasks: Names of the tasks that have results.
    """

    name: str
    shards: tuple[ShardState, ...]
    workers: Mapping[str, float]
    n_results: int
    models: tuple[str, ...]
    tasks: tuple[str, ...]

    def of(self, state: str) -> tuple[ShardState, ...]:
        """The shards in a state."""
        return tuple(shard for shard in self.shards if shard.state == state)

    @property
    def done(self) -> int:
        """Number of finished shards."""
        return len(self.of(FINISHED))

    @property
    def running(self) -> int:
        """Number of shards that a live worker has."""
        return len(self.of(RUNNING))

    @property
    def waiting(self) -> int:
        """Number of shards that nobody has begun, or that were given back."""
        return len(self.of(WAITING))

    @property
    def failed(self) -> int:
        """Number of shards whose last try failed."""
        return len(self.of(FAILED))

    @property
    def dead(self) -> int:
        """Number of shards whose worker died; another one will take them."""
        return len(self.of(DEAD))

    @property
    def is_complete(self) -> bool:
        """Whether there is something, and none of it is left to do."""
        return bool(self.shards or self.n_results) and self.done == len(self.shards)

    @property
    def eta(self) -> float | None:
        """Seconds until all shards that did not fail are finished, at the speed so far; None if that is not known.

        The cost that is left, by the cost that a worker has finished in a second, by the number of live workers, of
        which those without a shard do not count.
        """
        finished = [shard for shard in self.of(FINISHED) if shard.seconds]
        seconds = sum(shard.seconds or 0 for shard in finished)
        speed = sum(shard.cost for shard in finished) / seconds if seconds else 0
        left = [
            max(0.0, shard.cost - speed * (shard.seconds or 0) * (shard.state == RUNNING))
            for shard in self.shards
            if shard.state in (RUNNING, WAITING, DEAD)
        ]
        if not left:
            return 0.0
        at_once = min(len(self.workers), len(left))
        if not speed or not at_once:
            return None
        return max(sum(left) / at_once, *left) / speed

    def line(self) -> str:
        """All of it in one line."""
        if not self.shards:
            return self._without_shards()
        total = sum(shard.cost for shard in self.shards)
        part = sum(shard.cost for shard in self.of(FINISHED)) / total if total else self.done / len(self.shards)
        counts = Counter(shard.state for shard in self.shards)
        others = "".join(f", {counts[state]} {state}" for state in (RUNNING, WAITING, FAILED, DEAD) if counts[state])
        text = f"{self.done} of {_some(len(self.shards), 'shard')} finished ({100 * part:.0f}% of the work){others}"
        if self.workers:
            text += f"; {_some(len(self.workers), 'live worker')}"
        if self.done + self.failed == len(self.shards):
            return text
        if self.eta is not None:
            return f"{text}; about {duration(self.eta)} left"
        return text if self.workers else f"{text}; no live worker"

    def lines(self, *, every: bool = False) -> list[str]:
        """A table as lines of text: the shards by model, then those that failed, died or run.

        Args:
            every: Whether to list the shards that wait or are finished, too.
        """
        lines = [self.line()]
        if not self.shards:
            return lines
        by_model: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for shard in self.shards:
            by_model[shard.model, shard.revision][shard.state] += 1
        if len(by_model) > 1:
            head = ("model", "revision", *STATES)
            rows = [(*key, *(str(n[state] or "") for state in STATES)) for key, n in sorted(by_model.items())]
            lines += ["", *_columns([head, *rows])]
        shown = [shard for state in STATES for shard in self.of(state) if every or state not in (WAITING, FINISHED)]
        if shown:
            lines += ["", *_columns([_HEAD, *(_row(shard) for shard in shown)])]
        for shard in self.of(FAILED):
            lines += ["", f"{_name(shard)}: {shard.error or 'failed'}"]
            lines += [f"  log: {self.place(shard.log)}"] if shard.log else []
        return lines

    def place(self, path: str) -> str:
        """A path in the results folder, for a message."""
        return f"{self.name.rstrip('/')}/{path}"

    def to_dict(self) -> dict[str, Any]:
        """All of it as a dictionary of plain values."""
        counts = {name: getattr(self, name) for name in ("done", "running", "waiting", "failed", "dead")}
        return {"folder": self.name, "complete": self.is_complete, **counts, "eta_seconds": self.eta, **asdict(self)}

    def _without_shards(self) -> str:
        if not self.n_results:
            return "no shards and no results yet"
        found = f"{_some(self.n_results, 'result')} of {_some(len(self.models), 'model')}"
        return f"no shards; {found} on {_some(len(self.tasks), 'task')} from runs that kept no record of shards"


def read_progress(storage: Storage) -> Progress:
    """The state of a results folder. Nothing is written, and others may write at the same time.

    Args:
        storage: The results folder.
    """
    paths = storage.paths()
    names: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        if path.startswith(f"{SHARDS}/"):
            folder, _, name = path.rpartition("/")
            names[folder].add(name)
    last = {folder: max(_numbers(found, "claim"), key=int, default="") for folder, found in names.items()}
    endings = {
        folder: "json" if number in _numbers(names[folder], "json") else "claim" for folder, number in last.items()
    }
    wanted = [path for path in paths if path.startswith(f"{SWEEPS}/")]
    wanted += [path for path in paths if path.startswith(f"{SHARDS}/") and path.endswith(f"/{DESCRIPTION}")]
    wanted += [f"{folder}/{number}.{endings[folder]}" for folder, number in last.items() if number]
    contents = dict(storage.read_many(wanted))
    read = {path: _object(content) for path, content in contents.items() if path.startswith(f"{SHARDS}/")}
    shards = {shard.folder: shard for content in contents.values() for shard in _described(content)}
    workers = _Workers(storage, paths)
    results = [path.split("/") for path in paths if path.startswith("results/") and path.endswith(".json")]
    results = [parts for parts in results if len(parts) > 3 and parts[-1] != "model_meta.json"]
    return Progress(
        name=storage.name,
        shards=tuple(
            _state(storage, shard, names[folder], last.get(folder, ""), read, workers)
            for folder, shard in sorted(shards.items())
        ),
        workers=workers.live,
        n_results=len(results),
        models=tuple(sorted({parts[1].replace("__", "/", 1) for parts in results})),
        tasks=tuple(sorted({parts[-1].removesuffix(".json") for parts in results})),
    )


class _Workers:
    """The workers of a results folder: who they are, and when each has shown last that it is alive."""

    def __init__(self, storage: Storage, paths: Sequence[str]) -> None:
        self.who = read_workers(storage)
        there = set(paths)
        beats = {name: storage.modified(one.file) for name, one in self.who.items() if one.end not in there}
        known = {name: beat for name, beat in beats.items() if beat is not None}
        # The clock of the storage cannot be asked without writing; it is not before its newest file.
        self.now = max([time.time(), *known.values()])
        self.beats = {name: self.now - beat for name, beat in known.items()}
        self.live = {name: age for name, age in self.beats.items() if self.who[name].is_alive(age)}


def _state(
    storage: Storage,
    shard: Shard,
    names: set[str],
    last: str,
    read: Mapping[str, dict[str, Any]],
    workers: _Workers,
) -> ShardState:
    """The state of a shard, by the number of its last try."""
    folder = shard.folder
    said = {name: value for name, value in asdict(shard).items() if name != "asks"}
    what = ShardState(path=folder, **said, state=WAITING)
    if not last:
        return what
    record = read.get(f"{folder}/{last}.json")
    worker = str((record or read.get(f"{folder}/{last}.claim") or {}).get("worker"))
    who = workers.who.get(worker)
    tried = replace(
        what,
        tries=len(_numbers(names, "claim")),
        worker=worker,
        host=None if who is None else who.host,
        beat=workers.beats.get(worker),
        log=f"{folder}/{last}.log" if f"{last}.log" in names else None,
    )
    if record is not None:
        state = record["state"] if record.get("state") in (FINISHED, FAILED) else WAITING
        seconds = record["seconds"].get("all") if isinstance(record.get("seconds"), dict) else None
        error = str(record["error"]) if state == FAILED and record.get("error") else None
        return replace(
            tried, state=state, seconds=float(seconds) if isinstance(seconds, int | float) else None, error=error
        )
    if worker not in workers.live:
        return replace(tried, state=DEAD)
    begun = storage.modified(f"{folder}/{last}.claim")
    return replace(tried, state=RUNNING, seconds=None if begun is None else max(0.0, workers.now - begun))


def _described(content: bytes) -> list[Shard]:
    """The shards in the file of a sweep, or the one in the file of a shard; none in any other file."""
    try:
        found = shards_of_sweep(content) if content.lstrip().startswith(b"[") else [Shard.from_json(content)]
    except (ValueError, TypeError):
        return []
    return [shard for shard in found if _is_whole(shard)]


def _is_whole(shard: Shard) -> bool:
    names = (shard.model, shard.revision, shard.variant, shard.task)
    return isinstance(shard.cost, int | float) and all(isinstance(name, str) for name in names)


def _numbers(names: set[str], kind: str) -> list[str]:
    found = (name.partition(".") for name in names)
    return sorted((stem for stem, _, end in found if end == kind and stem.isdigit()), key=int)


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


def _some(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _name(shard: ShardState) -> str:
    template = "" if shard.template is None else f" with {shard.template!r}"
    return f"{shard.model} on {shard.task}{template}"


_HEAD = ("state", "model", "task", "template", "try", "worker", "host", "for", "beat")


def _row(shard: ShardState) -> tuple[str, ...]:
    seconds = "" if shard.seconds is None else duration(shard.seconds)
    beat = "" if shard.beat is None or shard.state not in ("running", "dead") else f"{duration(shard.beat)} ago"
    names = (shard.state, shard.model, shard.task, shard.template or "", str(shard.tries or ""))
    return (*names, shard.worker or "", shard.host or "", seconds, beat)


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, in columns; those without any entry are left out."""
    shown = [place for place in range(len(rows[0])) if any(row[place] for row in rows[1:])]
    widths = [max(len(row[place]) for row in rows) for place in shown]
    return [
        "  ".join(row[place].ljust(width) for place, width in zip(shown, widths, strict=True)).rstrip() for row in rows
    ]
