"""Token states that probes are trained on: in memory, in a scratch file, or computed anew for every batch."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from leaderboard.probes.attention import TokenBatch, token_batch
from leaderboard.probes.training import Tokens
from midlayer_embed.errors import InputError

# Rows whose moments are computed at a time.
_ROWS = 256


class KeptTokens:
    """States that are kept, in memory or in a file.

    Args:
        states: (n_layers, n, T, d), of any float dtype; an array or a memory map.
        device: Where batches are wanted.
        names: What layers are called in messages; None: their numbers.

    Raises:
        InputError: (a ValueError) a state is not finite; the message names the layer.
    """

    def __init__(self, states: np.ndarray, device: torch.device, names: Sequence[int] | None = None) -> None:
        self.n_layers, self.n, _, self.dim = states.shape
        self._states, self._device = states, device
        self._mean = np.empty((self.n_layers, self.n, self.dim), dtype=np.float32)
        self._variance = np.empty_like(self._mean)
        for start in range(0, self.n, _ROWS):
            some = slice(start, start + _ROWS)
            _, mean, variance = token_batch(torch.from_numpy(np.asarray(states[:, some], dtype=np.float32)))
            self._mean[:, some], self._variance[:, some] = mean.numpy(), variance.numpy()
        is_finite = np.isfinite(self._mean).all(axis=(1, 2)) & np.isfinite(self._variance).all(axis=(1, 2))
        for layer in np.flatnonzero(~is_finite).tolist():
            name = layer if names is None else names[layer]
            raise InputError(f"tokens: the states of layer {name} are not finite in float32")

    def batch(self, rows: np.ndarray, layers: np.ndarray) -> TokenBatch:
        """See `training.Tokens`."""
        return TokenBatch(*(self._picked(one, rows, layers) for one in (self._states, self._mean, self._variance)))

    def _picked(self, array: np.ndarray, rows: np.ndarray, layers: np.ndarray) -> torch.Tensor:
        # Layer by layer: all cores copy one, and it is on its way to the device while the next one is read.
        found = torch.empty((len(layers), len(rows), *array.shape[2:]), device=self._device)
        chosen = torch.from_numpy(rows)
        for place, layer in enumerate(layers):
            found[place] = torch.from_numpy(array[layer]).index_select(0, chosen)
        return found


class StreamedTokens:
    """States that are computed anew for every batch, for those that no disk holds.

    Args:
        states_of: From numbers of images and of layers to their states (n_layers, b, T, d).
        n_layers: Number of layers.
        dim: Width of a token.
        device: Where batches are wanted.
    """

    def __init__(
        self,
        states_of: Callable[[np.ndarray, np.ndarray], torch.Tensor],
        n_layers: int,
        dim: int,
        device: torch.device,
    ) -> None:
        self.n_layers, self.dim = n_layers, dim
        self._states_of, self._device = states_of, device

    def batch(self, rows: np.ndarray, layers: np.ndarray) -> TokenBatch:
        """See `training.Tokens`."""
        batch = token_batch(self._states_of(rows, layers).to(self._device, torch.float32))
        if not (batch.mean.isfinite().all() and batch.variance.isfinite().all()):
            raise InputError("tokens: the states of a layer are not finite in float32")
        return batch


class WindowTokens:
    """States that are averaged over layers.

    Args:
        tokens: States of single layers.
        groups: The layers of each group.
    """

    def __init__(self, tokens: Tokens, groups: Sequence[range]) -> None:
        self.n_layers, self.dim = len(groups), tokens.dim
        self._tokens, self._groups = tokens, groups

    def batch(self, rows: np.ndarray, layers: np.ndarray) -> TokenBatch:
        """See `training.Tokens`; layers are numbers of groups."""
        groups = [self._groups[number] for number in layers]
        needed = sorted({layer for group in groups for layer in group})
        states = self._tokens.batch(rows, np.array(needed)).states
        places = {layer: place for place, layer in enumerate(needed)}
        return token_batch(torch.stack([states[[places[layer] for layer in group]].mean(dim=0) for group in groups]))
