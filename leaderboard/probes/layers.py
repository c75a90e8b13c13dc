"""Probes of every layer of image encoders, beside the metrics of the same images, as a table."""

import gc
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from leaderboard.experiments.encoders import label
from leaderboard.experiments.profiles.kept import KeptProfiles
from leaderboard.models.known import resolve_known_model
from leaderboard.probes.arguments import (
    ATTENTION,
    LINEAR,
    PROBES,
    Settings,
    check_heads,
    check_probes,
    check_together,
    check_window,
    split_test,
)
from leaderboard.probes.labels import check_labels, classes_of, numbered
from leaderboard.probes.linear import linear_probe
from leaderboard.probes.model_tokens import model_tokens
from leaderboard.probes.probing import accuracy, fit
from leaderboard.probes.table import SCHEMA
from leaderboard.probes.tokens import WindowTokens
from leaderboard.sweep.arguments import parse_bytes
from midlayer_embed import __version__
from midlayer_embed.errors import InputError
from midlayer_embed.forward.images import ImageLayerwiseEncoder
from midlayer_embed.ground.checks import check_optional_int
from midlayer_embed.ground.interrupts import tell_interrupt
from midlayer_embed.images.pictures import Picture, check_images
from midlayer_embed.models.checkpoint import Checkpoint, find_checkpoint
from midlayer_embed.models.weights import dtype_name, resolve_device
from midlayer_embed.options import OF_TEXTS, Source, fold, takes_options
from midlayer_embed.selection.profile import MAX_TEXTS, profile_layers
from midlayer_embed.terms import PAPER_METRICS, RAW, check_metrics

logger = logging.getLogger(__name__)

_PACKAGES = ("torch", "transformers", "scikit-learn")
_Model = str | Path | Checkpoint | ImageLayerwiseEncoder


@dataclass(frozen=True)
class _Images:
    """The labelled images: those to train on first, and which rows are the test."""

    pictures: list[Picture]
    targets: np.ndarray
    n_classes: int
    train_rows: np.ndarray
    test_rows: np.ndarray


@dataclass(frozen=True)
class _How:
    """How every model is probed; what changes its numbers."""

    probes: tuple[str, ...]
    metrics: tuple[str, ...]
    window: int | None
    max_metric_images: int | None
    settings: Settings


