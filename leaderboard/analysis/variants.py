"""Which vectors a score is of: a model and revision, and the recipe besides the layer."""

from collections.abc import Mapping
from itertools import count
from typing import NamedTuple, TypedDict

import polars as pl

from midlayer_embed.options import DEFAULT_POOLING_MODE
from midlayer_embed.recipes.names import TEMPLATES, default_pooling_mode

MODEL = ("model", "revision")
# Columns of a recipe in the tables, all null for plain layers.
RECIPE = ("template", "transform", "fitted_on")
VARIANT = (*MODEL, *RECIPE)
# `fitted_on` of a transform that was fitted on the evaluated texts themselves, and of one of a corpus.
TASK, CORPUS = "task", "corpus:"
# The word for a score whose transform has seen the evaluated texts, and what it means.
TRANSDUCTIVE = "transductive"
SAID_OF_TRANSDUCTIVE = (
    f"{TRANSDUCTIVE}: the transform was fitted on the evaluated texts themselves, without their labels; texts that it "
    "has not seen may gain less, so such a recipe is never named best"
)
# A template and the name of a corpus are cut to this many letters in a label.
_SHOWN = 32

IS_PLAIN = pl.col("template").is_null() & pl.col("transform").is_null()


class RecipeKeywords(TypedDict, total=False):
    """The columns of a recipe as keywords."""

    template: str | None
    transform: str | None
    fitted_on: str | None


class Variant(NamedTuple):
    """A model and revision with one recipe besides the layer: all that has one curve over the layers.

    Attributes:
        model: The model's name in the tables.
        revision: Its revision.
        template: "eol", "echo" or the text around every text; None for none.
        transform: The transform's full name, such as "whiten:10"; None for none.
        fitted_on: What the transform was fitted on: "train", "task" (the evaluated texts themselves), "corpus:<name>".
    """

    model: str
    revision: str
    template: str | None = None
    transform: str | None = None
    fitted_on: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether nothing is done besides taking a layer."""
        return self.template is None and self.transform is None

    @property
    def is_transductive(self) -> bool:
        """Whether the transform has seen the evaluated texts."""
        return self.fitted_on == TASK

    def recipe(self) -> RecipeKeywords:
        """Template, transform and fitted_on as keywords."""
        return {"template": self.template, "transform": self.transform, "fitted_on": self.fitted_on}

    def words(self, *, whole: bool = False) -> str:
        """The recipe in words.

        Args:
            whole: Whether a long template is told whole.

        Example:
            >>> Variant("org/m", "main", "echo", "whiten:10", "task").words()
            'echo, whiten:10 on task (transductive)'
            >>> Variant("org/m", "main").words(), Variant("org/m", "main", "Query: {text}").words()
            ('plain', '"Query: {text}"')
        """
        parts = []
        if self.template is not None:
            parts.append(self.template if self.template in TEMPLATES else f'"{_one_line(self.template, whole=whole)}"')
        if self.transform is not None:
            seen = f" ({TRANSDUCTIVE})" if self.is_transductive else ""
            parts.append(f"{self.transform} on {_one_line(self.fitted_on or 'unknown texts', whole=whole)}{seen}")
        return ", ".join(parts) or "plain"

    def label(self, model: str | None = None) -> str:
        """The model with its recipe; for plain layers the model alone.

        Args:
            model: What the model is called; None: its name.

        Example:
            >>> Variant("org/m", "main", "echo").label(), Variant("org/m", "main").label("m")
            ('org/m: echo', 'm')
        """
        name = self.model if model is None else model
        return name if self.is_plain else f"{name}: {self.words()}"


def _one_line(template: str, *, whole: bool) -> str:
    text = " ".join(template.split())
    if whole or len(text) <= _SHOWN:
        return text
    end = _SHOWN // 3
    return f"{text[: _SHOWN - end - 1]}\u2026{text[-end:]}"


def distinct(names: Mapping[Variant, str]) -> dict[Variant, str]:
    """The names, each another one: long templates may differ where a name leaves them out.

    Example:
        >>> list(distinct({Variant("a", "r"): "a", Variant("b", "r"): "a"}).values())
        ['a', 'a (2)']
    """
    found: dict[Variant, str] = {}
    taken = set(names.values())
    for variant, name in names.items():
        others = (f"{name} ({n})" for n in count(2))
        is_new = name not in found.values()
        found[variant] = name if is_new else next(one for one in others if one not in taken)
        taken.add(found[variant])
    return found


def default_pooling(template: str | None) -> str:
    """How token states are pooled where a model's label does not say it.

    Example:
        >>> default_pooling(None), default_pooling("echo"), default_pooling("Query: {text}")
        ('mean', 'weightedmean', 'mean')
    """
    return default_pooling_mode(template) or DEFAULT_POOLING_MODE


def with_recipe(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with the columns of a recipe: where one is missing, all layers are plain in it."""
    missing = [pl.lit(None, pl.String).alias(name) for name in RECIPE if name not in frame.columns]
    return frame.with_columns(missing) if missing else frame


def variants_of(scores: pl.DataFrame) -> list[Variant]:
    """The variants in a table of scores, in its order."""
    found = with_recipe(scores).select(VARIANT).unique(maintain_order=True)
    return [Variant(*row) for row in found.iter_rows()]


def rows_of(frame: pl.DataFrame, variants: list[Variant]) -> pl.DataFrame:
    """The rows of some variants."""
    wanted = pl.DataFrame(variants, schema=dict.fromkeys(VARIANT, pl.String), orient="row")
    return with_recipe(frame).join(wanted, on=VARIANT, how="semi", nulls_equal=True, maintain_order="left")
