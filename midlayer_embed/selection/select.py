"""Choose a layer with a criterion and texts without labels; the result has the whole curve and its stability."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from midlayer_embed.errors import InputError
from midlayer_embed.forward.one_pass import OnePassEncoder
from midlayer_embed.ground.checks import check_int
from midlayer_embed.ground.progress import progress
from midlayer_embed.layers import check_is_layer
from midlayer_embed.models.checkpoint import Checkpoint, find_checkpoint
from midlayer_embed.options import OF_ONE_LAYER, Recipe, Source, fold
from midlayer_embed.selection.auto import recommended
from midlayer_embed.selection.criteria import (
    AUTO,
    OUTSIDE,
    LayerSelection,
    all_tie,
    check_criterion,
    check_of_proxy,
    cost,
    end_of,
    fixed_layer,
    metrics_of,
    needs_texts,
    ranking,
    value_of,
)
from midlayer_embed.selection.layer_states import Representations
from midlayer_embed.selection.outside import outside_criterion
from midlayer_embed.selection.profile import MAX_TEXTS, open_profile

N_RESAMPLES = 20
# The keywords that are about the model, not about measuring.
_OF_MODELS = {f.name for record in (Source, Recipe) for f in fields(record)}.difference(OF_ONE_LAYER)


def select_layer(
    model: str | Path | Checkpoint | OnePassEncoder,
    texts: Sequence[Any] | None = None,
    criterion: str = AUTO,
    seed: int = 0,
    *,
    layer_zero: bool = True,
    n_resamples: int = N_RESAMPLES,
    max_texts: int | None = MAX_TEXTS,
    final_norm: bool | None = None,
    proxy_tasks: Sequence[str] | None = None,
    data_dir: str | Path | None = None,
    show_progress: bool = False,
    **options: Any,
) -> LayerSelection:
    """Choose a layer without the user's labels.

    Stability is the share of random halves of the texts on which the criterion picks the same layer. Halves without
    replacement vary as much as bootstrap samples do, but contain no text twice: a copy would be a false negative for
    InfoNCE and a false agreement for DiME.

    Args:
        model: A folder, a Hub id, "starter", a checkpoint that has been found already, a LayerwiseEncoder or an
            ImageLayerwiseEncoder.
        texts: Texts, or images, like those to embed. "proxy", "published", "last", "middle" and "depth:0.7" need none,
            and "auto" does without them if it must.
        criterion: "auto", the one that we recommend (see `midlayer_embed.selection.auto`); one of
            `midlayer_embed.selection.criteria.CRITERIA`, such as "half-retrieval" or the paper's "min-dime";
            "half-and-drop": the highest geometric mean of half-retrieval and drop-retrieval; "proxy": the best layer of
            labelled tasks at hand; "published": the best layer of a model whose layers have published scores; or
            "last", "middle", "depth:0.7".
        seed: Seed of all random draws.
        layer_zero: Whether the embeddings are eligible, as in the paper.
        n_resamples: Number of random halves of the texts to try; 0 for none.
        max_texts: Maximum number of texts to measure, as in `profile_layers`.
        final_norm: Whether to measure normed states, as in `profile_layers`.
        proxy_tasks: Names of mteb's tasks for "proxy"; None: the starter benchmark, which needs no download.
        data_dir: A folder to read their datasets from, as in `leaderboard.run_sweep`.
        show_progress: Show bars with an ETA on stderr.
        **options: More keywords of `profile_layers`: alpha, rates, max_seq_length, device, ...

    Returns:
        The layer, with the curve, the runner-up and the stability of the choice.

    Raises:
        InputError: (a ValueError) an unknown criterion, one that takes layer 0 where it may not be chosen, fewer than
            two different texts, texts too short for it, or texts that give every layer the same value.

    Example:
        >>> s = select_layer("starter", open("texts.txt").readlines())     # doctest: +SKIP
        >>> s.layer, s.criterion, s.values.shape                           # doctest: +SKIP
        (16, 'half-and-drop', (31,))
    """
    check_criterion(criterion)
    n_resamples = check_int("n_resamples", n_resamples, 0)
    check_of_proxy(criterion, proxy_tasks=proxy_tasks, data_dir=data_dir)
    of_model = {name: options[name] for name in options if name in _OF_MODELS}
    check_is_layer(model.recipe.site if isinstance(model, OnePassEncoder) else fold(of_model)[1].site, "chosen")
    if final_norm is not None and not isinstance(model, OnePassEncoder):
        of_model["final_norm"] = final_norm
    if criterion == AUTO:
        recipe = model.recipe if isinstance(model, OnePassEncoder) else fold(of_model)[1]
        criterion, reason = recommended(
            _checkpoint(model, options), texts, max_texts, layer_zero=layer_zero, recipe=recipe
        )
        found = select_layer(
            model,
            texts,
            criterion,
            seed,
            layer_zero=layer_zero,
            n_resamples=n_resamples,
            max_texts=max_texts,
            final_norm=final_norm,
            show_progress=show_progress,
            **options,
        )
        return replace(found, reason="; ".join(filter(None, [reason, found.reason])))
    if criterion in OUTSIDE:
        if (checkpoint := _checkpoint(model, options)).modality != "text":
            raise InputError(
                f"criterion: {criterion!r} goes by scores of texts, and {checkpoint.name} embeds images; use 'auto'"
            )
        found = outside_criterion(criterion)(
            model,
            tasks=proxy_tasks,
            data_dir=data_dir,
            layer_zero=layer_zero,
            seed=seed,
            show_progress=show_progress,
            **of_model,
        )
        assert isinstance(found, LayerSelection)
        return found
    if not needs_texts(criterion):
        fixed = fixed_layer(criterion, _checkpoint(model, options).n_blocks)
        if fixed.layer == 0 and not layer_zero:
            raise InputError(f"layer_zero: criterion {criterion!r} takes layer 0, which may not be chosen")
        return fixed
    if texts is None:
        raise InputError(f"texts: criterion {criterion!r} needs texts, got None")
    measured = metrics_of(criterion)
    names = " and ".join(measured)
    with open_profile(
        model,
        texts,
        measured,
        max_texts=max_texts,
        final_norm=final_norm,
        seed=seed,
        show_progress=show_progress,
        **options,
    ) as (profile, representations):
        items = f"{profile.kind}s"
        if profile.n_different_texts < 2:
            raise InputError(
                f"{items}: criterion {criterion!r} needs at least two different {items}, "
                f"got {profile.n_different_texts}"
            )
        values = _values(criterion, profile.values)
        n_measured = min(map(representations.n_measured, measured))
        ranked = ranking(criterion, values, layer_zero)
        if not ranked and n_measured > 1:
            raise InputError(
                f"{items}: expected more different {items} to measure {names}, got {profile.n_different_texts}"
            )
        if n_measured < 2 or not ranked:
            counted = f"{n_measured} of {profile.n_texts} is" if n_measured else f"none of {profile.n_texts} is"
            raise InputError(f"{items}: {counted} long enough to measure its {names}; expected two or more")
        for metric in measured:
            if all_tie(curve := profile.values[metric][ranked]):
                raise InputError(
                    f"{items}: they cannot tell the layers apart: {metric} is {curve[0]:.4g} at all {len(ranked)} "
                    f"layers; got {profile.n_different_texts} different {items}, pass more"
                )
        halves = random_halves(profile.n_texts, n_resamples, seed)
        bar = progress(len(halves), "Resampling", "half", show_progress, items=halves)
        picks = [
            _pick(criterion, _curves_of_half(representations, measured, rows), layer_zero)
            for rows in bar
            if min(representations.n_measured(metric, rows) for metric in measured) > 1
        ]
        picked = [pick for pick in picks if pick is not None]
    layer, *others = ranked
    runner_up = others[0] if others else None
    costs = cost(values, end_of(criterion))
    return LayerSelection(
        layer=layer,
        n_layers=profile.n_layers,
        criterion=criterion,
        values=values,
        runner_up=runner_up,
        margin=None if runner_up is None else float(costs[runner_up] - costs[layer]),
        stability=float(np.mean([pick == layer for pick in picked])) if picked else None,
        n_resamples=len(picked),
        picks=tuple(picked),
        profile=profile,
    )


def random_halves(n_texts: int, n_resamples: int, seed: int) -> list[np.ndarray]:
    """The indices of random halves of some texts, rising; none with fewer than four texts."""
    rng = np.random.default_rng(seed)
    if n_texts < 4:
        return []
    return [np.sort(rng.choice(n_texts, n_texts // 2, replace=False)) for _ in range(n_resamples)]


def _values(criterion: str, curves: Mapping[str, np.ndarray]) -> np.ndarray:
    """The values of a criterion from the curves of its metrics."""
    return value_of([curves[metric] for metric in metrics_of(criterion)])


def _curves_of_half(
    representations: Representations, metrics: Sequence[str], rows: np.ndarray
) -> dict[str, np.ndarray]:
    # Results vary far less over permutations than over halves, and permutations are what makes DiME slow.
    quick = replace(representations, settings=replace(representations.settings, n_permutations=1))
    return {metric: quick.measure(metric, rows) for metric in metrics}


def _pick(criterion: str, curves: Mapping[str, np.ndarray], layer_zero: bool) -> int | None:
    """The layer that curves pick; None if no text was long enough, or the texts cannot tell the layers apart."""
    ranked = ranking(criterion, _values(criterion, curves), layer_zero)
    return ranked[0] if ranked and not any(all_tie(curve[ranked]) for curve in curves.values()) else None


def _checkpoint(model: str | Path | Checkpoint | OnePassEncoder, options: dict[str, Any]) -> Checkpoint:
    if isinstance(model, OnePassEncoder):
        return model.checkpoint
    return model if isinstance(model, Checkpoint) else find_checkpoint(model, fold(options)[0])
