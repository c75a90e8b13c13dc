"""Choose a layer with a criterion and texts without labels; the result has the whole curve and its stability."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from midlayer_embed.errors import InputError
from midlayer_embed.forward.layerwise import LayerwiseEncoder
from midlayer_embed.ground.checks import check_int
from midlayer_embed.ground.progress import progress
from midlayer_embed.models.checkpoint import find_checkpoint
from midlayer_embed.options import fold
from midlayer_embed.selection.criteria import (
    CRITERIA,
    LayerSelection,
    all_tie,
    check_criterion,
    fixed_layer,
    needs_texts,
    ranking,
)
from midlayer_embed.selection.profile import MAX_TEXTS, open_profile
from midlayer_embed.selection.representations import Representations

N_RESAMPLES = 20


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
    """Choose a layer without labels.

    Stability is the share of random halves of the texts on which the criterion picks the same layer. Halves without
    replacement vary as much as bootstrap samples do, but contain no text twice: a copy would be a false negative for
    InfoNCE and a false agreement for DiME.

    Args:
        model: A folder, a Hub id, "starter", or a LayerwiseEncoder.
        texts: Texts like those to embed. "last", "middle" and "depth:0.7" need none.
        criterion: One of `midlayer_embed.selection.criteria.CRITERIA`, such as the paper's "min-dime"; or "last",
            "middle", "depth:0.7".
        seed: Seed of all random draws.
        layer_zero: Whether the embeddings are eligible, as in the paper.
        n_resamples: Number of random halves of the texts to try; 0 for none.
        max_texts: Maximum number of texts to measure, as in `profile_layers`.
        final_norm: Whether to measure normed states, as in `profile_layers`.
        show_progress: Show bars with an ETA on stderr.
        **options: More keywords of `profile_layers`: alpha, rates, max_seq_length, device, ...

    Returns:
        The layer, with the curve, the runner-up and the stability of the choice.

    Raises:
        InputError: (a ValueError) an unknown criterion, fewer than two different texts, texts too short for it, or
            texts that give every layer the same value.

    Example:
        >>> s = select_layer("starter", open("texts.txt").readlines(), criterion="min-entropy")  # doctest: +SKIP
        >>> s.layer, s.values.shape                                                              # doctest: +SKIP
        (12, (31,))
    """
    check_criterion(criterion)
    n_resamples = check_int("n_resamples", n_resamples, 0)
    if not needs_texts(criterion):
        return fixed_layer(criterion, _n_blocks(model, options))
    if texts is None:
        raise InputError(f"texts: criterion {criterion!r} needs texts, got None")
    metric, _ = CRITERIA[criterion]
    with open_profile(
        model,
        texts,
        [metric],
        max_texts=max_texts,
        final_norm=final_norm,
        seed=seed,
        show_progress=show_progress,
        **options,
    ) as (profile, representations):
        if profile.n_different_texts < 2:
            raise InputError(
                f"texts: criterion {criterion!r} needs at least two different texts, got {profile.n_different_texts}"
            )
        values = profile.values[metric]
        n_measured = representations.n_measured(metric)
        ranked = ranking(criterion, values, layer_zero)
        if n_measured < 2 or not ranked:
            counted = f"{n_measured} of {profile.n_texts} is" if n_measured else f"none of {profile.n_texts} is"
            raise InputError(f"texts: {counted} long enough to measure its {metric}; expected two or more")
        if all_tie(values[ranked]):
            raise InputError(
                f"texts: they cannot tell the layers apart: {metric} is {values[ranked[0]]:.4g} at all {len(ranked)} "
                f"layers; got {profile.n_different_texts} different texts, pass more"
            )
        halves = random_halves(profile.n_texts, n_resamples, seed)
        bar = progress(len(halves), "Resampling", "half", show_progress, items=halves)
        picks = [
            _pick(criterion, _curve_of_half(representations, metric, rows), layer_zero)
            for rows in bar
            if representations.n_measured(metric, rows) > 1
        ]
        picked = [pick for pick in picks if pick is not None]
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


def random_halves(n_texts: int, n_resamples: int, seed: int) -> list[np.ndarray]:
    """The indices of random halves of some texts, rising; none with fewer than four texts."""
    rng = np.random.default_rng(seed)
    if n_texts < 4:
        return []
    return [np.sort(rng.choice(n_texts, n_texts // 2, replace=False)) for _ in range(n_resamples)]


def _curve_of_half(representations: Representations, metric: str, rows: np.ndarray) -> np.ndarray:
    # Results vary far less over permutations than over halves, and permutations are what makes DiME slow.
    quick = replace(representations, settings=replace(representations.settings, n_permutations=1))
    return quick.measure(metric, rows)


def _pick(criterion: str, curve: np.ndarray, layer_zero: bool) -> int | None:
    """The layer that a curve picks; None if no text was long enough, or the texts cannot tell the layers apart."""
    ranked = ranking(criterion, curve, layer_zero)
    return ranked[0] if ranked and not all_tie(curve[ranked]) else None


def _n_blocks(model: str | Path | LayerwiseEncoder, options: dict[str, Any]) -> int:
    if isinstance(model, LayerwiseEncoder):
        return model.checkpoint.n_blocks
    return find_checkpoint(model, fold(options)[0]).n_blocks
