"""Which layer a rule picks, out of the layers that have a score. The scores may be of one task or means over several.

Frames have the columns `by`, which say within what a layer is picked, such as a model and a task; layer; and score or
metric and value. The lower layer of a tie is picked.
"""

from collections.abc import Collection, Sequence

import polars as pl

from midlayer_embed.layers import n_blocks_at
from midlayer_embed.selection.criteria import CRITERIA, cost, end_of, metrics_of, value_of


def by_criteria(values: pl.DataFrame, by: Sequence[str], criteria: Collection[str] = CRITERIA) -> pl.DataFrame:
    """The layer that each criterion picks.

    Args:
        values: Finite values of raw metrics: columns `by`, layer, metric, value.
        by: Within what a layer is picked.
        criteria: Names from `CRITERIA` or `COMBINED`.

    Returns:
        Columns `by`, criterion, layer. A criterion of which a metric is missing has no row.
    """
    costs = []
    for name in criteria:
        metrics = metrics_of(name)
        curves, *others = (
            values.filter(metric=metric).select(*by, "layer", pl.col("value").alias(metric)) for metric in metrics
        )
        for other in others:
            curves = curves.join(other, on=[*by, "layer"], maintain_order="left")
        of_name = cost(value_of([pl.col(metric) for metric in metrics]), end_of(name))
        costs.append(curves.select(*by, "layer", criterion=pl.lit(name), cost=of_name))
    none = values.clear().select(*by, "layer", criterion=pl.lit(""), cost=pl.lit(0.0))
    return (
        pl.concat([none, *costs])
        .sort("cost", "layer", maintain_order=True)
        .group_by(*by, "criterion", maintain_order=True)
        .agg(pl.col("layer").first())
    )


def nearest(layers: pl.DataFrame, wanted: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """The layer nearest to a wanted one; the lower one of a tie.

    Args:
        layers: Columns `by`, layer.
        wanted: Columns wanted, the first one of `by`, and others.
        by: Within what a layer is picked.

    Returns:
        Columns `by`, layer, and those of `wanted`.
    """
    return (
        layers.select(*by, "layer")
        .join(wanted, on=by[0])
        .sort((pl.col("layer") - pl.col("wanted")).abs(), "layer", maintain_order=True)
        .group_by(by, maintain_order=True)
        .first()
    )


def best_of_each(scored: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """The layer with the highest score: columns `by`, layer.

    Args:
        scored: Finite scores: columns `by`, layer, score.
        by: Within what a layer is picked.
    """
    return (
        scored.sort("score", "layer", descending=[True, False])
        .group_by(by, maintain_order=True)
        .agg(pl.col("layer").first())
    )


def last_layers(scores: pl.DataFrame, by: str) -> pl.DataFrame:
    """The highest layer of each variant and its number of blocks: columns `by`, last_layer, n_blocks.

    The number of blocks is null if only layer 0 ran, whose depth does not determine it.

    Args:
        scores: Columns `by`, layer, depth.
        by: The column of a variant.
    """
    last = scores.group_by(by, maintain_order=True).agg(pl.col("layer", "depth").sort_by("layer").last())
    places = last.select("layer", "depth").iter_rows()
    n_blocks = [n_blocks_at(layer, depth) if layer else None for layer, depth in places]
    return last.select(by, last_layer="layer", n_blocks=pl.Series(n_blocks, dtype=pl.Int64))
