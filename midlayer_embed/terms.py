"""The metrics as data: names, units and the states they are measured on. No numbers are computed, no torch is imported.

A new metric takes one entry in `METRIC_TABLE` and one function in `selection.measures.MEASURES`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from midlayer_embed.errors import InputError

# The end of a curve that a criterion takes: its lowest value, its highest one, or the one nearest to a number.
End = Literal["min", "max"] | float
ViewKind = Literal["augmented", "halves", "dropped"]


@dataclass(frozen=True)
class Metric:
    """A metric of a layer.

    Attributes:
        name: Name in tables and arguments.
        label: Name in pictures and sentences.
        measured_on: The states it needs: the token states of each text, the pooled vectors of the texts, those of the
            texts at adjacent layers, or the pooled vectors of views of the texts.
        unit: Unit of the values; empty for a plain number.
        n_views: Number of views of each text that it needs; 0 unless it is measured on views.
        views: Their kind: "augmented" copies with typing errors (`texts.views`), the two "halves" of a text, or copies
            with "dropped" words (`texts.word_views`).
        normalized_by: The n of its normalisations (see `metrics.matrix_entropy`), for an entropy: the number of tokens
            of a text or the number of texts. None: not an entropy, so it is not normalised.
        bounds_information: Whether ln n minus its value is a lower bound of the mutual information of two views.
        criteria: The criteria that pick a layer by it, each with the end of the curve that it takes.
        meaning: What it measures, in one sentence.
    """

    name: str
    label: str
    measured_on: Literal["tokens", "vectors", "layers", "views"]
    unit: str = "nats"
    n_views: int = 0
    views: ViewKind = "augmented"
    normalized_by: Literal["tokens", "texts"] | None = None
    bounds_information: bool = False
    criteria: Mapping[str, End] = field(default_factory=dict)
    meaning: str = ""

    @property
    def title(self) -> str:
        """The label with its unit, for the axis of a picture.

        Example:
            >>> METRIC_TABLE["curvature"].title, METRIC_TABLE["effective_rank"].title
            ('curvature (radians)', 'effective rank')
        """
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def encoded(self) -> bool:
        """Whether it is measured on normed or raw states as the encoder takes them; else on raw ones, as in the paper.

        Example:
            >>> METRIC_TABLE["half_retrieval"].encoded, METRIC_TABLE["dime"].encoded
            (True, False)
        """
        return self.measured_on == "views" and self.views != "augmented"

    @property
    def good_end(self) -> Literal["low", "high"] | None:
        """The end of the curve that its criteria take; None if they take no end, or both.

        Example:
            >>> [METRIC_TABLE[name].good_end for name in ("dime", "curvature", "prompt_entropy", "two_nn")]
            ['low', 'high', None, None]
        """
        ends = set(self.criteria.values())
        return "low" if ends == {"min"} else "high" if ends == {"max"} else None


METRIC_TABLE: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "prompt_entropy",
            "prompt entropy",
            "tokens",
            normalized_by="tokens",
            meaning="How evenly the token states of a text spread over directions; the mean over the texts.",
        ),
        Metric(
            "dataset_entropy",
            "dataset entropy",
            "vectors",
            normalized_by="texts",
            criteria={"min-entropy": "min"},
            meaning="How evenly the vectors of all texts spread over directions.",
        ),
        Metric(
            "curvature",
            "curvature",
            "tokens",
            unit="radians",
            criteria={"max-curvature": "max"},
            meaning="The mean angle by which the path from token state to token state turns.",
        ),
        Metric(
            "infonce",
            "InfoNCE",
            "views",
            n_views=2,
            bounds_information=True,
            criteria={"min-infonce": "min"},
            meaning="The loss of finding the other augmented copy of a text among the copies of all texts.",
        ),
        Metric(
            "lidar",
            "LiDAR",
            "views",
            n_views=16,
            normalized_by="texts",
            criteria={"min-lidar": "min"},
            meaning="How evenly texts spread over directions in which their augmented copies agree.",
        ),
        Metric(
            "dime",
            "DiME",
            "views",
            n_views=2,
            normalized_by="texts",
            criteria={"min-dime": "min"},
            meaning="The joint entropy of pairs of augmented copies if shuffled, minus that of the true pairs.",
        ),
        Metric(
            "effective_rank",
            "effective rank",
            "vectors",
            unit="",
            criteria={"max-rankme": "max"},
            meaning="The number of directions that the vectors of all texts use.",
        ),
        Metric(
            "half_retrieval",
            "half-retrieval",
            "views",
            unit="",
            n_views=2,
            views="halves",
            criteria={"half-retrieval": "max"},
            meaning="How high the other half of a text ranks among the halves of all texts: the mean of 1 / rank.",
        ),
        Metric(
            "drop_retrieval",
            "drop-retrieval",
            "views",
            unit="",
            n_views=2,
            views="dropped",
            criteria={"drop-retrieval": "max"},
            meaning="How high another copy of a text ranks among the copies of all texts, all with words left out.",
        ),
        Metric(
            "two_nn",
            "intrinsic dimension",
            "vectors",
            unit="",
            criteria={"min-id": "min", "max-id": "max"},
            meaning="In how many independent ways a text differs from its two nearest neighbours (TwoNN).",
        ),
        Metric(
            "isotropy",
            "isotropy",
            "vectors",
            unit="",
            criteria={"loes-isotropy": "max"},
            meaning="How alike the variances of all directions are: their mean over their standard deviation.",
        ),
        Metric(
            "alpha_req",
            "alpha-ReQ",
            "vectors",
            unit="",
            criteria={"alpha-req": 1.0},
            meaning="The power of its rank with which the variance of a direction falls.",
        ),
        Metric(
            "uniformity",
            "uniformity",
            "vectors",
            unit="",
            criteria={"min-uniformity": "min"},
            meaning="How evenly the vectors of all texts fill the sphere: lower is more evenly.",
        ),
        Metric(
            "agreement",
            "agreement of neighbours",
            "layers",
            unit="",
            criteria={"max-agreement": "max"},
            meaning="The share of its ten nearest neighbours that a text keeps from one layer to the next.",
        ),
        Metric(
            "sink",
            "sink",
            "tokens",
            unit="",
            meaning="The norm of the first token's state over the mean norm of the others; the mean over the texts.",
        ),
    )
}
METRICS = tuple(METRIC_TABLE)
# Those of "Layer by Layer", which `profile_layers` measures by default.
PAPER_METRICS = METRICS[: METRICS.index("effective_rank") + 1]

# Normalizations of an entropy; `metrics.gram` has the formulas.
NORMALIZATIONS = ("raw", "maxEntropy", "logN", "logD", "logNlogD")
# Normalizations in tables for values as they are, and for the lower bound of the mutual information.
RAW, MI_LOWER_BOUND = "raw", "mi_lower_bound"


def check_metrics(names: str | Sequence[str]) -> list[str]:
    """Metrics by name, each once.

    Raises:
        InputError: (a ValueError) an unknown name, or none at all.

    Example:
        >>> check_metrics(["dime", "lidar", "dime"])
        ['dime', 'lidar']
    """
    return _check_names("metrics", names, METRIC_TABLE)


def check_normalizations(names: str | Sequence[str]) -> list[str]:
    """Normalisations by name, each once.

    Raises:
        InputError: (a ValueError) an unknown name, or none at all.

    Example:
        >>> check_normalizations("logN")
        ['logN']
    """
    return _check_names("normalizations", names, NORMALIZATIONS)


def views_of(metrics: Collection[str]) -> dict[ViewKind, int]:
    """The kinds of views of each text that these metrics need, and how many of each. Metrics share views.

    Example:
        >>> views_of(["curvature"]), views_of(["dime", "infonce"]), views_of(["dime", "lidar", "half_retrieval"])
        ({}, {'augmented': 2}, {'augmented': 16, 'halves': 2})
    """
    found: dict[ViewKind, int] = {}
    for metric in (METRIC_TABLE[name] for name in metrics):
        if metric.n_views:
            found[metric.views] = max(metric.n_views, found.get(metric.views, 0))
    return found


def n_views(metrics: Collection[str]) -> int:
    """The number of views of each text that these metrics need, of all kinds together.

    Example:
        >>> n_views(["curvature"]), n_views(["dime", "infonce"]), n_views(["dime", "lidar"])
        (0, 2, 16)
    """
    return sum(views_of(metrics).values())


def views_needed() -> str:
    """The metrics that need views, with their number of views, for help texts.

    Example:
        >>> views_needed()
        'infonce 2, lidar 16, dime 2, half_retrieval 2, drop_retrieval 2'
    """
    return ", ".join(f"{metric.name} {metric.n_views}" for metric in METRIC_TABLE.values() if metric.n_views)


def _check_names(argument: str, names: str | Sequence[str], known: Collection[str]) -> list[str]:
    if isinstance(names, str):
        names = [names]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        got = repr(unknown[0]) if unknown else "none"
        raise InputError(f"{argument}: expected some of {', '.join(known)}, got {got}")
    return list(dict.fromkeys(names))
