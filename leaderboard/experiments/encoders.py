"""Loads the models of an experiment, and says what each is called in its table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from leaderboard.models.known import resolve_known_model
from leaderboard.models.labels import label_of
from midlayer_embed.errors import InputError
from midlayer_embed.forward.layerwise import LayerwiseEncoder
from midlayer_embed.forward.one_pass import OnePassEncoder
from midlayer_embed.models.checkpoint import Checkpoint, find_checkpoint
from midlayer_embed.options import Recipe, Source, fold, of_every_layer

# A change of these is told beside the model's name; the others are columns, or follow from the model.
_TOLD = ("template", "pooling_mode", "site")


def find_model(model: str | Path | Checkpoint, options: Mapping[str, Any]) -> tuple[Checkpoint, Source, Recipe]:
    """The checkpoint of a model, with the recipe to measure: raw states unless the options say otherwise, as the paper.

    Args:
        model: A name in `configs/models`, whose adapters and attention apply, a Hub id, a folder, or "starter".
        options: Fields of `Recipe` and `Source`.

    Raises:
        InputError: (a ValueError) there is no such model, or an option is wrong.
    """
    source, recipe = fold({**options, "final_norm": options.get("final_norm") or False})
    if isinstance(model, Checkpoint):
        return model, source, recipe
    name, source = resolve_known_model(model, source)
    return find_checkpoint(name, source), source, recipe


def open_encoder(model: str | Path | Checkpoint | LayerwiseEncoder, options: Mapping[str, Any]) -> LayerwiseEncoder:
    """The model of an experiment; see `find_model`. A LayerwiseEncoder is used with its own settings."""
    if isinstance(model, LayerwiseEncoder):
        if options:
            raise InputError(f"{', '.join(options)}: pass settings of a LayerwiseEncoder to its constructor")
        return model
    checkpoint, source, recipe = find_model(model, options)
    return LayerwiseEncoder.from_checkpoint(checkpoint, recipe, dtype=source.dtype, device=source.device)


def label(encoder: OnePassEncoder) -> str:
    """What a model is called in the table of an experiment: its name, and settings that are not its default."""
    plain = of_every_layer(encoder.checkpoint.resolved(Recipe()))
    recipe = of_every_layer(encoder.recipe)
    told = {name: recipe[name] for name in _TOLD if recipe[name] != plain[name]}
    return label_of(encoder.checkpoint.name, told)


def with_settings(table: pl.DataFrame, encoder: LayerwiseEncoder, *, n_texts: int, seed: int) -> pl.DataFrame:
    """The table with the model in front, and the settings that every experiment has behind."""
    front = (pl.lit(label(encoder)).alias("model"), pl.lit(encoder.checkpoint.revision).alias("revision"))
    return table.select(*front, pl.all()).with_columns(
        n_texts=pl.lit(n_texts, pl.Int64),
        final_norm=pl.lit(encoder.final_norm),
        max_seq_length=pl.lit(encoder.max_seq_length, pl.Int64),
        seed=pl.lit(seed, pl.Int64),
    )
