"""Simulates workers that do shards: their own part first, then those of others. Event by event, without a clock.

What a worker does is what `leaderboard.sweep.run` does: it goes through its own part in order; then it takes shards
that nobody has begun from the other parts, part by part, each from its end. A model is downloaded once for each node,
over a link that all nodes share, and loaded whenever a worker changes to it.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Job:
    """A shard that is to be done.

    Attributes:
        model: Name of its model.
        task: Name of its task.
        seconds: What it really takes, once its model is loaded.
    """

    model: str
    task: str
    seconds: float


@dataclass(frozen=True)
class Cluster:
    """Where the workers are.

    Attributes:
        per_node: Workers of a node, which share the models that it has downloaded.
        link: Bytes per second from outside, for all nodes together.
        node_link: Bytes per second into one node.
        reading: Bytes per second of loading a model from the disk of the node.
        start: Seconds until a worker has imported the libraries.
    """

    per_node: int = 8
    link: float = math.inf
    node_link: float = math.inf
    reading: float = math.inf
    start: float = 0.0


@dataclass(frozen=True)
class Done:
    """A shard that was done.

    Attributes:
        job: The shard.
        worker: Number of the worker.
        part: Number of the part that the shard belongs to.
        begin: When its work began; its model was loaded then.
        end: When it was finished.
    """

    job: Job
    worker: int
    part: int
    begin: float
    end: float


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        done: The shards, in the order in which they were finished.
        n_workers: Number of workers.
        n_downloads: How often a model was downloaded to a node.
        n_loads: How often a worker loaded a model.
        downloaded: Bytes that came over the link.
        waiting: Seconds that workers waited for downloads, all together.
        loading: Seconds of loading models.
        looks: How often a worker looked for a shard of others.
    """

    n_workers: int
    done: list[Done] = field(default_factory=list)
    n_downloads: int = 0
    n_loads: int = 0
    downloaded: float = 0.0
    waiting: float = 0.0
    loading: float = 0.0
    looks: int = 0

    @property
    def makespan(self) -> float:
        """Seconds from the start to the end of the last shard."""
        return max((one.end for one in self.done), default=0.0)

    @property
    def working(self) -> float:
        """Seconds of work on shards, all workers together."""
        return sum(one.end - one.begin for one in self.done)

    @property
    def idle(self) -> float:
        """Share of the workers' time without work on a shard, up to the end of the last one."""
        total = self.n_workers * self.makespan
        return 1 - self.working / total if total else 0.0


