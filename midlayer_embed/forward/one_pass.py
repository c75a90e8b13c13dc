"""Every layer of a model out of one forward pass, whatever goes through it: texts or images.

A hook pools the states of each block as soon as the block returns, so no layer's token states outlive the next block:
memory does not grow with the number of layers.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from copy import copy
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from midlayer_embed.errors import InputError
from midlayer_embed.forward.devices.ahead import ahead
from midlayer_embed.forward.devices.room import Room
from midlayer_embed.forward.devices.transfers import Transfers, transfers
from midlayer_embed.forward.inputs.protocol import Batch, Inputs
from midlayer_embed.forward.measured import PooledBatch, StatesKept, TokenMeasure
from midlayer_embed.forward.pooling import Pooler
from midlayer_embed.forward.sites import AllRecorded, Place, attach_hooks
from midlayer_embed.ground.progress import in_parts, progress
from midlayer_embed.ground.threads import OneAtATime
from midlayer_embed.layers import RESIDUAL_SITES, first_layer, layer_number, layer_numbers
from midlayer_embed.models.backbone import BaseModel
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.options import Recipe, check_every_layer, pooling_modes
from midlayer_embed.texts.tokens import distinct

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class _Pass:
    """What is wanted of each forward pass; see `OnePassEncoder.pooled_batches`."""

    places: Sequence[Place]
    norms: Sequence[bool]
    measures: Sequence[TokenMeasure]
    kept: StatesKept | None
    first_token: bool
    moves: Transfers
    listeners: Sequence[Callable[[int], object]]

    def count(self, n: int) -> None:
        """Tell the listeners that n more units are done."""
        for listener in self.listeners:
            listener(n)


class OnePassEncoder(ABC):
    """Embeds items with every layer of a model in one forward pass.

    Users take `LayerwiseEncoder` for texts and `ImageLayerwiseEncoder` for images.

    Attributes:
        checkpoint: The checkpoint: where the model's files are, its name and revision.
        recipe: How states become vectors; its final norm and pooling mode are never None.
        backbone: The loaded model.
        inputs: What goes through it.
    """

    checkpoint: Checkpoint
    recipe: Recipe
    backbone: BaseModel
    inputs: Inputs
    _hooked: OneAtATime
    _room: Room
    _pool: Pooler
    _without_gradients: Callable[[], AbstractContextManager[None]] = torch.inference_mode

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Checkpoint,
        recipe: Recipe | None = None,
        *,
        dtype: str | torch.dtype = "float32",
        device: str | torch.device | None = None,
    ) -> "Self":
        """Like the constructor, for a checkpoint that has been found already."""
        encoder = cls.__new__(cls)
        encoder._load(checkpoint, recipe or Recipe(), dtype, device)
        return encoder

    def _load(
        self, checkpoint: Checkpoint, recipe: Recipe, dtype: str | torch.dtype, device: str | torch.device | None
    ) -> None:
        check_every_layer(recipe)
        self.checkpoint = checkpoint
        self._hooked, self._room = OneAtATime(), Room()
        self._set_recipe(recipe, lambda: self._load_backbone(recipe, dtype, device))

    @abstractmethod
    def _load_backbone(self, recipe: Recipe, dtype: str | torch.dtype, device: str | torch.device | None) -> BaseModel:
        """The model, loaded for a recipe."""

    def _backbone_with(self, recipe: Recipe) -> BaseModel:
        """The same weights for another recipe."""
        return self.backbone

    @abstractmethod
    def _inputs(self) -> Inputs:
        """What goes through the loaded model."""

    def _resolved(self, recipe: Recipe) -> Recipe:
        """The recipe with what the model says where the user says nothing."""
        return self.checkpoint.resolved(recipe)

    def _set_recipe(self, recipe: Recipe, backbone: Callable[[], BaseModel]) -> None:
        self.recipe = self._resolved(recipe)
        self.backbone = backbone()
        self.inputs = self._inputs()
        self._pool = self.inputs.pooler(self.pooling_mode, self.backbone.dim)

    def with_recipe(self, recipe: Recipe) -> "Self":
        """An encoder of the same weights, which are shared, with another recipe.

        Args:
            recipe: Final norm, template, pooling and limit; None stands for what the constructor takes by default.

        Raises:
            InputError: (a ValueError) the model cannot take it, or it has a layer, a transform or a `dim`.

        Example:
            >>> from midlayer_embed import LayerwiseEncoder
            >>> every = LayerwiseEncoder("starter")                                       # doctest: +SKIP
            >>> every.with_recipe(Recipe(template="echo")).pooling_mode                   # doctest: +SKIP
            'weightedmean'
        """
        check_every_layer(recipe)
        encoder = copy(self)  # the weights, and the hooks on them, which only one pass may have at a time
        encoder._set_recipe(recipe, lambda: self._backbone_with(recipe))
        return encoder

    @property
    def final_norm(self) -> bool:
        """Whether normed states are pooled."""
        return bool(self.recipe.final_norm)

    @property
    def pooling_mode(self) -> str:
        """How token states become a vector."""
        return str(self.recipe.pooling_mode)

    @property
    def n_layers(self) -> int:
        """L + 1: the embeddings and every block."""
        return self.checkpoint.n_blocks + 1

    @property
    def layers(self) -> list[int]:
        """The layers that have the site of the recipe: 0..L, or 1..L for a site inside of blocks."""
        return list(range(first_layer(self.recipe.site), self.n_layers))

    @property
    def dim(self) -> int:
        """Width of a vector: that of a state, for each pooling mode."""
        return self.backbone.dim * len(pooling_modes(self.pooling_mode))

    @property
    def max_seq_length(self) -> int | None:
        """Number of tokens to which an item is truncated; None: items are not truncated."""
        return None

    def prompted(self, items: Sequence[Any]) -> list[Any]:
        """The items under the model's own default prompt, if it has one."""
        return self.inputs.prompted(items)

    def _encode(self, items: Any, layers: str | Sequence[int | float] | None, **options: Any) -> np.ndarray:
        if self.inputs.is_one(items):
            return np.asarray(self._encode([items], layers, **options)[0])
        found = self.inputs.prompted(self.inputs.check(items))
        numbers = layer_numbers(layers, self.checkpoint.n_blocks, self.recipe.site)
        unique, where = distinct(found)
        once = list(dict.fromkeys(numbers))
        vectors = np.zeros((len(unique), len(once), self.dim), dtype=np.float32)
        for pooled in self.pooled_batches(unique, once, norms=[self.final_norm], **options):
            vectors[pooled.rows] = pooled.vectors[0].swapaxes(0, 1)
        if len(once) < len(numbers):
            vectors = vectors[:, [once.index(number) for number in numbers]]
        return vectors if len(unique) == len(found) else vectors[where]

    def pooled_batches(
        self,
        items: Any,
        layers: Sequence[int | Place],
        *,
        norms: Sequence[bool],
        measures: Sequence[TokenMeasure] = (),
        kept: StatesKept | None = None,
        first_token: bool = True,
        batch_tokens: int | None = None,
        show_progress: bool = False,
        description: str = "Encoding",
        on_tokens: Callable[[int], object] = int,
    ) -> Iterator[PooledBatch]:
        """The forward passes behind `encode`, batch by batch, for callers that keep the vectors elsewhere.

        Args:
            items: Distinct texts or images. A string is encoded without a prompt, not under the default one: see
                `Inputs.prompted`. Or token ids, which go through the model as they are.
            layers: Layer numbers 0..L, at the site of the recipe; or sites of layers, each once.
            norms: True pools the normed states, False the raw ones; several are pooled in the same pass.
            measures: Measurements of token states, made in the same pass.
            kept: The token states that are kept of every place; none by default.
            first_token: Whether the first token of each item is pooled; without it one of a single token becomes zero.
            batch_tokens: Maximum number of tokens in a forward pass, padding included; a batch that does not fit into
                the device's memory is halved. None: a default for the device.
            show_progress: Show a bar with an ETA on stderr.
            description: Label of the bar.
            on_tokens: Called after each layer, as the bar is, with the layer's share of its batch, in the bar's unit.
                A negative number takes back those of a batch that did not fit into memory.

        Yields:
            The vectors of some of the items; texts without tokens are left out (their vectors are zero).

        Raises:
            InputError: (a ValueError) a measurement rejects the states of a layer, such as NaN; the message names the
                layer.
        """
        places = [layer if isinstance(layer, Place) else Place(layer, self.recipe.site) for layer in layers]
        for place in places:
            self.checkpoint.check_site(place.site)
            layer_number(place.layer, self.checkpoint.n_blocks, place.site)
        if len(set(places)) < len(places):
            raise InputError(f"layers: expected each once, got {', '.join(map(str, places))}")
        device, dtype = self.backbone.device, self.backbone.model.dtype
        room = self._room if kept is None else Room()  # states that are kept need more than others
        budget = room.budget(batch_tokens, device, self.backbone.dim, dtype)
        total, batches = self.inputs.stream(items, budget, first_token=first_token)
        moves = transfers(device)
        made = ahead((batch.with_tensors(moves.pinned) for batch in batches), moves.n_ahead)
        with progress(total, description, self.inputs.unit, show_progress) as bar, closing(made):
            wanted = _Pass(places, norms, measures, kept, first_token, moves, (bar.update, on_tokens))
            yield from room.fitted(
                made,
                partial(self._started, wanted=wanted),
                device=device,
                kind=self.inputs.kind,
                n_behind=moves.n_behind if kept is None else 0,
            )

    def _started(self, batch: Batch, wanted: "_Pass") -> Callable[[], PooledBatch]:
        """Start the forward pass of a batch; what is returned waits for its results."""
        places, norms = wanted.places, wanted.norms
        lengths = {int(n): torch.from_numpy(np.flatnonzero(batch.not_pooled == n)) for n in np.unique(batch.not_pooled)}
        of_batch = batch.arguments()
        mask, *moved = wanted.moves.to_device([batch.mask, *lengths.values(), *of_batch.values()])
        arguments = dict(zip(of_batch, moved[len(lengths) :], strict=True))
        of_length = dict(zip(lengths, moved, strict=False))
        device = mask.device
        vectors = torch.empty((len(norms), len(places), len(batch.rows), self.dim), device=device)
        widths = [measure.n_values for measure in wanted.measures]
        # MPS has no float64
        at = device if device.type == "cuda" else torch.device("cpu")
        measured = torch.empty((sum(widths), len(places), len(batch.rows)), dtype=torch.float64, device=at)
        kept: dict[int, torch.Tensor] = {}
        parts = in_parts(batch.units, len(places))
        counted = 0

        def pool(states: torch.Tensor) -> torch.Tensor:
            if len(of_length) == 1:
                return self._pool(states, mask, *of_length)
            pooled = torch.empty((len(states), self.dim), device=device)
            for length, rows in of_length.items():
                pooled[rows] = self._pool(states[rows], mask[rows], length).to(pooled.dtype)
            return pooled

        def record(slot: int, raw: torch.Tensor) -> None:
            nonlocal counted
            in_stream = places[slot].site in RESIDUAL_SITES

            @cache
            def states(normed: bool) -> torch.Tensor:
                norm = self.backbone.final_norm if normed and in_stream else None
                return raw if norm is None else norm(raw)

            for number, normed in enumerate(norms):
                if normed and in_stream and self.backbone.norms_vectors:
                    vectors[number, slot] = self._normed(pool(raw), raw.dtype)
                else:
                    vectors[number, slot] = pool(states(normed))
            for measure, rows in zip(wanted.measures, torch.split(measured, widths), strict=True):
                try:
                    values = measure.function(states(measure.final_norm), mask)
                    rows[:, slot] = values.reshape(len(mask), measure.n_values).T
                except InputError as error:
                    raise InputError(f"{places[slot]}: {error}") from error
            if wanted.kept is not None:
                kept[slot] = states(wanted.kept.final_norm)[:, wanted.kept.first :].float()
            n_tokens = next(parts)
            counted += n_tokens
            wanted.count(n_tokens)

        try:
            self._run(arguments, places, record)
            found = wanted.moves.to_host([vectors, measured])
        except BaseException:
            wanted.count(-counted)
            raise
        states_kept = tuple(kept[slot] for slot in sorted(kept))

        def results() -> PooledBatch:
            of_texts, values = (tensor.numpy() for tensor in found())
            n_tokens = batch.mask.sum(dim=1).numpy()
            of_texts[:, :, (n_tokens <= batch.not_pooled) & (not wanted.first_token)] = 0
            return PooledBatch(batch.rows, n_tokens, of_texts, values, states_kept)

        return results

    def _run(
        self, arguments: dict[str, Any], places: Sequence[Place], record: Callable[[int, torch.Tensor], None]
    ) -> None:
        """One forward pass, up to the last of the places; see `attach_hooks`."""
        # the hooks of one thread would record the states of another
        with self._without_gradients(), self._hooked, ExitStack() as hooks:
            attach_hooks(hooks, self.backbone.blocks, self.backbone.sites, places, record)
            with suppress(AllRecorded):
                self.backbone.model(**arguments)

    def _normed(self, pooled: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Pooled vectors (b, n_modes * dim) after the final norm, for models that norm what they have pooled."""
        assert self.backbone.final_norm is not None
        parts = pooled.to(dtype).reshape(len(pooled), -1, self.backbone.dim)
        normed: torch.Tensor = self.backbone.final_norm(parts)
        return normed.reshape(pooled.shape).to(pooled.dtype)
