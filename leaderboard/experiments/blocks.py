"""Sub-layers: the metrics of every site of every block, out of one forward pass (the paper's Figure 15)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from leaderboard.experiments.encoders import open_encoder, with_settings
from leaderboard.experiments.figures import layer_curves
from leaderboard.report.figures import Figure
from midlayer_embed.errors import InputError
from midlayer_embed.forward.layerwise import LayerwiseEncoder
from midlayer_embed.forward.sites import Place
from midlayer_embed.ground.checks import check_int
from midlayer_embed.layers import SITES, check_site, first_layer, layer_numbers
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.options import takes_options
from midlayer_embed.selection.measures import MetricSettings
from midlayer_embed.selection.profile import MAX_TEXTS, draw_texts
from midlayer_embed.selection.representations import (
    MetricRequest,
    PassOptions,
    TextPass,
    build_representations,
    text_batches,
)
from midlayer_embed.terms import METRIC_TABLE, RAW, check_metrics, check_normalizations

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from midlayer_embed.options import AnyModelOptions

METRICS = ("effective_rank", "prompt_entropy", "dataset_entropy")


@takes_options(without=("site",))
def sublayers(
    model: str | Path | Checkpoint | LayerwiseEncoder,
    texts: Sequence[str],
    sites: Sequence[str] | None = None,
    *,
    layers: str | Sequence[int | float] | None = None,
    metrics: Sequence[str] = METRICS,
    normalizations: Sequence[str] = (),
    max_texts: int | None = MAX_TEXTS,
    min_tokens: int = 1,
    seed: int = 0,
    first_token: bool = True,
    batch_tokens: int | None = None,
    show_progress: bool = False,
    **options: "Unpack[AnyModelOptions]",
) -> pl.DataFrame:
    """Measure every site of every block of a model over a corpus, in one forward pass.

    The pooled vectors of all sites are in memory: n_sites * n_layers * n_texts * dim * 4 bytes, which is 0.4 GB for
    1,000 texts of a model of 30 blocks and 576 dimensions.

    Args:
        model: A name in `configs/models`, a Hub id, a folder, "starter", or a LayerwiseEncoder.
        texts: The corpus, without labels.
        sites: Some of `midlayer_embed.layers.SITES`; None: all that the model has.
        layers: None for all, or layers and depths. Sites other than "resid_post" have none at layer 0.
        metrics: Metrics of the texts themselves, without views: of the tokens of each text, or of the pooled vectors.
        normalizations: What entropies are divided by, too; raw values are always included.
        max_texts: Maximum number of texts, drawn by the seed; None for all.
        min_tokens: Texts with fewer tokens, special ones included, are left out.
        seed: Seed of the sample of texts.
        first_token: Whether the first token of each text counts. Decoders park attention on it, and what an MLP writes
            there can hide the other tokens.
        batch_tokens: Number of tokens in a forward pass, padding included. None: a default for the device.
        show_progress: Show a bar with an ETA on stderr.
        **options: The fields of `Recipe` and `Source`, as for LayerwiseEncoder; raw states by default.

    Returns:
        Columns model, revision, site, layer, depth, metric, normalization, value, and the settings.

    Raises:
        InputError: (a ValueError) a site that the model does not have, a metric that needs views, no texts.

    Source: Skean et al. 2025, section 4.2 and Figure 15.

    Example:
        >>> table = sublayers("starter", texts, ["resid_post", "attn_out"])       # doctest: +SKIP
        >>> table.columns[2:5]                                                    # doctest: +SKIP
        ['site', 'layer', 'depth']
    """
    wanted, divisors = check_metrics(metrics), list(normalizations) and check_normalizations(normalizations)
    for metric in wanted:
        if METRIC_TABLE[metric].measured_on not in ("tokens", "vectors"):
            raise InputError(f"metrics: {metric} needs more than the states of one layer and of the texts themselves")
    asked = None if sites is None else [check_site(site) for site in dict.fromkeys(sites)]
    seed = check_int("seed", seed, 0)
    encoder = open_encoder(model, options)
    checkpoint = encoder.checkpoint
    checkpoint.check_site("resid_pre")  # the parts of a block are known
    if asked is None:
        assert checkpoint.family.sites is not None
        asked = checkpoint.family.sites.available()
    for site in asked:
        checkpoint.check_site(site)
    numbers = layer_numbers(layers, checkpoint.n_blocks)
    of_site = {site: [layer for layer in dict.fromkeys(numbers) if layer >= first_layer(site)] for site in asked}
    if not all(of_site.values()):
        raise InputError(f"layers: layer 0 is what enters block 1; expected a layer from 1 to {checkpoint.n_blocks}")
    sample = draw_texts(encoder, texts, max_texts, min_tokens=min_tokens, seed=seed, first_token=first_token)
    measuring = _Measuring(
        encoder,
        of_site,
        MetricSettings(first_token=first_token),
        wanted,
        divisors,
        PassOptions(batch_tokens=batch_tokens, show_progress=show_progress),
    )
    rows = [
        {"site": site, "layer": layer, "depth": layer / checkpoint.n_blocks, **named, "value": float(value)}
        for site, curves in measuring.curves(sample).items()
        for (metric, normalization), curve in curves.items()
        for named in [{"metric": metric, "normalization": normalization}]
        for layer, value in zip(of_site[site], curve, strict=True)
    ]
    found = with_settings(pl.DataFrame(rows), encoder, n_texts=len(sample), seed=seed)
    return found.with_columns(first_token=pl.lit(first_token))


class _Measuring:
    """The metrics of several sites, out of one forward pass."""

    def __init__(
        self,
        encoder: LayerwiseEncoder,
        of_site: dict[str, list[int]],
        settings: MetricSettings,
        metrics: list[str],
        normalizations: Sequence[str],
        options: PassOptions,
    ) -> None:
        self._encoder, self._options = encoder, options
        self._metrics, self._normalizations = metrics, normalizations
        self._requests = {
            site: MetricRequest(metrics, layers, encoder.final_norm, settings, encoder.final_norm)
            for site, layers in of_site.items()
        }

    def curves(self, texts: Sequence[str]) -> dict[str, dict[tuple[str, str], np.ndarray]]:
        """For each site, its metrics with their normalisations: (n_layers,) each."""
        encoder, options = self._encoder, self._options
        passes = {site: TextPass(len(texts), encoder.dim, request) for site, request in self._requests.items()}
        places = [Place(layer, site) for site, request in self._requests.items() for layer in request.layers]
        ends = np.cumsum([len(request.layers) for request in self._requests.values()])
        # the same at every site
        request, measures = next(iter(self._requests.values())), next(iter(passes.values())).measures
        for rows, sources, pooled in text_batches(
            encoder, texts, places, request, encoder.final_norm, options, measures, "Sites"
        ):
            for text_pass, end in zip(passes.values(), ends, strict=True):
                own = slice(end - len(text_pass.layers), end)
                text_pass.add(rows, sources, replace(pooled, measured=pooled.measured[:, own]), pooled.vectors[0, own])
        found = {}
        for site, request in self._requests.items():
            with build_representations(encoder, texts, request, options, passes.pop(site)) as representations:
                found[site] = representations.curves(self._metrics, self._normalizations, show_progress=False)
        return found


def draw_sublayers(table: pl.DataFrame) -> Figure:
    """Curves over depth, one per site; a chart for each metric, and each model if there are several."""
    several = table["model"].n_unique() > 1
    ordered = table.sort(
        pl.col("site").replace_strict(dict(zip(SITES, range(len(SITES)), strict=True))), maintain_order=True
    )
    return layer_curves(ordered, "site", columns="model" if several else None)


def summary_sublayers(table: pl.DataFrame) -> pl.DataFrame:
    """How deep the valley of each site is: the middle half of the layers against the two ends.

    Returns:
        Columns model, metric, site, first, middle (the median over the middle half), last, lowest, at_layer, and dip:
        how far the middle lies below the lower one of the ends, as a share of it (0: no valley).
    """
    raw = table.filter(pl.col("normalization") == RAW, pl.col("layer") > 0, pl.col("value").is_finite())
    order = {site: place for place, site in enumerate(SITES)}
    by = pl.col("depth").is_between(0.25, 0.75)
    end = pl.min_horizontal("first", "last")
    return (
        raw.sort("layer")
        .group_by("model", "metric", "site", maintain_order=True)
        .agg(
            first=pl.col("value").first(),
            middle=pl.col("value").filter(by).median(),
            last=pl.col("value").last(),
            lowest=pl.col("value").min(),
            at_layer=pl.col("layer").get(pl.col("value").arg_min()),
        )
        .with_columns(dip=pl.when(end > 0).then(((end - pl.col("middle")) / end).clip(0)))
        .sort("model", "metric", pl.col("site").replace_strict(order), maintain_order=True)
    )
