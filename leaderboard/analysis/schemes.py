"""Compares ways to pick a layer: the paper's Table 2, and more. Does not read files or format tables.

As in the paper, a criterion picks a layer for each task, by the raw metric of the task's own texts, among the layers
that have a score; the score of a scheme is the mean of the tasks' scores at the layers that it picks.
"""

from functools import cached_property
from typing import Literal, get_args

import numpy as np
import polars as pl

from midlayer_embed.errors import InputError
from midlayer_embed.layers import n_blocks_at
from midlayer_embed.selection.criteria import CRITERIA, fixed_layer
from midlayer_embed.terms import RAW

Tasks = Literal["available", "common"]


def _column(criterion: str) -> str:
    """Column name of a criterion: min_dime for "min-dime", depth_0_7 for "depth:0.7"."""
    return "".join(character if character.isalnum() else "_" for character in criterion)


_DEPTHS = {_column(criterion): criterion for criterion in ("middle", "depth:0.7")}
_MEASURED = {_column(criterion): metric_and_end for criterion, metric_and_end in CRITERIA.items()}
SCHEMES = ("best", "last", "random_layer", *_DEPTHS, "oracle", *_MEASURED)

N_RESAMPLES = 1000
_INTERVAL = (2.5, 97.5)
_MODEL = ["model", "revision"]


def check_comparison(tasks: str) -> None:
    """Reject what schemes cannot be compared over.

    Raises:
        InputError: (a ValueError) neither "available" nor "common".
    """
    if tasks not in get_args(Tasks):
        raise InputError(f"tasks: expected one of {', '.join(get_args(Tasks))}, got {tasks!r}")


class SchemeComparison:
    """Compares the schemes of one set of tables. Results, and work that several results share, are computed once.

    Args:
        scores: Scores with the columns of `Leaderboard.scores`.
        metrics: Metrics with the columns of `Leaderboard.metrics`.
    """

    def __init__(self, scores: pl.DataFrame, metrics: pl.DataFrame) -> None:
        self._scores = scores
        self._metrics = metrics
        self._tables: dict[tuple[Tasks, bool, int], pl.DataFrame] = {}
        self._resamples: dict[tuple[int, int], np.ndarray] = {}

    @cached_property
    def picked_layers(self) -> pl.DataFrame:
        """The layer that each scheme picks for each task, among those that have a score of the task.

        Columns model, revision, scheme, task, layer. The schemes best (one layer for all tasks) and random_layer (no
        particular layer) are left out.
        """
        scores = self._scores
        scored = scores.filter(pl.col("main_score").is_finite()).select(*_MODEL, "task", "layer", score="main_score")
        found = (
            scored.join(_fixed_layers(scores), on=[*_MODEL, "layer"]),
            _oracle(scored),
            _by_criteria(scored, self._metrics),
        )
        return pl.concat([frame.select(*_MODEL, "scheme", "task", "layer") for frame in found])

    def table(self, tasks: Tasks = "available", complete_only: bool = False, seed: int = 0) -> pl.DataFrame:
        """The schemes of every model and revision; see `schemes`."""
        check_comparison(tasks)
        key = (tasks, complete_only, seed)
        if key not in self._tables:
            self._tables[key] = self._compare(*key)
        return self._tables[key].clone()

    def _compare(self, tasks: Tasks, complete_only: bool, seed: int) -> pl.DataFrame:
        scored, picked = self._scored, self._picked
        if tasks == "common":
            shared = _common_tasks(picked)
            if shared.height == picked.select(*_MODEL, "task").n_unique():  # every scheme has every task
                return self.table("available", complete_only, seed).with_columns(tasks=pl.lit(tasks))
            scored, picked = (frame.join(shared, on=[*_MODEL, "task"], how="semi") for frame in (scored, picked))
        best = _best_layers(scored.with_columns(scheme=pl.lit("best")), complete_only)
        at_best = scored.join(best.rename({"best_layer": "layer"}), on=[*_MODEL, "layer"])
        compared = self._summarize(pl.concat([picked, at_best.select(picked.columns)]), scored, complete_only, seed)
        models = self._scores.select(_MODEL).unique(maintain_order=True)
        for frame in (
            scored.group_by(_MODEL).agg(n_tasks=pl.col("task").n_unique()),
            best.select(*_MODEL, "best_layer"),
            _wide(compared),
        ):
            models = models.join(frame, on=_MODEL, how="left", maintain_order="left")
        return models.select(
            *_MODEL,
            pl.lit(tasks).alias("tasks"),
            "n_tasks",
            "best",
            pl.exclude(*_MODEL, "n_tasks", "best"),
        ).with_columns(pl.col("^n_.*$").fill_null(0).cast(pl.Int64))

    @cached_property
    def _scored(self) -> pl.DataFrame:
        """Finite scores in points: model, revision, task, layer, score."""
        finite = self._scores.filter(pl.col("main_score").is_finite())
        return finite.select(*_MODEL, "task", "layer", score=pl.col("main_score") * 100)

    @cached_property
    def _picked(self) -> pl.DataFrame:
        """The score of each scheme except best for each task: model, revision, scheme, task, score."""
        at_layers = self.picked_layers.join(self._scored, on=[*_MODEL, "task", "layer"]).drop("layer")
        return pl.concat([at_layers, _random_layers(self._scored).select(at_layers.columns)])

    def _summarize(self, picked: pl.DataFrame, scored: pl.DataFrame, complete_only: bool, seed: int) -> pl.DataFrame:
        """Mean, number of tasks, regret and interval: one row per model and scheme."""
        by = [*_MODEL, "scheme"]
        same_tasks = scored.join(picked.select(*by, "task"), on=[*_MODEL, "task"])
        found = (
            picked.sort("task")
            .group_by(by)
            .agg("score", mean=pl.col("score").mean(), n=pl.len())
            .join(_best_layers(same_tasks, complete_only).select(*by, "best"), on=by, how="left")
            .with_columns(regret=pl.col("best") - pl.col("mean"))
        )
        intervals = _intervals(found["score"], seed, self._resamples)
        return found.with_columns(low=intervals[:, 0], high=intervals[:, 1])


