"""What a model is called in tables: its name, and the settings that change its scores. mteb is not imported here."""

import re
from collections.abc import Mapping
from typing import Any, Protocol

import polars as pl

from leaderboard.analysis.variants import default_pooling
from midlayer_embed.options import DEFAULT_FINAL_NORM, DEFAULT_POOLING_MODE, Recipe, Source, of_every_layer

# The parts of a recipe that only one layer has, but that change its scores.
OF_ONE_LAYER = ("transform", "dim")
# Only settings that differ from these become part of an experiment's name. They are those of a model that says nothing
# about itself.
DEFAULT_SETTINGS: dict[str, Any] = {
    **of_every_layer(Recipe(final_norm=DEFAULT_FINAL_NORM, pooling_mode=DEFAULT_POOLING_MODE)),
    **dict.fromkeys((*OF_ONE_LAYER, "transform_texts")),
    "dtype": Source().dtype,
    "limit": None,
    "store_dtype": "float32",
}
# What is told apart from a model's name in tables: its recipe has columns of its own.
_OWN_COLUMNS = ("layer", "template", "transform", "transform_texts")

_SETTINGS = re.compile(r" \((\w+=[^,()]+(?:, \w+=[^,()]+)*)\)$")
_POOLING = "pooling_mode"


def default_of(setting: str, template: str | None) -> Any:
    """The value of a setting that is not told: named templates have a pooling of their own."""
    return default_pooling(template) if setting == "pooling_mode" else DEFAULT_SETTINGS[setting]


class Described(Protocol):
    """The description of a model: mteb's ModelMeta, or `leaderboard.results.files.stored.StoredMeta`."""

    @property
    def name(self) -> str | None:
        """Name of the model."""

    @property
    def revision(self) -> str | None:
        """Its revision."""

    @property
    def experiment_kwargs(self) -> Mapping[str, Any] | None:
        """The layer, and the settings that are not the default."""


def model_label(meta: Described) -> str:
    """A model's name in tables. It includes the settings that are not the default, because they change the scores.

    Template and transform are columns of their own.

    Example:
        >>> from leaderboard.results.files.stored import StoredMeta
        >>> settings = {"layer": 3, "final_norm": False}
        >>> model_label(StoredMeta(name="a/b", revision="1", experiment_kwargs=settings))
        'a/b (final_norm=False)'
    """
    settings = {key: value for key, value in (meta.experiment_kwargs or {}).items() if key not in _OWN_COLUMNS}
    return label_of(str(meta.name), settings)


def label_of(name: str, settings: Mapping[str, Any]) -> str:
    """The label of a model with settings that are not the default.

    Example:
        >>> label_of("a/b", {"pooling_mode": "cls", "final_norm": False}), label_of("a/b", {})
        ('a/b (final_norm=False, pooling_mode=cls)', 'a/b')
    """
    shown = ", ".join(f"{key}={value}" for key, value in sorted(settings.items()))
    return f"{name} ({shown})" if shown else name


def without_pooling(label: str) -> tuple[str, str | None]:
    """The label of the same model without its pooling, and the pooling; None if the label does not say one.

    Recipes of one model differ in their pooling, so they are found under the label without it.

    Example:
        >>> without_pooling("a/b (final_norm=False, pooling_mode=cls)")
        ('a/b (final_norm=False)', 'cls')
        >>> without_pooling("a/b (pooling_mode=cls)"), without_pooling("a/b (v2)")
        (('a/b', 'cls'), ('a/b (v2)', None))
    """
    settings = _settings_of(label)
    if _POOLING not in settings:
        return label, None
    pooling = settings.pop(_POOLING)
    return label_of(_SETTINGS.sub("", label), settings), pooling


def of_layers(scores: pl.DataFrame) -> pl.DataFrame:
    """The scores without those of sites within blocks: only a layer can be chosen.

    Example:
        >>> of_layers(pl.DataFrame({"model": ["a/b", "a/b (pooling_mode=cls, site=mlp_out)"]}))["model"].to_list()
        ['a/b']
    """
    names = scores["model"].unique().to_list()
    return scores.filter(pl.col("model").is_in([name for name in names if "site" not in _settings_of(name)]))


def _settings_of(label: str) -> dict[str, str]:
    found = _SETTINGS.search(label)
    return {} if found is None else dict(part.split("=", 1) for part in found[1].split(", "))


def with_base(scores: pl.DataFrame) -> pl.DataFrame:
    """The scores with `base`, the label of the model without its pooling, and `pooling`.

    Args:
        scores: Columns model and template, and others.
    """
    names = scores.select("model", "template").unique(maintain_order=True)
    told = [without_pooling(label) for label in names["model"]]
    poolings = [said or default_pooling(of) for (_, said), of in zip(told, names["template"], strict=True)]
    bases = pl.Series("base", [base for base, _ in told], pl.String)
    named = names.with_columns(bases, pl.Series("pooling", poolings, pl.String))
    return scores.join(named, on=["model", "template"], nulls_equal=True, maintain_order="left")
