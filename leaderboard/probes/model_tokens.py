"""The patch states of a model's images, for probes: in a scratch file, or computed anew where no disk holds them."""

import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from leaderboard.probes.tokens import KeptTokens, StreamedTokens
from leaderboard.probes.training import Tokens
from midlayer_embed.errors import InputError
from midlayer_embed.forward.images import ImageLayerwiseEncoder
from midlayer_embed.images.pictures import Picture
from midlayer_embed.selection.scratch import scratch_array

logger = logging.getLogger(__name__)

# Share of the free disk that states take, unless a budget says otherwise.
_FREE_SHARE = 0.8


@contextmanager
def model_tokens(
    encoder: ImageLayerwiseEncoder,
    pictures: Sequence[Picture],
    layers: Sequence[int],
    device: torch.device,
    *,
    budget: int | None = None,
    folder: Path | None = None,
    batch_tokens: int | None = None,
    show_progress: bool = False,
) -> Iterator[tuple[Tokens, np.ndarray | None]]:
    """The patch states of images at some layers, and what the encoder pools of them in the same pass.

    One forward pass writes them to a scratch file. If they do not fit the budget, every batch of every epoch goes
    through the model again: the probes are the same.

    Args:
        encoder: The model; its final norm applies.
        pictures: The images.
        layers: Layer numbers, each once.
        device: Where batches are wanted.
        budget: Bytes on disk that they may take. None: four fifths of the free space.
        folder: Folder of the scratch file. None: the system's temporary folder.
        batch_tokens: Number of tokens in a forward pass. None: a default for the device.
        show_progress: Show a bar with an ETA on stderr.

    Yields:
        The states, and the vectors, float32 (n, n_layers, dim), as `encode` gives them; None where the states are
        computed anew, since there is no one pass.

    Raises:
        InputError: (a ValueError) images of several numbers of patches, or states that are not finite.
    """
    n_layers, dim = len(layers), encoder.backbone.dim
    first = encoder.token_batches(pictures[:1], layers=[layers[0]])
    n_tokens = next(iter(first)).states.shape[2]
    size = 4 * n_layers * len(pictures) * n_tokens * dim
    room = int(_FREE_SHARE * shutil.disk_usage(folder or tempfile.gettempdir()).free) if budget is None else budget
    if size > room:
        logger.info(
            "%.1f GB of states do not fit %.1f GB: every epoch encodes the images again", size / 1e9, room / 1e9
        )

        def states_of(rows: np.ndarray, numbers: np.ndarray) -> torch.Tensor:
            found = torch.empty(len(numbers), len(rows), n_tokens, dim, device=encoder.backbone.device)
            some = [pictures[row] for row in rows]
            for batch in encoder.token_batches(
                some, layers=[layers[number] for number in numbers], batch_tokens=batch_tokens
            ):
                _check_tokens(batch.states, n_tokens)
                found[:, torch.from_numpy(batch.rows)] = batch.states
            return found

        yield StreamedTokens(states_of, n_layers, dim, device), None
        return
    vectors = np.empty((len(pictures), n_layers, encoder.dim), dtype=np.float32)
    with scratch_array((n_layers, len(pictures), n_tokens, dim), folder, "images") as states:
        for batch in encoder.token_batches(
            pictures, layers=list(layers), batch_tokens=batch_tokens, show_progress=show_progress
        ):
            _check_tokens(batch.states, n_tokens)
            states[:, batch.rows] = batch.states.cpu().numpy()
            vectors[batch.rows] = batch.vectors.swapaxes(0, 1)
        yield KeptTokens(states, device, layers), vectors


def _check_tokens(states: torch.Tensor, n_tokens: int) -> None:
    if states.shape[2] != n_tokens:
        raise InputError(
            f"images: a probe needs as many patches of each image; there are some of {n_tokens} and of "
            f"{states.shape[2]}. Crop or resize them to one size"
        )