@takes_options(without=OF_TEXTS)
def probe_layers(
    models: "_Model | Sequence[_Model]",
    images: Sequence[Any],
    labels: Sequence[Any] | np.ndarray,
    *,
    test_images: Sequence[Any] | None = None,
    test_labels: Sequence[Any] | np.ndarray | None = None,
    probes: Sequence[str] = PROBES,
    metrics: Sequence[str] = PAPER_METRICS,
    window: int | None = None,
    max_metric_images: int | None = MAX_TEXTS,
    heads: int = Settings.heads,
    epochs: int | None = Settings.epochs,
    batch_size: int = Settings.batch_size,
    lr: float = Settings.lr,
    seed: int = 0,
    smoothing: float = Settings.smoothing,
    held_out: float = Settings.held_out,
    patience: int | None = Settings.patience,
    store_budget: int | str | None = None,
    batch_tokens: int | None = None,
    folder: str | Path | None = None,
    show_progress: bool = False,
    **options: Any,
) -> pl.DataFrame:
    """Accuracy of probes at every layer of image encoders, and the metrics of the same images (the paper's Figure 14).

    A forward pass over the images gives the patches of all layers, and every batch of them trains the attention probes
    of all layers. The linear probe is on the vectors that the encoder pools in the same pass. Metrics take passes of
    their own, over the images to train on and their views.

    Args:
        models: An image encoder, or several: folders, Hub ids, checkpoints or ImageLayerwiseEncoders.
        images: The images to train on, as for `ImageLayerwiseEncoder.encode`.
        labels: A label for each: ints or strings.
        test_images: The images to test on. None: a fifth of the images, drawn by the seed with the share of each class
            kept, is the test and is not trained on.
        test_labels: Their labels.
        probes: "attention", "linear", or both.
        metrics: Some of `midlayer_embed.terms.METRICS`, measured on the images to train on, without labels; the paper's
            by default. An empty list: none.
        window: Also probe the means of this many consecutive layers, as the paper does with 6. None: single layers.
        max_metric_images: Number of images on which metrics are measured, at most; None for all.
        heads: As in `attention_probe`.
        epochs: As in `attention_probe`.
        batch_size: As in `attention_probe`.
        lr: As in `attention_probe`.
        seed: Seed of all random draws.
        smoothing: As in `attention_probe`.
        held_out: As in `attention_probe`.
        patience: As in `attention_probe`.
        store_budget: Bytes on disk that patches may take while probes are trained, such as "20GB". If they do not fit,
            every epoch encodes the images again. None: four fifths of the free space.
        batch_tokens: Number of tokens in a forward pass. None: a default for the device.
        folder: Folder that keeps the tables of finished models, which the same call takes from there. None: nothing is
            kept.
        show_progress: Show bars with an ETA on stderr.
        **options: Of models that are not loaded yet: the options of `ImageLayerwiseEncoder`, such as `final_norm`.

    Returns:
        One row for each model, layer or window, and kind of probe, with the columns of `table.SCHEMA`: model, revision,
        layers ("3", or "3-to-8"), layer (the first of them), window (their number), depth (0..1), probe, accuracy
        (0..1), epochs, numbers of images, and the settings; then a column for each metric, which windows have none of.

    Raises:
        InputError: (a ValueError) a model that takes no images or is given twice, images or labels that do not fit, an
            unknown probe or metric, an option out of range.

    Example:
        >>> table = probe_layers("facebook/dinov2-small", images, labels, metrics=["curvature"])     # doctest: +SKIP
        >>> table.filter(probe="attention").select("layer", "accuracy", "curvature")                 # doctest: +SKIP
    """
    settings = Settings(heads, epochs, batch_size, lr, seed, smoothing, held_out, patience).checked()
    how = _How(
        tuple(check_probes(probes)),
        tuple(check_metrics(metrics)) if len(metrics) else (),
        check_window(window),
        check_optional_int("max_metric_images", max_metric_images, 2),
        settings,
    )
    budget = None if store_budget is None else parse_bytes(store_budget)
    check_together("images", test_images, test_labels)
    found = _find_models(models, options)
    data = _images(images, labels, test_images, test_labels, seed)
    kept = KeptProfiles(folder)
    parts: list[pl.DataFrame] = []
    with kept, tell_interrupt(kept.what_is_kept):
        digest = _digest(data) if kept.is_used else ""
        for number, model in enumerate(found, start=1):
            with _opened(model, options) as encoder:
                name = label(encoder)
                if any(part["model"][0] == name for part in parts):
                    raise InputError(f"models: {name} is given twice")
                identity = _identity(encoder, how, digest) if kept.is_used else {}
                table = kept.find(identity)
                if table is None:
                    logger.info("probing %s (%d of %d)", name, number, len(found))
                    table = _probed(encoder, data, how, budget, batch_tokens, show_progress)
                    kept.keep(identity, table)
                else:
                    logger.info("%s was probed earlier (%d of %d)", name, number, len(found))
                parts.append(
                    table.with_columns(model=pl.lit(name), revision=pl.lit(encoder.checkpoint.revision)).select(
                        *SCHEMA, *how.metrics
                    )
                )
    return pl.concat(parts)


def _find_models(
    models: "_Model | Sequence[_Model]", options: Mapping[str, Any]
) -> list[Checkpoint | ImageLayerwiseEncoder]:
    """The models, none loaded."""
    source, _ = fold(options)
    resolve_device(source.device)
    several = [models] if isinstance(models, (str, Path, Checkpoint, ImageLayerwiseEncoder)) else list(models)
    if not several:
        raise InputError("models: expected at least one, got none")
    found = [model if isinstance(model, ImageLayerwiseEncoder) else _find(model, source) for model in several]
    for model in found:
        if isinstance(model, ImageLayerwiseEncoder) and options:
            raise InputError(f"{', '.join(options)}: pass settings of an ImageLayerwiseEncoder to its constructor")
        checkpoint = model.checkpoint if isinstance(model, ImageLayerwiseEncoder) else model
        if checkpoint.modality != "image":
            raise InputError(f"models: {checkpoint.name} takes texts; probes are trained on images")
    return found


