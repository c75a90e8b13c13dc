"""The table of probes: one row for each model, layer or window of layers, and kind of probe."""

import polars as pl

from midlayer_embed.terms import METRIC_TABLE

SCHEMA = {
    "model": pl.String,
    "revision": pl.String,
    "layers": pl.String,  # "3", or "3-to-8" for a window
    "layer": pl.Int64,  # the first of them
    "window": pl.Int64,  # number of layers whose states are averaged
    "depth": pl.Float64,  # mean of the layers over L
    "probe": pl.String,
    "accuracy": pl.Float64,
    "epochs": pl.Int64,  # the best one; null of linear probes
    "n_train": pl.Int64,
    "n_test": pl.Int64,
    "n_classes": pl.Int64,
    "n_metric_images": pl.Int64,  # null without metrics
    "final_norm": pl.Boolean,
    "pooling_mode": pl.String,  # null of attention probes, which gather the patches themselves
    "heads": pl.Int64,
    "max_epochs": pl.Int64,
    "batch_size": pl.Int64,
    "lr": pl.Float64,
    "smoothing": pl.Float64,
    "held_out": pl.Float64,
    "patience": pl.Int64,
    "seed": pl.Int64,
}


def metrics_in(table: pl.DataFrame) -> list[str]:
    """The metrics beside the accuracies: the columns after those of `SCHEMA`.

    Example:
        >>> metrics_in(pl.DataFrame({"model": ["a"], "curvature": [1.0]}))
        ['curvature']
    """
    return [name for name in table.columns if name not in SCHEMA]


def curves_of(table: pl.DataFrame) -> pl.DataFrame:
    """The curves of a table, accuracies first: columns model, layer, depth, panel, value.

    Args:
        table: From `probe_layers`.
    """
    windows = pl.when(pl.col("window") == 1).then(pl.lit("")).otherwise(pl.format(", {} layers", "window"))
    panel = pl.format("{} probe{} (accuracy, %)", "probe", windows)
    keys = ["model", "layer", "depth"]
    accuracies = table.select(*keys, panel=panel, value=pl.col("accuracy") * 100)
    single = table.filter(pl.col("window") == 1).unique([*keys, "revision"], maintain_order=True)
    parts = [
        single.select(*keys, panel=pl.lit(METRIC_TABLE[name].title), value=pl.col(name)) for name in metrics_in(table)
    ]
    return pl.concat([accuracies, *parts])


def summary_of(table: pl.DataFrame) -> pl.DataFrame:
    """For each curve of accuracies its best layer, the best and the last accuracy, and their difference, in points.

    Args:
        table: From `probe_layers`.
    """
    keys = ["model", "revision", "probe", "window"]
    last = pl.col("accuracy").sort_by("layer").last() * 100
    best = pl.col("accuracy").max() * 100
    return (
        table.group_by(keys, maintain_order=True)
        .agg(
            best_layer=pl.col("layers").sort_by("accuracy", descending=True, maintain_order=True).first(),
            best=best,
            last=last,
            lost_by_the_last=best - last,
        )
        .drop("revision" if table.select("model", "revision").n_unique() == table["model"].n_unique() else [])
    )
