"""What a model takes: the items that go through it, texts or images, and the batches that they become.

Nothing above `forward` asks which of the two it has: it asks the `Inputs` of the encoder.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch

from midlayer_embed.forward.pooling import Pooler
from midlayer_embed.terms import ViewKind

if TYPE_CHECKING:
    from typing_extensions import Self


class Batch(Protocol):
    """Items that go through the model together.

    Attributes:
        rows: (b,) indices of the items.
        mask: (b, t), 1 for the tokens of an item that count: those of a text without padding, the patches of an image.
        not_pooled: (b,) number of tokens at the start of each item that are not pooled.
        units: Its share of `Stream.total`.
        n_items: Number of items.
        n_tokens: Number of tokens, padding included.
    """

    @property
    def rows(self) -> np.ndarray: ...  # noqa: D102
    @property
    def mask(self) -> torch.Tensor: ...  # noqa: D102
    @property
    def not_pooled(self) -> np.ndarray: ...  # noqa: D102
    @property
    def units(self) -> int: ...  # noqa: D102
    @property
    def n_items(self) -> int: ...  # noqa: D102
    @property
    def n_tokens(self) -> int: ...  # noqa: D102

    def arguments(self) -> dict[str, Any]:
        """The keywords of the model's forward pass, on the host."""
        ...

    def with_tensors(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Self":
        """The same batch with other tensors, such as copies in other memory."""
        ...

    def halves(self) -> "tuple[Self, Self]":
        """The items in two parts, of which the first is the larger one. Only called on two items and more."""
        ...


class Stream(NamedTuple):
    """Items as batches, and the total of their units, for a bar."""

    total: int
    batches: Iterator[Batch]


class Inputs(Protocol):
    """The items of a model.

    Attributes:
        kind: "text" or "image".
        unit: What a bar counts: "tok" or "img".
        view_kinds: The kinds of views that items have.
    """

    kind: str
    unit: str
    view_kinds: tuple[ViewKind, ...]

    def check(self, items: Any, name: str | None = None) -> list[Any]:
        """The items as a list.

        Args:
            items: What the user gave.
            name: Name of the argument, for messages; None: "texts" or "images".

        Raises:
            InputTypeError: (a ValueError and a TypeError) not a list of items.
            InputError: (a ValueError) an item that the model cannot take; the message names it.
        """
        ...

    def is_one(self, items: Any) -> bool:
        """Whether this is a single item, not a list of them."""
        ...

    def prompted(self, items: Sequence[Any]) -> list[Any]:
        """The items under the model's own default prompt, if it has one."""
        ...

    def sample(
        self, items: Sequence[Any], n: int | None, *, seed: int = 0, min_tokens: int = 1, first_token: bool = True
    ) -> list[Any]:
        """At most n of the items, or all, in an order that depends only on the items and the seed.

        Args:
            items: What the user gave; duplicates count each time.
            n: Largest number of items; None for all.
            seed: Seed of the sample and its order.
            min_tokens: Items with fewer tokens are left out.
            first_token: Whether the first token counts; without it, items of one token are left out.

        Raises:
            InputError: (a ValueError) no item is left, or a bound is out of range.
        """
        ...

    def token_counts(self, items: Sequence[Any]) -> np.ndarray:
        """The approximate number of tokens of each item in a forward pass, int64 (n,), for estimates."""
        ...

    def sort_key(self, item: Any) -> Any:
        """What items are sorted by, where results must not depend on their order."""
        ...

    def shown(self, item: Any) -> str:
        """An item in a message, short."""
        ...

    def views(
        self,
        kind: ViewKind,
        items: Sequence[Any],
        n_views: int,
        *,
        seed: int = 0,
        rates: str = "paper",
        workers: int | None = None,
        show_progress: bool = False,
    ) -> tuple[list[int], list[list[Any]]]:
        """Views of items, without prompts.

        Args:
            kind: One of `view_kinds`.
            items: The items, from `sample`.
            n_views: Number of views of each.
            seed: Seed of the views.
            rates: Rates of augmentation of texts.
            workers: Number of processes that make them.
            show_progress: Show a bar on stderr.

        Returns:
            The indices of the items that have such views, and a list of items for each view.
        """
        ...

    def stream(self, items: Any, budget: int, *, first_token: bool = True) -> Stream:
        """Distinct items as batches.

        Args:
            items: The items, distinct.
            budget: Maximum number of tokens in a batch, padding included; a longer item goes alone.
            first_token: Whether the first token of each item is pooled.

        Raises:
            InputError: (a ValueError) an item that the model cannot take, or an option out of range.
        """
        ...

    def pooler(self, mode: str, dim: int) -> Pooler:
        """The function that pools by a mode."""
        ...
