"""A criterion and a corpus without labels to a layer, with the whole curve and how stable the choice is."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from midlayer_embed.errors import InputError
from midlayer_embed.forward.layerwise import LayerwiseEncoder
from midlayer_embed.layers import layer_number
from midlayer_embed.models.backbone import find_checkpoint
from midlayer_embed.selection.profile import MAX_TEXTS, Profile, measured
from midlayer_embed.selection.representations import Representations

# Each a metric and which end of its curve: the paper's three, then others.
CRITERIA: dict[str, tuple[str, str]] = {
    "min-dime": ("dime", "min"),
    "min-infonce": ("infonce", "min"),
    "min-entropy": ("dataset_entropy", "min"),
    "min-lidar": ("lidar", "min"),
    "max-curvature": ("curvature", "max"),
}
# Layers that are the same for every corpus.
_FIXED: dict[str, int | float] = {"last": -1, "middle": 0.5}
_DEPTH = "depth:"
N_RESAMPLES = 20


@dataclass(frozen=True)
class LayerSelection:
    """A layer, and why.

    Attributes:
        layer: The layer, 0..L.
        n_layers: L + 1.
        criterion: What chose it.
        values: The criterion's metric at every layer, float64 (L + 1,); None where a criterion measures nothing.
        runner_up: The layer that comes next; None where nothing was measured or no other layer was eligible.
        margin: By how much the runner-up's value is worse, 0 or more, in the metric's own unit; None as above.
        stability: The share 0..1 of random halves of the texts on which the criterion picks the same layer; None where
            nothing was measured, or on fewer than four texts.
        n_resamples: How many halves were tried.
        profile: The curve with what it depends on; None where nothing was measured.
    """

    layer: int
    n_layers: int
    criterion: str
    values: np.ndarray | None = field(default=None, repr=False)
    runner_up: int | None = None
    margin: float | None = None
    stability: float | None = None
    n_resamples: int = 0
    profile: Profile | None = field(default=None, repr=False)

    @property
    def depth(self) -> float:
        """Layer / L, 0..1."""
        return self.layer / (self.n_layers - 1)

    @property
    def metric(self) -> str | None:
        """The metric behind the criterion; None where it measures nothing."""
        return CRITERIA[self.criterion][0] if self.criterion in CRITERIA else None


def is_criterion(name: object) -> bool:
    """Whether `select_layer` knows a criterion of this name.

    Example:
        >>> is_criterion("min-dime"), is_criterion("depth:1.5"), is_criterion(17)
        (True, False, False)
    """
    return isinstance(name, str) and (name in CRITERIA or name in _FIXED or _depth_of(name) is not None)


def check_criterion(criterion: object) -> None:
    """Refuses what is no criterion.

    Raises:
        InputError: (a ValueError) the message lists the criteria there are.
    """
    if not is_criterion(criterion):
        raise InputError(f"criterion: expected one of {_known()}, got {criterion!r}")


def check_layer(layer: object) -> None:
    """Refuses a layer by name that names no criterion.

    Raises:
        InputError: (a ValueError) the message says what a layer may be.
    """
    if isinstance(layer, str) and not is_criterion(layer):
        raise InputError(f"layer: expected a layer (17, -1), a depth (0.7) or one of {_known()}, got {layer!r}")


def needs_texts(criterion: str) -> bool:
    """Whether a criterion measures something.

    Example:
        >>> needs_texts("min-dime"), needs_texts("last")
        (True, False)
    """
    return criterion in CRITERIA


def select_layer(
    model: str | Path | LayerwiseEncoder,
    texts: Sequence[str] | None = None,
    criterion: str = "min-dime",
    seed: int = 0,
    *,
    layer_zero: bool = True,
    n_resamples: int = N_RESAMPLES,
    max_texts: int | None = MAX_TEXTS,
    final_norm: bool | None = None,
    show_progress: bool = False,
    **options: Any,
) -> LayerSelection:
    """Chooses a layer without labels.

    Stability is the share of random halves of the texts on which the criterion picks the same layer. Halves without
    replacement vary as much as bootstrap samples do, but hold no text twice: a copy would be a wrong negative to
    InfoNCE and a false agreement to DiME.

    Args:
        model: A folder, a hub id, "starter", or a LayerwiseEncoder.
        texts: Texts like those that shall be embedded. "last", "middle" and "depth:0.7" need none.
        criterion: The paper's "min-dime", "min-infonce" and "min-entropy" (of the dataset); "min-lidar",
            "max-curvature"; "last", "middle", "depth:0.7".
        seed: Of everything that is drawn.
        layer_zero: Whether the embeddings are eligible, as in the paper.
        n_resamples: How many halves of the texts are tried; 0 for none.
        max_texts: As in `profile_layers`.
        final_norm: As in `profile_layers`: of a path, raw states unless True.
        show_progress: Bars with an ETA on stderr.
        **options: More of `profile_layers`: alpha, rates, max_seq_length, device, ...

    Returns:
        The layer, with the curve, the runner-up and how stable the choice is.

    Raises:
        InputError: (a ValueError) an unknown criterion, fewer than two texts, or texts too short for it.

    Example:
        >>> s = select_layer("starter", ["a text", "another"] * 50, criterion="min-entropy")     # doctest: +SKIP
        >>> s.layer, s.values.shape                                                              # doctest: +SKIP
        (12, (31,))
    """
    check_criterion(criterion)
    if isinstance(n_resamples, bool) or not isinstance(n_resamples, int) or n_resamples < 0:
        raise InputError(f"n_resamples: expected an int of 0 or more, got {n_resamples!r}")
    if not needs_texts(criterion):
        return fixed_layer(criterion, _n_blocks(model, options))
    if texts is None:
        raise InputError(f"texts: criterion {criterion!r} measures texts, so some are needed")
    metric, _ = CRITERIA[criterion]
    with measured(
        model,
        texts,
        [metric],
        max_texts=max_texts,
        final_norm=final_norm,
        seed=seed,
        show_progress=show_progress,
        **options,
    ) as (profile, representations):
        if profile.n_texts < 2:
            raise InputError(f"texts: criterion {criterion!r} compares texts, so two are needed, got {profile.n_texts}")
        values = profile.values[metric]
        if np.isnan(values).any():
            raise InputError(f"texts: none of {profile.n_texts} is long enough to measure its {metric}")
        ranked = ranking(criterion, values, layer_zero)
        halves = _random_halves(profile.n_texts, n_resamples, seed)
        bar = tqdm(halves, desc="Resampling", unit="half", dynamic_ncols=True, disable=not show_progress)
        curves = [_curve_of_half(representations, metric, rows) for rows in bar]
        # A half without any text that is long enough measures nothing, hence picks nothing.
        picked = [ranking(criterion, curve, layer_zero)[0] for curve in curves if not np.isnan(curve).any()]
    layer, *others = ranked
    runner_up = others[0] if others else None
    return LayerSelection(
        layer=layer,
        n_layers=profile.n_layers,
        criterion=criterion,
        values=values,
        runner_up=runner_up,
        margin=None if runner_up is None else abs(float(values[runner_up] - values[layer])),
        stability=float(np.mean([pick == layer for pick in picked])) if picked else None,
        n_resamples=len(picked),
        profile=profile,
    )


def ranking(criterion: str, values: np.ndarray, layer_zero: bool = True) -> list[int]:
    """The eligible layers, best first; equals in order of depth.

    Args:
        criterion: One of `CRITERIA`.
        values: Its metric at every layer, (L + 1,).
        layer_zero: Whether the embeddings are eligible.

    Example:
        >>> ranking("min-dime", np.array([0.3, 0.1, 0.2]))
        [1, 2, 0]
    """
    _, end = CRITERIA[criterion]
    order = np.argsort(values if end == "min" else -values, kind="stable")
    return [int(layer) for layer in order if layer_zero or layer > 0]


def _known() -> str:
    return ", ".join((*CRITERIA, *_FIXED, f"{_DEPTH}0.7"))


def _random_halves(n_texts: int, n_resamples: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    if n_texts < 4:
        return []
    return [np.sort(rng.choice(n_texts, n_texts // 2, replace=False)) for _ in range(n_resamples)]


def _curve_of_half(representations: Representations, metric: str, rows: np.ndarray) -> np.ndarray:
    # Permutations differ far less than halves do, and DiME's cost is theirs.
    quick = replace(representations, settings=replace(representations.settings, n_permutations=1))
    return quick.measure(metric, rows)


def fixed_layer(criterion: str, n_blocks: int) -> LayerSelection:
    """The layer of a criterion that measures nothing.

    Example:
        >>> fixed_layer("depth:0.7", n_blocks=24).layer
        17
    """
    depth = _depth_of(criterion)
    layer = layer_number(_FIXED[criterion] if depth is None else depth, n_blocks)
    return LayerSelection(layer, n_blocks + 1, criterion)


def _depth_of(criterion: str) -> float | None:
    """The depth that "depth:0.7" names; None for what names none."""
    if not criterion.startswith(_DEPTH):
        return None
    try:
        depth = float(criterion.removeprefix(_DEPTH))
    except ValueError:
        return None
    return depth if 0 <= depth <= 1 else None


def _n_blocks(model: str | Path | LayerwiseEncoder, options: dict[str, Any]) -> int:
    if isinstance(model, LayerwiseEncoder):
        return model.checkpoint.n_blocks
    finding = {key: options[key] for key in ("revision", "gguf_file", "trust_remote_code") if key in options}
    return find_checkpoint(model, **finding).n_blocks
