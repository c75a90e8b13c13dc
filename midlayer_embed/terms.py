"""The metrics as data: names, units and the states they are measured on. No numbers are computed, no torch is imported.

A new metric takes one entry in `METRIC_TABLE` and one function in `selection.measures.MEASURES`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from midlayer_embed.errors import InputError


@dataclass(frozen=True)
class Metric:
    """A metric of a layer.

    Attributes:
        name: Name in tables and arguments.
        label: Name in pictures and sentences.
        measured_on: The states it needs: the token states of each text, the pooled vectors of the texts, or the pooled
            vectors of augmented views of the texts.
        unit: Unit of the values; empty for a plain number.
        n_views: Number of views of each text that it needs; 0 unless it is measured on views.
        normalized_by: The n of its normalisations (see `metrics.matrix_entropy`), for an entropy: the number of tokens
            of a text or the number of texts. None: not an entropy, so it is not normalised.
        bounds_information: Whether ln n minus its value is a lower bound of the mutual information of two views.
        criterion: The criterion that picks the layer at the good end of its curve, "min-..." or "max-..."; None: no end
            is good.
        meaning: What it measures, in one sentence.
    """

    name: str
    label: str
    measured_on: Literal["tokens", "vectors", "views"]
    unit: str = "nats"
    n_views: int = 0
    normalized_by: Literal["tokens", "texts"] | None = None
    bounds_information: bool = False
    criterion: str | None = None
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
    def good_end(self) -> Literal["low", "high"] | None:
        """The end of the curve that the criterion takes; None if no end is good.

        Example:
            >>> [METRIC_TABLE[name].good_end for name in ("dime", "curvature", "effective_rank")]
            ['low', 'high', None]
        """
        if self.criterion is None:
            return None
        return "low" if self.criterion.startswith("min-") else "high"


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
            criterion="min-entropy",
            meaning="How evenly the vectors of all texts spread over directions.",
        ),
        Metric(
            "curvature",
            "curvature",
            "tokens",
            unit="radians",
            criterion="max-curvature",
            meaning="The mean angle by which the path from token state to token state turns.",
        ),
        Metric(
            "infonce",
            "InfoNCE",
            "views",
            n_views=2,
            bounds_information=True,
            criterion="min-infonce",
            meaning="The loss of finding the other augmented copy of a text among the copies of all texts.",
        ),
        Metric(
            "lidar",
            "LiDAR",
            "views",
            n_views=16,
            normalized_by="texts",
            criterion="min-lidar",
            meaning="How evenly texts spread over directions in which their augmented copies agree.",
        ),
        Metric(
            "dime",
            "DiME",
            "views",
            n_views=2,
            normalized_by="texts",
            criterion="min-dime",
            meaning="The joint entropy of pairs of augmented copies if shuffled, minus that of the true pairs.",
        ),
        Metric(
            "effective_rank",
            "effective rank",
            "vectors",
            unit="",
            meaning="The number of directions that the vectors of all texts use.",
        ),
    )
}
METRICS = tuple(METRIC_TABLE)

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


def n_views(metrics: Collection[str]) -> int:
    """The number of augmented views of each text that these metrics need. Metrics share views.

    Example:
        >>> n_views(["curvature"]), n_views(["dime", "infonce"]), n_views(["dime", "lidar"])
        (0, 2, 16)
    """
    return max((METRIC_TABLE[name].n_views for name in metrics), default=0)


def views_needed() -> str:
    """The metrics that need augmented views, with their number of views, for help texts.

    Example:
        >>> views_needed()
        'infonce 2, lidar 16, dime 2'
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
