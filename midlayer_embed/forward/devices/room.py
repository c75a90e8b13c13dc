"""How many tokens go through a model at once: a first guess, and smaller batches where the device's memory ends."""

import gc
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

import torch

from midlayer_embed.errors import InputError
from midlayer_embed.forward.batching import token_budget

logger = logging.getLogger(__name__)

R = TypeVar("R")

# Tokens times the width of a state: narrow models need more tokens to keep a device busy.
_WORK = 2**25
_MOST_TOKENS = 2**16
_LEAST_TOKENS = 2**10
# Values that a block keeps of each token, per dimension of a state, at its widest.
_VALUES = 40
# What is said where memory ends without a torch.OutOfMemoryError.
_SAID = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory")


class Divisible(Protocol):
    """Items that go through a model together, and can go in parts.

    Attributes:
        n_items: Number of items.
        n_tokens: Number of tokens, padding included.
    """

    @property
    def n_items(self) -> int: ...  # noqa: D102
    @property
    def n_tokens(self) -> int: ...  # noqa: D102

    def halves(self) -> "tuple[Divisible, Divisible]":
        """The items in two parts, of which the first is the larger one. Only called on two items and more."""
        ...


B = TypeVar("B", bound=Divisible)


class Room:
    """What is known about the memory that a model has for its batches.

    Encoders of the same weights share it, so that a size that did not fit is not tried again.

    Attributes:
        most_tokens: Largest number of tokens, padding included, that may fit; None: no limit is known.
    """

    def __init__(self) -> None:
        self.most_tokens: int | None = None
        self._did_not_fit, self._is_told = 0, False

    def budget(self, batch_tokens: int | None, device: torch.device, dim: int, dtype: torch.dtype) -> int:
        """Number of tokens in a forward pass, padding included.

        On CUDA it is a first guess: from the width of the states, half of the free memory at most. The longest texts
        come first, so the first batch tries it.

        Args:
            batch_tokens: The number requested by the user, which is a maximum; None: a default for the device.
            device: Device of the model.
            dim: Width of a state.
            dtype: dtype of the states.

        Raises:
            InputError: (a ValueError) not an int of at least 1.
        """
        budget = token_budget(batch_tokens, device)
        if batch_tokens is None and device.type == "cuda":
            budget = _first_guess(device, dim, dtype)
        return budget if self.most_tokens is None else min(budget, self.most_tokens)

    def fitted(
        self,
        batches: Iterable[B],
        start: Callable[[B], Callable[[], R]],
        *,
        device: torch.device,
        kind: str,
        n_behind: int = 0,
    ) -> Iterator[R]:
        """Run batches. One that does not fit into memory is halved, and so are later ones of its size.

        Args:
            batches: The batches.
            start: Starts a batch; what it returns waits for the result.
            device: Device of the model.
            kind: What an item is called.
            n_behind: Number of batches that may be started before the result of one is awaited.

        Yields:
            The results, of batches or of parts of them, in order.

        Raises:
            InputError: (a ValueError) a single item does not fit.
        """
        started: deque[Callable[[], R]] = deque()
        for batch in batches:
            parts = [batch]
            while parts:
                part = parts.pop()
                if part.n_items > 1 and self.most_tokens is not None and part.n_tokens > self.most_tokens:
                    parts += reversed(part.halves())  # type: ignore[arg-type]
                elif (result := _started(start, part)) is not None:
                    self._tell(device)
                    started.append(result)
                    if len(started) > n_behind:
                        yield started.popleft()()
                else:
                    while started:  # they hold memory
                        yield started.popleft()()
                    _free(device)
                    if part.n_items == 1:
                        raise InputError(
                            f"device: one {kind} of {part.n_tokens:,} tokens does not fit into the memory of {device}; "
                            + ("set a smaller max_seq_length, " if kind == "text" else "use ")
                            + "a dtype of half the size such as bfloat16, or another device"
                        )
                    self._shrink(part)
                    parts.append(part)
        while started:
            yield started.popleft()()

    def _shrink(self, batch: Divisible) -> None:
        self.most_tokens = max(half.n_tokens for half in batch.halves())
        self._did_not_fit = self._did_not_fit or batch.n_tokens

    def _tell(self, device: torch.device) -> None:
        """Log once how many tokens do not fit, and how many do."""
        if self._did_not_fit and not self._is_told:
            logger.warning(
                "batch_tokens: %s tokens do not fit into the memory of %s; going on with %s at once",
                f"{self._did_not_fit:,}",
                device,
                f"{self.most_tokens:,}",
            )
            self._is_told = True


def _started(start: Callable[[B], Callable[[], R]], batch: B) -> Callable[[], R] | None:
    """What `start` returns; None if memory ends. The error is gone then, and with it what its frames hold."""
    try:
        return start(batch)
    except RuntimeError as error:
        if not (isinstance(error, torch.OutOfMemoryError) or any(said in str(error) for said in _SAID)):
            raise
    return None


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _first_guess(device: torch.device, dim: int, dtype: torch.dtype) -> int:
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    fit = free // 2 // (_VALUES * dim * dtype.itemsize)
    tokens = min(max(_WORK // dim, token_budget(None, device)), _MOST_TOKENS)
    # powers of two, so that the same card gives the same batches
    return max(_LEAST_TOKENS, min(1 << tokens.bit_length() - 1, 1 << max(fit, 1).bit_length() - 1))
