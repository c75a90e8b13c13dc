"""What a large run would take: 50 open models on the paper's 32 tasks, on 1 to 512 GPUs. Nothing is loaded.

    python -m benchmarks.scale [--tflops 15] [--jobs 8] [--price DOLLARS] [--write] [--figure FILE]

The shards, their costs and their parts are those of `run --shard i/n`; `benchmarks.cluster` simulates the workers.
--write puts what is printed into SCALE.md and into docs/scale.md. --price adds what it costs at so much a GPU hour.
"""

import argparse
import csv
import random
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median

from benchmarks.cluster import Cluster, Job, Outcome, simulate
from leaderboard.shards.costs import Machine, shard_cost, shard_seconds
from leaderboard.shards.shard import Shard
from leaderboard.shards.sizes import ModelSize, TaskSizes, task_sizes
from leaderboard.shards.split import split
from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.terms import METRICS

WRITTEN = Path(__file__).with_name("SCALE.md")
# Rounded figures of the models' cards: blocks, width, parameters in millions, vocabulary, matrices of its size, bytes
# of a stored number.
MODELS = Path(__file__).with_name("scale_models.csv")
# The page, the tables of a report, and where they are on the page.
PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
_TABLE = re.compile(r"^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SHOWN = re.compile(r"(<!-- benchmarks/SCALE.md; [^\n]*\n```text\n).*?(^```$)", re.MULTILINE | re.DOTALL)
WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

# Measured: two processes score 1.85 times as fast as one (RESULTS.md, scoring_jobs).
_JOB = 1.85 / 2
# Measured: imports of a fresh process (RESULTS.md, cold_start), and a start of the model on top.
_START = 20.0
# The mean size of a result of the starter tasks; about what else a shard leaves.
_RESULT_BYTES = 5_600
_SHARD_BYTES = 16_000
# Assumed: a cost and what it stands for differ by this, as the sigma of a logarithm.
_ERROR = 0.3
# Assumed: 8 GPUs a node; 10 Gbit/s from the Hub, shared by all; models are read from the node's disk at 2 GB/s.
_CLUSTER = Cluster(per_node=8, link=1.25e9, node_link=1.25e9, reading=2e9, start=_START)
# Assumed: requests per second that a file server answers, and one prefix of an object store.
_SERVER, _OBJECTS = 5_000, 3_500
# Counted in `leaderboard.storage.local`: requests of a written file, of a created one, of a sign of life.
_WRITE, _CREATE, _BEAT = 2, 3, 3
_SECONDS_A_BEAT = 15.0


@dataclass(frozen=True)
class Model:
    """One of the models.

    Attributes:
        name: Its name on the Hub.
        size: Blocks, width and parameters of the blocks.
        stored: Bytes of its weights.
    """

    name: str
    size: ModelSize
    stored: float

    @property
    def billions(self) -> float:
        """Parameters of the blocks, in billions."""
        return self.size.n_active / 1e9

    @property
    def n_layers(self) -> int:
        """Number of layers, all of which are scored and measured."""
        return self.size.n_blocks + 1

    def cost_of(self, sizes: TaskSizes) -> float:
        """The cost of a shard, by which parts are balanced."""
        return shard_cost(sizes, self.size, n_layers=self.n_layers, metrics=METRICS)

    def seconds_of(self, sizes: TaskSizes, machine: Machine) -> tuple[float, float, float]:
        """Estimated seconds of encoding, scoring and metrics on a machine."""
        return shard_seconds(sizes, self.size, n_layers=self.n_layers, metrics=METRICS, machine=machine)


@cache
def models() -> tuple[Model, ...]:
    """The 50 models."""
    with MODELS.open(encoding="utf-8") as file:
        return tuple(_model(row) for row in csv.DictReader(file))


def _model(row: Mapping[str, str]) -> Model:
    blocks, width, parameters = int(row["blocks"]), int(row["width"]), 1e6 * float(row["parameters"])
    embeddings = int(row["vocabulary"]) * width * int(row["matrices"])
    return Model(row["model"], ModelSize(blocks, width, parameters - embeddings), parameters * int(row["bytes"]))


@cache
def tasks() -> dict[str, TaskSizes]:
    """The sizes of the paper's tasks."""
    from leaderboard.tasks.benchmarks import get_benchmark

    return {str(task.metadata.name): task_sizes(task) for task in get_benchmark("paper").tasks}


@dataclass(frozen=True)
class Run:
    """A run of the models on the tasks, all layers with all metrics.

    Attributes:
        machine: A worker: a GPU and some cores.
        cluster: Where the workers are.
        some: The models.
    """

    machine: Machine
    cluster: Cluster = _CLUSTER
    some: tuple[Model, ...] = ()

    @property
    def models(self) -> tuple[Model, ...]:
        """The models, all of them if none are named."""
        return self.some or models()

    def shards(self) -> list[Shard]:
        """The shards with the costs that they are split by, which are of no machine of this run."""
        return [
            Shard(model.name, "main", "", task, None, model.cost_of(sizes))
            for model in self.models
            for task, sizes in tasks().items()
        ]

    def seconds(self, model: Model, task: str) -> tuple[float, float, float]:
        """Estimated seconds of encoding, scoring and metrics on the machine of this run."""
        return model.seconds_of(tasks()[task], self.machine)

    def simulated(self, n: int) -> Outcome:
        """The run on n workers; what a shard takes differs from what is estimated, by the same for each n."""
        by_name = {model.name: model for model in self.models}
        taken = {
            (model.name, task): sum(self.seconds(model, task)) * _error(model.name, task)
            for model in self.models
            for task in tasks()
        }
        parts = [
            [Job(shard.model, shard.task, taken[shard.model, shard.task]) for shard in part]
            for part in split(self.shards(), n)
        ]
        return simulate(parts, self.cluster, {name: model.stored for name, model in by_name.items()})

    @property
    def n_results(self) -> int:
        """Number of result files."""
        return sum(model.n_layers for model in self.models) * len(tasks())

    @property
    def n_shards(self) -> int:
        """Number of shards."""
        return len(self.models) * len(tasks())

    def vectors(self) -> list[float]:
        """Bytes of the vectors of each shard: every text at every layer, in float32."""
        return [
            4 * (sizes.evaluated + sizes.others).number * model.size.width * model.n_layers
            for model in self.models
            for sizes in tasks().values()
        ]

    def requests(self, outcome: Outcome) -> dict[str, float]:
        """Requests to a file server, by what they are for."""
        n = outcome.n_workers
        return {
            "results": self.n_results * (_WRITE + 3) + self.n_shards * (_WRITE + 2),
            "claims": self.n_shards * (1 + 3 * _CREATE) + outcome.working / _SECONDS_A_BEAT * _WRITE,
            "signs of life": n * outcome.makespan / _SECONDS_A_BEAT * _BEAT,
            "looking for shards of others": outcome.looks * (self.n_shards + 2 * n),
            "looking what is finished": self.n_results,
        }


def _error(model: str, task: str) -> float:
    return random.Random(f"{model} {task}").lognormvariate(0.0, _ERROR)


# --- What is printed


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        yield "  ".join(cells).rstrip()


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} h"


