"""Transforms: affine maps of pooled vectors, fitted on unlabelled texts. Everything is computed in float64.

With the mean mu of the vectors and their covariance W diag(lam) W^T (divided by n; lam descending, lam_bar its mean):

- center: x - mu
- standardize: (x - mu) / std, per dimension
- remove:k: x - mu without its part along the first k columns of W ("all but the top", Mu and Viswanath, ICLR 2018)
- whiten:r: W^T (x - mu) / sqrt(lam + r lam_bar); "whiten" is whiten:10

A large r damps the few dominant directions and leaves the others alone; a small one is nearly full whitening.
"""

import logging
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from midlayer_embed.errors import InputError, InputTypeError, first_line
from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.ground.checks import check_optional_int
from midlayer_embed.ground.paths import target_file, user_path

logger = logging.getLogger(__name__)

TRANSFORMS = ("center", "standardize", "remove:k", "whiten:r")
DEFAULT_RIDGE = 10.0
# Fewer texts than this share of the dimensions are refused; below twice the dimensions, a warning is logged.
_FEWEST_SHARE = 0.1
_WARN_BELOW = 2
# Rows that are converted to float64 at a time.
_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class Transform:
    """An affine map x -> weight x + bias, of one layer or of each layer.

    Attributes:
        name: How it was fitted, such as "whiten:10".
        weight: float64 (m, d), or (n_layers, m, d).
        bias: float64 (m,), or (n_layers, m).
        n_texts: Number of texts that it was fitted on.

    Example:
        >>> t = fit_transform([[1.0, 0.0], [3.0, 0.0], [2.0, 3.0]], "center")
        >>> t([[2.0, 2.0]]).tolist(), t.dim
        ([[0.0, 1.0]], 2)
    """

    name: str
    weight: np.ndarray
    bias: np.ndarray
    n_texts: int

    @property
    def dim(self) -> int:
        """Number of dimensions of a transformed vector."""
        return int(self.weight.shape[-2])

    def __call__(self, X: Any) -> np.ndarray:
        """Transform vectors.

        Args:
            X: (..., d), or (..., n_layers, d) for a transform of each layer.

        Returns:
            (..., m) or (..., n_layers, m); float32 for vectors of at most 32 bits, else float64.

        Raises:
            InputTypeError: (a ValueError and a TypeError) not numbers.
            InputError: (a ValueError) another shape.
        """
        vectors = _numbers(X)
        expected = self.weight.shape[:-2] + self.weight.shape[-1:]
        if vectors.shape[-len(expected) :] != expected:
            shown = ", ".join(map(str, expected))
            raise InputError(f"X: expected vectors of the shape (..., {shown}), got {vectors.shape}")
        dtype = np.float64 if vectors.dtype.itemsize > 4 or vectors.dtype.kind != "f" else np.float32
        exact = vectors.astype(np.float64)
        if self.weight.ndim == 2:
            product = exact @ self.weight.T
        else:
            product = np.stack([exact[..., k, :] @ weight.T for k, weight in enumerate(self.weight)], axis=-2)
        transformed: np.ndarray = (product + self.bias).astype(dtype)
        return transformed

    def of_layer(self, index: int) -> "Transform":
        """The transform of one layer, from a transform of each layer.

        Args:
            index: Position of the layer among those that were fitted; negative ones count from the end.

        Raises:
            InputError: (a ValueError) a transform of one layer, or a position out of range.
        """
        if self.weight.ndim == 2:
            raise InputError(f"transform: {self.name} was fitted on one layer")
        n_layers = len(self.weight)
        if not -n_layers <= index < n_layers:
            raise InputError(f"transform: expected a layer from {-n_layers} to {n_layers - 1}, got {index}")
        return Transform(self.name, self.weight[index], self.bias[index], self.n_texts)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save as a safetensors file, which appears complete or not at all.

        Raises:
            InputError: (a ValueError) the file cannot be written.
        """
        from safetensors.numpy import save_file

        arrays = {"weight": np.ascontiguousarray(self.weight), "bias": np.ascontiguousarray(self.bias)}
        with atomic_file(target_file(path, "transform")) as partial:
            save_file(arrays, partial, metadata={"transform": self.name, "n_texts": str(self.n_texts)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Transform":
        """Load what `save` wrote.

        Raises:
            InputError: (a ValueError) there is no such file, or it is not a saved transform.
        """
        from safetensors import SafetensorError, safe_open

        file = user_path(path, "transform")
        try:
            with safe_open(file, framework="numpy") as opened:
                said = opened.metadata() or {}
                arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise InputError(f"transform: {path} cannot be read: {first_line(error)}") from error
        if set(arrays) != {"weight", "bias"} or not said.get("n_texts", "").isdecimal() or "transform" not in said:
            raise InputError(f"transform: {path} is not a saved transform")
        weight, bias = arrays["weight"], arrays["bias"]
        if weight.ndim not in (2, 3) or weight.shape[:-1] != bias.shape:
            raise InputError(f"transform: {path} has a weight of shape {weight.shape} and a bias of shape {bias.shape}")
        return cls(said["transform"], weight, bias, int(said["n_texts"]))


def fit_transform(X: Any, transform: str = "whiten", *, dim: int | None = None) -> Transform:
    """Fit a transform on vectors of unlabelled texts.

    The result does not depend on the order of the texts, but for rounding. A dimension, or a direction, in which all
    texts are equal becomes zero.

    Args:
        X: (n, d) vectors of one layer, or (n, n_layers, d): each layer gets its own transform.
        transform: "center", "standardize", "remove:k", such as "remove:2", "whiten:r", such as "whiten:1", or "whiten".
        dim: Number of dimensions that whitening keeps, those of the largest eigenvalues first, so that fewer dimensions
            are a prefix of more. None: all.

    Raises:
        InputTypeError: (a ValueError and a TypeError) an argument of the wrong type.
        InputError: (a ValueError) an unknown transform; fewer than d / 10 texts, or fewer than two; NaN or infinity.

    Example:
        >>> X = np.random.default_rng(0).normal(size=(200, 4)) * [8, 4, 2, 1]
        >>> whitened = fit_transform(X, "whiten:0.001")(X)
        >>> bool(abs(np.cov(whitened.T, bias=True) - np.eye(4)).max() < 0.1)
        True
        >>> fit_transform(X, "whiten", dim=2)(X).shape
        (200, 2)
    """
    kind, value, name = _parse(transform)
    vectors = _numbers(X)
    if vectors.ndim not in (2, 3) or 0 in vectors.shape:
        raise InputError(f"X: expected an array (n, d) or (n, n_layers, d) without empty axes, got {vectors.shape}")
    n, d = len(vectors), vectors.shape[-1]
    kept = check_optional_int("dim", dim, 1)
    if kept is not None and kind != "whiten":
        raise InputError(f"dim: only whitening orders the dimensions; {name} keeps all {d}")
    if kept is not None and kept > d:
        raise InputError(f"dim: expected at most {d}, got {kept}")
    if kind == "remove" and value >= d:
        raise InputError(f"transform: remove:{value:.0f} of vectors of {d} dimensions leaves nothing")
    fewest = max(2, math.ceil(_FEWEST_SHARE * d))
    if n < fewest:
        raise InputError(f"X: expected at least {fewest} texts to fit {name} to {d} dimensions, got {n}")
    if n < _WARN_BELOW * d:
        logger.warning("%s is fitted to %d dimensions on %d texts; %d or more are better", name, d, n, _WARN_BELOW * d)
    finite = np.isfinite(vectors).reshape(n, -1).all(axis=1)
    if not finite.all():
        raise InputError(f"X: holds NaN or infinity, first in the vector of text {int(np.argmin(finite))}")
    layers = [vectors] if vectors.ndim == 2 else [vectors[:, layer] for layer in range(vectors.shape[1])]
    maps = [_FIT[kind](*_moments(layer), value, kept) for layer in layers]  # one covariance at a time
    weight, bias = (np.stack(parts) for parts in zip(*maps, strict=True))
    if vectors.ndim == 2:
        weight, bias = weight[0], bias[0]
    return Transform(name, weight, bias, n)


def _numbers(X: Any) -> np.ndarray:
    array = np.asarray(X)
    if array.dtype.kind not in "fiu":
        raise InputTypeError(f"X: expected an array of real numbers, got {array.dtype}")
    return array


def _parse(transform: str) -> tuple[str, float, str]:
    """The kind of a transform, its number, and its full name."""
    if not isinstance(transform, str):
        raise InputTypeError(f"transform: expected one of {', '.join(TRANSFORMS)}, got {transform!r}")
    kind, colon, number = transform.partition(":")
    if kind in ("center", "standardize") and not colon:
        return kind, 0, kind
    if kind == "whiten" and not colon:
        return kind, DEFAULT_RIDGE, f"whiten:{DEFAULT_RIDGE:g}"
    if kind == "remove" and number.isascii() and number.isdecimal() and int(number) > 0:
        return kind, int(number), f"remove:{int(number)}"
    if kind == "whiten":
        try:
            ridge = float(number)
        except ValueError:
            ridge = math.nan
        if 0 < ridge < math.inf:
            return kind, ridge, f"whiten:{ridge:g}"
    raise InputError(f"transform: expected one of {', '.join(TRANSFORMS)} (k an int, r above 0), got {transform!r}")


def _moments(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean (d,) and the covariance (d, d), divided by n, of vectors (n, d); of equal vectors exactly zero."""
    first = X[0].astype(np.float64)
    mean = first + sum((X[start : start + _BLOCK] - first).sum(axis=0) for start in range(0, len(X), _BLOCK)) / len(X)
    covariance = np.zeros((X.shape[1], X.shape[1]))
    for start in range(0, len(X), _BLOCK):
        centred = X[start : start + _BLOCK] - mean
        covariance += centred.T @ centred
    return mean, covariance / len(X)


