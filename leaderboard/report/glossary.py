"""The words of a report with their meanings: metrics from `terms.METRIC_TABLE`, everything else from one dictionary."""

from collections.abc import Iterable
from dataclasses import dataclass

from leaderboard.analysis.intervals import N_RESAMPLES
from leaderboard.analysis.schemes import SCHEMES
from midlayer_embed.selection.criteria import CRITERIA, said_of
from midlayer_embed.terms import METRIC_TABLE

PAPER = "https://arxiv.org/abs/2502.02013"


@dataclass(frozen=True)
class Word:
    """A word of the report.

    Attributes:
        name: The word as the report writes it.
        meaning: What it means, in a sentence.
        good: Which way is good, "" for words that are no numbers.
    """

    name: str
    meaning: str
    good: str = ""


_UP, _DOWN, _NEITHER = "higher is better", "lower is better", "no direction"
# Words that are neither metrics nor criteria; those of schemes by their names in the tables.
WORDS = {
    "score": Word("score, points", "mteb's main score of a task, x100: 0.5 is 50 points.", _UP),
    "layer": Word("layer k of L", "The output of block k of L. Layer 0 is what enters the first block."),
    "depth": Word("depth", "Layer / last layer: 0 is the input of the first block, 1 the output of the last."),
    "blocks": Word("share of the blocks", "An encoder of layer k runs the first k blocks only.", _DOWN),
    "best": Word(
        "best",
        "The single layer with the highest mean score over the tasks. It uses the labels that it is scored on: an "
        "upper bound. The sentences at the top take it among the layers that have a score for every task.",
        _UP,
    ),
    "last": Word("last", "The highest layer that ran: what is usually taken for embeddings.", _UP),
    "random_layer": Word("random layer", "The expected score of a layer drawn at random for each task.", _UP),
    "middle": Word("middle", "The layer at depth 0.5.", _UP),
    "depth_0_7": Word("depth 0.7", "The layer at depth 0.7.", _UP),
    "oracle": Word("best of each task", "The best layer of each task. It uses the labels that it is scored on.", _UP),
    "regret": Word("regret", "Points below the best layer, over the same tasks.", _DOWN),
    "tuned": Word(
        "tuned-depth, tuned-criterion",
        "The depth, or the criterion of texts, with the lowest regret on the other models: their scores are needed, "
        "but no label of the model that it is judged on.",
    ),
    "half_and_drop": Word(
        "half-and-drop", "The layer with the highest geometric mean of half-retrieval and drop-retrieval."
    ),
    "auto": Word(
        "auto",
        "What is recommended: the last layer of a sentence-transformers model, else half-and-drop with 200 texts or "
        "more, else published, else depth 0.8. Without the metrics of half-and-drop, there count as no texts.",
    ),
    "proxy": Word("proxy", "The best layer on the starter tasks. Neither it nor any rule beside it is judged on them."),
    "published": Word("published", "The best layer by published scores of the model, on the paper's tasks."),
    "passes": Word("passes", "Forward passes over each text that a criterion needs to pick a layer.", _DOWN),
    "interval": Word(
        "95% interval", f"Of the mean, from {N_RESAMPLES:,} resamples of the tasks; layers stay as they are."
    ),
    "available": Word(
        "available", "Each mean is over the tasks that are there for it. Different tasks are not comparable."
    ),
    "common": Word("common", "All means are over the tasks that all models and schemes have, if there are any."),
    "recipe": Word(
        "recipe",
        "What is done besides the layer: a template around every text, a pooling, and a transform of the vectors, "
        "fitted on texts without labels. The best one is chosen by the scores that it is judged by: an upper bound.",
    ),
    "gain": Word("gain", "Points of a recipe's best layer over the plain last layer (the baseline), same tasks.", _UP),
    "transductive": Word(
        "transductive", "The transform was fitted on the evaluated texts themselves; new texts may gain less."
    ),
    "raw": Word("raw states", "What a block leaves, without the model's final norm. Metrics are measured on them."),
    "dcor": Word(
        "dcor",
        "Distance correlation of a metric with the score over the layers: 0 is independent, 1 is the most.",
        _NEITHER,
    ),
    "spearman": Word(
        "spearman, kendall", "Rank correlations, -1 to 1: of interest is how far they are from 0.", _NEITHER
    ),
}


def scheme_words() -> dict[str, Word]:
    """The schemes by their names in the tables, in the order of the tables."""
    criteria = {
        criterion.replace("-", "_"): Word(
            criterion,
            f"For each task, the layer where the {METRIC_TABLE[metric].label} of its texts is "
            f"{said_of(end)}. No labels are used.",
            _UP,
        )
        for criterion, (metric, end) in CRITERIA.items()
    }
    words = {**WORDS, **criteria}
    return {scheme: words[scheme] for scheme in SCHEMES}


def metric_words(names: Iterable[str] = METRIC_TABLE) -> dict[str, Word]:
    """Metrics by name: the good end is the one that the metric's criteria take.

    Example:
        >>> metric_words(["curvature"])["curvature"].good
        'higher is better for max-curvature'
    """
    words = {}
    for name in names:
        metric = METRIC_TABLE[name]
        way = {"low": _DOWN, "high": _UP, None: _NEITHER}[metric.good_end]
        good = f"{way} for {', '.join(metric.criteria)}" if metric.criteria else way
        words[name] = Word(metric.title, metric.meaning, good)
    return words


def glossary() -> list[tuple[str, list[Word]]]:
    """All words in groups with headings."""
    schemes = scheme_words()
    return [
        ("Words", [word for name, word in WORDS.items() if name not in schemes]),
        ("Ways to pick a layer (schemes)", list(schemes.values())),
        ("Metrics of a layer, measured without labels", list(metric_words().values())),
    ]
