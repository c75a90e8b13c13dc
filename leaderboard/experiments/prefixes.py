"""Prompt entropy over the length of a text: of the first tokens of each text (the paper's Figure 5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np
import polars as pl
import torch

from leaderboard.experiments.encoders import label, open_encoder, with_settings
from leaderboard.experiments.figures import colour_of
from leaderboard.experiments.grids import check_lengths, reached_lengths
from leaderboard.experiments.prompts import no_template
from leaderboard.report.figures import Figure
from midlayer_embed.errors import InputError
from midlayer_embed.forward.layerwise import LayerwiseEncoder
from midlayer_embed.forward.measured import TokenMeasure
from midlayer_embed.ground.checks import check_int
from midlayer_embed.ground.pictures import TEXT_SIZE
from midlayer_embed.layers import layer_numbers
from midlayer_embed.metrics.gram import divisor
from midlayer_embed.models.bidirectional import is_causal
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.options import takes_options
from midlayer_embed.recipes.template import own_tokens
from midlayer_embed.selection.measures import MEASURES, MetricSettings
from midlayer_embed.selection.profile import MAX_TEXTS, draw_texts
from midlayer_embed.terms import METRIC_TABLE, NORMALIZATIONS, RAW, check_normalizations
from midlayer_embed.texts.prompts import cut_tokens
from midlayer_embed.texts.tokens import TokenIds

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from midlayer_embed.options import AnyModelOptions

METRIC = "prompt_entropy"
# Charts of a figure, and rows of a small table.
_MOST_CHARTS, _MOST_ROWS = 6, 12
_WIDTH, _HEIGHT = 150, 100

_Model = str | Path | Checkpoint | LayerwiseEncoder


@takes_options()
def sequence_length(
    models: _Model | Sequence[_Model],
    texts: Sequence[str],
    lengths: Sequence[int] | None = None,
    layers: str | Sequence[int | float] | None = None,
    *,
    normalizations: Sequence[str] = NORMALIZATIONS,
    max_texts: int | None = MAX_TEXTS,
    min_tokens: int = 1,
    seed: int = 0,
    first_token: bool = True,
    batch_tokens: int | None = None,
    show_progress: bool = False,
    **options: "Unpack[AnyModelOptions]",
) -> pl.DataFrame:
    """Measure the prompt entropy of the first tokens of each text, for several numbers of tokens.

    The states of a text's first tokens do not depend on the tokens after them in a causal model, so that one forward
    pass gives all lengths. Whether a model is causal is measured. Other models encode the texts once for each length,
    cut as their tokenizer cuts: special tokens at the end are kept. Of the texts that are drawn, those count that are
    as long as the longest length in the tokens of every model, so all means are over the same texts.

    Args:
        models: One or several of: a name in `configs/models`, a Hub id, a folder, "starter", a LayerwiseEncoder. They
            are loaded one after the other, and twice if there are several.
        texts: The corpus, without labels.
        lengths: Numbers of tokens, at least 2, special ones included, except those that the tokenizer of a causal model
            adds at the end, which is cut off. None: powers of two, from 4 up to the largest that a quarter of the texts
            reach.
        layers: None for all, or layers and depths.
        normalizations: What entropies are divided by, too; raw values are always included.
        max_texts: Maximum number of texts, drawn by the seed; None for all.
        min_tokens: Texts with fewer tokens of the first model, special ones included, are left out.
        seed: Seed of the sample of texts.
        first_token: Whether the first token of each text counts. Decoders park attention on it, and its large state
            hides the others in the middle layers. Without it, a length is at least 3.
        batch_tokens: Number of tokens in a forward pass, padding included. None: a default for the device.
        show_progress: Show bars with an ETA on stderr.
        **options: The fields of `Recipe` and `Source`, as for LayerwiseEncoder, without a template; raw states by
            default.

    Returns:
        Columns model, revision, length, layer, depth, metric, normalization, value (the mean over the texts), std (the
        standard deviation over the texts), and the settings.

    Raises:
        InputError: (a ValueError) a length that no text reaches, a layer out of range, a template, no texts.

    Source: Skean et al. 2025, section 4.3 and Figure 5.

    Example:
        >>> table = sequence_length(["starter"], texts, lengths=[8, 32], layers=[0.5])       # doctest: +SKIP
        >>> table.columns[2:5]                                                               # doctest: +SKIP
        ['length', 'layer', 'depth']
    """
    given: list[_Model] = [models] if isinstance(models, (str, Path, Checkpoint, LayerwiseEncoder)) else list(models)
    if not given:
        raise InputError("models: expected at least one model, got none")
    no_template(options)
    seed, settings = check_int("seed", seed, 0), MetricSettings(first_token=first_token)
    asked, divisors = check_lengths(lengths, settings.first_token), check_normalizations(normalizations)
    # Only one model is loaded at a time. A single one stays.
    one = _open(given[0], options) if len(given) == 1 else None
    sample: list[str] = []
    known: list[_Known] = []
    names: set[tuple[str, str]] = set()
    for model in given:
        encoder = one or _open(model, options)
        layer_numbers(layers, encoder.checkpoint.n_blocks, encoder.recipe.site)
        sample = sample or draw_texts(encoder, texts, max_texts, min_tokens=min_tokens, seed=seed)
        known.append(_know(encoder, sample))
        name = (label(encoder), encoder.checkpoint.revision)
        if name in names:
            raise InputError(f"models: {name[0]} is there twice, with the same weights")
        names.add(name)
        del encoder
    found, rows = reached_lengths(asked, np.min([about.token_ids.lengths for about in known], axis=0))
    tables = []
    for model, about in zip(given, known, strict=True):
        encoder = one or _open(model, options)
        numbers = list(dict.fromkeys(layer_numbers(layers, encoder.checkpoint.n_blocks, encoder.recipe.site)))
        token_ids = TokenIds.of([about.token_ids[row].tolist() for row in rows])
        entropies = _prefix_entropies(encoder, token_ids, found, numbers, about, settings, batch_tokens, show_progress)
        table = _tidy(entropies, found, numbers, encoder, divisors, settings)
        tables.append(with_settings(table, encoder, n_texts=len(rows), seed=seed))
        del encoder
    return pl.concat(tables).with_columns(first_token=pl.lit(settings.first_token))


@dataclass(frozen=True)
class _Known:
    """What is known of a model before anything is measured.

    Attributes:
        token_ids: The ids of the texts: of a causal model without the tokens that its tokenizer adds at the end.
        causal: Whether the states of tokens do not depend on later tokens.
        n_end: Number of tokens at the end of each text that its tokenizer adds.
    """

    token_ids: TokenIds
    causal: bool
    n_end: int


def _open(model: _Model, options: Any) -> LayerwiseEncoder:
    encoder = open_encoder(model, options)
    no_template(encoder)
    return encoder


def _know(encoder: LayerwiseEncoder, texts: Sequence[str]) -> _Known:
    token_ids, causal = encoder.tokenized(texts), is_causal(encoder.backbone.model)
    n_end = len(own_tokens(encoder.plain_tokenizer)[1])
    if not causal:
        return _Known(token_ids, causal, n_end)
    ids = (token_ids[row] for row in range(len(texts)))
    return _Known(TokenIds.of([some[: len(some) - n_end].tolist() for some in ids]), causal, n_end=0)


def _prefix_entropies(
    encoder: LayerwiseEncoder,
    token_ids: TokenIds,
    lengths: Sequence[int],
    layers: Sequence[int],
    known: _Known,
    settings: MetricSettings,
    batch_tokens: int | None,
    show_progress: bool,
) -> np.ndarray:
    """Prompt entropy of the first tokens of texts, for each length: float64 (n_lengths, n_layers, n_texts)."""
    # A causal model measures all lengths in one pass, another one each in a pass of its own.
    passes = [list(lengths)] if known.causal else [[length] for length in lengths]
    found = []
    for together in passes:
        measure = TokenMeasure(partial(_of_prefixes, together, settings), encoder.final_norm, len(together))
        values = np.full((len(together), len(layers), len(token_ids.lengths)), np.nan)
        for pooled in encoder.pooled_batches(
            cut_tokens(token_ids, together[-1], known.n_end),
            layers,
            norms=[],
            measures=[measure],
            batch_tokens=batch_tokens,
            show_progress=show_progress,
            description=f"length {together[-1]}",
        ):
            values[:, :, pooled.rows] = pooled.measured
        found.append(values)
    return np.concatenate(found)


def _of_prefixes(
    lengths: Sequence[int], settings: MetricSettings, states: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """The metric of the first tokens of each text: (b, n_lengths)."""
    return torch.stack([MEASURES[METRIC](states[:, :n], mask[:, :n], settings) for n in lengths], dim=1)


def _tidy(
    entropies: np.ndarray,
    lengths: Sequence[int],
    layers: Sequence[int],
    encoder: LayerwiseEncoder,
    normalizations: Sequence[str],
    settings: MetricSettings,
) -> pl.DataFrame:
    """Mean and spread over the texts, raw and divided."""
    not_counted = 0 if settings.first_token else 1
    means, spreads = entropies.mean(axis=2), entropies.std(axis=2)
    rows = []
    for normalization in dict.fromkeys([RAW, *normalizations]):
        for place, length in enumerate(lengths):
            scale = float(divisor(normalization, length - not_counted, encoder.backbone.dim))
            for slot, layer in enumerate(layers):
                named = {"length": length, "layer": layer, "depth": layer / encoder.checkpoint.n_blocks}
                values = {"value": means[place, slot] / scale, "std": spreads[place, slot] / scale}
                rows.append({**named, "metric": METRIC, "normalization": normalization, **values})
    return pl.DataFrame(rows)


def draw_sequence_length(table: pl.DataFrame) -> Figure:
    """Entropy over the length with a band of one standard deviation, one colour a model, a chart a layer.

    At most six layers are drawn, evenly spread over those that there are.
    """
    drawn = _raw(table)
    models = drawn["model"].unique(maintain_order=True).to_list()
    layers = _spread_layers(drawn, _MOST_CHARTS)
    colour = colour_of("model", "nominal", models)
    charts: list[Figure] = []
    for _, shown in layers.group_by("place", maintain_order=True):
        rows = drawn.join(shown, on=["model", "layer"], how="semi").with_columns(
            low=(pl.col("value") - pl.col("std")).clip(lower_bound=0), high=pl.col("value") + pl.col("std")
        )
        same = shown["layer"].n_unique() == 1
        said = f"layer {shown['layer'][0]}" if same else f"depth {np.mean(shown['depth'].to_numpy()):.0%}"
        charts.append(_chart(rows.select("model", "layer", "length", "value", "std", "low", "high"), said, colour))
    figure: alt.ConcatChart = alt.concat(*charts, columns=min(3, len(charts))).resolve_scale(color="shared")
    return figure


def _chart(rows: pl.DataFrame, said: str, colour: alt.Color) -> Figure:
    x = alt.X(
        "length:Q",
        title="tokens",
        scale=alt.Scale(type="log", base=2, nice=False),
        axis=alt.Axis(values=sorted(set(rows["length"])), format="d", labelOverlap=True),
    )
    zero, said_value = alt.Scale(zero=False), METRIC_TABLE[METRIC].title
    base = alt.Chart(rows)
    band = base.mark_area(opacity=0.2).encode(x, alt.Y("low:Q", title=said_value, scale=zero), alt.Y2("high:Q"), colour)
    line = base.mark_line(strokeWidth=1.8, point=alt.OverlayMarkDef(size=22, opacity=1)).encode(
        x,
        alt.Y("value:Q", title=said_value, scale=zero),
        colour,
        tooltip=[
            alt.Tooltip("model:N"),
            alt.Tooltip("layer:Q"),
            alt.Tooltip("length:Q", title="tokens"),
            alt.Tooltip("value:Q", title=said_value, format=".4~g"),
            alt.Tooltip("std:Q", title="standard deviation", format=".3~g"),
        ],
    )
    title = alt.Title(said, fontSize=TEXT_SIZE + 1, anchor="start", frame="group")
    chart: Figure = alt.layer(band, line).properties(width=_WIDTH, height=_HEIGHT, title=title)
    return chart


def summary_sequence_length(table: pl.DataFrame) -> pl.DataFrame:
    """How entropy grows with the length, in raw values, at some of the layers.

    Returns:
        Columns model, layer, first, last (the means at the shortest and at the longest length), std_last (the standard
        deviation over the texts at the longest), and a_doubling, what twice as many tokens add on average.
    """
    raw = _raw(table)
    layers = _spread_layers(raw, max(1, min(_MOST_CHARTS, _MOST_ROWS // max(1, raw["model"].n_unique()))))
    rows = []
    in_order = layers.join(raw.select("model").unique(maintain_order=True), on="model", maintain_order="right")
    for model, layer in in_order.select("model", "layer").iter_rows():
        curve = raw.filter(pl.col("model") == model, pl.col("layer") == layer).sort("length")
        first, last = curve.row(0, named=True), curve.row(-1, named=True)
        doublings = np.log2(last["length"] / first["length"])
        growth = (last["value"] - first["value"]) / doublings if doublings else None
        values = {"first": first["value"], "last": last["value"], "std_last": last["std"], "a_doubling": growth}
        rows.append({"model": model, "layer": layer, **values})
    return pl.DataFrame(rows[:_MOST_ROWS])


def _raw(table: pl.DataFrame) -> pl.DataFrame:
    """The raw values. Models of one name, such as one with causal and with bidirectional attention, are told apart."""
    raw = table.filter(pl.col("normalization") == RAW, pl.col("value").is_finite())
    several = pl.col("revision").n_unique().over("model") > 1
    return raw.with_columns(model=pl.when(several).then(pl.format("{}, {}", "model", "revision")).otherwise("model"))


def _spread_layers(table: pl.DataFrame, most: int) -> pl.DataFrame:
    """For each model at most so many of its layers, evenly spread: columns model, layer, depth, place (from 0)."""
    parts = []
    for _, some in table.group_by("model", maintain_order=True):
        layers = some.select("model", "layer", "depth").unique().sort("layer")
        places = np.unique(np.linspace(0, len(layers) - 1, min(most, len(layers))).round().astype(int))
        parts.append(layers[places].with_columns(place=pl.int_range(pl.len())))
    return pl.concat(parts).sort("place", maintain_order=True)
