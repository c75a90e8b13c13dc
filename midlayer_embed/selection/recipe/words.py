"""A recipe that was chosen, in words, and the candidates as a table."""

import numpy as np

from midlayer_embed.ground.markdown import escaped, summary_markdown, table
from midlayer_embed.recipes.names import NONE
from midlayer_embed.selection.criteria import LayerSelection, all_tie, metrics_of
from midlayer_embed.selection.curves import FEW_TEXTS, aligned, number
from midlayer_embed.selection.recipe.choice import Candidate, RecipeSelection
from midlayer_embed.terms import METRIC_TABLE

_SHOWN = 32  # letters of a template


def recipe_table(selection: RecipeSelection, top: int = 10) -> str:
    """The best candidates, one a row.

    Args:
        selection: The choice.
        top: Number of candidates.
    """
    return aligned(_columns(selection, top))


def recipe_markdown(selection: RecipeSelection, top: int = 5) -> str:
    """The summary, and the best candidates as a Markdown table.

    Args:
        selection: The choice.
        top: Number of candidates.
    """
    rows = [[escaped(cell) for cell in row] for row in zip(*_columns(selection, top), strict=True)]
    return f"{summary_markdown(recipe_summary(selection))}\n\n{table(rows, right=True)}"


def _columns(selection: RecipeSelection, top: int) -> list[list[str]]:
    shown = selection.ranked[:top]
    return [
        ["rank", *(str(rank) for rank in range(1, len(shown) + 1))],
        ["template", *(_name(candidate.template) for candidate in shown)],
        ["pooling", *(candidate.pooling_mode for candidate in shown)],
        ["layer", *(str(candidate.layer) for candidate in shown)],
        [selection.criterion, *(number(_value(candidate)) for candidate in shown)],
    ]


def recipe_summary(selection: RecipeSelection) -> list[str]:
    """What was picked, what was measured, how sure it is and what the others cost, in a few lines."""
    best, *others = selection.ranked
    meanings = " ".join(METRIC_TABLE[metric].meaning for metric in metrics_of(selection.criterion))
    on = "" if selection.recipe.transform is None else ", on standardized vectors"
    lines = [
        f"picked: {_words(best)} of {selection.n_layers - 1}, by {selection.criterion} over {selection.n_texts} texts, "
        f"out of {len(selection.candidates)} candidates",
        f"measured{on}: {selection.criterion} {number(_value(best))}. {meanings}",
    ]
    if left := len(selection.candidates) - len(selection.ranked):
        lines.append(f"left out: {left} of them, with vectors that are not finite, or the same for all texts")
    if others:
        lines.append(f"runner-up: {_words(others[0])}, {_behind(selection, others[0])}")
    for template in selection.tokens:
        first = next((one for one in others if one.template == template), None)
        if first is not None and template != best.template:
            tokens = f"{selection.tokens[template]:.0f} tokens a text, not {selection.tokens[best.template]:.0f}"
            lines.append(f"another template: {_words(first)}, {_behind(selection, first)}; {tokens}")
    lines += _stability(selection)
    lines.append(f"transform: {selection.recipe.transform or NONE}, not measured: {selection.remarks[0]}")
    return [*lines, *selection.remarks[1:], *_few(selection)]


def provenance(selection: RecipeSelection) -> str:
    """How a recipe was chosen, in one sentence without an end, for those who only see the result."""
    templates, poolings = (len({one.kind[place] for one in selection.candidates}) for place in (0, 1))
    return (
        f"without labels by {selection.criterion}, out of {len(selection.candidates)} candidates (templates: "
        f"{templates}, poolings: {poolings}, layers: {selection.n_layers}) over {selection.n_texts} texts"
    )


def choice_of_layer(selection: RecipeSelection) -> LayerSelection:
    """The choice of the layer, under the template and the pooling that were chosen with it: its curve and runner-up."""
    best, *others = selection.ranked
    values = np.full(selection.n_layers, np.nan)
    for candidate in selection.ranked:
        if candidate.kind == best.kind:
            values[candidate.layer] = _value(candidate)
    runner_up = next((one for one in others if one.kind == best.kind), None)
    reasons = [f"with its template and pooling, {provenance(selection)}", *_stability(selection), *_few(selection)]
    return LayerSelection(
        layer=best.layer,
        n_layers=selection.n_layers,
        criterion=selection.criterion,
        values=values,
        runner_up=None if runner_up is None else runner_up.layer,
        margin=None if runner_up is None else abs(_value(runner_up) - _value(best)),
        reason="; ".join(reasons),
    )


def _stability(selection: RecipeSelection) -> list[str]:
    if selection.stability is None or selection.kind_stability is None:
        return []
    same, kind = (round(share * selection.n_resamples) for share in (selection.stability, selection.kind_stability))
    return [
        f"stability: the same recipe on {same} of {selection.n_resamples} random halves of the texts, the same "
        f"template and pooling on {kind}"
    ]


def _few(selection: RecipeSelection) -> list[str]:
    if selection.n_texts >= FEW_TEXTS:
        return []
    return [f"few texts: {selection.n_texts} say little; pass some hundreds of your own"]


def _words(candidate: Candidate) -> str:
    return f"{_name(candidate.template, 'no template')}, {candidate.pooling_mode}, layer {candidate.layer}"


def _behind(selection: RecipeSelection, candidate: Candidate) -> str:
    values = [_value(one) for one in selection.ranked]
    margin = abs(_value(candidate) - values[0])
    if all_tie(np.array([_value(candidate), values[0]])):
        return "of the same value"
    return f"behind by {number(margin)} ({margin / (max(values) - min(values)):.1%} of the range)"


def _name(template: str | None, none: str = NONE) -> str:
    if template is None:
        return none
    shown = " ".join(template.split())
    return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 1]}…"


def _value(candidate: Candidate) -> float:
    assert candidate.value is not None
    return candidate.value
