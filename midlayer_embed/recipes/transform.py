"""Transforms: affine maps of pooled vectors, fitted on unlabelled texts. Everything is computed in float64.

With the mean mu of the vectors and their covariance W diag(lam) W^T (divided by n; lam descending, lam_bar its mean):

- center: x - mu
- standardize: (x - mu) / std, per dimension
- remove:k: x - mu without its part along the first k columns of W ("all but the top", Mu and Viswanath, ICLR 2018)
- whiten:r: W^T (x - mu) / sqrt(lam + r lam_bar); "whiten" is whiten:10

A large r damps the few dominant directions and leaves the others alone; a small one is nearly full whitening.
"""

import hashlib
import logging
import math
import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from midlayer_embed.errors import InputError, InputTypeError, first_line
from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.ground.paths import target_file, user_path
from midlayer_embed.recipes.names import check_transform, needs_covariance, parse_transform

logger = logging.getLogger(__name__)

# Fewer texts than this share of the dimensions are refused; below twice the dimensions, a warning is logged.
_FEWEST_SHARE = 0.1
_WARN_BELOW = 2
# Rows that are converted to float64 at a time.
_BLOCK = 4096
# A standard deviation below as many roundings of a dimension's size, in the dtype of the vectors, is rounding alone:
# batches of different shapes give the same state with a few of them.
_ROUNDINGS = 32


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

    @property
    def fingerprint(self) -> str:
        """A hash of its weights, to tell it from one that was fitted on other texts."""
        digest = hashlib.sha256(self.weight.tobytes() + self.bias.tobytes())
        return digest.hexdigest()[:12]

    @cached_property
    def _scale(self) -> np.ndarray | None:
        """The diagonal (d,) or (n_layers, d) of a weight that has nothing else, as standardize and center have."""
        diagonal, square = np.diagonal(self.weight, axis1=-2, axis2=-1), self.weight.shape[-2] == self.weight.shape[-1]
        return diagonal if square and np.count_nonzero(self.weight) == np.count_nonzero(diagonal) else None

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
        if self._scale is not None:
            product = exact * self._scale
        elif self.weight.ndim == 2:
            product = exact @ self.weight.T
        else:
            product = np.stack([exact[..., k, :] @ weight.T for k, weight in enumerate(self.weight)], axis=-2)
        return np.asarray(product + self.bias, dtype=dtype)

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
    check_transform(transform, dim)
    vectors = _numbers(X)
    if vectors.ndim not in (2, 3) or 0 in vectors.shape:
        raise InputError(f"X: expected an array (n, d) or (n, n_layers, d) without empty axes, got {vectors.shape}")
    check_number("X", transform, dim, *vectors.shape[:: vectors.ndim - 1])
    _check_finite(vectors)
    layers = vectors[:, None] if vectors.ndim == 2 else vectors
    maps = []
    for layer in range(layers.shape[1]):  # one covariance at a time
        moments = Moments(1, layers.shape[2], full=needs_covariance(transform))
        moments.add(layers[:, layer : layer + 1])
        maps.append(moments.fit(transform, dim=dim, warn=layer == 0).of_layer(0))
    if vectors.ndim == 2:
        return maps[0]
    weight, bias = np.stack([one.weight for one in maps]), np.stack([one.bias for one in maps])
    return Transform(maps[0].name, weight, bias, len(vectors))


