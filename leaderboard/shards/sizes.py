"""The sizes of tasks and models, from what is known before anything is loaded: mteb's statistics, the model's config.

They are the same on every machine. `leaderboard.shards.costs` makes seconds of them.
"""

import math
import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

from midlayer_embed.recipes.names import find_template

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask

    from midlayer_embed.models.checkpoint import Checkpoint

# Tokens of a text: over 16 of the paper's tasks and the starter tasks, the mean of the tokenizers of SmolLM2 and MiniLM
# is 0.93 to 1.22 times this.
_LETTERS_A_TOKEN = 4.6
_TOKENS_A_TEXT = 1.4
# Texts are cut to so many tokens, unless the model has another limit; an image is one of 224 pixels in patches of 14.
_MOST_TOKENS = 512
_IMAGE_TOKENS = 257
# What is assumed of a task that mteb has no statistics of: one that makes its own data is small, as ours are, and one
# that reads a dataset is about the median of the paper's tasks.
_OWN_DATA = (200, 57)
_UNKNOWN = (5000, 70)
_LABELS = 10
# Sets of a clustering task of mteb's older kind, which `limit` cuts each: 10 to 31 in the paper's tasks.
_SETS = 25


@dataclass(frozen=True)
class Inputs:
    """Distinct inputs to encode.

    Attributes:
        number: How many.
        letters: Characters of all of them; 0 for images.
        images: How many of them are images.
    """

    number: float = 0.0
    letters: float = 0.0
    images: float = 0.0

    def __add__(self, other: "Inputs") -> "Inputs":
        return Inputs(self.number + other.number, self.letters + other.letters, self.images + other.images)

    def __mul__(self, share: float) -> "Inputs":
        return Inputs(share * self.number, share * self.letters, share * self.images)

    def tokens(self, template: str | None = None, most: int = _MOST_TOKENS) -> float:
        """Estimated tokens under a template, each text cut to at most so many."""
        n_texts = self.number - self.images
        if n_texts <= 0:
            return self.images * _IMAGE_TOKENS
        letters = self.letters / n_texts
        if template is not None:
            parts = find_template(template).parts
            letters = (len(parts) - 1) * letters + sum(map(len, parts))
        return n_texts * min(letters / _LETTERS_A_TOKEN + _TOKENS_A_TEXT, most) + self.images * _IMAGE_TOKENS


@dataclass(frozen=True)
class TaskSizes:
    """What is known of a task without its data.

    Attributes:
        kind: mteb's type of the task, such as "Clustering".
        evaluated: Inputs of the evaluation splits.
        others: Inputs that `limit` does not cut: those that classifiers are trained on, and a corpus to search.
        items: Rows, pairs or queries of the evaluation splits, which `limit` cuts.
        sets: How often `limit` holds: once for each split of each subset, or for each set of a clustering.
        classifiers: Number of classifiers that are trained.
        fitted: Multiply-adds of their training for each dimension of the vectors, which `limit` does not cut.
        products: Other multiply-adds of the scoring of a layer, for each dimension.
        rows: Rows that the scoring of a layer goes through, whatever the number of dimensions.
    """

    kind: str
    evaluated: Inputs
    others: Inputs = Inputs()
    items: float = 0.0
    sets: int = 1
    classifiers: int = 0
    fitted: float = 0.0
    products: float = 0.0
    rows: float = 0.0

    def limited(self, limit: int | None) -> "TaskSizes":
        """The sizes under `limit`, see `leaderboard.tasks.limit`."""
        if limit is None or self.items <= limit * self.sets:
            return self
        share = limit * self.sets / self.items
        return replace(
            self,
            evaluated=self.evaluated * share,
            items=share * self.items,
            products=share * self.products,
            rows=share * self.rows,
        )

    def __add__(self, other: "TaskSizes") -> "TaskSizes":
        """The sizes of two splits or subsets of a task."""
        counted = [field.name for field in fields(self) if field.name != "kind"]
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in counted})


