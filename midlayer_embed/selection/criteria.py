"""Criteria, which pick a layer without the user's labels, and the layer that a criterion picked, also in words.

Nothing is measured here. Neither torch nor numpy is imported, so that command lines can list the criteria.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from midlayer_embed.errors import InputError
from midlayer_embed.ground.markdown import summary_markdown
from midlayer_embed.layers import layer_number
from midlayer_embed.terms import METRIC_TABLE, End, Metric

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from midlayer_embed.selection.profile import Profile

# The paper's three come first, in the order of its tables, with those of its other metrics; other criteria follow.
FIRST = ("min-dime", "min-infonce", "min-entropy", "min-lidar", "max-curvature")


def criteria_of(metrics: Iterable[Metric]) -> dict[str, tuple[str, End]]:
    """The criteria that measure texts, each with its metric and the end of the metric's curve that it takes.

    Example:
        >>> criteria_of([METRIC_TABLE["curvature"], METRIC_TABLE["dime"], METRIC_TABLE["sink"]])
        {'min-dime': ('dime', 'min'), 'max-curvature': ('curvature', 'max')}
    """
    found = {name: (metric.name, end) for metric in metrics for name, end in metric.criteria.items()}
    return {name: found[name] for name in dict.fromkeys((*FIRST, *found)) if name in found}


CRITERIA = criteria_of(METRIC_TABLE.values())
# Criteria that take the highest geometric mean of the metrics of several others, each of which takes the highest value.
COMBINED = {"half-and-drop": ("half-retrieval", "drop-retrieval")}
_Values = TypeVar("_Values", "np.ndarray", "pl.Expr")
# Criteria that pick the same layer for every corpus.
_FIXED: dict[str, int | float] = {"last": -1, "middle": 0.5}
_DEPTH = "depth:"
# The criterion that takes another one, for the model and the texts at hand: see `selection.auto`.
AUTO = "auto"
# Criteria that need scores of labelled tasks, of other data than the user's: see `selection.outside`.
PROXY = "proxy"
OUTSIDE = (PROXY, "published")
# Fewer different texts than this do not tell the layers apart.
LEAST_TEXTS = 200
# Without texts: of the fixed depths, the one that loses the least on the models of "Layer by Layer".
GUESS = "depth:0.8"
# A choice that fewer random halves of the texts repeat than this share is not sure.
_UNSURE = 0.5
# Fewer different texts than this are too few to trust a choice.
FEW_TEXTS = 50
# Values that differ by less, relative to values of about 1 and more, are equal: states are float32.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class LayerSelection:
    """A layer, and why it was chosen.

    Attributes:
        layer: The layer, 0..L.
        n_layers: L + 1.
        criterion: The criterion that chose it; never "auto", but the one that "auto" took.
        values: The criterion's values at every layer, float64 (L + 1,); None if the criterion measures nothing.
        runner_up: The second-best layer; None if nothing was measured or no other layer was eligible.
        margin: How much worse the runner-up's value is, at least 0, in the unit of the metric; None if there is none.
        stability: The share 0..1 of random halves of the texts on which the criterion picks the same layer; None if
            nothing was measured, or with fewer than four texts. Halves that give every layer the same value pick none.
        n_resamples: Number of halves behind the stability.
        picks: The layers that the halves pick, one each.
        profile: The curve with its settings; None if no texts were measured.
        reason: Why "auto" took this criterion, or what is known from elsewhere, in a few words; None for most criteria.
    """

    layer: int
    n_layers: int
    criterion: str
    values: "np.ndarray | None" = field(default=None, repr=False)
    runner_up: int | None = None
    margin: float | None = None
    stability: float | None = None
    n_resamples: int = 0
    picks: tuple[int, ...] = field(default=(), repr=False)
    profile: "Profile | None" = field(default=None, repr=False)
    reason: str | None = None

    @property
    def depth(self) -> float:
        """Layer / L, 0..1."""
        return self.layer / (self.n_layers - 1)

    @property
    def metric(self) -> str | None:
        """The metric behind the criterion; None if it measures nothing."""
        return CRITERIA[self.criterion][0] if self.criterion in CRITERIA else None

    @property
    def title(self) -> str:
        """What the values are, with their unit."""
        if self.criterion in COMBINED:
            return f"geometric mean of {' and '.join(COMBINED[self.criterion])}"
        return "mean score (points)" if self.metric is None else METRIC_TABLE[self.metric].title

    def _repr_markdown_(self) -> str:
        """What Jupyter shows: the choice and how clear it is."""
        return summary_markdown(selection_summary(self))


def selection_summary(selection: LayerSelection) -> list[str]:
    """The layer that was chosen and how clear the choice is, in a few lines."""
    chosen = (
        f"layer {selection.layer} of {selection.n_layers - 1} (depth {selection.depth:.2f}), by {selection.criterion}"
    )
    n_different, items = FEW_TEXTS, "texts"
    if selection.profile is not None:
        items = f"{selection.profile.kind}s"
        n_texts, n_different = selection.profile.n_texts, selection.profile.n_different_texts
        repeated = f", {n_different} of them different" if n_different < n_texts else ""
        chosen += f" over {n_texts} {items}{repeated}{without_first(selection.profile)}"
    lines = [chosen, *filter(None, [selection.reason])]
    if selection.values is not None and selection.runner_up is not None and selection.margin is not None:
        known = [float(value) for value in selection.values if value == value]
        spread = max(known) - min(known)
        share = f" ({selection.margin / spread:.1%} of the curve's range)" if spread > 0 else ""
        tied = all_tie(selection.values[[selection.layer, selection.runner_up]])
        behind = (
            "of the same value; the lower one was taken" if tied else f"behind by {number(selection.margin)}{share}"
        )
        lines.append(f"runner-up: layer {selection.runner_up}{_saved(selection)}, {behind}")
    if selection.stability is not None:
        same = round(selection.stability * selection.n_resamples)
        lines.append(f"stability: the same layer on {same} of {selection.n_resamples} random halves of the {items}")
        if selection.stability < _UNSURE and selection.picks:
            low, high = min(selection.picks), max(selection.picks)
            lines.append(f"unsure: the halves pick layers {low} to {high}; these {items} do not tell them apart")
    if n_different < FEW_TEXTS:
        lines.append(f"few {items}: {n_different} different ones say little; pass some hundreds of your own")
    return lines


def _saved(selection: LayerSelection) -> str:
    """How much smaller the encoder of the runner-up is, if it is."""
    assert selection.runner_up is not None
    n_blocks = selection.layer - selection.runner_up
    return f" ({n_blocks} block{'s' * (n_blocks > 1)} fewer)" if n_blocks > 0 else ""


def without_first(profile: "Profile") -> str:
    """Words for a profile that leaves the first token out; empty for others."""
    return "" if profile.settings.first_token else ", without the first token of each"


def number(value: float) -> str:
    """A number with four significant digits; NaN is "-".

    Example:
        >>> number(0.0123456), number(123.456), number(float("nan"))
        ('0.01235', '123.5', '-')
    """
    return "-" if value != value else f"{value:#.4g}".rstrip(".")


def is_criterion(name: object) -> bool:
    """Whether `select_layer` knows a criterion of this name.

    Example:
        >>> is_criterion("min-dime"), is_criterion("depth:1.5"), is_criterion(17)
        (True, False, False)
    """
    known = (AUTO, *CRITERIA, *COMBINED, *OUTSIDE, *_FIXED)
    return isinstance(name, str) and (name in known or _depth_of(name) is not None)


def needs_texts(criterion: str) -> bool:
    """Whether a criterion measures texts.

    Example:
        >>> needs_texts("min-dime"), needs_texts("last")
        (True, False)
    """
    return criterion in CRITERIA or criterion in COMBINED


def metrics_of(criterion: str) -> list[str]:
    """The metrics that a criterion measures.

    Example:
        >>> metrics_of("min-dime"), metrics_of("half-and-drop"), metrics_of("last")
        (['dime'], ['half_retrieval', 'drop_retrieval'], [])
    """
    parts = COMBINED.get(criterion, (criterion,))
    return [CRITERIA[name][0] for name in parts if name in CRITERIA]


def end_of(criterion: str) -> End:
    """The end of its values that a criterion that measures texts takes.

    Example:
        >>> end_of("half-retrieval"), end_of("half-and-drop")
        ('max', 'max')
    """
    return "max" if criterion in COMBINED else CRITERIA[criterion][1]


def value_of(values: "Sequence[_Values]") -> "_Values":
    """The value of a criterion from those of its metrics, in the order of `metrics_of`: their geometric mean.

    Args:
        values: One array of numpy for each metric, or one expression of polars.

    Example:
        >>> import numpy as np
        >>> value_of([np.array([0.25, 1.0]), np.array([0.25, 0.25])]).tolist()
        [0.25, 0.5]
    """
    found = values[0]
    for other in values[1:]:
        found = found * other
    return found if len(values) == 1 else found ** (1 / len(values))


def takes_texts(criterion: str) -> bool:
    """Whether a criterion measures texts if there are any: "auto" does without them, too.

    Example:
        >>> takes_texts("auto"), needs_texts("auto"), takes_texts("last")
        (True, False, False)
    """
    return criterion == AUTO or needs_texts(criterion)


def auto_takes(n_texts: int, *, is_sentence_transformer: bool, is_published: Callable[[], bool]) -> str:
    """The criterion that "auto" takes.

    Args:
        n_texts: Number of different texts of two words or more, 0 for none.
        is_sentence_transformer: Whether the model is a sentence-transformers model.
        is_published: Whether "published" knows the model; asked only where it matters.

    Example:
        >>> [auto_takes(n, is_sentence_transformer=False, is_published=lambda: False) for n in (0, 200)]
        ['depth:0.8', 'half-and-drop']
    """
    if is_sentence_transformer:
        return "last"
    if n_texts >= LEAST_TEXTS:
        return "half-and-drop"
    return "published" if is_published() else GUESS


def check_criterion(criterion: object) -> None:
    """Reject an unknown criterion.

    Raises:
        InputError: (a ValueError) the message lists the criteria.
    """
    if not is_criterion(criterion):
        raise InputError(f"criterion: expected one of {_known()}, got {criterion!r}")


def check_of_proxy(criterion: str, **arguments: object) -> None:
    """Reject arguments of "proxy" for another criterion.

    Raises:
        InputError: (a ValueError) the message names the argument.
    """
    for name, value in arguments.items():
        if value is not None and criterion != PROXY:
            raise InputError(f"{name}: only the criterion {PROXY!r} takes it, got criterion {criterion!r}")


def check_layer(layer: object) -> None:
    """Reject a layer given as a string that is not a criterion.

    Raises:
        InputError: (a ValueError) the message says what a layer may be.
    """
    if isinstance(layer, str) and not is_criterion(layer):
        raise InputError(f"layer: expected a layer (17, -1), a depth (0.7) or one of {_known()}, got {layer!r}")


def ranking(criterion: str, values: "np.ndarray", layer_zero: bool = True) -> list[int]:
    """The eligible layers, best first; ties in order of depth. A layer without a value (NaN) is not eligible.

    Args:
        criterion: One of `CRITERIA` or `COMBINED`.
        values: Its values at every layer, (L + 1,).
        layer_zero: Whether the embeddings are eligible.

    Example:
        >>> import numpy as np
        >>> ranking("min-dime", np.array([0.3, 0.1, 0.2]))
        [1, 2, 0]
    """
    order = cost(values, end_of(criterion)).argsort(kind="stable")
    return [int(layer) for layer in order if (layer_zero or layer > 0) and values[layer] == values[layer]]


def cost(values: _Values, end: End) -> _Values:
    """Values of a metric turned so that the lowest is the one that a criterion takes.

    Args:
        values: Values of the metric: an array of numpy, or an expression of polars.
        end: What the criterion takes, see `CRITERIA`.

    Example:
        >>> import numpy as np
        >>> [int(cost(np.array([0.5, 3.0, 1.2]), end).argmin()) for end in ("min", "max", 1.0)]
        [0, 1, 2]
    """
    if isinstance(end, str):
        return values if end == "min" else -values
    return abs(values - end)


def said_of(end: End) -> str:
    """Words for the value that a criterion takes.

    Example:
        >>> [said_of(end) for end in ("min", "max", 1.0)]
        ['lowest', 'highest', 'nearest to 1']
    """
    return {"min": "lowest", "max": "highest"}[end] if isinstance(end, str) else f"nearest to {end:g}"


def is_raw(criterion: str) -> bool:
    """Whether a criterion measures raw states, as in the paper, whatever the encoder will take.

    Example:
        >>> is_raw("min-dime"), is_raw("half-retrieval"), is_raw("last")
        (True, False, False)
    """
    return any(not METRIC_TABLE[name].encoded for name in metrics_of(criterion))


def all_tie(values: "np.ndarray") -> bool:
    """Whether values are equal, but for rounding: then they are no reason to choose a layer. One value ties with none.

    Example:
        >>> import numpy as np
        >>> all_tie(np.array([0.0, 1e-17, 0.0])), all_tie(np.array([0.3, 0.1])), all_tie(np.array([0.3]))
        (True, False, False)
    """
    return len(values) > 1 and float(values.max() - values.min()) <= _ROUNDING * max(1.0, float(abs(values).max()))


def fixed_layer(criterion: str, n_blocks: int) -> LayerSelection:
    """The layer of a criterion that measures nothing.

    Example:
        >>> fixed_layer("depth:0.7", n_blocks=24).layer
        17
    """
    depth = _depth_of(criterion)
    layer = layer_number(_FIXED[criterion] if depth is None else depth, n_blocks)
    return LayerSelection(layer, n_blocks + 1, criterion)


def _known() -> str:
    return ", ".join((AUTO, *CRITERIA, *COMBINED, *OUTSIDE, *_FIXED, f"{_DEPTH}0.7"))


def _depth_of(criterion: str) -> float | None:
    """The depth that a name such as "depth:0.7" stands for; None for other names."""
    if not criterion.startswith(_DEPTH):
        return None
    try:
        depth = float(criterion.removeprefix(_DEPTH))
    except ValueError:
        return None
    return depth if 0 <= depth <= 1 else None
