"""Matrix entropy of other orders than 1: of power laws, and of the layers of a model (Figure 7 of "Layer by Layer").

The eigenvalues of a text, or of a corpus, are computed once for all orders.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import altair as alt
import numpy as np
import polars as pl
import torch

from leaderboard.experiments.encoders import open_encoder, with_settings
from leaderboard.experiments.figures import colour_of
from leaderboard.experiments.grids import check_exponents
from leaderboard.report.figures import Figure
from midlayer_embed import metrics
from midlayer_embed.errors import InputError
from midlayer_embed.forward.layerwise import LayerwiseEncoder
from midlayer_embed.forward.measured import TokenMeasure
from midlayer_embed.ground.checks import check_int, check_orders
from midlayer_embed.ground.pictures import COLOURS, TEXT_SIZE
from midlayer_embed.layers import layer_numbers
from midlayer_embed.metrics.gram import renyi
from midlayer_embed.options import AnyModelOptions, takes_options
from midlayer_embed.selection.layer_states import mean_of_known
from midlayer_embed.selection.profile import draw_texts
from midlayer_embed.terms import METRIC_TABLE, RAW
from midlayer_embed.texts.tokens import distinct

if TYPE_CHECKING:
    from typing_extensions import Unpack

ALPHAS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
BETAS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
_OF_LAYERS = ("prompt_entropy", "dataset_entropy")
_POWER_LAW = "power_law"
# The orders of the summary, where they were measured, and the one that they are compared with.
_SUMMARY_ALPHAS, _SHANNON = (0.5, 1.0, 2.0, 5.0), 1.0

_WIDTH, _HEIGHT = 220, 220
_TICKS = [digit * 10.0**power for power in range(-3, 4) for digit in (1, 3)]

_SCHEMA = {
    "model": pl.String,
    "revision": pl.String,
    "beta": pl.Float64,
    "alpha": pl.Float64,
    "layer": pl.Int64,
    "depth": pl.Float64,
    "metric": pl.String,
    "normalization": pl.String,
    "value": pl.Float64,
    "n_eigenvalues": pl.Int64,
    "n_texts": pl.Int64,
    "final_norm": pl.Boolean,
    "max_seq_length": pl.Int64,
    "seed": pl.Int64,
}


@takes_options()
def alpha_curves(
    model: str | Path | LayerwiseEncoder | None = None,
    texts: Sequence[str] | None = None,
    *,
    alphas: float | Sequence[float] = ALPHAS,
    betas: float | Sequence[float] = BETAS,
    n_eigenvalues: int = 100,
    layers: Sequence[int | float] | None = None,
    max_texts: int | None = 1000,
    min_tokens: int = 1,
    seed: int = 0,
    batch_tokens: int | None = None,
    show_progress: bool = False,
    **options: "Unpack[AnyModelOptions]",
) -> pl.DataFrame:
    """Matrix entropy S_alpha over its order alpha: of power laws, and of every layer of a model in one forward pass.

    The paper's Figure 7 shows the power laws. Of a model, the entropies are those of the tokens of a text (the mean
    over the texts of two or more tokens) and of the pooled vectors of all texts.

    Args:
        model: A name, folder or Hub id, "starter", or a LayerwiseEncoder. None: power laws only.
        texts: The corpus of the model, without labels.
        alphas: Orders, above 0. Order 1 is the limit, the Shannon entropy.
        betas: Exponents of power laws, 0 or more: eigenvalue_i = i^(-beta).
        n_eigenvalues: Number of eigenvalues of a power law.
        layers: None for all, or layers as in `LayerwiseEncoder.encode`.
        max_texts: Maximum number of texts, sampled with the seed; None for all.
        min_tokens: Texts with fewer tokens, special ones included, are left out.
        seed: Seed of the sample.
        batch_tokens: Number of tokens in a forward pass, padding included. None: a default for the device.
        show_progress: Show a bar with an ETA on stderr.
        **options: The fields of `Recipe` and `Source`, see `LayerwiseEncoder`. Raw states by default, as in the paper.

    Returns:
        A row for each exponent, or layer and metric, and order. Columns model, revision, beta, alpha, layer, depth,
        metric ("power_law", "prompt_entropy" or "dataset_entropy"), normalization ("raw"), value (nats), and the
        settings. Power laws have no model and no layer (null), layers have no beta.

    Raises:
        InputError: (a ValueError) an order is not above 0 or an exponent below 0, nothing is asked for, texts without a
            model or a model without texts; the message names it.

    Example:
        >>> table = alpha_curves(alphas=[1, 2], betas=[0], n_eigenvalues=4)
        >>> table.select("metric", "beta", "alpha", pl.col("value").exp().round(9)).rows()
        [('power_law', 0.0, 1.0, 4.0), ('power_law', 0.0, 2.0, 4.0)]
    """
    orders = tuple(dict.fromkeys(check_orders("alphas", alphas)[0]))
    exponents = check_exponents(betas)
    n_eigenvalues = check_int("n_eigenvalues", n_eigenvalues, 1)
    if (model is None) != (texts is None):
        got = "texts without a model" if model is None else "a model without texts"
        raise InputError(f"texts: expected a model and texts, or neither for power laws only, got {got}")
    if model is None and layers is not None:
        raise InputError(f"layers: expected a model and texts, because power laws have no layers, got {layers!r}")
    if model is None and not exponents:
        raise InputError("betas: expected at least one exponent, or a model and texts, got none")
    tables = [_power_laws(exponents, orders, n_eigenvalues)]
    if model is not None and texts is not None:
        encoder = open_encoder(model, options)
        sample = draw_texts(encoder, texts, max_texts, min_tokens=min_tokens, seed=seed)
        measured = _layers(encoder, sample, orders, layers, batch_tokens, show_progress)
        tables.append(with_settings(measured, encoder, n_texts=len(sample), seed=seed))
    whole = pl.concat(tables, how="diagonal_relaxed").with_columns(normalization=pl.lit(RAW))
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in _SCHEMA.items() if name not in whole.columns]
    return whole.with_columns(missing).select(pl.col(name).cast(dtype) for name, dtype in _SCHEMA.items())


def summary_alpha_curves(table: pl.DataFrame) -> pl.DataFrame:
    """What depends on alpha: where the layers' entropy is lowest, how deep that valley is, and their order.

    Args:
        table: From `alpha_curves`.

    Returns:
        A row for each model, metric and some of the orders. Columns model (if there are several), metric, alpha, lowest
        and highest (nats, of the layers or exponents), lowest_layer, valley (nats by which it is below the lower one of
        the first and last layer; both null for power laws), spearman (rank correlation with the curve of order 1).
    """
    measured = sorted(set(table["alpha"]))
    shown = [alpha for alpha in _SUMMARY_ALPHAS if alpha in measured] or measured[: len(_SUMMARY_ALPHAS)]
    rows = []
    for (model, metric), curves in table.group_by("model", "metric", maintain_order=True):
        by_alpha = {
            alpha: curves.filter(alpha=alpha).sort("layer", "beta", nulls_last=True).filter(pl.col("value").is_finite())
            for alpha in {*shown, *measured}
        }
        for alpha in shown:
            rows.append((model, metric, alpha, *_of_curve(by_alpha[alpha], by_alpha.get(_SHANNON))))
    names = ("lowest", "highest", "lowest_layer", "valley", "spearman")
    schema = {"model": pl.String, "metric": pl.String, "alpha": pl.Float64, **dict.fromkeys(names, pl.Float64)}
    found = pl.DataFrame(rows, schema={**schema, "lowest_layer": pl.Int64}, orient="row")
    return found if table["model"].drop_nulls().n_unique() > 1 else found.drop("model")


def draw_alpha_curves(table: pl.DataFrame) -> Figure:
    """S_alpha over alpha: power laws with a colour for each exponent, a model with a colour for each layer.

    Args:
        table: From `alpha_curves`.
    """
    titles = {_POWER_LAW: "power laws (nats)", **{name: METRIC_TABLE[name].title for name in _OF_LAYERS}}
    charts = [
        _panel(rows, title, "beta" if metric == _POWER_LAW else "layer")
        for metric, title in titles.items()
        if len(rows := table.filter(pl.col("metric") == metric))
    ]
    figure: alt.ConcatChart = alt.concat(*charts, columns=len(charts)).resolve_scale(color="independent")
    return figure


def _of_curve(curve: pl.DataFrame, shannon: pl.DataFrame | None) -> tuple[float | None, ...]:
    """The values of a row of the summary, from the curve of an order and that of order 1."""
    values = curve["value"].to_numpy()
    if not len(values):
        return (None,) * 5
    place = int(values.argmin())
    layer, valley, spearman = curve["layer"][place], None, None
    if layer is not None:
        valley = min(values[0], values[-1]) - values[place]
    if shannon is not None and len(shannon) == len(values) > 1:
        spearman = pl.select(pl.corr(curve["value"], shannon["value"], method="spearman")).item()
    return values[place], values.max(), layer, valley, spearman


def _panel(rows: pl.DataFrame, title: str, detail: str) -> alt.Chart:
    """A chart with a line for each value of the column `detail`."""
    values = sorted(set(rows[detail]))
    named = detail == "beta" and len(values) <= len(COLOURS)
    colour = colour_of(detail, "nominal" if named else "linear", values)
    first, last = min(rows["alpha"]), max(rows["alpha"])
    ticks = [tick for tick in _TICKS if first <= tick <= last]
    axis = alt.Axis(values=ticks, format="~g") if len(ticks) > 1 else alt.Axis(tickCount=3, format="~g")
    chart: alt.Chart = (
        alt.Chart(alt.InlineData(values=rows.select("alpha", "beta", "layer", "value").to_dicts()))
        .mark_line(strokeWidth=1.8, point=alt.OverlayMarkDef(size=22, opacity=1))
        .encode(
            alt.X("alpha:Q", title="order alpha", scale=alt.Scale(type="log", nice=False), axis=axis),
            alt.Y("value:Q", title=None, scale=alt.Scale(zero=True)),
            colour.legend(orient="bottom", direction="horizontal", format="~g"),
            detail=f"{detail}:N",
            tooltip=[
                alt.Tooltip(f"{detail}:Q", title=detail),
                alt.Tooltip("alpha:Q", title="order alpha"),
                alt.Tooltip("value:Q", title=title, format=".4~g"),
            ],
        )
        .properties(
            width=_WIDTH, height=_HEIGHT, title=alt.Title(title, fontSize=TEXT_SIZE + 1, anchor="start", frame="group")
        )
    )
    return chart


def _power_laws(betas: Sequence[float], alphas: Sequence[float], n: int) -> pl.DataFrame:
    """Columns beta, alpha, metric, value, n_eigenvalues."""
    ranks = torch.arange(1, n + 1, dtype=torch.float64)
    eigenvalues = ranks ** -torch.tensor(betas, dtype=torch.float64).reshape(-1, 1)
    columns = {alpha: renyi(eigenvalues, alpha).tolist() for alpha in alphas}
    rows = [
        (beta, alpha, _POWER_LAW, columns[alpha][number], n) for number, beta in enumerate(betas) for alpha in alphas
    ]
    names = ("beta", "alpha", "metric", "value", "n_eigenvalues")
    return pl.DataFrame(rows, schema={name: _SCHEMA[name] for name in names}, orient="row")


def _layers(
    encoder: LayerwiseEncoder,
    texts: Sequence[str],
    alphas: Sequence[float],
    layers: Sequence[int | float] | None,
    batch_tokens: int | None,
    show_progress: bool,
) -> pl.DataFrame:
    """Columns alpha, layer, depth, metric, value."""
    numbers = sorted(set(layer_numbers(layers, encoder.checkpoint.n_blocks, encoder.recipe.site)))
    unique, where = distinct(encoder.prompted(texts))
    vectors = np.zeros((len(numbers), len(unique), encoder.dim), dtype=np.float32)
    prompts = np.full((len(alphas), len(numbers), len(unique)), np.nan)
    measure = TokenMeasure(partial(_prompt_entropies, alphas), encoder.final_norm, len(alphas))
    for pooled in encoder.pooled_batches(
        unique,
        numbers,
        norms=[encoder.final_norm],
        measures=[measure],
        batch_tokens=batch_tokens,
        show_progress=show_progress,
    ):
        vectors[:, pooled.rows], prompts[:, :, pooled.rows] = pooled.vectors[0], pooled.measured
    found: dict[str, Sequence[np.ndarray]] = {
        "prompt_entropy": list(mean_of_known(prompts[..., where]).T),
        "dataset_entropy": [np.asarray(metrics.dataset_entropy(rows[where], alpha=alphas)) for rows in vectors],
    }
    rows = [
        (alpha, layer, layer / encoder.checkpoint.n_blocks, metric, float(value))
        for metric, curves in found.items()
        for layer, values in zip(numbers, curves, strict=True)
        for alpha, value in zip(alphas, values, strict=True)
    ]
    names = ("alpha", "layer", "depth", "metric", "value")
    return pl.DataFrame(rows, schema={name: _SCHEMA[name] for name in names}, orient="row")


def _prompt_entropies(alphas: Sequence[float], states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(metrics.prompt_entropy(states, mask, alpha=alphas))