def _center(
    mean: np.ndarray, _covariance: np.ndarray, _value: float, _dim: int | None
) -> tuple[np.ndarray, np.ndarray]:
    return np.eye(len(mean)), -mean


def _standardize(
    mean: np.ndarray, covariance: np.ndarray, _value: float, _dim: int | None
) -> tuple[np.ndarray, np.ndarray]:
    deviation = np.sqrt(np.diag(covariance))
    scale = np.divide(1, deviation, out=np.zeros_like(mean), where=deviation > 0)
    return np.diag(scale), -mean * scale


def _remove(mean: np.ndarray, covariance: np.ndarray, k: float, _dim: int | None) -> tuple[np.ndarray, np.ndarray]:
    _, directions = _eigen(covariance)
    top = directions[:, : int(k)]
    weight = np.eye(len(mean)) - top @ top.T
    return weight, -weight @ mean


def _whiten(mean: np.ndarray, covariance: np.ndarray, ridge: float, dim: int | None) -> tuple[np.ndarray, np.ndarray]:
    values, directions = _eigen(covariance)
    damped = values + ridge * values.mean()
    scale = np.divide(1, np.sqrt(damped), out=np.zeros_like(damped), where=damped > 0)  # 0: all texts are equal
    weight = (directions * scale).T[:dim]
    return weight, -weight @ mean


_FIT: dict[str, Callable[[np.ndarray, np.ndarray, float, int | None], tuple[np.ndarray, np.ndarray]]] = {
    "center": _center,
    "standardize": _standardize,
    "remove": _remove,
    "whiten": _whiten,
}


def _eigen(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, descending and not negative, and eigenvectors as columns; the largest entry of each is positive."""
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = np.clip(values[::-1], 0, None), vectors[:, ::-1]
    largest = vectors[np.argmax(np.abs(vectors), axis=0), np.arange(len(values))]
    return values, vectors * np.where(largest < 0, -1, 1)