def _find(model: str | Path | Checkpoint, source: Source) -> Checkpoint:
    return model if isinstance(model, Checkpoint) else find_checkpoint(*resolve_known_model(model, source))


@contextmanager
def _opened(model: Checkpoint | ImageLayerwiseEncoder, options: Mapping[str, Any]) -> "Iterator[ImageLayerwiseEncoder]":
    """The loaded model; one that was loaded here is gone before the next comes."""
    if isinstance(model, ImageLayerwiseEncoder):
        yield model
        return
    source, recipe = fold(options)
    encoder = ImageLayerwiseEncoder.from_checkpoint(model, recipe, dtype=source.dtype, device=source.device)
    yield encoder
    del encoder
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _images(
    images: Sequence[Any],
    labels: Sequence[Any] | np.ndarray,
    test_images: Sequence[Any] | None,
    test_labels: Sequence[Any] | np.ndarray | None,
    seed: int,
) -> _Images:
    pictures = check_images(images)
    said = check_labels(labels, len(pictures))
    classes = classes_of(said)
    targets = numbered(said, classes, "labels")
    if test_images is None:
        return _Images(pictures, targets, len(classes), *split_test(targets, seed))
    tested = check_images(test_images, "test_images")
    goal = numbered(check_labels(test_labels, len(tested), "test_labels"), classes, "test_labels")
    if not len(goal):
        raise InputError("test_images: expected at least one, got none")
    n = len(pictures)
    rows = np.arange(n + len(tested))
    return _Images([*pictures, *tested], np.concatenate([targets, goal]), len(classes), rows[:n], rows[n:])


def _probed(
    encoder: ImageLayerwiseEncoder,
    data: _Images,
    how: _How,
    budget: int | None,
    batch_tokens: int | None,
    show_progress: bool,
) -> pl.DataFrame:
    check_window(how.window, encoder.n_layers)
    widths = [1] if how.window is None else [1, how.window]
    groups = [range(first, first + w) for w in widths for first in range(encoder.n_layers - w + 1)]
    tables, vectors = [], None
    if ATTENTION in how.probes:
        table, vectors = _attention(encoder, data, how, groups, budget, batch_tokens, show_progress)
        tables.append(table)
    if LINEAR in how.probes:
        if vectors is None:
            vectors = encoder.encode(data.pictures, batch_tokens=batch_tokens, show_progress=show_progress)
        tables.append(_linear(encoder, vectors, data, how, groups, show_progress))
    table = pl.concat(tables, how="diagonal").with_columns(
        n_train=len(data.train_rows),
        n_test=len(data.test_rows),
        n_classes=data.n_classes,
        final_norm=encoder.final_norm,
        seed=how.settings.seed,
        n_metric_images=pl.lit(None, pl.Int64),
    )
    if how.metrics:
        table = _with_metrics(table, encoder, data, how, batch_tokens, show_progress)
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in SCHEMA.items() if name not in table.columns]
    typed = [pl.col(name).cast(dtype) for name, dtype in SCHEMA.items()]
    return table.with_columns(missing).with_columns(typed).select(*SCHEMA, *how.metrics)