class Moments:
    """Sums over texts, from which any transform of any of some layers is fitted. Vectors are added batch by batch.

    Args:
        n_layers: Number of layers.
        dim: Width of a vector, d.
        full: Whether covariances are summed, which takes 8 n_layers d^2 bytes; without them only "center" and
            "standardize" can be fitted.

    Attributes:
        n_texts: Number of texts so far.

    Example:
        >>> moments = Moments(n_layers=1, dim=2)
        >>> moments.add(np.array([[[1.0, 0.0]], [[3.0, 0.0]]]))
        >>> moments.add(np.array([[[2.0, 3.0]]]))
        >>> moments.fit("center").bias.tolist()
        [[-2.0, -1.0]]
    """

    def __init__(self, n_layers: int, dim: int, *, full: bool = True) -> None:
        self.n_texts = 0
        self._full = full
        # Sums are over x - shift, where the shift is the first text: sums of squares of vectors with a large mean would
        # lose the digits that tell the texts apart.
        self._shift: np.ndarray | None = None
        self._sums = np.zeros((n_layers, dim))
        self._products = np.zeros((n_layers, dim, dim) if full else (n_layers, dim))
        self._eigen: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._epsilon = np.finfo(np.float64).eps

    def add(self, X: Any, counts: Any = None) -> None:
        """Add texts.

        Args:
            X: Vectors (n, n_layers, d).
            counts: How often each text occurs, (n,); None: once.

        Raises:
            InputError: (a ValueError) another shape; NaN or infinity, and the message names the text.
        """
        vectors = _numbers(X)
        n_layers, dim = self._sums.shape
        if vectors.ndim != 3 or vectors.shape[1:] != (n_layers, dim):
            raise InputError(f"X: expected vectors of the shape (n, {n_layers}, {dim}), got {vectors.shape}")
        _check_finite(vectors)
        weights = np.ones(len(vectors)) if counts is None else np.asarray(counts, dtype=np.float64)
        self._eigen.clear()
        if vectors.dtype.kind == "f":
            self._epsilon = max(self._epsilon, np.finfo(vectors.dtype).eps)
        for start in range(0, len(vectors), _BLOCK):
            block, times = vectors[start : start + _BLOCK].astype(np.float64), weights[start : start + _BLOCK]
            if self._shift is None:
                self._shift = block[0].copy()
            block -= self._shift
            for layer in range(n_layers):
                centred = block[:, layer]
                weighted = centred * times[:, None]
                self._sums[layer] += weighted.sum(axis=0)
                self._products[layer] += weighted.T @ centred if self._full else (weighted * centred).sum(axis=0)
        self.n_texts += int(weights.sum())

    def fit(self, transform: str, *, dim: int | None = None, warn: bool = True) -> Transform:
        """The transform of each layer, see `fit_transform`.

        Args:
            transform: Name of the transform.
            dim: Number of dimensions that whitening keeps.
            warn: Whether a small number of texts is logged.

        Raises:
            InputError: (a ValueError) as `fit_transform`.
        """
        name = check_transform(transform, dim)
        kind, value, _ = parse_transform(transform)
        n_layers, d = self._sums.shape
        check_number("X", transform, dim, self.n_texts, d)
        assert self._shift is not None
        if warn:
            warn_of_few(f"{name} is", self.n_texts, d)
        maps = []
        for layer in range(n_layers):
            offset = self._sums[layer] / self.n_texts
            mean = self._shift[layer] + offset
            if kind == "center":
                maps.append(_center(mean))
            elif kind == "standardize":
                maps.append(_standardize(mean, self._variances(layer)))
            else:
                if layer not in self._eigen:
                    self._eigen[layer] = _eigen(self._covariance(layer))
                maps.append(
                    _remove(mean, *self._eigen[layer], int(value))
                    if kind == "remove"
                    else _whiten(mean, *self._eigen[layer], value, dim)
                )
        weight, bias = (np.stack(parts) for parts in zip(*maps, strict=True))
        return Transform(name, weight, bias, self.n_texts)

    def is_constant(self, layer: int) -> bool:
        """Whether all texts have the same vector, up to rounding."""
        return not self._variances(layer).any()

    def _variances(self, layer: int) -> np.ndarray:
        """Variances of the dimensions (d,), divided by n; zero where there is nothing but rounding."""
        assert self._shift is not None
        squares = np.diagonal(self._products[layer]) if self._full else self._products[layer]
        offset = self._sums[layer] / self.n_texts
        found = squares / self.n_texts - offset**2
        size = (self._shift[layer] + offset) ** 2 + squares / self.n_texts
        return np.where(found > (_ROUNDINGS * self._epsilon) ** 2 * size, found, 0)

    def _covariance(self, layer: int) -> np.ndarray:
        """The covariance (d, d), divided by n."""
        if not self._full:
            raise InputError("transform: these sums have no covariances; expected center or standardize")
        offset = self._sums[layer] / self.n_texts
        found: np.ndarray = self._products[layer] / self.n_texts - np.outer(offset, offset)
        return found


def warn_of_few(what: str, n: int, d: int) -> None:
    """Log that a transform of `d` dimensions leans on chance, if it is fitted on few texts.

    Args:
        what: What is fitted, with the verb.
        n: Number of texts.
        d: Number of dimensions.
    """
    if n < _WARN_BELOW * d:
        logger.warning("%s fitted to %d dimensions on %d texts; %d or more are better", what, d, n, _WARN_BELOW * d)


def _numbers(X: Any) -> np.ndarray:
    array = np.asarray(X)
    if array.dtype.kind not in "fiu":
        raise InputTypeError(f"X: expected an array of real numbers, got {array.dtype}")
    return array


def _check_finite(vectors: np.ndarray) -> None:
    finite = np.isfinite(vectors).reshape(len(vectors), -1).all(axis=1)
    if not finite.all():
        raise InputError(f"X: holds NaN or infinity, first in the vector of text {int(np.argmin(finite))}")


def check_number(argument: str, transform: str, dim: int | None, n: int, d: int, what: str = "texts") -> None:
    """Reject what cannot be fitted to `d` dimensions on `n` texts.

    Args:
        argument: Name of the texts, for the message.
        transform: Name of the transform.
        dim: Number of dimensions that whitening keeps.
        n: Number of texts.
        d: Number of dimensions.
        what: What was counted, for the message.

    Raises:
        InputError: (a ValueError) fewer than d / 10 texts, or than two; nothing is left.
    """
    kind, value, name = parse_transform(transform)
    if dim is not None and dim > d:
        raise InputError(f"dim: expected at most {d}, got {dim}")
    if kind == "remove" and value >= d:
        raise InputError(f"transform: remove:{value:.0f} of vectors of {d} dimensions leaves nothing")
    fewest = max(2, math.ceil(_FEWEST_SHARE * d))
    if n < fewest:
        raise InputError(f"{argument}: expected at least {fewest} {what} to fit {name} to {d} dimensions, got {n}")


def _center(mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.eye(len(mean)), -mean


def _standardize(mean: np.ndarray, variances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scale = np.divide(1, np.sqrt(variances), out=np.zeros_like(mean), where=variances > 0)
    return np.diag(scale), -mean * scale


def _remove(mean: np.ndarray, _values: np.ndarray, directions: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    top = directions[:, :k]
    weight = np.eye(len(mean)) - top @ top.T
    return weight, -weight @ mean


def _whiten(
    mean: np.ndarray, values: np.ndarray, directions: np.ndarray, ridge: float, dim: int | None
) -> tuple[np.ndarray, np.ndarray]:
    damped = values + ridge * values.mean()
    scale = np.divide(1, np.sqrt(damped), out=np.zeros_like(damped), where=damped > 0)  # 0: all texts are equal
    weight = (directions * scale).T[:dim]
    return weight, -weight @ mean


def _eigen(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, descending and not negative, and eigenvectors as columns; the largest entry of each is positive."""
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = np.clip(values[::-1], 0, None), vectors[:, ::-1]
    largest = vectors[np.argmax(np.abs(vectors), axis=0), np.arange(len(values))]
    return values, vectors * np.where(largest < 0, -1, 1)
