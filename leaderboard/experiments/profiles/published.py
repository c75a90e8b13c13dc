"""Published metrics over a corpus, as the same table that is measured here, to be drawn beside it."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from leaderboard.experiments.profiles.revisions import in_order, step_of
from leaderboard.experiments.profiles.table import SCHEMA
from leaderboard.results.table_files import read_corpus_metrics
from midlayer_embed.errors import InputError
from midlayer_embed.terms import METRIC_TABLE

logger = logging.getLogger(__name__)

PUBLISHED = "published"
# Tables that call prompt entropy so are of an earlier measurement, whose numbers have other scales: its dataset entropy
# exceeds what 1,000 texts can have. They are not comparable with the others, and have a source of their own.
PUBLISHED_EARLIER = "published earlier"
_EARLIER_NAME = "entropy_sentence"
_SIZE = re.compile(r"\b(\d+(?:\.\d+)?)([mb])\b", re.IGNORECASE)
_NOT_TOLD = ("n_texts", "final_norm", "max_seq_length", "seed")
_UNITS = {"m": 10**6, "b": 10**9}


def read_published(metrics: str | Path) -> pl.DataFrame:
    """Metrics over a corpus from a file, such as the paper's over WikiText, with the columns of `SCHEMA`.

    A number that the file has several times, as of several runs, is their mean. Metrics that are not known here are
    left out. The number of blocks is the highest layer, the number of parameters is what the name tells ("1.4b").

    Args:
        metrics: A .csv, .csv.gz or .parquet file with the columns model, revision, metric, normalization, layer and
            value. Names of metrics in older tables are read.

    Returns:
        The table, whose `source` is "published"; "published earlier" for models whose prompt entropy is called
        entropy_sentence, since these were measured in another way. n_texts, final_norm, max_seq_length and seed are
        null: the file does not tell.

    Raises:
        InputError: (a ValueError) no such file, a missing column, or a value of the wrong type; the message names it.
    """
    found = read_corpus_metrics(metrics)
    if (n_repeated := found.filter(pl.col("n_rows") > 1).height) > 0:
        logger.info("%s: %d numbers are means of several rows", metrics, n_repeated)
    if unknown := sorted(set(found["metric"]) - set(METRIC_TABLE)):
        logger.info("%s: %s left out: no metric here", metrics, ", ".join(unknown))
    earlier = set(found.filter(named=_EARLIER_NAME)["model"])
    known = found.filter(pl.col("metric").is_in(list(METRIC_TABLE)))
    if known.is_empty():
        raise InputError(f"metrics: {metrics} has no values of {', '.join(METRIC_TABLE)}")
    names = {column: known[column].unique(maintain_order=True).to_list() for column in ("model", "revision")}
    n_blocks = pl.col("layer").max().over("model")
    return (
        known.with_columns(
            source=pl.when(pl.col("model").is_in(list(earlier)))
            .then(pl.lit(PUBLISHED_EARLIER))
            .otherwise(pl.lit(PUBLISHED)),
            step=pl.col("revision").replace_strict(
                {name: step_of(name) for name in names["revision"]}, return_dtype=pl.Int64
            ),
            n_parameters=pl.col("model").replace_strict(
                {name: size_of(name) for name in names["model"]}, return_dtype=pl.Int64
            ),
            n_blocks=n_blocks,
            depth=pl.when(n_blocks > 0).then(pl.col("layer") / n_blocks).otherwise(0.0),
            place=pl.col("revision").replace_strict(
                {name: place for place, name in enumerate(in_order(names["revision"]))}, return_dtype=pl.Int64
            ),
        )
        .sort("place", maintain_order=True)
        .with_columns(pl.lit(None, SCHEMA[name]).alias(name) for name in _NOT_TOLD)
        .select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())
    )


def size_of(name: str) -> int | None:
    """The number of parameters that a model's name tells.

    Example:
        >>> size_of("Pythia-1.4b"), size_of("mamba-130m"), size_of("LLM2Vec-mntp-8B"), size_of("bert-base")
        (1400000000, 130000000, 8000000000, None)
    """
    found = _SIZE.search(name)
    return None if found is None else round(float(found[1]) * _UNITS[found[2].lower()])


def without_size(name: str) -> str:
    """The name of a model's family.

    Example:
        >>> without_size("Pythia-1.4b"), without_size("LLM2Vec-mntp-8B")
        ('Pythia', 'LLM2Vec-mntp')
    """
    return _SIZE.sub("", name).strip("-_ ")


def published_checkpoints(published: pl.DataFrame, model: str | None = None) -> pl.DataFrame:
    """The checkpoints of one published model, for `checkpoints`.

    Args:
        published: From `read_published`.
        model: Its name, with an owner or without, in any case of letters; None: the only one with several revisions.

    Raises:
        InputError: (a ValueError) no such model, or several.
    """
    several = published.filter(pl.col("revision").n_unique().over("model") > 1)
    return _only(several, None if model is None else [model], "with several revisions", several=False)


def published_models(published: pl.DataFrame, models: Sequence[str] | None = None) -> pl.DataFrame:
    """Published models, each of its last revision, for `compare_models`.

    Args:
        published: From `read_published`.
        models: Their names, with an owner or without, in any case of letters. None: all but those of an earlier
            measurement, families by their names and each in the order of its sizes.

    Raises:
        InputError: (a ValueError) no such model.
    """
    place = pl.col("revision").replace_strict(
        {name: place for place, name in enumerate(in_order(published["revision"].unique().to_list()))}
    )
    last = published.filter(place == place.max().over("model"))
    family = pl.col("model").map_elements(without_size, return_dtype=pl.String)
    if models is None and PUBLISHED in set(last["source"]):
        last = last.filter(source=PUBLISHED)
    ordered = last.sort("source", family, "n_parameters", maintain_order=True)
    return _only(ordered, models, "of this name", several=True)


def with_published(table: pl.DataFrame | None, published: pl.DataFrame) -> pl.DataFrame:
    """What was measured, followed by what was published.

    Args:
        table: From `checkpoints` or `compare_models`; None: nothing was measured.
        published: From `published_checkpoints` or `published_models`.
    """
    return published if table is None else pl.concat([table, published], how="diagonal").select(table.columns)


def beside_published(
    table: pl.DataFrame | None, published: pl.DataFrame, experiment: str, models: Sequence[str] | None = None
) -> pl.DataFrame:
    """The table of an experiment, followed by what was published for it.

    Args:
        table: From `checkpoints` or `compare_models`; None: nothing was measured.
        published: From `read_published`.
        experiment: "checkpoints" or "compare_models".
        models: Published models. None: those of `published_models`; of checkpoints the model that was measured, if
            there are checkpoints of it, else the only one with several revisions.

    Raises:
        InputError: (a ValueError) no such model, or not one model for its checkpoints.
    """
    if experiment != "checkpoints":
        return with_published(table, published_models(published, models))
    if models is not None and len(models) != 1:
        raise InputError(f"model: checkpoints takes one model of the published table, got {len(models)}")
    model = None if models is None else models[0]
    if model is None and table is not None:
        several = published.filter(pl.col("revision").n_unique().over("model") > 1)["model"].unique()
        measured = {_plain(name) for name in table["model"].unique()}
        model = next((name for name in several if _plain(name) in measured), None)
    return with_published(table, published_checkpoints(published, model))


def _only(table: pl.DataFrame, models: Sequence[str] | None, what: str, *, several: bool) -> pl.DataFrame:
    there = table["model"].unique(maintain_order=True).to_list()
    names = [_plain(name) for name in there]
    if models is None and (several or len(there) == 1):
        return table
    for model in models or ():
        if _plain(model) not in names:
            raise InputError(f"metrics: there is no model {model!r} {what}; there are {', '.join(there) or 'none'}")
    if models is None:
        raise InputError(f"metrics: expected one model {what}, got {', '.join(there) or 'none'}; name one")
    wanted = [there[names.index(_plain(model))] for model in models]
    return pl.concat([table.filter(model=name) for name in wanted])


def _plain(name: str) -> str:
    return name.rpartition("/")[2].lower()