def _lines_of_models(run: Run, price: float | None) -> Iterator[str]:
    """What models of a size cost."""
    classes = [(0.0, 0.2), (0.2, 0.6), (0.6, 1.6), (1.6, 4.0), (4.0, 10.0)]
    head = ["parameters of blocks", "models", "GPU hours each", "encoding", "scoring", "metrics", "largest task"]
    rows = [head + ([] if price is None else ["dollars each"])]
    for least, most in classes:
        some = [model for model in run.models if least <= model.billions < most]
        found = [[run.seconds(model, task) for task in tasks()] for model in some]
        total = [sum(map(sum, seconds)) for seconds in found]
        shares = [
            median(sum(part[kind] for part in seconds) / all_of for seconds, all_of in zip(found, total, strict=True))
            for kind in range(3)
        ]
        largest = median(max(map(sum, seconds)) / all_of for seconds, all_of in zip(found, total, strict=True))
        row = [f"{least:g} to {most:g} billion", str(len(some)), f"{median(total) / 3600:.2f}"]
        row += [f"{100 * share:.0f}%" for share in (*shares, largest)]
        rows.append(row + ([] if price is None else [f"{price * median(total) / 3600:,.2f}"]))
    yield from _table(rows)


def _lines_of_workers(run: Run, outcomes: Iterable[Outcome], price: float | None) -> Iterator[str]:
    """How long it takes on how many GPUs."""
    head = ["GPUs", "makespan", "GPU hours", "idle", "waiting for models", "downloaded", "loads", "requests/s"]
    rows = [head + ([] if price is None else ["dollars"])]
    for outcome in outcomes:
        hours = outcome.n_workers * outcome.makespan / 3600
        requests = sum(run.requests(outcome).values()) / outcome.makespan
        row = [str(outcome.n_workers), _hours(outcome.makespan), f"{hours:,.0f}", f"{100 * outcome.idle:.1f}%"]
        row += [f"{100 * outcome.waiting / (3600 * hours):.1f}%", f"{outcome.downloaded / 1e12:.2f} TB"]
        row += [f"{outcome.n_loads:,}", f"{requests:,.0f}"]
        rows.append(row + ([] if price is None else [f"{price * hours:,.0f}"]))
    yield from _table(rows)


