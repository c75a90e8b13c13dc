"""From the states of tokens to vectors, with numpy: all poolings of sentence-transformers, and the modules after."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize

from midlayer_embed.errors import InputError, first_line
from midlayer_embed.saved.parts import After

# What sentence-transformers and torch divide by at least, or add under the root.
_LEAST_COUNT, _LEAST_LENGTH, _EPSILON = 1e-9, 1e-12, 1e-5
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
_erf = np.vectorize(math.erf, otypes=[np.float32])
_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Identity": lambda x: x,
    "Tanh": np.tanh,
    "ReLU": lambda x: np.maximum(x, 0),
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "GELU": lambda x: x * 0.5 * (1 + _erf(x / math.sqrt(2))),
}


def pooled(states: np.ndarray, mask: np.ndarray, modes: tuple[str, ...], n_skipped: int = 0) -> np.ndarray:
    """One vector per text.

    Args:
        states: float32 (b, t, d), the states of tokens.
        mask: int (b, t), 1 for tokens, then 0 for padding; every text has a token.
        modes: Names of poolings, whose results are joined.
        n_skipped: Number of tokens at the start of each text that are not pooled: those of a prompt.

    Returns:
        float32 (b, d * number of modes).

    Example:
        >>> states = np.array([[[1.0], [3.0], [9.0]]], dtype=np.float32)
        >>> pooled(states, np.array([[1, 1, 0]]), ("mean", "max", "lasttoken")).tolist()
        [[2.0, 3.0, 3.0]]
    """
    kept = mask.astype(np.float32)
    kept[:, :n_skipped] = 0
    rows = np.arange(len(states))
    joined = []
    for mode in modes:
        if mode == "cls":
            joined.append(states[rows, kept.argmax(axis=1)])
        elif mode == "lasttoken":
            last = kept.shape[1] - 1 - kept[:, ::-1].argmax(axis=1)
            joined.append(states[rows, last] * kept[rows, last][:, None])
        elif mode == "max":
            joined.append(np.where(kept[:, :, None] > 0, states, -np.inf).max(axis=1))
        else:
            weights = kept * np.arange(1, kept.shape[1] + 1, dtype=np.float32) if mode == "weightedmean" else kept
            total = np.maximum(weights.sum(axis=1, keepdims=True), np.float32(_LEAST_COUNT))
            total = np.sqrt(total) if mode == "mean_sqrt_len_tokens" else total
            joined.append((weights[:, None, :] @ states)[:, 0] / total)
    return np.concatenate(joined, axis=1).astype(np.float32, copy=False)


def normalized(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1; a vector of zeros stays as it is.

    Example:
        >>> normalized(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[0.6, 0.8], [0.0, 0.0]]
    """
    found: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _LEAST_LENGTH)
    return found


class ModuleAfter:
    """A module after pooling, as a function of float32 vectors (n, d).

    Args:
        module: What the folder says of it.

    Raises:
        InputError: (a ValueError) its weights are missing or damaged, or its activation is unknown.
    """

    def __init__(self, module: After) -> None:
        self._kind = module.kind
        if module.kind == "Normalize":
            return
        weights = _weights(module.path)
        prefix = "linear" if module.kind == "Dense" else "norm"
        try:
            self._weight = weights[f"{prefix}.weight"]
            self._bias = weights[f"{prefix}.bias"] if module.config.get("bias", True) else np.float32(0)
            residual = module.kind == "Dense" and module.config.get("use_residual", False)
            same = module.config.get("in_features") == module.config.get("out_features")
            self._residual = None if not residual or same else weights["residual.weight"]
        except KeyError as error:
            raise InputError(f"folder: the weights in {module.path} have no {error}") from None
        self._adds_input = residual
        self._activation = _activation(module) if module.kind == "Dense" else _ACTIVATIONS["Identity"]

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """The vectors after the module."""
        if self._kind == "Normalize":
            return normalized(vectors)
        if self._kind == "LayerNorm":
            centred = vectors - vectors.mean(axis=1, keepdims=True)
            deviation = np.sqrt(centred.var(axis=1, keepdims=True) + np.float32(_EPSILON))
            normed: np.ndarray = centred / deviation * self._weight + self._bias
            return normed
        out: np.ndarray = self._activation(vectors @ self._weight.T + self._bias)
        if self._adds_input:
            out = out + (vectors if self._residual is None else vectors @ self._residual.T)
        return out


def _activation(module: After) -> Callable[[np.ndarray], np.ndarray]:
    name = str(module.config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    found = _ACTIVATIONS.get(name.rpartition(".")[2]) if name.startswith("torch.nn.") else None
    if found is None:
        raise InputError(
            f"folder: {module.path} has the activation {name}; expected {', '.join(_ACTIVATIONS)} of torch.nn"
        )
    return found


def _weights(path: Path) -> dict[str, np.ndarray]:
    """The weights of a module in float32."""
    file = path / "model.safetensors"
    try:
        tensors: list[tuple[str, dict[str, Any]]] = deserialize(file.read_bytes())  # type: ignore[no-untyped-call]
    except OSError as error:
        raise InputError(f"folder: {file} cannot be read: {error.strerror}") from error
    except SafetensorError as error:
        raise InputError(f"folder: {file} is damaged: {first_line(error)}") from error
    return {name: _array(tensor).reshape(tensor["shape"]) for name, tensor in tensors}


def _array(tensor: dict[str, Any]) -> np.ndarray:
    if tensor["dtype"] == "BF16":  # the upper half of a float32, which numpy has no name for
        return (np.frombuffer(tensor["data"], dtype="<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(tensor["data"], dtype=_DTYPES[tensor["dtype"]]).astype(np.float32)
