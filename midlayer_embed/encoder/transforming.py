"""The transform of an encoder: fitted on its own pooled vectors, and the refusal of layers that tell no texts apart."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from midlayer_embed.errors import InputError
from midlayer_embed.layers import first_layer
from midlayer_embed.recipes.names import needs_covariance, parse_transform
from midlayer_embed.recipes.transform import Moments, Transform, check_number

# Texts that are encoded at a time while a transform is fitted.
_TEXTS_AT_ONCE = 8192
# Texts of as many tokens each, with any tokenizer of English; one model may lack a word, not all of them.
_DIFFERENT = ("cat", "dog", "house", "water")
# Vectors are the same if they differ by no more than this share of their size.
_SAME = 1e-6


def fitted_transform(
    encoder: Any, transform: str | Transform, texts: Sequence[str] | None, dim: int | None
) -> Transform:
    """The transform of an encoder's pooled vectors.

    Args:
        encoder: A MidLayerEncoder whose modules end with the pooling.
        transform: A name, or a transform that is fitted already: of this layer, or of every layer.
        texts: Texts to fit it on, checked. Each counts as often as it is there; their order does not matter.
        dim: Number of dimensions that whitening keeps.

    Raises:
        InputError: (a ValueError) too few texts; vectors that are not finite, or all equal.
    """
    if isinstance(transform, Transform):
        if transform.weight.ndim == 2:
            return transform
        first = first_layer(encoder.recipe.site)
        n_layers = encoder.n_layers - first
        if len(transform.weight) != n_layers:
            raise InputError(
                f"transform: expected one of the layer or of all {n_layers} layers, got {len(transform.weight)}"
            )
        return transform.of_layer(encoder.layer - first)
    assert texts is not None
    times = Counter(texts)
    unique = sorted(times)  # the same texts make the same batches, so the same transform
    width = int(encoder.get_embedding_dimension() or 0)
    check_number("transform_texts", transform, dim, sum(times.values()), width)
    moments = Moments(1, width, full=needs_covariance(transform))
    for start in range(0, len(unique), _TEXTS_AT_ONCE):
        some = unique[start : start + _TEXTS_AT_ONCE]
        vectors = _vectors(encoder, some)
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            raise InputError(f"transform_texts: the vector of {some[int(np.argmin(finite))]!r:.60} is not finite")
        has_tokens = vectors.any(axis=1)
        counts = np.array([times[text] for text in some])
        if has_tokens.any():
            moments.add(vectors[has_tokens, None], counts[has_tokens])
    check_number("transform_texts", transform, dim, moments.n_texts, width, "texts with tokens")
    if moments.is_constant(0):
        raise InputError("transform_texts: expected texts that differ, got the same vector for all at this layer")
    return moments.fit(transform, dim=dim).of_layer(0)


def kept_dim(transform: Transform, dim: int | None) -> int | None:
    """The number of dimensions that whitening keeps; None for all, and for other transforms.

    Args:
        transform: Of one layer.
        dim: What was asked for when it was fitted; None if it was fitted before.
    """
    dim_out, width = transform.weight.shape
    is_prefix = parse_transform(transform.name)[0] == "whiten" and dim_out < width
    return dim_out if is_prefix else dim


def check_tells_apart(encoder: Any) -> None:
    """Reject a layer whose vector is the same for every text.

    An example is layer 0 pooled by the last token, under a template that puts words behind the text.

    Args:
        encoder: A MidLayerEncoder whose modules end with the pooling.

    Raises:
        InputError: (a ValueError) the message says what to change.
    """
    vectors = _vectors(encoder, list(_DIFFERENT))
    if np.abs(vectors - vectors[0]).max() <= _SAME * np.abs(vectors).max():
        recipe = encoder.recipe
        raise InputError(
            f"layer: at layer {encoder.layer} every text has the same vector under the template {recipe.template!r} "
            f"with the pooling {recipe.pooling_mode}; use another layer or pooling"
        )


def _vectors(encoder: Any, texts: list[str]) -> np.ndarray:
    return np.asarray(encoder.encode(texts, show_progress_bar=False), dtype=np.float32)