def schemes(
    scores: pl.DataFrame, metrics: pl.DataFrame, tasks: Tasks = "available", complete_only: bool = False, seed: int = 0
) -> pl.DataFrame:
    """The schemes of every model and revision, in points.

    - best: the single layer with the highest mean over the tasks, `best_layer`. Like the authors, we average a layer
      that lacks some tasks over the tasks that it has (see n_best); `complete_only` excludes such layers.
    - last: the highest layer in the tables; middle and depth_0_7: the layers at these depths.
    - random_layer: the expected score of a layer drawn at random for each task. oracle: the best layer of each task.
    - min_dime, ..., max_curvature: the criteria of `select_layer`. Null if the metric is missing.

    Args:
        scores: Scores with the columns of `Leaderboard.scores`.
        metrics: Metrics with the columns of `Leaderboard.metrics`.
        tasks: "available": each scheme over the tasks that it has; "common": all schemes over the tasks that all of
            them have. Schemes without any task are ignored.
        complete_only: Whether the best layer, also in regrets, must have a score for every task.
        seed: Seed of the bootstrap resamples.

    Returns:
        One row per model and revision: model, revision, tasks, n_tasks; best, best_layer, last and the other schemes of
        `SCHEMES`; n_<scheme>, the number of tasks that it is averaged over; regret_<scheme>, its distance below the
        best single layer over the same tasks; <scheme>_low and <scheme>_high, the 95% interval of 1,000 resamples of
        the tasks.

    Raises:
        InputError: (a ValueError) `tasks` is neither "available" nor "common".
    """
    return SchemeComparison(scores, metrics).table(tasks, complete_only, seed)


def _common_tasks(picked: pl.DataFrame) -> pl.DataFrame:
    """The tasks that all schemes of a model have."""
    n_schemes = pl.col("scheme").n_unique()
    counted = picked.with_columns(of=n_schemes.over(_MODEL), has=n_schemes.over(*_MODEL, "task"))
    return counted.filter(pl.col("of") == pl.col("has")).select(*_MODEL, "task").unique()


