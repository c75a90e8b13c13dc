"""The expected cost of a shard, the same on every machine.

Costs balance the parts of a sweep and tell how much of it is left. The plan of a sweep (`leaderboard.sweep.plan`)
counts and measures instead, on the machine that it runs on.
"""

from collections.abc import Collection
from dataclasses import dataclass

from leaderboard.shards.sizes import ModelSize, TaskSizes
from midlayer_embed.terms import METRIC_TABLE, views_of


@dataclass(frozen=True)
class Machine:
    """A machine in numbers.

    Attributes:
        flops: Floating-point operations per second of a forward pass, reached, not the peak.
        scoring: How many times as fast as `REFERENCE` it scores.
    """

    flops: float
    scoring: float = 1.0


# One GPU that reaches 15 TFLOP/s in float32, our default dtype, and one core that scores. On CPUs alone, forward passes
# weigh more than these costs say.
REFERENCE = Machine(flops=15e12)


@dataclass(frozen=True)
class _Scoring:
    """Seconds of the scoring of a layer: for each multiply-add, and for each row."""

    product: float
    row: float


# From a few runs on one core of an AMD EPYC, with vectors of language models: classifiers learn faster from vectors of
# length 1. `benchmarks.evaluation.shard_costs` compares.
_CLASSIFIER = 1.0e-8
_SECONDS_A_CLASSIFIER = 0.025
_SCORING = {
    "Classification": _Scoring(0.0, 1e-6),
    "Clustering": _Scoring(6.5e-10, 1e-6),
    "PairClassification": _Scoring(1.0e-8, 4e-6),
    "Reranking": _Scoring(0.95e-9, 0.5e-6),
    "Retrieval": _Scoring(1.0e-10, 1e-4),  # one product of matrices; not measured
}
_OTHER_SCORING = _Scoring(1.0e-8, 3e-6)
# Seconds of any shard: loading and checking the data, planning; and of any score: evaluating it and writing its file.
_SECONDS_A_SHARD = 3.0
_SECONDS_A_SCORE = 0.03
# Seconds of a layer for 1,000 texts, from `make bench` (layer_metrics, profile_layers), on one core.
_METRIC_SECONDS = {
    "prompt_entropy": 0.1,
    "curvature": 0.05,
    "dataset_entropy": 0.04,
    "effective_rank": 0.04,
    "infonce": 0.05,
    "lidar": 0.4,
    "dime": 1.6,
}
_OTHER_METRIC_SECONDS = 0.1
_METRIC_TEXTS = 1000


def shard_cost(
    sizes: TaskSizes,
    model: ModelSize,
    *,
    n_layers: int,
    n_transforms: int = 1,
    metrics: Collection[str] = (),
    metric_texts: int = _METRIC_TEXTS,
    limit: int | None = None,
    template: str | None = None,
    machine: Machine = REFERENCE,
) -> float:
    """Estimated seconds of a shard on a machine, to three digits.

    Args:
        sizes: Sizes of the task, see `task_sizes`.
        model: Size of the model.
        n_layers: Number of layers that are scored.
        n_transforms: Number of transforms of each layer, "none" among them.
        metrics: Names of the metrics that are measured in the same shard.
        metric_texts: Texts that they are measured on, at most.
        limit: As in `run_sweep`.
        template: As in `run_sweep`: a name, a text, or None.
        machine: The machine; other ones do not give the costs that parts are balanced by.

    Example:
        >>> from leaderboard.shards.sizes import Inputs
        >>> sizes = TaskSizes("STS", Inputs(2600, 143_000), items=1379, products=1379, rows=1379)
        >>> shard_cost(sizes, ModelSize(24, 1024, 3e8), n_layers=25)
        5.6
    """
    encoding, scoring, measuring = shard_seconds(
        sizes,
        model,
        n_layers=n_layers,
        n_transforms=n_transforms,
        metrics=metrics,
        metric_texts=metric_texts,
        limit=limit,
        template=template,
        machine=machine,
    )
    return float(f"{_SECONDS_A_SHARD / machine.scoring + encoding + scoring + measuring:.3g}")


def shard_seconds(
    sizes: TaskSizes,
    model: ModelSize,
    *,
    n_layers: int,
    n_transforms: int = 1,
    metrics: Collection[str] = (),
    metric_texts: int = _METRIC_TEXTS,
    limit: int | None = None,
    template: str | None = None,
    machine: Machine = REFERENCE,
) -> tuple[float, float, float]:
    """The parts of `shard_cost`: seconds of encoding, those of scoring, and those of computing metrics."""
    sizes = sizes.limited(limit)
    tokens = (sizes.evaluated + sizes.others).tokens(template, model.most_tokens)
    if metrics and sizes.evaluated.number:
        sample = sizes.evaluated * min(1.0, metric_texts / sizes.evaluated.number)
        of_views = {"halves": 0.5}
        tokens += sum(
            count * of_views.get(kind, 1.0) * sample.tokens(most=model.most_tokens)
            for kind, count in views_of(metrics).items()
        )
    n_measured = min(sizes.evaluated.number, metric_texts) / _METRIC_TEXTS
    measuring = n_layers * sum(
        _METRIC_SECONDS.get(name, _OTHER_METRIC_SECONDS)
        * n_measured ** (1 if METRIC_TABLE[name].measured_on == "tokens" else 2)
        for name in metrics
    )
    scoring = n_layers * n_transforms * seconds_a_score(sizes, model.width)
    encoding = 2 * model.n_active * tokens / machine.flops
    return encoding, scoring / machine.scoring, measuring / machine.scoring


def seconds_a_score(sizes: TaskSizes, width: int) -> float:
    """Estimated seconds of scoring vectors of a width, on one core of the reference machine."""
    found = _SCORING.get(sizes.kind.removeprefix("Image"), _OTHER_SCORING)
    products = _CLASSIFIER * sizes.fitted + found.product * sizes.products
    seconds = _SECONDS_A_SCORE + _SECONDS_A_CLASSIFIER * sizes.classifiers
    return seconds + width * products + found.row * sizes.rows
