"""Ways to pick a layer, side by side: the paper's Table 2, and more. Nothing is read or shown here.

The recipe is the paper's: a criterion picks a layer for each task, by the metric (raw) of the task's own texts, among
the layers that have a score; a scheme's number is the mean of the tasks' scores at the layers that it picks.
"""

from typing import Literal, get_args

import numpy as np
import polars as pl

from midlayer_embed.errors import InputError
from midlayer_embed.layers import n_blocks_at
from midlayer_embed.selection.criteria import CRITERIA, fixed_layer
from midlayer_embed.terms import RAW

Tasks = Literal["available", "common"]


def _column(criterion: str) -> str:
    """The name of a criterion's column: "min-dime" is min_dime, "depth:0.7" depth_0_7."""
    return "".join(character if character.isalnum() else "_" for character in criterion)


_DEPTHS = {_column(criterion): criterion for criterion in ("middle", "depth:0.7")}
_MEASURED = {_column(criterion): metric_and_end for criterion, metric_and_end in CRITERIA.items()}
SCHEMES = ("best", "last", "random_layer", *_DEPTHS, "oracle", *_MEASURED)

N_RESAMPLES = 1000
_INTERVAL = (2.5, 97.5)
_MODEL = ["model", "revision"]


def schemes(
    scores: pl.DataFrame, metrics: pl.DataFrame, tasks: Tasks = "available", complete_only: bool = False, seed: int = 0
) -> pl.DataFrame:
    """The schemes of every model and revision, in points.

    - best: the single layer with the highest mean over the tasks, `best_layer`. A layer that misses tasks has its mean
      over those that it has, which is the authors' way (n_best tells); `complete_only` leaves such layers out.
    - last: the highest layer there is; middle and depth_0_7: the layers at these depths.
    - random_layer: what a layer drawn at random for each task is expected to give. oracle: the best layer of each task.
    - min_dime, ..., max_curvature: the criteria of `select_layer`. Null, over no task, where
      nothing was measured.

    Args:
        scores: As `Leaderboard.scores`.
        metrics: As `Leaderboard.metrics`.
        tasks: "available": each scheme over the tasks that it has; "common": all over the tasks that all have, of the
            schemes that have any.
        complete_only: Whether the best layer, here and in regrets, must miss none of the tasks.
        seed: Of the bootstrap.

    Returns:
        One row a model and revision: model, revision, tasks, n_tasks; best, best_layer, last and the other schemes of
        `SCHEMES`; n_<scheme>, the tasks behind each; regret_<scheme>, how far it is below the best single layer
        over the same tasks; <scheme>_low and <scheme>_high, the 95% interval of 1,000 resamples of the tasks at the
        layers picked.

    Raises:
        InputError: (a ValueError) `tasks` is neither.
    """
    if tasks not in get_args(Tasks):
        raise InputError(f"tasks: expected one of {', '.join(get_args(Tasks))}, got {tasks!r}")
    scored = scores.filter(pl.col("main_score").is_finite()).select(
        *_MODEL, "task", "layer", score=pl.col("main_score") * 100
    )
    at_layers = picked_layers(scores, metrics).join(scored, on=[*_MODEL, "task", "layer"]).drop("layer")
    picked = pl.concat([at_layers, _random_layers(scored).select(at_layers.columns)])
    if tasks == "common":
        n_schemes = pl.col("scheme").n_unique()
        shared = (
            picked.with_columns(of=n_schemes.over(_MODEL), has=n_schemes.over(*_MODEL, "task"))
            .filter(pl.col("of") == pl.col("has"))
            .select(*_MODEL, "task")
            .unique()
        )
        scored, picked = (frame.join(shared, on=[*_MODEL, "task"], how="semi") for frame in (scored, picked))
    best = _best_layers(scored.with_columns(scheme=pl.lit("best")), complete_only)
    at_best = scored.join(best.rename({"best_layer": "layer"}), on=[*_MODEL, "layer"])
    compared = _compared(pl.concat([picked, at_best.select(picked.columns)]), scored, complete_only, seed)
    models = scores.select(_MODEL).unique(maintain_order=True)
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


def picked_layers(scores: pl.DataFrame, metrics: pl.DataFrame) -> pl.DataFrame:
    """The layer that each scheme takes for each task, among those that the task has a score of.

    Args:
        scores: As `Leaderboard.scores`.
        metrics: As `Leaderboard.metrics`.

    Returns:
        model, revision, scheme, task, layer; of all schemes but best, which is one layer for all tasks, and
        random_layer, which is none.
    """
    scored = scores.filter(pl.col("main_score").is_finite()).select(*_MODEL, "task", "layer", score="main_score")
    found = (scored.join(_fixed_layers(scores), on=[*_MODEL, "layer"]), _oracle(scored), _by_criteria(scored, metrics))
    return pl.concat([frame.select(*_MODEL, "scheme", "task", "layer") for frame in found])


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
    """Each task's mean over its layers."""
    by = [*_MODEL, "task"]
    return scored.group_by(by).agg(pl.lit("random_layer").first().alias("scheme"), pl.col("score").mean())


def _oracle(scored: pl.DataFrame) -> pl.DataFrame:
    """Each task's best layer, the lower of equal ones."""
    return (
        scored.sort("score", "layer", descending=[True, False])
        .group_by(*_MODEL, "task", maintain_order=True)
        .agg(pl.col("layer").first(), scheme=pl.lit("oracle").first())
    )


def _by_criteria(scored: pl.DataFrame, metrics: pl.DataFrame) -> pl.DataFrame:
    """The layer of each task that a criterion picks on its texts; of equal layers, the lower one."""
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
    """Of every model and scheme, the layer with the highest mean over the tasks scored, the lower of equal ones."""
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


def _compared(picked: pl.DataFrame, scored: pl.DataFrame, complete_only: bool, seed: int) -> pl.DataFrame:
    """One row a model and scheme: its mean, tasks, regret and interval."""
    by = [*_MODEL, "scheme"]
    of_same_tasks = scored.join(picked.select(*by, "task"), on=[*_MODEL, "task"])
    found = (
        picked.sort("task")
        .group_by(by)
        .agg("score", mean=pl.col("score").mean(), n=pl.len())
        .join(_best_layers(of_same_tasks, complete_only).select(*by, "best"), on=by, how="left")
        .with_columns(regret=pl.col("best") - pl.col("mean"))
    )
    intervals = _intervals(found["score"], seed)
    return found.with_columns(low=intervals[:, 0], high=intervals[:, 1])


def _wide(compared: pl.DataFrame) -> pl.DataFrame:
    """One row a model: what is known of each scheme in columns."""
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


def _intervals(scores: pl.Series, seed: int) -> np.ndarray:
    """The interval of each list's mean, (n, 2). Lists of one length share their resamples, so that schemes compare."""
    found = np.empty((len(scores), 2))
    drawn: dict[int, np.ndarray] = {}
    for row, of_tasks in enumerate(scores):
        n = len(of_tasks)
        if n not in drawn:
            drawn[n] = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), N_RESAMPLES) / n
        found[row] = np.percentile(drawn[n] @ of_tasks.to_numpy(), _INTERVAL)
    return found
