"""Fits a transform at every layer during a forward pass, in memory that does not grow with the number of items."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from midlayer_embed.errors import InputError
from midlayer_embed.layers import layer_numbers
from midlayer_embed.recipes.names import check_transform, needs_covariance
from midlayer_embed.recipes.transform import Moments, Transform, check_number

# Bytes of the sums of a group of layers.
_MOST_BYTES = 4 * 1024**3


def fit_layers(
    encoder: Any,
    items: Sequence[Any],
    transform: str,
    layers: str | Sequence[int | float] | None = None,
    *,
    dim: int | None = None,
    batch_tokens: int | None = None,
    show_progress: bool = False,
) -> Transform:
    """The transform of each layer, fitted on the pooled vectors of unlabelled texts or images, in one forward pass.

    If the covariances of all layers do not fit into 4 GiB, layers are fitted in groups, each with its own pass. The
    same items give the same transform, bit for bit, in whatever order. Texts without tokens are left out.

    Args:
        encoder: The encoder, with the recipe whose vectors are transformed.
        items: Texts or images like those that will be embedded.
        transform: Name of the transform, see `fit_transform`.
        layers: None for all, or layers and depths in the order of the result.
        dim: Number of dimensions that whitening keeps.
        batch_tokens: Number of tokens in a forward pass, padding included. None: a default for the device.
        show_progress: Show a bar with an ETA on stderr.

    Raises:
        InputError: (a ValueError) an argument is invalid; too few items; a vector that is not finite.
    """
    name = check_transform(transform, dim)
    numbers = layer_numbers(layers, encoder.checkpoint.n_blocks, encoder.recipe.site)
    times = Counter(encoder.prompted(encoder.inputs.check(items)))
    unique = sorted(times, key=encoder.inputs.sort_key)
    counts = np.array([times[item] for item in unique])
    what = f"{encoder.inputs.kind}s"
    check_number(what, name, dim, int(counts.sum()), encoder.dim, what)
    fitted: dict[int, Transform] = {}
    full = needs_covariance(name)
    for group in _groups(dict.fromkeys(numbers), 8 * encoder.dim ** (1 + full)):
        moments = Moments(len(group), encoder.dim, full=full)
        for pooled in encoder.pooled_batches(
            unique,
            group,
            norms=[encoder.final_norm],
            batch_tokens=batch_tokens,
            show_progress=show_progress,
            description=f"Fitting {name}",
        ):
            vectors = pooled.vectors[0].swapaxes(0, 1)
            if not np.isfinite(vectors).all():
                item, slot = np.argwhere(~np.isfinite(vectors).all(axis=2))[0]
                shown = encoder.inputs.shown(unique[int(pooled.rows[item])])
                raise InputError(f"{what}: the vector of {shown} at layer {group[slot]} is not finite")
            moments.add(vectors, counts[pooled.rows])
        check_number(what, name, dim, moments.n_texts, encoder.dim, f"{what} with tokens")
        every = moments.fit(name, dim=dim, warn=not fitted)
        fitted |= {layer: every.of_layer(slot) for slot, layer in enumerate(group)}
    weight, bias = (np.stack([getattr(fitted[number], part) for number in numbers]) for part in ("weight", "bias"))
    return Transform(name, weight, bias, next(iter(fitted.values())).n_texts)


def _groups(layers: Iterable[int], bytes_a_layer: int) -> list[list[int]]:
    found, fit = list(layers), max(1, _MOST_BYTES // bytes_a_layer)
    return [found[start : start + fit] for start in range(0, len(found), fit)]