def _attention(
    encoder: ImageLayerwiseEncoder,
    data: _Images,
    how: _How,
    groups: Sequence[range],
    budget: int | None,
    batch_tokens: int | None,
    show_progress: bool,
) -> tuple[pl.DataFrame, np.ndarray | None]:
    """The accuracies, and the vectors that the encoder pools in the same pass, if there was one."""
    settings, device = how.settings, encoder.backbone.device
    check_heads(settings.heads, encoder.backbone.dim)
    options: dict[str, Any] = {"budget": budget, "batch_tokens": batch_tokens, "show_progress": show_progress}
    with model_tokens(encoder, data.pictures, encoder.layers, device, **options) as (tokens, vectors):
        grouped = tokens if how.window is None else WindowTokens(tokens, groups)
        trained = fit(
            grouped, data.targets, data.train_rows, settings, device, data.n_classes, show_progress=show_progress
        )
        found = accuracy(trained, grouped, data.test_rows, data.targets[data.test_rows], settings)
    used = {name: value for name, value in asdict(settings).items() if name not in ("epochs", "patience", "seed")}
    table = _table(encoder, groups, ATTENTION, found).with_columns(
        epochs=pl.Series(trained.epochs, dtype=pl.Int64),
        max_epochs=pl.lit(trained.max_epochs, pl.Int64),
        patience=pl.lit(trained.patience, pl.Int64),
        **{name: pl.lit(value) for name, value in used.items()},
    )
    return table, vectors


def _linear(
    encoder: ImageLayerwiseEncoder,
    vectors: np.ndarray,
    data: _Images,
    how: _How,
    groups: Sequence[range],
    show_progress: bool,
) -> pl.DataFrame:
    grouped = np.stack([vectors[:, list(group)].mean(axis=1) for group in groups], axis=1)
    found = linear_probe(
        grouped[data.train_rows],
        data.targets[data.train_rows],
        grouped[data.test_rows],
        data.targets[data.test_rows],
        seed=how.settings.seed,
        show_progress=show_progress,
    )
    return _table(encoder, groups, LINEAR, found).with_columns(pooling_mode=pl.lit(encoder.pooling_mode))


def _table(encoder: ImageLayerwiseEncoder, groups: Sequence[range], probe: str, found: np.ndarray) -> pl.DataFrame:
    n_blocks = encoder.n_layers - 1
    return pl.DataFrame(
        {
            "layers": [f"{group[0]}-to-{group[-1]}" if len(group) > 1 else str(group[0]) for group in groups],
            "layer": [group[0] for group in groups],
            "window": [len(group) for group in groups],
            "depth": [(group[0] + group[-1]) / 2 / n_blocks for group in groups],
            "probe": [probe] * len(groups),
            "accuracy": found,
        }
    )


def _with_metrics(
    table: pl.DataFrame,
    encoder: ImageLayerwiseEncoder,
    data: _Images,
    how: _How,
    batch_tokens: int | None,
    show_progress: bool,
) -> pl.DataFrame:
    profile = profile_layers(
        encoder,
        [data.pictures[row] for row in data.train_rows],
        list(how.metrics),
        how.max_metric_images,
        seed=how.settings.seed,
        normalizations=[RAW],
        batch_tokens=batch_tokens,
        show_progress=show_progress,
    )
    curves = pl.DataFrame({"layer": range(profile.n_layers), "window": 1, **profile.values})
    return table.join(curves, on=["layer", "window"], how="left", maintain_order="left").with_columns(
        n_metric_images=pl.lit(profile.n_texts, pl.Int64)
    )


def _digest(data: _Images) -> str:
    rows = [f"{picture.key} {target}" for picture, target in zip(data.pictures, data.targets.tolist(), strict=True)]
    return hashlib.sha256(repr((rows, data.test_rows.tolist())).encode()).hexdigest()


def _identity(encoder: ImageLayerwiseEncoder, how: _How, digest: str) -> dict[str, Any]:
    """All that a table depends on; the size of batches, the store and the device change roundings only."""
    return {
        "weights": encoder.checkpoint.revision,
        "recipe": asdict(encoder.recipe),
        "dtype": dtype_name(encoder.backbone.model.dtype),
        "own_code": encoder.checkpoint.trust_remote_code,
        "how": asdict(how),
        "images": digest,
        "versions": {"midlayer-embed": __version__, **{name: version(name) for name in _PACKAGES}},
    }
