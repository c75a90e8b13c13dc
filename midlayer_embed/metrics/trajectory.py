"""Metrics of the tokens of one text: prompt entropy, curvature and sink. Batches may be padded."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from midlayer_embed.errors import InputError
from midlayer_embed.ground.checks import check_orders
from midlayer_embed.metrics.arrays import Array, read_batch, reject_items, restore_shape
from midlayer_embed.metrics.gram import centred_unit_rows, divisor, row_entropies
from midlayer_embed.metrics.portions import Portion, in_portions


def prompt_entropy(Z: Any, mask: Any = None, alpha: float | Sequence[float] = 1.0, normalization: str = "raw") -> Array:
    """Entropy of the tokens of a text: how widely they spread. Tokens are centred, then scaled to length 1.

    Section 3.3.1 of "Layer by Layer" (ICML 2025), after Wei et al. (2024). High: diverse tokens. Low: redundant,
    compressed tokens. Neither is better by itself. The value of a corpus is the mean over its texts with two or more
    tokens.

    Args:
        Z: (..., T, d), the states of the T tokens of a text; numpy or torch.
        mask: (..., T), nonzero for the tokens that count. Z may hold anything elsewhere, NaN included.
        alpha: Order of the entropy, or several, see `matrix_entropy`.
        normalization: Normalization of the entropy, see `matrix_entropy`; n is the number of tokens that count.

    Returns:
        float64 (...), or (..., k) for k orders, numpy or torch like Z; in nats and in 0..min(ln T, ln d) when raw; 0
        where all tokens are equal. With a mask, NaN for texts with fewer than two tokens.

    Raises:
        InputError: (a ValueError) as in `matrix_entropy`, or the shape of the mask is not (..., T).

    Example:
        >>> import numpy as np
        >>> tokens = np.array([[[1.0, 0.0], [0.0, 1.0], [np.nan, np.nan]], [[5.0, 5.0], [9.0, 9.0], [9.0, 9.0]]])
        >>> prompt_entropy(tokens, mask=[[1, 1, 0], [1, 0, 0]]).tolist()
        [0.0, nan]
    """
    alphas, several = check_orders("alpha", alpha)
    batch = read_batch("Z", Z, "T, d", mask)
    n_tokens, d = batch.values.shape[1:]
    counts = None if batch.mask is None else batch.mask.sum(-1)
    scale = divisor(normalization, n_tokens if counts is None else counts, d).unsqueeze(-1)
    found = in_portions(
        lambda tokens: row_entropies(centred_unit_rows(tokens.values, tokens.mask), alphas), batch, copies=2
    )
    if counts is not None:
        found = found.where((counts >= 2).unsqueeze(-1), math.nan)
    found = found / scale
    return restore_shape(found if several else found.squeeze(-1), batch)


def curvature(Z: Any, mask: Any = None) -> Array:
    """Curvature of the path of a text's tokens: the mean angle between consecutive steps v_k = z_(k+1) - z_k.

    Section 3.3.2 of "Layer by Layer" (ICML 2025), after Hosseini and Fedorenko (2023). Steps of length zero are dropped
    before the angles are computed. Low: a straight, smooth path. High: abrupt turns. Neither is better by itself.

    Args:
        Z: (..., T, d), the states of the T tokens of a text, in order; numpy or torch.
        mask: (..., T), nonzero for the tokens that count. Z may hold anything elsewhere, NaN included.

    Returns:
        float64 (...), numpy or torch like Z; in radians, 0 (a straight line) to pi (back and forth). With a mask, NaN
        for texts with fewer than three tokens or fewer than two steps of nonzero length.

    Raises:
        InputError: (a ValueError) Z has fewer than two axes, an empty axis, or NaN or infinity in a token that counts;
            the shape of the mask is not (..., T). Without a mask also: fewer than three tokens, or a text with fewer
            than two steps of nonzero length (the message names the first such item of a batch).

    Example:
        >>> import numpy as np
        >>> corner = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
        >>> float(curvature(corner)) == np.pi / 2
        True
    """
    batch = read_batch("Z", Z, "T, d", mask)
    n_tokens = batch.values.shape[1]
    if batch.mask is None and n_tokens < 3:
        raise InputError(f"Z: expected 3 tokens or more, got {n_tokens}")
    found = in_portions(_mean_angle, batch, copies=4)
    if batch.mask is None:
        reject_items(found.isnan(), batch, "expected at least two steps between tokens that differ")
    return restore_shape(found, batch)


def sink(Z: Any, mask: Any = None) -> Array:
    """How far the first token of a text stands out: the norm of its state over the mean norm of the other tokens.

    Decoders park attention on the first token, whose state grows to many times the size of the others in the middle
    layers. It then dominates the mean and the entropies of a layer: arXiv 2510.06477 shows that it makes the valley of
    the entropy. 1: the first token is like the others. Neither end is good by itself.

    Args:
        Z: (..., T, d), the states of the T tokens of a text, in order; numpy or torch.
        mask: (..., T), nonzero for the tokens that count, of which the first is the first token. Z may hold anything
            elsewhere, NaN included.

    Returns:
        float64 (...), numpy or torch like Z; 0 or more, a plain ratio. With a mask, NaN for texts with fewer than two
        tokens or with no token but the first that is not zero.

    Raises:
        InputError: (a ValueError) Z has fewer than two axes, an empty axis, or NaN or infinity in a token that counts;
            the shape of the mask is not (..., T). Without a mask also: fewer than two tokens, or a text whose other
            tokens are all zero (the message names the first such item of a batch).

    Example:
        >>> sink([[30.0, 40.0], [3.0, 4.0], [0.0, 5.0]]).item()
        10.0
    """
    batch = read_batch("Z", Z, "T, d", mask)
    n_tokens = batch.values.shape[1]
    if batch.mask is None and n_tokens < 2:
        raise InputError(f"Z: expected 2 tokens or more, got {n_tokens}")
    found = in_portions(_sink, batch, copies=2)
    if batch.mask is None:
        reject_items(found.isnan(), batch, "expected a token after the first that is not zero")
    return restore_shape(found, batch)


def without_first(mask: torch.Tensor, n: int = 1) -> torch.Tensor:
    """A mask without the first n tokens of each text, wherever the padding is.

    Args:
        mask: (..., T), nonzero for tokens.
        n: Number of tokens to leave out.

    Example:
        >>> without_first(torch.tensor([[1, 1, 1, 0], [0, 0, 1, 1]])).tolist()
        [[0, 1, 1, 0], [0, 0, 0, 1]]
    """
    return mask * (mask.cumsum(dim=-1) > n)


def _sink(portion: Portion) -> torch.Tensor:
    norms = torch.linalg.vector_norm(portion.values, dim=-1)
    tokens = torch.ones_like(norms) if portion.mask is None else portion.mask.double()
    others = without_first(tokens)
    first = ((tokens - others) * norms).sum(-1)
    mean = (others * norms).sum(-1) / others.sum(-1)
    found: torch.Tensor = (first / mean).where(mean > 0, math.nan)
    return found


def _mean_angle(portion: Portion) -> torch.Tensor:
    tokens, mask = portion.values, portion.mask
    if mask is None:
        mask = torch.ones(tokens.shape[:-1], dtype=torch.bool, device=tokens.device)
    if tokens.shape[1] < 3:
        return tokens.new_full((len(tokens),), math.nan)
    mask, tokens = _pack_rows(mask, tokens)
    steps = tokens[:, 1:] - tokens[:, :-1]
    lengths = torch.linalg.vector_norm(steps, dim=-1, keepdim=True)
    real, steps, lengths = _pack_rows((lengths.squeeze(-1) > 0) & mask[:, 1:] & mask[:, :-1], steps, lengths)
    lengths = lengths.squeeze(-1)
    before, after = steps[:, :-1], steps[:, 1:]
    turns = real[:, 1:] & real[:, :-1]
    cosines = (before * after).sum(-1) / (lengths[:, :-1] * lengths[:, 1:])
    angles = cosines.clamp(-1, 1).arccos()
    # The arc cosine loses half of its digits near 0 and pi.
    flat = (turns & (cosines.abs() > 0.99)).nonzero(as_tuple=True)
    if len(flat[0]):
        angles[flat] = _small_or_flat_angles(before[flat], after[flat])
    return angles.where(turns, 0).sum(-1) / turns.sum(-1)


def _small_or_flat_angles(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Angles between rows (k, d) to full precision (Kahan): 2 atan(|u - w| / |u + w|) for unit vectors u and w."""
    u, w = (rows / torch.linalg.vector_norm(rows, dim=-1, keepdim=True) for rows in (before, after))
    halves: torch.Tensor = torch.atan2(torch.linalg.vector_norm(u - w, dim=-1), torch.linalg.vector_norm(u + w, dim=-1))
    return 2 * halves


def _pack_rows(kept: torch.Tensor, *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Move the rows (s, n, d) to keep (s, n) to the front, in order. No copy if they form one run already."""
    if kept.shape[1] == 0:
        return kept, *arrays
    runs = kept[:, 0].int() + (kept[:, 1:] & ~kept[:, :-1]).sum(-1)
    if not bool((runs > 1).any()):
        return kept, *arrays
    order = torch.argsort((~kept).to(torch.uint8), dim=-1, stable=True)
    return kept.gather(1, order), *(rows.gather(1, order.unsqueeze(-1).expand_as(rows)) for rows in arrays)