def _lines_of_parts(run: Run) -> Iterator[str]:
    """How many parts are balanced: the largest task bounds them."""
    rows = [["models", "largest shard", "of all", "balanced up to", "largest part / mean, 2 parts", "8", "64"]]
    by_size = sorted(run.models, key=lambda model: model.billions)
    some = {"the smallest": by_size[:1], "Pythia-410M": [one for one in by_size if one.name.endswith("pythia-410m")]}
    some |= {"the largest": by_size[-1:], "10 of them": by_size[::5], "all 50": by_size}
    for name, chosen in some.items():
        shards = Run(run.machine, some=tuple(chosen)).shards()
        total, largest = sum(one.cost for one in shards), max(shards, key=lambda one: one.cost)
        row = [name, largest.task, f"{100 * largest.cost / total:.1f}%", f"{int(1.15 * total / largest.cost)} parts"]
        for n in (2, 8, 64):
            row.append(f"{max(sum(one.cost for one in part) for part in split(shards, n)) * n / total:.2f}")
        rows.append(row)
    yield from _table(rows)


def _lines_of_bytes(run: Run) -> Iterator[str]:
    """What is written."""
    vectors = run.vectors()
    of_results = run.n_results * _RESULT_BYTES + run.n_shards * _SHARD_BYTES
    rows = [
        ["shards", f"{run.n_shards:,}"],
        ["result files", f"{run.n_results:,}"],
        ["other files of shards and models", f"{5 * run.n_shards + sum(one.n_layers for one in run.models):,}"],
        ["bytes of results", f"{of_results / 1e9:.2f} GB"],
        ["bytes of vectors, written and deleted", f"{sum(vectors) / 1e12:.0f} TB"],
        ["vectors of the largest shard", f"{max(vectors) / 1e9:,.0f} GB"],
        ["vectors of the median shard", f"{median(vectors) / 1e9:.2f} GB"],
        ["bytes of the models", f"{sum(one.stored for one in run.models) / 1e9:,.0f} GB"],
    ]
    yield from _table(rows)


