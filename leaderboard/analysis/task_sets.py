"""Models and recipes by the tasks that they were scored on. Means over different tasks are not comparable."""

import polars as pl

from leaderboard.analysis.variants import VARIANT, Variant, with_recipe


def task_sets(scores: pl.DataFrame) -> dict[tuple[str, ...], list[Variant]]:
    """The models and their recipes by the tasks that they have a score of at any layer.

    Args:
        scores: Scores with the columns of `Leaderboard.scores`.

    Returns:
        Sorted names of tasks, and the variants in the order of the scores. Most tasks come first; variants without any
        score come last, with no tasks.
    """
    found: dict[tuple[str, ...], list[Variant]] = {}
    scored = pl.col("task").filter(pl.col("main_score").is_finite()).unique().sort()
    for *which, tasks in with_recipe(scores).group_by(VARIANT, maintain_order=True).agg(scored).iter_rows():
        found.setdefault(tuple(tasks), []).append(Variant(*which))
    return dict(sorted(found.items(), key=lambda item: (-len(item[0]), item[0])))