@dataclass(frozen=True)
class ModelSize:
    """What is known of a model without its weights.

    Attributes:
        n_blocks: Number of blocks.
        width: Width of its states.
        n_active: Parameters that a token goes through: those of the blocks, of experts only the chosen ones.
        most_tokens: Number of tokens that texts are cut to.
    """

    n_blocks: int
    width: int
    n_active: float
    most_tokens: int = _MOST_TOKENS

    @classmethod
    def of(cls, checkpoint: "Checkpoint") -> "ModelSize":
        """The size of a model, from its config alone."""
        config = checkpoint.config.get_text_config()
        n_blocks, width = checkpoint.n_blocks, int(config.hidden_size)
        return cls(n_blocks, width, n_blocks * _block_parameters(vars(config), width))


def task_sizes(task: "AbsTask") -> TaskSizes:
    """The sizes of a task, from the statistics that mteb has of it. No data are loaded.

    A task without statistics is taken for a small one if it makes its own data, and else for one of 5,000 texts of 70
    characters.
    """
    kind = str(task.metadata.type)
    if getattr(task, "makes_its_own_data", False):
        return _assumed(task, kind, *_OWN_DATA)
    found = [_sizes_of(task, kind, split, subset) for split, subset in _statistics(task)]
    if not found:
        return _assumed(task, kind, *_UNKNOWN)
    return _total(found)


def _total(found: list[TaskSizes]) -> TaskSizes:
    return reduce(operator.add, found)


def _statistics(task: "AbsTask") -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """The statistics of each evaluated split of each subset, and those of all splits of that subset."""
    every = task.metadata.descriptive_stats or {}
    of_subsets = {split: found.get("hf_subset_descriptive_stats") or {} for split, found in every.items()}
    for split in filter(every.__contains__, task.eval_splits):
        if named := [subset for subset in task.hf_subsets if subset in of_subsets[split]]:
            for subset in named:
                splits = {name: found.get(subset, every[name]) for name, found in of_subsets.items()}
                yield splits[split], splits
        else:
            yield every[split], every


def _sizes_of(task: "AbsTask", kind: str, split: Mapping[str, Any], splits: Mapping[str, Any]) -> TaskSizes:
    inputs = {name: _inputs(found) for name, found in _statistics_of_inputs(split)}
    all_inputs = sum(inputs.values(), Inputs())
    items = float(split.get("num_samples") or all_inputs.number)
    labels = _labels(split) or _LABELS
    if hasattr(task, "samples_per_label"):
        return _classification(task, kind, all_inputs, items, labels, splits)
    if "relevant_docs_statistics" in split:
        return _ranking(kind, inputs, split)
    is_in_sets = kind == "Clustering" and not hasattr(task, "max_document_to_embed")
    return _sized(kind, all_inputs, items, labels, _SETS if is_in_sets else 1)


