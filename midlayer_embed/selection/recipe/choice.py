"""Recipes that competed, and the one that was picked, also in words. Nothing is measured here.

Neither torch nor numpy is imported before they are needed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midlayer_embed.errors import InputError, InputTypeError
from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.ground.checks import check_installed
from midlayer_embed.ground.markdown import escaped, summary_markdown, table
from midlayer_embed.options import POOLING_MODES, Recipe, pooling_modes
from midlayer_embed.recipes.names import NONE, some_of
from midlayer_embed.selection.criteria import (
    AUTO,
    COMBINED,
    CRITERIA,
    FEW_TEXTS,
    LayerSelection,
    all_tie,
    metrics_of,
    number,
)
from midlayer_embed.terms import METRIC_TABLE

if TYPE_CHECKING:
    import polars as pl

_SHOWN = 32  # letters of a template
TABLES = "recipes"  # name of the files of all candidates
# None: what the template asks for, else the model's own sentence-transformers config.
POOLINGS = (None, "mean", "weightedmean", "lasttoken")
# Criteria whose values can be compared between recipes: the rank of a text does not depend on the scale of vectors.
_ENCODED = [name for name, (metric, _) in CRITERIA.items() if METRIC_TABLE[metric].encoded]
RECIPE_CRITERIA = (AUTO, *_ENCODED, *(name for name, parts in COMBINED.items() if set(parts) <= set(_ENCODED)))


@dataclass(frozen=True)
class Candidate:
    """A recipe that competed.

    Attributes:
        template: Its template, or None.
        pooling_mode: Its pooling.
        layer: Its layer.
        value: The criterion's metric; None if it is not eligible: not finite vectors, or the same one for all texts.
    """

    template: str | None
    pooling_mode: str
    layer: int
    value: float | None

    @property
    def kind(self) -> tuple[str | None, str]:
        """Template and pooling."""
        return self.template, self.pooling_mode


@dataclass(frozen=True)
class RecipeSelection:
    """A recipe, and why it was chosen.

    Attributes:
        recipe: The whole recipe; `MidLayerEncoder(model, **selection.options)` builds its encoder.
        criterion: The criterion that chose template, pooling and layer.
        purpose: What the vectors are for, which decides the transform.
        candidates: All that competed, best first; those that are not eligible come last.
        model: The model's name.
        revision: Revision of its weights.
        n_layers: L + 1.
        n_texts: Number of texts that were measured: those of two words or more.
        stability: The share 0..1 of random halves of the texts on which the same candidate is picked; None with fewer
            than four texts.
        kind_stability: The same for its template and pooling, whatever the layer.
        n_resamples: Number of halves behind both.
        tokens: Mean number of tokens of a text under each template, special tokens and both copies included.
        remarks: Why this transform, and what could not compete, in sentences.
        seed: Seed of the sample of texts, and of the halves.
        options: Keywords of MidLayerEncoder that build the encoder of the recipe: the texts of its transform, and as
            `layer` a LayerSelection, so that the encoder and its card know how it was chosen.
    """

    recipe: Recipe
    criterion: str
    purpose: str
    candidates: tuple[Candidate, ...] = field(repr=False)
    model: str
    revision: str
    n_layers: int
    n_texts: int
    stability: float | None
    kind_stability: float | None
    n_resamples: int
    tokens: Mapping[str | None, float]
    remarks: tuple[str, ...]
    seed: int
    options: Mapping[str, Any] = field(repr=False)

    @property
    def ranked(self) -> tuple[Candidate, ...]:
        """The candidates that are eligible, best first."""
        return tuple(candidate for candidate in self.candidates if candidate.value is not None)

    @property
    def runner_up(self) -> Candidate | None:
        """The second-best candidate, if there is one."""
        return self.ranked[1] if len(self.ranked) > 1 else None

    @property
    def table(self) -> "pl.DataFrame":
        """A polars frame of all candidates, best first: template, pooling_mode, layer, value, rank.

        Value and rank are null for those that are not eligible, and so is the template of plain texts.

        Raises:
            InputError: (a ValueError) polars is not installed.
        """
        check_installed("polars", "table")
        import polars as pl

        rows = [
            (*candidate.kind, candidate.layer, candidate.value, None if candidate.value is None else rank)
            for rank, candidate in enumerate(self.candidates, start=1)
        ]
        schema = {
            "template": pl.String,
            "pooling_mode": pl.String,
            "layer": pl.Int64,
            "value": pl.Float64,
            "rank": pl.Int64,
        }
        return pl.DataFrame(rows, schema=schema, orient="row")

    def _repr_markdown_(self) -> str:
        """What Jupyter shows: the choice, how sure it is, and the best candidates."""
        return recipe_markdown(self)

    def write_tables(self, folder: Path) -> tuple[str, ...]:
        """Write the table as recipes.parquet and recipes.csv, with what was measured in further columns.

        Returns:
            The names of the files; each is written atomically.
        """
        check_installed("polars", "table")
        import polars as pl

        frame = self.table.with_columns(
            pl.lit(value).alias(name)
            for name, value in {
                "criterion": self.criterion,
                "n_texts": self.n_texts,
                "seed": self.seed,
                "final_norm": self.recipe.final_norm,
                "model": self.model,
                "revision": self.revision,
            }.items()
        )
        names = (f"{TABLES}.parquet", f"{TABLES}.csv")
        for name, write in zip(names, (frame.write_parquet, frame.write_csv), strict=True):
            with atomic_file(folder / name) as partial:
                write(partial)  # type: ignore[operator]
        return names


def check_poolings(poolings: Sequence[str | None]) -> tuple[str | None, ...]:
    """Poolings, each once; None for what the template or the model asks for.

    Raises:
        InputTypeError: (a ValueError and a TypeError) not a list.
        InputError: (a ValueError) empty, or no such pooling.

    Example:
        >>> check_poolings(["mean", None, "mean"])
        ('mean', None)
    """
    found = some_of("poolings", poolings, '("mean", "lasttoken")')
    for pooling in found:
        if pooling is not None and not pooling_modes(pooling):
            raise InputError(
                f"poolings: expected some of {', '.join(POOLING_MODES)}, or several joined by +, got {pooling!r}"
            )
    return tuple(dict.fromkeys(found))


def check_recipe_criterion(criterion: object) -> None:
    """Reject a criterion that cannot compare recipes.

    Raises:
        InputTypeError: (a ValueError and a TypeError) not a string.
        InputError: (a ValueError) the message lists those that can.
    """
    known = ", ".join(RECIPE_CRITERIA)
    if not isinstance(criterion, str):
        raise InputTypeError(f"criterion: expected one of {known}, got {criterion!r}")
    if criterion in RECIPE_CRITERIA:
        return
    why = "; values of others cannot be compared between recipes" if criterion in CRITERIA else ""
    raise InputError(f"criterion: expected one of {known}, got {criterion!r}{why}")


def recipe_table(selection: RecipeSelection, top: int = 10) -> str:
    """The best candidates, one a row.

    Args:
        selection: The choice.
        top: Number of candidates.
    """
    from midlayer_embed.selection.curves import aligned  # it imports numpy

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
    import numpy as np

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
    import numpy as np

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
