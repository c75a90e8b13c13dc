"""What int8 weights cost: vectors of a quantised graph beside those of the encoder in float32."""

import json
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from midlayer_embed.encoder.onnx.names import INPUTS, STATES
from midlayer_embed.errors import InputError

# As many texts say enough.
_MOST_TEXTS = 500
_SAMPLES = 16
_BATCH = 16


@dataclass(frozen=True)
class Int8Loss:
    """The loss of a quantised graph.

    Attributes:
        texts: What the texts are whose vectors are compared, in words.
        n_texts: Their number.
        mean_cosine: Mean cosine of a text's two vectors, in float32 and by the quantised graph; 1: nothing is lost.
        least_cosine: The least of these cosines.
        sts_float32: Spearman correlation of cosine similarities with the grades of the starter benchmark's pairs, x100.
        sts_int8: The same by the quantised graph.
    """

    texts: str
    n_texts: int
    mean_cosine: float
    least_cosine: float
    sts_float32: float
    sts_int8: float

    def __str__(self) -> str:
        return (
            f"cosine to float32 {self.mean_cosine:.4f} on average, {self.least_cosine:.4f} at least, over "
            f"{self.n_texts} {self.texts}; Spearman correlation on the starter STS {self.sts_int8:.1f}, "
            f"{self.sts_float32:.1f} in float32"
        )


def measure_loss(encoder: SentenceTransformer, graph: Path, texts: Sequence[str] | None = None) -> Int8Loss:
    """Compare the vectors of a quantised graph with those of the encoder that it is of.

    Args:
        encoder: In float32, on the CPU.
        graph: The file of the quantised graph.
        texts: Texts like those that will be embedded; at most 500 of them are compared, evenly spread, and blank ones
            are left out. None: those of the starter STS, sentences of docstrings.

    Raises:
        InputError: (a ValueError) all texts are blank.
    """
    int8 = with_states_of(encoder, graph)
    first, second, grades = _graded_pairs()
    sentences = list(dict.fromkeys((*first, *second)))
    kept = sentences if texts is None else _spread(texts, _MOST_TEXTS)
    everything = list(dict.fromkeys((*sentences, *kept)))
    expected, found = (_unit(model.encode(everything, batch_size=_BATCH)) for model in (encoder, int8))
    at = {text: number for number, text in enumerate(everything)}
    cosines = (expected * found).sum(axis=1)[[at[text] for text in kept]]
    pairs = ([at[text] for text in first], [at[text] for text in second])
    in_float32, in_int8 = (_spearman(vectors, pairs, grades) for vectors in (expected, found))
    words = "starter texts" if texts is None else "texts"
    return Int8Loss(words, len(kept), float(cosines.mean()), float(cosines.min()), in_float32, in_int8)


def samples(encoder: SentenceTransformer, texts: Sequence[str] | None = None) -> list[dict[str, np.ndarray]]:
    """Inputs of a graph, one text each, which show `quantise` what is too coarse.

    Args:
        encoder: The encoder.
        texts: As for `measure_loss`.
    """
    first, _, _ = _graded_pairs()
    features = (encoder.preprocess([text]) for text in _spread(first if texts is None else texts, _SAMPLES))
    return [{name: each[name].numpy() for name in INPUTS} for each in features]


def _spread(texts: Sequence[str], most: int) -> list[str]:
    """At most so many texts that are not blank, evenly spread."""
    shown = [text for text in texts if text.strip()]
    if not shown:
        raise InputError(f"texts: expected some that are not blank, got {len(texts)} blank ones")
    return shown[:: max(1, -(-len(shown) // most))]


def with_states_of(encoder: SentenceTransformer, graph: Path) -> SentenceTransformer:
    """An encoder whose token states come from a graph; all else, from the tokenizer to the last module, is shared.

    Args:
        encoder: The encoder that the graph is of. It stays as it is.
        graph: The file of the graph.

    Example:
        >>> with_states_of(encoder, folder / "onnx" / "model.onnx").encode(["a text"])       # doctest: +SKIP
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])

    def forward(features: dict[str, Any], **_: Any) -> dict[str, Any]:
        (states,) = session.run([STATES], {name: features[name].numpy() for name in INPUTS})
        return {**features, "token_embeddings": torch.from_numpy(states)}

    twin = copy(encoder)
    twin._modules = dict(encoder._modules)
    transformer = copy(encoder[0])
    transformer.forward = forward  # type: ignore[method-assign]
    twin._modules["0"] = transformer
    return twin


def _graded_pairs() -> tuple[list[str], list[str], list[float]]:
    from midlayer_embed.texts.starter_content import content_json  # imports most of scikit-learn

    pairs = json.loads(content_json("STS"))["test"]
    return pairs["sentence1"], pairs["sentence2"], pairs["score"]


def _unit(vectors: Any) -> np.ndarray:
    """Vectors of length 1; a vector of zeros, as of a text without tokens, stays."""
    wide = np.asarray(vectors, dtype=np.float64)
    scaled: np.ndarray = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return scaled


def _spearman(vectors: np.ndarray, pairs: tuple[list[int], list[int]], grades: list[float]) -> float:
    from scipy.stats import spearmanr

    similarities = (vectors[pairs[0]] * vectors[pairs[1]]).sum(axis=1)
    return 100 * float(spearmanr(similarities, grades).statistic)
