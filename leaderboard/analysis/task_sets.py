"""Models by the tasks that they were scored on. Means over different tasks are not comparable."""

import polars as pl

from leaderboard.analysis.layer_means import MODEL


def task_sets(scores: pl.DataFrame) -> dict[tuple[str, ...], list[tuple[str, str]]]:
    """The models, as (name, revision), by the tasks that they have a score of at any layer.

    Args:
        scores: Scores with the columns of `Leaderboard.scores`.

    Returns:
        Sorted names of tasks, and the models in the order of the scores. Most tasks come first; models without any
        score come last, with no tasks.
    """
    found: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    scored = pl.col("task").filter(pl.col("main_score").is_finite()).unique().sort()
    for model, revision, tasks in scores.group_by(MODEL, maintain_order=True).agg(scored).iter_rows():
        found.setdefault(tuple(tasks), []).append((model, revision))
    return dict(sorted(found.items(), key=lambda item: (-len(item[0]), item[0])))
