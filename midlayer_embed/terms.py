"""What a metric is, as data: names, what each is measured on, units. Nothing is measured here and nothing is imported.

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
        name: Its name in tables and arguments.
        label: Its name in pictures and sentences.
        measured_on: The states it needs: the token states of each text, the pooled vectors of the texts, or the pooled
            vectors of augmented views of the texts.
        unit: The unit of its values; empty for a plain number.
        n_views: How many views of each text it needs; 0 unless it is measured on views.
        normalized_by: The n of its normalisations (see `metrics.matrix_entropy`), for an entropy: the number of tokens
            of a text or the number of texts. None: no entropy, so it is not normalised.
        bounds_information: Whether ln n minus its value is a lower bound of the mutual information of two views.
        criterion: The criterion that picks the layer at the good end of its curve, "min-..." or "max-..."; None: no end
            is good.
    """

    name: str
    label: str
    measured_on: Literal["tokens", "vectors", "views"]
    unit: str = "nats"
    n_views: int = 0
    normalized_by: Literal["tokens", "texts"] | None = None
    bounds_information: bool = False
    criterion: str | None = None

    @property
    def title(self) -> str:
        """The label with its unit, for the axis of a picture.

        Example:
            >>> METRIC_TABLE["curvature"].title, METRIC_TABLE["effective_rank"].title
            ('curvature (radians)', 'effective rank')
        """
        return f"{self.label} ({self.unit})" if self.unit else self.label


METRIC_TABLE: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("prompt_entropy", "prompt entropy", "tokens", normalized_by="tokens"),
        Metric("dataset_entropy", "dataset entropy", "vectors", normalized_by="texts", criterion="min-entropy"),
        Metric("curvature", "curvature", "tokens", unit="radians", criterion="max-curvature"),
        Metric("infonce", "InfoNCE", "views", n_views=2, bounds_information=True, criterion="min-infonce"),
        Metric("lidar", "LiDAR", "views", n_views=16, normalized_by="texts", criterion="min-lidar"),
        Metric("dime", "DiME", "views", n_views=2, normalized_by="texts", criterion="min-dime"),
        Metric("effective_rank", "effective rank", "vectors", unit=""),
    )
}
METRICS = tuple(METRIC_TABLE)

# What an entropy may be divided by; `metrics.gram` has the formulas.
NORMALIZATIONS = ("raw", "maxEntropy", "logN", "logD", "logNlogD")
# In tables, values as they are; and the row of a metric that bounds information, which is no division.
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
    """How many augmented views of each text some metrics need together; they share the views.

    Example:
        >>> n_views(["curvature"]), n_views(["dime", "infonce"]), n_views(["dime", "lidar"])
        (0, 2, 16)
    """
    return max((METRIC_TABLE[name].n_views for name in metrics), default=0)


def views_needed() -> str:
    """The metrics that need augmented views, with how many, for help texts.

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
