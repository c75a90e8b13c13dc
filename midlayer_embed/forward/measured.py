"""What a forward pass is asked to measure, and what it returns."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class TokenMeasure:
    """A measurement of each text's token states, made at every layer during the forward pass.

    Attributes:
        function: Maps states (b, t, d) and a mask (b, t), 1 for tokens and 0 for padding, to one value per text (b,),
            or to several (b, n_values).
        final_norm: Whether normed states are measured, at sites of the residual stream.
        n_values: Number of values per text.
    """

    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    final_norm: bool
    n_values: int = 1


@dataclass(frozen=True)
class StatesKept:
    """The token states that a forward pass keeps of every place, for what is trained on them.

    Attributes:
        final_norm: Whether normed states are kept, at sites of the residual stream.
        first: Number of tokens at the start of each item that are left out.
    """

    final_norm: bool
    first: int = 0


@dataclass(frozen=True)
class PooledBatch:
    """The results of one forward pass.

    Attributes:
        rows: (b,) indices of the texts.
        n_tokens: (b,) number of tokens of each, special tokens included.
        vectors: (n_norms, n_places, b, dim), float32.
        measured: (n_measures, n_places, b), float64, the results of the measurements; a measurement of several values
            takes as many rows.
        states: The states that were kept, (b, t, dim) float32 on the model's device for each place; empty if none are.
    """

    rows: np.ndarray
    n_tokens: np.ndarray
    vectors: np.ndarray
    measured: np.ndarray
    states: tuple[torch.Tensor, ...] = ()