class _Downloads:
    """Downloads that share a link evenly."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._left: dict[tuple[int, str], float] = {}
        self._now = 0.0

    def __contains__(self, key: tuple[int, str]) -> bool:
        return key in self._left

    def add(self, key: tuple[int, str], size: float) -> None:
        self._left[key] = size

    def next_end(self) -> float:
        """When the next one is finished, if none is added before."""
        rates = self._rates()
        return self._now + min((left / rates[key] for key, left in self._left.items()), default=math.inf)

    def advance(self, now: float) -> list[tuple[int, str]]:
        """Those that are finished by now, which is not after the next end."""
        rates = self._rates()
        for key in self._left:
            self._left[key] -= rates[key] * (now - self._now) if now > self._now else 0.0
        self._now = now
        finished = [key for key, left in self._left.items() if left <= 1e-9 * max(1.0, rates[key])]
        for key in finished:
            del self._left[key]
        return finished

    def _rates(self) -> dict[tuple[int, str], float]:
        at_node: dict[int, int] = {}
        for node, _ in self._left:
            at_node[node] = at_node.get(node, 0) + 1
        share = self._cluster.link / max(1, len(self._left))
        return {key: min(share, self._cluster.node_link / at_node[key[0]]) for key in self._left}


class _Simulation:
    def __init__(self, parts: Sequence[Sequence[Job]], sizes: dict[str, float], cluster: Cluster) -> None:
        self._parts = [list(part) for part in parts]
        self._begun = [[False] * len(part) for part in parts]
        self._first = [0] * len(parts)  # in each part, where the next shard from the beginning may be
        self._last = [len(part) for part in parts]  # and from the end
        self._sizes, self._cluster = sizes, cluster
        self._downloads = _Downloads(cluster)
        self._there: set[tuple[int, str]] = set()
        self._waiting: dict[tuple[int, str], list[tuple[int, tuple[int, int], float]]] = {}
        self._loaded: list[str | None] = [None] * len(parts)
        self._events: list[tuple[float, int, tuple[int, int] | None, float]] = []
        self.outcome = Outcome(len(parts))

    def run(self) -> Outcome:
        for worker in range(len(self._parts)):
            heapq.heappush(self._events, (self._cluster.start, worker, None, 0.0))
        while self._events or self._waiting:
            now = min(self._events[0][0] if self._events else math.inf, self._downloads.next_end())
            for node, model in self._downloads.advance(now):
                self._there.add((node, model))
                for worker, place, since in self._waiting.pop((node, model)):
                    self.outcome.waiting += now - since
                    self._work(worker, place, now)
            while self._events and self._events[0][0] <= now:
                _, worker, place, begin = heapq.heappop(self._events)
                if place is not None:
                    part, number = place
                    self.outcome.done.append(Done(self._parts[part][number], worker, part, begin, now))
                self._take(worker, now)
        return self.outcome

    def _take(self, worker: int, now: float) -> None:
        place = self._next(worker)
        if place is None:
            return
        part, number = place
        self._begun[part][number] = True
        model = self._parts[part][number].model
        key = (worker // self._cluster.per_node, model)
        if key in self._there or not math.isfinite(min(self._cluster.link, self._cluster.node_link)):
            self._work(worker, place, now)
            return
        if key not in self._downloads:
            self._downloads.add(key, self._sizes.get(model, 0.0))
            self.outcome.n_downloads += 1
            self.outcome.downloaded += self._sizes.get(model, 0.0)
        self._waiting.setdefault(key, []).append((worker, place, now))

    def _next(self, worker: int) -> tuple[int, int] | None:
        begun = self._begun[worker]
        while self._first[worker] < len(begun) and begun[self._first[worker]]:
            self._first[worker] += 1
        if self._first[worker] < len(begun):
            return worker, self._first[worker]
        self.outcome.looks += 1
        n = len(self._begun)
        for part in ((worker + step) % n for step in range(1, n)):  # not all help the same one
            begun = self._begun[part]
            while self._last[part] and begun[self._last[part] - 1]:
                self._last[part] -= 1
            if self._last[part]:
                return part, self._last[part] - 1
        return None

    def _work(self, worker: int, place: tuple[int, int], now: float) -> None:
        job = self._parts[place[0]][place[1]]
        if self._loaded[worker] != job.model:
            seconds = self._sizes.get(job.model, 0.0) / self._cluster.reading
            self._loaded[worker] = job.model
            self.outcome.n_loads += 1
            self.outcome.loading += seconds
            now += seconds
        heapq.heappush(self._events, (now + job.seconds, worker, place, now))


def simulate(
    parts: Sequence[Sequence[Job]], cluster: Cluster | None = None, sizes: dict[str, float] | None = None
) -> Outcome:
    """Lets a worker for each part do all of them.

    Args:
        parts: The shards of each worker, in the order in which it does them.
        cluster: Where they are; None: models are there and loaded in no time.
        sizes: Bytes of each model.

    Example:
        >>> parts = [[Job("a", "x", 5.0), Job("a", "y", 1.0)], [Job("b", "x", 3.0)]]
        >>> outcome = simulate(parts)
        >>> outcome.makespan, round(outcome.idle, 3)
        (5.0, 0.1)
    """
    return _Simulation(parts, sizes or {}, cluster or Cluster()).run()