def _lines_of_requests(run: Run, outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Requests to a file server."""
    found = [(outcome, run.requests(outcome)) for outcome in outcomes]
    rows = [["requests", *(f"{outcome.n_workers} GPUs" for outcome, _ in found)]]
    rows += [[kind, *(f"{requests[kind]:,.0f}" for _, requests in found)] for kind in found[0][1]]
    rows.append(["all, per second", *(f"{sum(some.values()) / one.makespan:,.1f}" for one, some in found)])
    yield from _table(rows)


def _lines_of_limits(run: Run, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """What stands in the way, the first first."""
    limits: dict[str, Callable[[Outcome], bool]] = {
        f"requests are a tenth of what a file server answers, {_SERVER:,} a second": (
            lambda one: sum(run.requests(one).values()) / one.makespan > 0.1 * _SERVER
        ),
        "the largest shard takes 1.15 times as long as a part": (
            lambda one: max(some.end - some.begin for some in one.done) > 1.15 * one.working / one.n_workers
        ),
        "vectors come at 1 GB/s, if all are on one shared disk": (lambda one: sum(run.vectors()) / one.makespan > 1e9),
        "a tenth of the time is waiting for models": lambda one: one.waiting > 0.1 * one.n_workers * one.makespan,
        f"more than {_OBJECTS:,} requests/s, what one prefix of an object store takes": (
            lambda one: sum(run.requests(one).values()) / one.makespan > _OBJECTS
        ),
    }
    beyond = 2 * WORKERS[-1]
    first = {
        name: min((one.n_workers for one in outcomes if is_reached(one)), default=beyond)
        for name, is_reached in limits.items()
    }
    rows = [["", "from"]]
    for name, n in sorted(first.items(), key=lambda found: found[1]):
        rows.append([name, f"{n} GPUs" if n < beyond else f"above {WORKERS[-1]} GPUs"])
    yield from _table(rows)


def _lines_of_changes(base: Run, n: int) -> Iterator[str]:
    """What would be different if something was."""
    fast = Machine(150e12, base.machine.scoring)
    changes = {
        "as above": base,
        "bfloat16: 150 TFLOP/s": Run(fast),
        "bfloat16, and scoring in one process": Run(Machine(150e12, 1.0)),
        "scoring in one process": Run(Machine(base.machine.flops, 1.0)),
        "a link of 1 Gbit/s": Run(base.machine, Cluster(8, 1.25e8, 1.25e8, 2e9, _START)),
        "every GPU downloads its models": Run(base.machine, Cluster(1, 1.25e9, 1.25e9, 2e9, _START)),
    }
    rows = [[f"{n} GPUs", "makespan", "idle", "waiting for models"]]
    for name, run in changes.items():
        outcome = run.simulated(n)
        waiting = outcome.waiting / (n * outcome.makespan)
        rows.append([name, _hours(outcome.makespan), f"{100 * outcome.idle:.1f}%", f"{100 * waiting:.1f}%"])
    yield from _table(rows)


def report(run: Run, price: float | None = None) -> str:
    """All tables, as Markdown."""
    outcomes = [run.simulated(n) for n in WORKERS]
    some = [outcome for outcome in outcomes if outcome.n_workers in (8, 64, 512)]
    sections = {
        "What a model costs": _lines_of_models(run, price),
        "How long 50 models take": _lines_of_workers(run, outcomes, price),
        "How many parts are balanced": _lines_of_parts(run),
        "What is written": _lines_of_bytes(run),
        "What a file server is asked": _lines_of_requests(run, some),
        "What breaks first": _lines_of_limits(run, outcomes),
        "What would change it": _lines_of_changes(run, 64),
    }
    said = (
        f"A worker is a GPU that reaches {run.machine.flops / 1e12:g} TFLOP/s, with cores that score "
        f"{run.machine.scoring:.1f} times as fast as one."
    )
    parts = ["# Scale", "Written by `python -m benchmarks.scale --write`; do not edit.", said]
    for title, lines in sections.items():
        parts += [f"## {title}", "```\n" + "\n".join(lines) + "\n```"]
    return "\n\n".join(parts) + "\n"


def shown(page: str, text: str) -> str:
    """The page with the tables of a report, which it has in the same order."""
    tables = iter(_TABLE.findall(text))
    return _SHOWN.sub(lambda found: f"{found[1]}{next(tables)}{found[2]}", page)


def draw(outcomes: Sequence[Outcome], file: Path) -> None:
    """Draws makespan and idle share over the number of GPUs."""
    from matplotlib.figure import Figure

    numbers = [outcome.n_workers for outcome in outcomes]
    hours = [outcome.makespan / 3600 for outcome in outcomes]
    figure = Figure(figsize=(7, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.loglog(numbers, hours, marker="o")
    left.loglog(numbers, [hours[0] * numbers[0] / n for n in numbers], linestyle=":", color="grey")
    left.set(xlabel="GPUs", ylabel="hours", title="makespan; dotted: none idle")
    right.semilogx(numbers, [100 * outcome.idle for outcome in outcomes], marker="o")
    right.set(xlabel="GPUs", ylabel="% of the GPUs' time", title="idle", ylim=(0, 100))
    for axes in (left, right):
        axes.set_xticks(numbers, [str(n) for n in numbers], rotation=45)
        axes.minorticks_off()
    left.set_yticks([1, 3, 10, 30, 100], ["1", "3", "10", "30", "100"])
    figure.savefig(file, dpi=150)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tflops", type=float, default=15.0, help="what a GPU reaches in a forward pass")
    parser.add_argument("--jobs", type=int, default=8, help="processes that score, for each GPU")
    parser.add_argument("--price", type=float, metavar="DOLLARS", help="of a GPU hour")
    parser.add_argument("--write", action="store_true", help=f"write {WRITTEN.name}")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw makespan and idle share")
    arguments = parser.parse_args()
    run = Run(worker(arguments.tflops, arguments.jobs))
    text = report(run, arguments.price)
    sys.stdout.write(text)
    if arguments.write:
        for path, content in ((WRITTEN, text), (PAGE, shown(PAGE.read_text(encoding="utf-8"), text))):
            with atomic_file(path) as partial:
                partial.write_text(content, encoding="utf-8")
    if arguments.figure:
        draw([run.simulated(n) for n in WORKERS], arguments.figure)


def worker(tflops: float = 15.0, jobs: int = 8) -> Machine:
    """A GPU, and the processes that score."""
    return Machine(1e12 * tflops, max(1.0, _JOB * jobs))


if __name__ == "__main__":
    main()
