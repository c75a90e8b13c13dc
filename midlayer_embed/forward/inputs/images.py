"""Images as the items of a model: decoded and processed batch by batch, so that only a batch of pixels is in memory."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from midlayer_embed.errors import InputError
from midlayer_embed.forward.inputs.protocol import Stream
from midlayer_embed.forward.pooling import Pooler, masked_mean
from midlayer_embed.ground.checks import check_int, check_optional_int
from midlayer_embed.images.pictures import Picture, check_images, is_one_image
from midlayer_embed.images.views import augmented_pictures
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.models.vision.families import VisionFamily, forward_arguments, n_patches
from midlayer_embed.models.vision.processors import Processor, load_processor
from midlayer_embed.options import image_pooling_modes
from midlayer_embed.terms import ViewKind


@dataclass(frozen=True)
class ImageBatch:
    """Images of the same size, processed.

    Attributes:
        rows: (b,) indices of the images.
        pixel_values: (b, 3, height, width), in the dtype of the model's weights.
        n_prefix: Number of tokens before the patches.
        config: Config of the model.
    """

    rows: np.ndarray
    pixel_values: torch.Tensor
    n_prefix: int
    config: Any

    @cached_property
    def mask(self) -> torch.Tensor:
        """(b, t), 1 for patches and 0 for the tokens before them."""
        height, width = self.pixel_values.shape[-2:]
        mask = torch.ones(len(self.rows), self.n_prefix + n_patches(self.config, height, width), dtype=torch.int64)
        mask[:, : self.n_prefix] = 0
        return mask

    @property
    def not_pooled(self) -> np.ndarray:
        """(b,) zeros: the mask says it all."""
        return np.zeros(len(self.rows), dtype=np.int64)

    @property
    def units(self) -> int:
        """Number of images."""
        return len(self.rows)

    @property
    def n_items(self) -> int:
        """Number of images."""
        return len(self.rows)

    @property
    def n_tokens(self) -> int:
        """Number of tokens."""
        return self.mask.numel()

    def arguments(self) -> dict[str, Any]:
        """The keywords of the model's forward pass."""
        return forward_arguments(self.config, self.pixel_values)

    def with_tensors(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "ImageBatch":
        """The same batch with other tensors."""
        return replace(self, pixel_values=change(self.pixel_values))

    def halves(self) -> "tuple[ImageBatch, ImageBatch]":
        """The images in two parts, of which the first is the larger one."""
        middle = (len(self.rows) + 1) // 2
        first, second = (
            replace(self, rows=self.rows[which], pixel_values=self.pixel_values[which])
            for which in (slice(middle), slice(middle, None))
        )
        return first, second


class ImageInputs:
    """The items of an image encoder.

    Args:
        checkpoint: The checkpoint.
        family: Its family.
        dtype: dtype of the model's weights.
    """

    kind = "image"
    unit = "img"
    view_kinds: tuple[ViewKind, ...] = ("augmented",)

    def __init__(self, checkpoint: Checkpoint, family: VisionFamily, dtype: torch.dtype) -> None:
        self._checkpoint = checkpoint
        self._family = family
        self._dtype = dtype

    @cached_property
    def processor(self) -> Processor:
        """The model's image processor."""
        return load_processor(self._checkpoint)

    def check(self, items: Any, name: str | None = None) -> list[Picture]:
        """See `Inputs.check`. Files are read for their hashes, and not decoded."""
        return check_images(items, name or "images")

    def is_one(self, items: Any) -> bool:
        """See `Inputs.is_one`."""
        return is_one_image(items)

    def prompted(self, items: Sequence[Picture]) -> list[Picture]:
        """See `Inputs.prompted`: images have no prompt."""
        return list(items)

    def sample(
        self, items: Any, n: int | None, *, seed: int = 0, min_tokens: int = 1, first_token: bool = True
    ) -> list[Picture]:
        """See `Inputs.sample`."""
        n = check_optional_int("max_texts", n, 1)
        min_tokens = check_int("min_tokens", min_tokens, 1)
        key = str(check_int("seed", seed, 0)).encode()
        self._check_first_token(first_token)
        if min_tokens > self._n_patches:
            raise InputError(f"min_tokens: images have {self._n_patches} patches, got {min_tokens}")
        pictures = self.check(items)
        if not pictures:
            raise InputError("images: expected at least one, got none")
        return sorted(pictures, key=lambda one: hashlib.blake2b(one.key.encode(), key=key).digest())[:n]

    def token_counts(self, items: Sequence[Picture]) -> np.ndarray:
        """See `Inputs.token_counts`."""
        return np.full(len(items), self._family.n_prefix + self._n_patches, dtype=np.int64)

    def sort_key(self, item: Picture) -> Any:
        """See `Inputs.sort_key`."""
        return item.key

    def shown(self, item: Picture) -> str:
        """See `Inputs.shown`."""
        return item.name

    def views(
        self,
        kind: ViewKind,
        items: Sequence[Picture],
        n_views: int,
        *,
        seed: int = 0,
        rates: str = "paper",
        workers: int | None = None,
        show_progress: bool = False,
    ) -> tuple[list[int], list[list[Picture]]]:
        """See `Inputs.views`; rates and workers are those of texts."""
        if kind not in self.view_kinds:
            raise InputError(f"metrics: images have no {kind} views, which are made of words")
        return list(range(len(items))), augmented_pictures(items, n_views, seed=seed)

    def stream(self, items: Sequence[Picture], budget: int, *, first_token: bool = True) -> Stream:
        """See `Inputs.stream`."""
        self._check_first_token(first_token)
        at_once = max(1, budget // (self._family.n_prefix + self._n_patches))
        return Stream(len(items), self._batches(items, at_once))

    def pooler(self, mode: str, dim: int) -> Pooler:
        """See `Inputs.pooler`: "mean" over the patches, "cls" the first token, or both, joined by "+"."""
        modes = image_pooling_modes(mode)
        if "cls" in modes and not self._family.has_cls:
            raise InputError(
                f"pooling_mode: this {self._checkpoint.config.model_type} model has no CLS token; expected 'mean'"
            )

        def pool(states: torch.Tensor, mask: torch.Tensor, prompt_length: int = 0) -> torch.Tensor:
            parts = [masked_mean(states, mask) if one == "mean" else states[:, 0].float() for one in modes]
            return torch.cat([part.to(parts[0].dtype) for part in parts], dim=1)

        return pool

    @cached_property
    def _n_patches(self) -> int:
        """Number of patches of an image of the model's own size."""
        return n_patches(self._checkpoint.config)

    def _batches(self, items: Sequence[Picture], at_once: int) -> Iterator[ImageBatch]:
        for start in range(0, len(items), at_once):
            of_size: defaultdict[torch.Size, list[tuple[int, torch.Tensor]]] = defaultdict(list)
            for row, pixels in enumerate(self.processor.pixels_of(items[start : start + at_once]), start):
                of_size[pixels.shape].append((row, pixels))
            for found in of_size.values():
                rows = np.array([row for row, _ in found], dtype=np.int64)
                pixel_values = torch.stack([pixels for _, pixels in found]).to(self._dtype)
                yield ImageBatch(rows, pixel_values, self._family.n_prefix, self._checkpoint.config)

    def _check_first_token(self, first_token: bool) -> None:
        if not first_token:
            raise InputError("first_token: only texts have one to leave out; of images the patches are measured")
