"""Profiles of several models: the checkpoints of a training run, and models beside each other.

`measure` measures, `published` reads published tables, `summaries` and `drawings` tell what a table shows. `training`
makes the checkpoints of a tiny run.
"""

from leaderboard.experiments.profiles.drawings import draw_checkpoints, draw_compare_models
from leaderboard.experiments.profiles.measure import checkpoints, compare_models
from leaderboard.experiments.profiles.published import (
    beside_published,
    published_checkpoints,
    published_models,
    read_published,
    with_published,
)
from leaderboard.experiments.profiles.summaries import summary_checkpoints, summary_compare_models

__all__ = [
    "beside_published",
    "checkpoints",
    "compare_models",
    "draw_checkpoints",
    "draw_compare_models",
    "published_checkpoints",
    "published_models",
    "read_published",
    "summary_checkpoints",
    "summary_compare_models",
    "with_published",
]
