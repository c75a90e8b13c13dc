"""Joins the tables of several results folders into one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import polars as pl

from leaderboard.results.known import joined_known
from leaderboard.results.schemas import METRICS_SCHEMA, ROUNDING, SCORES_SCHEMA
from leaderboard.results.tables import Tables
from midlayer_embed.errors import InputError

_Tables = TypeVar("_Tables", bound=Tables)


def joined(tables: Sequence[_Tables], names: Sequence[str]) -> _Tables:
    """The tables as one. Where several have the same number, the first one counts.

    Args:
        tables: At least one.
        names: What each is called in messages, such as its folder.

    Raises:
        InputError: (a ValueError) two have different numbers of one name; the message says which.
    """
    first, *others = tables
    origins = {key: origin for one in reversed(tables) for key, origin in one.origins.items()}
    reasons = {key: reason for one in reversed(tables) for key, reason in one.reasons.items()}
    return replace(
        first,
        scores=_joined([one.scores for one in tables], names, "main_score", list(SCORES_SCHEMA)),
        metrics=_joined([one.metrics for one in tables], names, "value", list(METRICS_SCHEMA)),
        paper_scores=_joined([one.paper_scores for one in tables], names, "main_score", list(SCORES_SCHEMA)),
        origins=origins,
        reasons=reasons,
        known=joined_known([one.known for one in tables]),
        remarks=tuple(dict.fromkeys(remark for one in (first, *others) for remark in one.remarks)),
    )


def _joined(frames: Sequence[pl.DataFrame], names: Sequence[str], value: str, columns: list[str]) -> pl.DataFrame:
    key = [name for name in columns if name not in (value, "depth", "task_type")]
    whole = pl.concat([frame.select(columns).with_columns(source=pl.lit(place)) for place, frame in enumerate(frames)])
    first = pl.col(value).first().over(key)
    far = pl.col(value).is_null().ne(first.is_null()) | ((pl.col(value) - first).abs() > ROUNDING).fill_null(
        value=False
    )
    wrong = whole.with_columns(of=pl.col("source").first().over(key)).filter(far)
    if not wrong.is_empty():
        row = wrong.row(0, named=True)
        of = ", ".join(f"{name} {row[name]}" for name in key if row[name] is not None)
        raise InputError(f"results: {names[row['of']]} and {names[row['source']]} differ in the {value} of {of}")
    return whole.unique(key, keep="first", maintain_order=True).select(columns)