def _fixed_layers(scores: pl.DataFrame) -> pl.DataFrame:
    """The layers that are the same for every task: last, middle, depth 0.7."""
    last = scores.group_by(_MODEL).agg(pl.col("layer", "depth").sort_by("layer").last())
    rows = []
    for model, revision, highest, depth in last.iter_rows():
        rows.append((model, revision, "last", highest))
        for scheme, criterion in _DEPTHS.items():
            rows.append((model, revision, scheme, fixed_layer(criterion, n_blocks_at(highest, depth)).layer))
    schema = {"model": pl.String, "revision": pl.String, "scheme": pl.String, "layer": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _random_layers(scored: pl.DataFrame) -> pl.DataFrame:
    """The mean of each task over its layers."""
    by = [*_MODEL, "task"]
    return scored.group_by(by).agg(pl.lit("random_layer").first().alias("scheme"), pl.col("score").mean())


def _oracle(scored: pl.DataFrame) -> pl.DataFrame:
    """The best layer of each task; the lowest one of a tie."""
    return (
        scored.sort("score", "layer", descending=[True, False])
        .group_by(*_MODEL, "task", maintain_order=True)
        .agg(pl.col("layer").first(), scheme=pl.lit("oracle").first())
    )


def _by_criteria(scored: pl.DataFrame, metrics: pl.DataFrame) -> pl.DataFrame:
    """The layer that each criterion picks for each task; the lowest one of a tie."""
    ends = [(scheme, metric, 1.0 if end == "min" else -1.0) for scheme, (metric, end) in _MEASURED.items()]
    criteria = pl.DataFrame(ends, schema={"scheme": pl.String, "metric": pl.String, "sign": pl.Float64}, orient="row")
    return (
        metrics.filter(pl.col("normalization") == RAW, pl.col("value").is_finite())
        .join(criteria, on="metric")
        .join(scored, on=[*_MODEL, "task", "layer"])
        .sort(pl.col("value") * pl.col("sign"), "layer")
        .group_by(*_MODEL, "scheme", "task", maintain_order=True)
        .agg(pl.col("layer").first())
    )


def _best_layers(scored: pl.DataFrame, complete_only: bool) -> pl.DataFrame:
    """The layer with the highest mean over the tasks, per model and scheme; the lowest one of a tie."""
    by = [*_MODEL, "scheme"]
    layers = scored.group_by(*by, "layer").agg(mean=pl.col("score").mean(), n=pl.len())
    if complete_only:
        n_tasks = scored.group_by(by).agg(of=pl.col("task").n_unique())
        layers = layers.join(n_tasks, on=by).filter(pl.col("n") == pl.col("of"))
    return (
        layers.sort("mean", "layer", descending=[True, False])
        .group_by(by, maintain_order=True)
        .agg(best_layer=pl.col("layer").first(), best=pl.col("mean").first())
    )


def _wide(compared: pl.DataFrame) -> pl.DataFrame:
    """One row per model, with the numbers of each scheme in columns."""
    columns = {
        **{scheme: (scheme, "mean") for scheme in SCHEMES},
        **{f"n_{scheme}": (scheme, "n") for scheme in SCHEMES},
        **{f"regret_{scheme}": (scheme, "regret") for scheme in SCHEMES if scheme != "best"},
        **{f"{scheme}_{end}": (scheme, end) for scheme in SCHEMES for end in ("low", "high")},
    }
    return compared.group_by(_MODEL).agg(
        pl.col(value).filter(pl.col("scheme") == scheme).first().alias(name)
        for name, (scheme, value) in columns.items()
    )


def _intervals(scores: pl.Series, seed: int, resamples: dict[tuple[int, int], np.ndarray]) -> np.ndarray:
    """The interval of the mean of each list of scores, shape (n_lists, 2).

    Args:
        scores: A list of scores per row.
        seed: Seed of the resamples.
        resamples: Weights (N_RESAMPLES, n) by (n, seed); missing ones are added. Lists of the same length share them,
            so that the intervals of schemes are comparable.
    """
    found = np.empty((len(scores), 2))
    for row, of_tasks in enumerate(scores):
        n = len(of_tasks)
        if (n, seed) not in resamples:
            drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), N_RESAMPLES)
            resamples[n, seed] = drawn / n
        found[row] = np.percentile(resamples[n, seed] @ of_tasks.to_numpy(), _INTERVAL)
    return found
