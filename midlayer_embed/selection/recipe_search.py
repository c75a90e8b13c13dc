"""Choose a whole recipe without labels: template, pooling and layer by a criterion, then the transform by the purpose.

One forward pass over each view of the texts under each template gives the vectors of all poolings and all layers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from midlayer_embed.errors import InputError
from midlayer_embed.forward.layerwise import LayerwiseEncoder
from midlayer_embed.ground.checks import check_int
from midlayer_embed.ground.interrupts import tell_interrupt
from midlayer_embed.ground.paths import target_folder
from midlayer_embed.layers import check_is_layer
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.options import AnyModelOptions, Recipe, fold, takes_options
from midlayer_embed.recipes.names import check_templates, check_transforms
from midlayer_embed.selection.auto import recommended
from midlayer_embed.selection.criteria import AUTO, all_tie, cost, end_of, metrics_of
from midlayer_embed.selection.profile import MAX_TEXTS, draw_texts
from midlayer_embed.selection.recipe.choice import (
    POOLINGS,
    Candidate,
    RecipeSelection,
    check_poolings,
    check_recipe_criterion,
    choice_of_layer,
)
from midlayer_embed.selection.recipe.kept_passes import KeptPasses
from midlayer_embed.selection.recipe.passes import Search, entries_of, takes_transform
from midlayer_embed.selection.recipe.purposes import TRANSFORMS, check_purpose, transform_for
from midlayer_embed.selection.select import N_RESAMPLES
from midlayer_embed.terms import METRIC_TABLE
from midlayer_embed.texts.tokens import check_texts
from midlayer_embed.texts.word_views import word_views

if TYPE_CHECKING:
    from typing_extensions import Unpack

_BY_LISTS = ("template", "pooling_mode")
_DEFAULT = "half-and-drop"  # what "auto" takes
# Whatever transform is taken in the end: ranks of candidates are more like those by labels than under other transforms,
# and far more than without any, where a few large dimensions decide.
_MEASURED_WITH = "standardize"


@takes_options(without=_BY_LISTS)
def select_recipe(
    model: str | Path | Checkpoint | LayerwiseEncoder,
    texts: Sequence[str],
    templates: Sequence[str | None] = (None, "eol", "echo"),
    transforms: Sequence[str | None] = TRANSFORMS,
    criterion: str = AUTO,
    *,
    poolings: Sequence[str | None] = POOLINGS,
    purpose: str = "similarity",
    seed: int = 0,
    max_texts: int | None = MAX_TEXTS,
    min_tokens: int = 1,
    n_resamples: int = N_RESAMPLES,
    batch_tokens: int | None = None,
    folder: str | Path | None = None,
    show_progress: bool = False,
    **options: "Unpack[AnyModelOptions]",
) -> RecipeSelection:
    """Choose a recipe without labels: template, pooling, layer and transform.

    The criterion ranks every layer under every template and pooling, on standardized vectors, or on vectors as they are
    where no transform may be taken. Then the transform follows from the purpose: criteria without labels cannot choose
    it. One forward pass over each view of the texts under each template serves all poolings and layers; the weights are
    loaded once.

    By "auto", a sentence-transformers model keeps what it was trained with: its last layer, and its own pooling without
    a template and a transform, where these are among what is tried.

    The result depends only on the model, the set of texts and the settings, not on the order of the texts.

    Args:
        model: A folder, a Hub id, "starter", a checkpoint that has been found already, or a LayerwiseEncoder, of which
            the template and the pooling are not used.
        texts: Texts like those to embed, without labels. Those of fewer than two words are not measured.
        templates: Templates to try; None, or "none", for plain texts.
        transforms: Transforms that may be taken; None, or "none", for vectors as they are.
        criterion: "half-retrieval", "drop-retrieval", "half-and-drop", the geometric mean of both, or "auto": the last
            of these, but for a sentence-transformers model.
        poolings: Poolings to try; None for what the template asks for, else the model's own.
        purpose: "similarity" (search, too), "classification" or "clustering": decides which transform is taken.
        seed: Seed of all random draws.
        max_texts: Maximum number of texts to measure, sampled with the seed; None for all.
        min_tokens: Texts with fewer tokens, special ones included, are left out.
        n_resamples: Number of random halves of the texts to try, for the stability of the choice; 0 for none.
        batch_tokens: Number of tokens in a forward pass, padding included. None: a default for the device.
        folder: Folder that keeps what is finished: a search that was interrupted resumes when it is called again with
            the same arguments, and a template that was measured is not measured again. What was measured on another
            model, other texts or with other settings is not used. None: nothing is kept.
        show_progress: Show a bar with an ETA over all passes on stderr.
        **options: More fields of `Recipe` and `Source`, as for LayerwiseEncoder.

    Returns:
        The recipe, the table of all candidates, the runner-up and the stability of the choice.

    Raises:
        InputError: (a ValueError) an argument is invalid; texts that cannot tell recipes apart, or too few for every
            transform that may be taken.

    Example:
        >>> r = select_recipe("starter", texts)                                          # doctest: +SKIP
        >>> r.recipe.template, r.recipe.pooling_mode, r.recipe.layer, r.recipe.transform # doctest: +SKIP
        ('echo', 'weightedmean', 30, 'whiten:1')
        >>> encoder = MidLayerEncoder("starter", **r.options)                            # doctest: +SKIP
    """
    tried, allowed, pooled = check_templates(templates), check_transforms(transforms), check_poolings(poolings)
    check_recipe_criterion(criterion)
    check_purpose(purpose)
    n_resamples = check_int("n_resamples", n_resamples, 0)
    kept = KeptPasses(None if folder is None else target_folder(folder, "folder"))
    found = check_texts(texts)
    if isinstance(model, LayerwiseEncoder):
        if options:
            raise InputError(f"{', '.join(options)}: pass settings of a LayerwiseEncoder to its constructor")
        check_is_layer(model.recipe.site, "chosen")
        encoder, base = model, replace(model.recipe, template=None, pooling_mode=None)
    else:
        check_is_layer(fold(options)[1].site, "chosen")
        encoder, base = LayerwiseEncoder(model, **options), fold(options)[1]
    sample = draw_texts(encoder, found, max_texts, min_tokens=min_tokens, seed=seed)
    measured_by = _DEFAULT if criterion == AUTO else criterion
    layers: Sequence[int] = range(encoder.n_layers)
    trained = criterion == AUTO and encoder.checkpoint.own.is_sentence_transformer
    if trained:
        tried, allowed, pooled = (_as_trained(some) for some in (tried, allowed, pooled))
        layers = layers[-1:]
    end = end_of(measured_by)
    views = []
    for metric in metrics_of(measured_by):  # the same texts have views of each kind: those of two words or more
        rows, pair = word_views(sample, METRIC_TABLE[metric].views, seed)  # type: ignore[arg-type]
        views += pair
    if len(set(zip(*views, strict=True))) < 2:
        raise InputError(
            f"texts: {measured_by} needs at least two different texts of two words or more, got {len(found)} texts, "
            f"{len(rows)} of them of two words or more, {len({sample[row] for row in rows})} different"
        )
    entries, remarks = entries_of(encoder, base, tried, pooled)
    if trained:
        remarks.append(recommended(encoder.checkpoint, sample)[1])
    # Transforms are fitted on the views, to measure, and on all texts, to embed.
    n_fitted = min(2 * len(rows), sum(bool(text.strip()) for text in found))
    transform_of = {
        (entry.template, pooling): transform_for(purpose, allowed, n_fitted, entry.dim(pooling))
        for entry in entries
        for pooling in entry.poolings
    }
    search = Search(
        entries,
        views,
        measured_by,
        seed=seed,
        n_resamples=n_resamples,
        batch_tokens=batch_tokens,
        measured_with={kind: transform and _MEASURED_WITH for kind, (transform, _) in transform_of.items()},
        needs_transform=None not in allowed,
        layers=layers,
    )
    with kept, tell_interrupt(kept.what_is_kept):
        measured = search.run(kept, show_progress)

    values = np.concatenate([one.values.ravel() for one in measured])
    of_halves = np.concatenate([one.halves.reshape(len(one.halves), one.values.size) for one in measured], axis=1)
    everyone = [
        Candidate(entry.template, pooling, layer, None)
        for entry in entries
        for pooling in entry.poolings
        for layer in layers
    ]
    eligible = np.flatnonzero(np.isfinite(values))
    if not len(eligible) or all_tie(values[eligible]):
        why = (
            f"{measured_by} is the same for all {len(eligible)}"
            if len(eligible)
            else f"none of {len(values)} is eligible"
        )
        raise InputError(
            f"texts: they cannot tell the recipes apart: {why}; got {len(rows)} texts of two words or more, pass more"
        )
    order = cost(values, end).argsort(kind="stable")  # NaN comes last
    candidates = tuple(
        replace(everyone[number], value=float(values[number]) if np.isfinite(values[number]) else None)
        for number in order
    )
    best = candidates[0]
    picks = [everyone[pick] for pick in _picks(cost(of_halves, end))]
    entry = next(entry for entry in entries if entry.template == best.template)
    transform, why = transform_of[best.kind]
    if transform is not None and not takes_transform(encoder.checkpoint, best.layer):
        transform, why = None, "the last layer has modules of its own after pooling, which take no transform"
    recipe = replace(
        entry.encoder.recipe,
        layer=best.layer,
        pooling_mode=best.pooling_mode,
        transform=transform,
        max_seq_length=entry.limit,
    )
    selection = RecipeSelection(
        recipe=recipe,
        criterion=measured_by,
        purpose=purpose,
        candidates=candidates,
        model=encoder.checkpoint.name,
        revision=encoder.checkpoint.revision,
        n_layers=encoder.n_layers,
        n_texts=len(rows),
        stability=float(np.mean([pick == everyone[order[0]] for pick in picks])) if picks else None,
        kind_stability=float(np.mean([pick.kind == best.kind for pick in picks])) if picks else None,
        n_resamples=len(picks),
        tokens={entry.template: entry.n_tokens(sample) / len(sample) for entry in entries},
        remarks=(why, *remarks),
        seed=seed,
        options=_encoder_options(recipe, found, options),
    )
    return replace(selection, options={**selection.options, "layer": choice_of_layer(selection)})  # its card says how


def _as_trained(tried: tuple[str | None, ...]) -> tuple[str | None, ...]:
    """What a model has of itself, of the templates, transforms or poolings that are tried; all of them without that."""
    return (None,) if None in tried else tried


def _picks(costs: np.ndarray) -> list[int]:
    """The candidate that each half of the texts picks, from (n_resamples, n_candidates); halves that tie pick none."""
    picks = []
    for row in costs:
        known = row[np.isfinite(row)]
        if len(known) and not all_tie(known):
            picks.append(int(np.nanargmin(row)))
    return picks


def _encoder_options(recipe: Recipe, texts: list[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of MidLayerEncoder for a recipe; what the user did not ask for keeps its default."""
    found = {
        **given,
        "layer": recipe.layer,
        "template": recipe.template,
        "pooling_mode": recipe.pooling_mode,
        "transform": recipe.transform,
        "transform_texts": None if recipe.transform is None else texts,
    }
    return {name: value for name, value in found.items() if value is not None}
