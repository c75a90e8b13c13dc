"""What tables of profiles show, in numbers: what training changed most, and where; and models beside each other."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from leaderboard.experiments.profiles.table import SCORE
from midlayer_embed.errors import InputError
from midlayer_embed.terms import METRIC_TABLE, RAW

# Thirds of depth: early layers below the first bound, late ones from the second on.
THIRDS = ("early", "middle", "late")
_BOUNDS = (1 / 3, 2 / 3)
_RUN = ["source", "model"]
_MODEL = ["model", "source"]
_DIPS = "prompt_entropy"


def summary_checkpoints(table: pl.DataFrame) -> pl.DataFrame:
    """What changed most between the first and the last checkpoint, and whether early layers settle early.

    Args:
        table: From `checkpoints`, with published checkpoints or without.

    Returns:
        One row for each run and metric, unnormalised: metric, source, model, checkpoints (first and last); moved_layer
        and moved, the layer with the largest sum of absolute changes from checkpoint to checkpoint, and that sum;
        changed_layer and changed, the layer with the largest difference between the last and the first, and this
        difference; early, middle and late, the mean absolute difference in each third of depth; since, the checkpoint
        at the middle of the run on a scale of log steps, and since_early, since_middle and since_late, the mean
        absolute difference between the last checkpoint and that one (null for fewer than three).

    Raises:
        InputError: (a ValueError) no model of the table has two checkpoints.
    """
    rows = []
    for (source, model), run in _raw(table).group_by(_RUN, maintain_order=True):
        for metric in _metrics_of(run):
            curves = _curves(run.filter(metric=metric))
            if curves is None:
                continue
            names, steps, depths, layers, values = curves
            net, moved = values[-1] - values[0], np.abs(np.diff(values, axis=0)).sum(axis=0)
            middle = _middle(steps) if len(names) > 2 else None
            later = None if middle is None else values[-1] - values[middle]
            rows.append(
                {
                    "metric": metric,
                    "source": source,
                    "model": model,
                    "checkpoints": f"{names[0]} to {names[-1]}",
                    "moved_layer": layers[moved.argmax()],
                    "moved": moved.max(),
                    "changed_layer": layers[np.abs(net).argmax()],
                    "changed": net[np.abs(net).argmax()],
                    **dict(zip(THIRDS, _thirds(net, depths), strict=True)),
                    "since": None if middle is None else names[middle],
                    **{f"since_{name}": value for name, value in zip(THIRDS, _thirds(later, depths), strict=True)},
                }
            )
    if not rows:
        raise InputError("table: expected two checkpoints of a model or more, got one of each")
    numbers = ("moved", "changed", *THIRDS, *(f"since_{name}" for name in THIRDS))
    layers_of = dict.fromkeys(("moved_layer", "changed_layer"), pl.Int64)
    schema = {name: pl.Float64 if name in numbers else layers_of.get(name, pl.String) for name in rows[0]}
    return pl.DataFrame(rows, schema=schema)


def summary_compare_models(table: pl.DataFrame) -> pl.DataFrame:
    """Models beside each other: how deep their prompt entropy dips, and the mean of each metric over the layers.

    Args:
        table: From `compare_models`, with published models or without.

    Returns:
        One row for each model: model, source, revision, n_blocks, n_parameters; dip, prompt entropy of layer 0 minus
        the lowest one, and dip_depth, where that is (both null if it was not measured at layer 0); then for each metric
        its mean over the layers, and for scores, under "score", the highest one.
    """
    rows = []
    raw = _raw(table)
    metrics = _metrics_of(raw)
    for key, curves in raw.group_by(*_MODEL, "revision", "n_blocks", "n_parameters", maintain_order=True):
        means = dict(curves.group_by("metric").agg(pl.col("value").mean()).iter_rows())
        scores = curves.filter(metric=SCORE)["value"]
        row = dict(zip((*_MODEL, "revision", "n_blocks", "n_parameters"), key, strict=True))
        dip, depth = _dip(curves.filter(pl.col("metric") == _DIPS, pl.col("value").is_finite()).sort("layer"))
        found = {name: means.get(name) for name in metrics}
        rows.append(
            {**row, "dip": dip, "dip_depth": depth, **found, **({SCORE: scores.max()} if SCORE in found else {})}
        )
    words = dict.fromkeys((*_MODEL, "revision"), pl.String) | dict.fromkeys(("n_blocks", "n_parameters"), pl.Int64)
    return pl.DataFrame(rows, schema={name: words.get(name, pl.Float64) for name in rows[0]})


def _raw(table: pl.DataFrame) -> pl.DataFrame:
    return table.filter(normalization=RAW)


def _metrics_of(table: pl.DataFrame) -> list[str]:
    """The metrics of a table, in the order in which they are told everywhere."""
    there = set(table["metric"])
    return [name for name in (*METRIC_TABLE, SCORE) if name in there]


def _curves(
    run: pl.DataFrame,
) -> tuple[list[str], list[int | None], np.ndarray, np.ndarray, np.ndarray] | None:
    """The checkpoints of a run and their steps, the depths and numbers of its layers, and values (checkpoint, layer).

    None for a single checkpoint. Only layers that all checkpoints have are compared.
    """
    wide = run.pivot("revision", index=["layer", "depth"], values="value").drop_nulls().sort("layer")
    names = [name for name in wide.columns if name not in ("layer", "depth")]
    if len(names) < 2 or wide.is_empty():
        return None
    of_name = dict(run.select("revision", "step").unique().iter_rows())
    steps = [of_name[name] for name in names]
    return names, steps, wide["depth"].to_numpy(), wide["layer"].to_numpy(), wide.select(names).to_numpy().T


def _middle(steps: list[int | None]) -> int:
    """The place of the first checkpoint in the second half of a run, by log steps; without steps, by count."""
    numbered = [(place, step) for place, step in enumerate(steps) if step is not None]
    if len(numbered) < 2:
        return len(steps) // 2
    first, last = (max(1, numbered[place][1]) for place in (0, -1))
    return next(place for place, step in numbered if step >= (first * last) ** 0.5)


def _thirds(change: np.ndarray | None, depths: np.ndarray) -> Iterator[float | None]:
    """The mean absolute change in each third of depth."""
    third = np.digitize(depths, _BOUNDS)
    for number in range(len(THIRDS)):
        of_third = None if change is None else np.abs(change[third == number])
        yield None if of_third is None or not len(of_third) else float(of_third.mean())


def _dip(curve: pl.DataFrame) -> tuple[float | None, float | None]:
    if curve.is_empty() or curve["layer"][0] != 0:
        return None, None
    lowest = curve["value"].arg_min()
    assert lowest is not None
    return curve["value"][0] - curve["value"][lowest], curve["depth"][lowest]
