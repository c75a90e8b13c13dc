"""Criteria for `midlayer_embed.select_layer` that need scores: of labelled tasks at hand, or published ones.

None of the user's labels is needed. midlayer_embed finds both as entry points (see pyproject.toml).
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from leaderboard.models.published import published_layers
from midlayer_embed.errors import InputError
from midlayer_embed.forward.layerwise import LayerwiseEncoder
from midlayer_embed.models.checkpoint import Checkpoint, find_checkpoint
from midlayer_embed.options import Recipe, fold
from midlayer_embed.selection.criteria import LayerSelection

_STARTER = "starter"
# Words for the parts of a recipe that published scores are of.
_SAID: dict[str, Callable[[Any], str]] = {
    "template": lambda value: "plain texts" if value is None else f"template {value!r}",
    "pooling_mode": lambda value: f"{value} pooling",
    "final_norm": lambda value: f"{'normed' if value else 'raw'} states",
}


def proxy(
    model: str | Path | Checkpoint | LayerwiseEncoder,
    *,
    tasks: Sequence[str] | None = None,
    data_dir: str | Path | None = None,
    layer_zero: bool = True,
    seed: int = 0,
    show_progress: bool = False,
    **options: Any,
) -> LayerSelection:
    """The layer with the highest mean score over small labelled tasks, of other data than the user's.

    Args:
        model: A folder, a Hub id, "starter", or a LayerwiseEncoder.
        tasks: Names of mteb's tasks; None: the starter benchmark, which needs no download.
        data_dir: A folder to read their datasets from, as in `run_sweep`.
        layer_zero: Whether the embeddings are eligible.
        seed: Seed of the sweep.
        show_progress: Show bars with an ETA on stderr.
        **options: Keywords of LayerwiseEncoder.

    Returns:
        The choice; its values are the means over types of task of the means of each type, in points.

    Raises:
        InputError: (a ValueError) an unknown task, or as in `run_sweep`.
    """
    from leaderboard.sweep.run import run_sweep

    encoder = model if isinstance(model, LayerwiseEncoder) else LayerwiseEncoder(model, **options)
    with tempfile.TemporaryDirectory(prefix="midlayer-embed-proxy-") as results:
        board = run_sweep(
            encoder,
            _STARTER if tasks is None else list(tasks),
            results,
            data_dir=data_dir,
            metrics="none",
            seed=seed,
            show_progress=show_progress,
        )
    score = pl.col("main_score").fill_null(float("nan")).mean()  # what lacks a score has no mean
    by_type = board.scores.group_by("layer", "task_type").agg(score)
    values = by_type.group_by("layer").agg(score).sort("layer")["main_score"].to_numpy() * 100
    names = ", ".join(board.scores["task"].unique(maintain_order=True))
    return _of_values("proxy", values, layer_zero, f"by labels of other data, none of yours: {names}")


def published(
    model: str | Path | Checkpoint | LayerwiseEncoder, *, layer_zero: bool = True, **options: Any
) -> LayerSelection:
    """The best layer of a model whose layers have published scores: those in `configs/published`.

    Args:
        model: A Hub id, or an encoder of one.
        layer_zero: Whether the embeddings are eligible.
        **options: Keywords of LayerwiseEncoder; what else `select_layer` passes is not used.

    Raises:
        InputError: (a ValueError) no published scores of this model and revision are known, or they are of another
            template, pooling or norm.
    """
    checkpoint = _checkpoint(model, options)
    requested = checkpoint.requested_revision or "main"
    recipe = model.recipe if isinstance(model, LayerwiseEncoder) else checkpoint.resolved(fold(options)[1])
    found = published_layers().get((str(checkpoint.hub_id), requested))
    if found and (layer_zero or found.layer) and not (checkpoint.bidirectional or checkpoint.adapters):
        _check_recipe(checkpoint.name, found.recipe, recipe)
        of = ", ".join(_SAID[part](value) for part, value in found.recipe.items())
        reason = (
            f"the best of {found.n_blocks + 1} layers over {found.n_tasks} tasks ({of}), {found.best} against "
            f"{found.last} points at the last layer: {found.source}"
        )
        return LayerSelection(found.layer, found.n_blocks + 1, "published", reason=reason)
    raise InputError(f"criterion: 'published' knows no scores of {checkpoint.name}, revision {requested}")


def _check_recipe(name: str, scored: Mapping[str, Any], recipe: Recipe) -> None:
    """Reject a recipe that published scores say nothing about."""
    for part, value in scored.items():
        if (got := getattr(recipe, part)) != value:
            said = _SAID[part]
            raise InputError(f"criterion: the published scores of {name} are of {said(value)}, not of {said(got)}")


def _checkpoint(model: str | Path | Checkpoint | LayerwiseEncoder, options: dict[str, Any]) -> Checkpoint:
    if isinstance(model, LayerwiseEncoder):
        return model.checkpoint
    return model if isinstance(model, Checkpoint) else find_checkpoint(model, fold(options)[0])


def _of_values(criterion: str, values: np.ndarray, layer_zero: bool, reason: str) -> LayerSelection:
    """The layer of the highest value, the lower one of a tie; a layer without a value is not eligible."""
    eligible = np.isfinite(values) & ((np.arange(len(values)) > 0) | layer_zero)
    if not eligible.any():
        raise InputError(f"criterion: {criterion!r} has no layer with a score on every type of task")
    best, *others = [int(layer) for layer in (-values).argsort(kind="stable") if eligible[layer]]
    return LayerSelection(
        layer=best,
        n_layers=len(values),
        criterion=criterion,
        values=values,
        runner_up=others[0] if others else None,
        margin=float(values[best] - values[others[0]]) if others else None,
        reason=reason,
    )
