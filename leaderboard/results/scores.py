"""Reads scores out of mteb's results. A score that is not finite is no score."""

import math
from typing import Any

import numpy as np

from leaderboard.results.provenance import NO_SCORE, HasScores, entries_of, provenance_of


def finite(value: Any) -> float | None:
    """The score as a float; None if it is not a finite number.

    Example:
        >>> finite(0.5), finite(float("nan")), finite(None)
        (0.5, None, None)
    """
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def score_of(result: HasScores, name: str = "main_score") -> float | None:
    """The mean of a score over the splits and subsets of a result, as by mteb; None if one of them has none.

    Args:
        result: The result.
        name: Key of the score.
    """
    values = [finite(entry.get(name)) for entry in entries_of(result)]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) > 0 else None


def reason_of_no_score(result: HasScores) -> str:
    """Why a result has no score."""
    return str((provenance_of(result) or {}).get(NO_SCORE) or "the score is not a number (NaN)")
