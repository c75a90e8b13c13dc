"""The answer of a leaderboard in one sentence: which layer and which recipe of a model are best."""

from collections.abc import Mapping, Sequence
from typing import Any

from leaderboard.report.cells import recipe_name
from leaderboard.results.summary import LayerSummary


def answer(summary: LayerSummary | None) -> str:
    """The best layer of a model beside the last one, as a sentence.

    Args:
        summary: A result of `Leaderboard.summary`.

    Example:
        >>> answer(LayerSummary(7, 30, 30, 63.2, 56.0, tuple(range(31))))
        'Layer 7 of 30 scores 63.2, the last 56.0; it needs 23% of the blocks.'
        >>> answer(LayerSummary(2, None, 30, 61.5, None, (0, 2)))
        'Layer 2 of 30 scores 61.5, the best of the 2 layers that ran; the last did not run. It needs 7% of the blocks.'
    """
    if summary is None:
        return "No layer has a score for every task, so none is best."
    n_ran, is_known = len(summary.layers), summary.layers != (0,)
    of = f" of {summary.n_blocks}" if is_known else ""  # layer 0 alone does not tell how many there are
    scores = f"ayer {summary.best}{of} scores {summary.best_score:.1f}"
    if n_ran == 1:
        return f"L{scores}; no other layer ran."
    share = summary.best / summary.n_blocks
    needs = f"it needs {f'{share:.0%}' if summary.best else 'none'} of the blocks."
    some = f", the best of the {n_ran} layers that ran" if n_ran <= summary.n_blocks else ""
    if summary.last is None:
        return f"L{scores}{some}; the last did not run. I{needs[1:]}"
    if summary.best == summary.last:
        return f"The last layer is the best{' of those that ran' if some else ''}: l{scores}."
    if summary.last_score is None:
        return f"L{scores}{some}; the last has no score for some tasks. I{needs[1:]}"
    last = f"the last {summary.last_score:.1f}" if summary.best_score > summary.last_score else "as much as the last"
    return f"L{scores}{some}{'; ' if some else ', '}{last}; {needs}"


def answer_of_all(summaries: Sequence[LayerSummary | None]) -> str:
    """The answer for several models together: for how many the last layer is not the best.

    Example:
        >>> every = tuple(range(31))
        >>> answer_of_all([LayerSummary(7, 30, 30, 63.2, 56.0, every), LayerSummary(30, 30, 30, 61.0, 61.0, every)])
        'A layer before the last scores best for 1 of 2 models.'
    """
    n_models = len(summaries)
    known = [summary.gain for summary in summaries if summary is not None and summary.gain is not None]
    if not known:
        return f"None of {n_models} models has a comparable score of its last layer."
    n_before = sum(gain > 0 for gain in known)
    unknown = n_models - len(known)
    others = f"; {unknown} {'have' if unknown > 1 else 'has'} no comparable score of the last layer" if unknown else ""
    return f"A layer before the last scores best for {n_before or 'none'} of {n_models} models{others}."


def answers_of_types(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The best recipe of a model for each type of tasks, if there are several types.

    Args:
        rows: The rows of one model in a result of `Leaderboard.recipes` with `per_type`.
    """
    best = [row for row in rows if row["is_best"]]
    if len({row["task_type"] for row in rows}) < 2:
        return []
    gains = ["" if row["gain"] is None else f", gain {row['gain']:+.1f}" for row in best]
    return [
        f"{row['task_type']}: {recipe_name(row)}, layer {row['best_layer']}, {row['best']:.1f}{gain}"
        for row, gain in zip(best, gains, strict=True)
    ]


def answer_of_recipes(rows: Sequence[Mapping[str, Any]]) -> str:
    """The best recipe of a model beside its plain last layer, as a sentence.

    Args:
        rows: The rows of one model in a result of `Leaderboard.recipes`.

    Example:
        >>> recipe = {"model": "m", "revision": "r", "template": "echo", "transform": None, "fitted_on": None}
        >>> numbers = {"best": 67.5, "best_layer": 24, "baseline": 34.9, "is_best": True, "transductive": False}
        >>> answer_of_recipes([{**recipe, **numbers, "pooling": "weightedmean"}])
        'Best recipe: echo. Its layer 24 scores 67.5, the plain last layer 34.9.'
    """
    best = next((row for row in rows if row["is_best"]), None)
    if best is None:
        if all(row["transductive"] for row in rows):
            return "No recipe is named best: the transform of each was fitted on the evaluated texts themselves."
        return "No recipe has a layer with a score for every task, so none is best."
    name = recipe_name(best)
    scores = f"Best recipe: {name}. Its layer {best['best_layer']} scores {best['best']:.1f}"
    if best["baseline"] is None:
        return f"{scores}; the plain last layer has no score to compare with."
    return f"{scores}, the plain last layer {best['baseline']:.1f}."
