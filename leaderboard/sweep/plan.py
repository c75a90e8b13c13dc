"""Estimates the cost of a sweep: texts, tokens, forward passes, disk and time. Only a sample of texts is encoded."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leaderboard.analysis.variants import Variant
from leaderboard.tasks.items import Item
from midlayer_embed.errors import InputError
from midlayer_embed.forward.batching import token_budget
from midlayer_embed.forward.one_pass import OnePassEncoder
from midlayer_embed.ground.progress import duration
from midlayer_embed.selection.representations import TextPass
from midlayer_embed.terms import views_of

# Sample sizes: texts to count tokens of, and texts to augment.
_COUNTED = 1000
_AUGMENTED = 32
# The speed is known from a pass of so many seconds; this many texts are tried first.
_TIMED_SECONDS = 0.5
_TIMED_TEXTS = 8


@dataclass(frozen=True)
class TaskPlan:
    """The expected cost of one task under one template.

    Attributes:
        task: Name of the task.
        n_texts: Number of distinct texts to encode for the scores; 0 if no score is missing.
        groups: Groups of layers whose vectors are on disk together; each group needs its own forward passes.
        score_tokens: Tokens to encode for the scores, in all passes together.
        metric_tokens: Tokens to encode for the metrics only, in all passes together.
        disk: Bytes needed on disk at a time.
        template: The template; None for plain texts.
        n_scores: Number of scores to compute: one for each layer and transform.
    """

    task: str
    n_texts: int
    groups: tuple[tuple[int, ...], ...]
    score_tokens: int
    metric_tokens: int
    disk: int
    template: str | None = None
    n_scores: int = 0

    @property
    def label(self) -> str:
        """The task, and a template if there is one."""
        return self.task if self.template is None else f"{self.task} ({Variant('', '', self.template).words()})"


@dataclass(frozen=True)
class Plan:
    """The expected cost of a sweep.

    Attributes:
        tasks: Unfinished tasks, at least one; a task has an entry for each of its templates.
        n_finished: Number of finished tasks.
        tokens_per_second: Speed of the model on this machine, measured on a sample; None if nothing is encoded.
        corpora: The cost of the texts that transforms are fitted on, if they are encoded apart from the tasks.
        items: What is encoded: "texts" or "images".
        model: Name of the model.
    """

    tasks: tuple[TaskPlan, ...]
    n_finished: int
    tokens_per_second: float | None
    corpora: tuple[TaskPlan, ...] = ()
    items: str = "texts"
    model: str = ""

    def seconds(self, task: TaskPlan) -> float:
        """Estimated seconds of the forward passes of a task, without scoring and metrics."""
        tokens = task.score_tokens + task.metric_tokens
        return tokens / self.tokens_per_second if self.tokens_per_second else 0.0

    def lines(self) -> list[str]:
        """The plan as text: a table with a row per task, and a line with the totals."""
        rows = [("task", self.items, "layers", "passes", "tokens", "for metrics", "scores", "disk", "about")]
        rows += [
            (
                plan.label,
                f"{plan.n_texts:,}",
                str(sum(map(len, plan.groups))),
                str(len(plan.groups)),
                f"{plan.score_tokens:,}",
                f"{plan.metric_tokens:,}",
                f"{plan.n_scores:,}",
                f"{plan.disk / 1e6:,.0f} MB",
                duration(self.seconds(plan)),
            )
            for plan in (*self.corpora, *self.tasks)
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = [
            "  ".join(
                [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
            )
            for row in rows
        ]
        total = duration(sum(self.seconds(plan) for plan in (*self.corpora, *self.tasks)))
        disk = (max(plan.disk for plan in self.tasks) + sum(plan.disk for plan in self.corpora)) / 1e6
        finished = f", {self.n_finished} more are finished" if self.n_finished else ""
        speed = f" at {self.tokens_per_second:,.0f} tokens/s" if self.tokens_per_second else ""
        n_scores = sum(plan.n_scores for plan in self.tasks)
        return [
            *table,
            f"plan: {len({plan.task for plan in self.tasks})} tasks{finished}; about {total} of forward passes{speed}, "
            f"the scoring of {n_scores:,} layers and transforms on top; at most {disk:,.0f} MB on the disk at a time",
        ]


def layer_groups(layers: Sequence[int], bytes_a_layer: int, budget: int) -> tuple[tuple[int, ...], ...]:
    """Splits layers into as few groups as the budget allows, all of about the same size.

    Raises:
        InputError: (a ValueError) a single layer does not fit.

    Example:
        >>> layer_groups([0, 1, 2, 3, 4], bytes_a_layer=10, budget=25)
        ((0, 1), (2, 3), (4,))
    """
    if not layers:
        return ()
    fit = budget // bytes_a_layer if bytes_a_layer else len(layers)
    if fit < 1:
        raise InputError(
            f"store_budget: one layer takes {bytes_a_layer:,} bytes on the disk, more than the budget of {budget:,}"
        )
    n_groups = -(-len(layers) // fit)
    return tuple(tuple(int(layer) for layer in group) for group in np.array_split(np.array(layers), n_groups))


def count_tokens(encoder: OnePassEncoder, texts: Sequence[Item]) -> int:
    """Estimated number of tokens of texts, from a sample of them."""
    some = texts[:: max(1, len(texts) // _COUNTED)]
    if not some:
        return 0
    counts = encoder.inputs.token_counts(some)
    return round(float(counts.mean()) * len(texts))


def count_metric_tokens(encoder: OnePassEncoder, sample: Sequence[Item], wanted: Sequence[str], seed: int) -> int:
    """Estimated number of tokens to encode for metrics, from the views of a few texts.

    Args:
        encoder: The model.
        sample: Texts that metrics are measured on.
        wanted: Names of the metrics.
        seed: Seed of the views.
    """
    texts = count_tokens(encoder, sample) if TextPass.is_needed(wanted) else 0
    some = sample[:_AUGMENTED]
    for kind, count in views_of(wanted).items():
        of_one = 1 if kind == "augmented" else count  # all augmented views have about as many tokens
        _, views = encoder.inputs.views(kind, some, of_one, seed=seed, workers=1)
        n_tokens = count // of_one * sum(count_tokens(encoder, view) for view in views)
        texts += round(n_tokens / len(some) * len(sample))
    return texts


def measure_speed(encoder: OnePassEncoder, texts: Sequence[Item]) -> float:
    """Tokens per second through all layers, measured on as many of these texts as take half a second.

    A machine that needs less for two full batches is measured on these.
    """
    texts = list(dict.fromkeys(texts))
    counts = encoder.inputs.token_counts(texts)
    within = np.cumsum(counts) <= 2 * token_budget(None, encoder.backbone.device)
    some = [text for text, is_in in zip(texts, within, strict=True) if is_in] or [texts[0]]
    _encode(encoder, some[:4])  # warm-up
    n_timed = min(_TIMED_TEXTS, len(some))
    while True:
        start = time.perf_counter()
        _encode(encoder, some[:n_timed])
        seconds = time.perf_counter() - start
        if seconds >= _TIMED_SECONDS or n_timed == len(some):
            return float(counts[:n_timed].sum()) / seconds
        n_timed = min(4 * n_timed, len(some))


def _encode(encoder: OnePassEncoder, items: Sequence[Item]) -> None:
    for _ in encoder.pooled_batches(items, encoder.layers, norms=[encoder.final_norm]):
        pass
