"""Recipes that competed, and the one that was picked. Nothing is measured here; neither torch nor numpy is imported."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midlayer_embed.errors import InputError, InputTypeError
from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.ground.checks import check_installed
from midlayer_embed.options import POOLING_MODES, Recipe, pooling_modes
from midlayer_embed.recipes.names import some_of
from midlayer_embed.selection.criteria import AUTO, COMBINED, CRITERIA
from midlayer_embed.terms import METRIC_TABLE

if TYPE_CHECKING:
    import polars as pl

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
        from midlayer_embed.selection.recipe.words import recipe_markdown  # here, since it imports numpy

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