def _statistics_of_inputs(split: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, found in split.items():
        if isinstance(found, Mapping) and _number(found) is not None:
            yield name.removesuffix("_statistics"), found


def _number(found: Mapping[str, Any]) -> float | None:
    """How many distinct inputs there are, if these are statistics of inputs."""
    number = found.get("unique_texts", found.get("unique_images"))
    return None if number is None else float(number)


def _inputs(found: Mapping[str, Any]) -> Inputs:
    number = _number(found) or 0.0
    if "unique_images" in found:
        return Inputs(number, 0.0, number)
    return Inputs(number, number * float(found.get("average_text_length") or 0.0))


def _labels(split: Mapping[str, Any]) -> int:
    found = split.get("label_statistics") or split.get("labels_statistics") or {}
    return int(found.get("unique_labels") or 0)


def _counts(split: Mapping[str, Any]) -> list[int]:
    """Rows of each label."""
    found = (split.get("label_statistics") or {}).get("labels") or {}
    return [int(label["count"]) for label in found.values()]


def _sized(kind: str, inputs: Inputs, items: float, labels: int, sets: int = 1) -> TaskSizes:
    """Sizes of a task whose items are its rows or pairs."""
    products = items * (labels if kind.endswith("Clustering") else 1)
    return TaskSizes(kind, inputs, items=items, sets=sets, products=products, rows=items)


def _classification(
    task: Any, kind: str, inputs: Inputs, items: float, labels: int, splits: Mapping[str, Any]
) -> TaskSizes:
    """A classifier is trained on some rows of each label, drawn anew for each experiment."""
    n_experiments, samples = int(task.n_experiments), int(task.samples_per_label)
    train = splits.get(task.train_split, {})
    counts = _counts(train) or labels * [2 * samples]
    n_trained = sum(min(samples, count) for count in counts)
    drawn = Inputs()
    if not getattr(task, "is_cross_validation", False):
        # Of N rows, so many are in one of the draws.
        union = sum(count * (1 - (1 - min(1, samples / count)) ** n_experiments) for count in counts if count)
        whole = sum((_inputs(found) for _, found in _statistics_of_inputs(train)), Inputs())
        whole = whole if whole.number else inputs
        drawn = whole * (union / whole.number if whole.number else 0.0)
    return TaskSizes(
        kind,
        inputs,
        drawn,
        items,
        classifiers=n_experiments,
        fitted=float(n_experiments * n_trained * (labels if labels > 2 else 1)),
        rows=n_experiments * items,
    )


def _ranking(kind: str, inputs: Mapping[str, Inputs], split: Mapping[str, Any]) -> TaskSizes:
    """Queries rank their candidates, or the whole corpus, which `limit` does not cut then."""
    is_query = {name: name.startswith("queries") for name in inputs}
    queries = sum((found for name, found in inputs.items() if is_query[name]), Inputs())
    documents = sum((found for name, found in inputs.items() if not is_query[name]), Inputs())
    written = split.get("queries_text_statistics") or {}
    average = float(written.get("average_text_length") or 0)
    # Queries may have the same text: MindSmallReranking has 2.4 million of 37,000 texts.
    n_queries = float(written["total_text_length"]) / average if average else queries.number
    ranked = split.get("top_ranked_statistics") or {}
    if n_ranked := float(ranked.get("num_top_ranked") or 0):
        return TaskSizes(kind, queries + documents, items=n_queries, products=n_ranked, rows=n_ranked)
    pairs = n_queries * documents.number
    return TaskSizes(kind, queries, documents, n_queries, products=pairs, rows=n_queries)


def _assumed(task: "AbsTask", kind: str, number: float, letters: float) -> TaskSizes:
    """Sizes of a task of its type about which nothing is known."""
    inputs = Inputs(number, 0.0, number) if "image" in task.modalities else Inputs(number, number * letters)
    if hasattr(task, "samples_per_label"):
        found = _classification(task, kind, inputs * 0.5, number / 2, _LABELS, {})
    elif kind == "Reranking":
        found = TaskSizes(kind, inputs, items=number / 10, products=number, rows=number)
    else:
        found = _sized(kind, inputs, number / (1 if kind.endswith("Clustering") else 2), _LABELS)
    return _total([found] * max(1, len(task.hf_subsets) * len(task.eval_splits)))


def _block_parameters(config: Mapping[str, Any], width: int) -> float:
    """Parameters of a block that a token goes through, of the usual kinds of blocks."""

    def first(names: Iterable[str], default: float) -> float:
        return next((float(config[name]) for name in names if _is_number(config.get(name))), float(default))

    inner = first(("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size"), 4 * width)
    if "state_size" in config or "ssm_cfg" in config:  # Mamba: into and out of twice the width, no heads
        return 3.0 * width * first(("intermediate_size",), 2 * width)
    heads = first(("num_attention_heads", "n_head"), 1)
    head = first(("head_dim",), width / heads)
    shared = first(("num_key_value_heads",), heads)
    attention = width * head * (2 * heads + 2 * shared)
    is_gated = str(config.get("hidden_act", config.get("hidden_activation", ""))).startswith(("silu", "swi", "gelu_py"))
    chosen = first(("num_experts_per_tok", "num_experts_per_token"), 1)
    of_expert = first(("moe_intermediate_size",), inner) if chosen > 1 else inner
    return attention + (3 if is_gated else 2) * width * of_expert * chosen


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
