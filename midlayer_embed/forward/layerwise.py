"""One forward pass, the pooled vector of EVERY layer.

Each hook pools as soon as its block is done, so no layer's token states outlive the next block: memory does not grow
with the number of layers. Choosing a layer and saving a model are elsewhere.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from midlayer_embed.errors import InputError
from midlayer_embed.forward.batching import Batch, batches, check_texts, distinct, token_budget, tokenize
from midlayer_embed.forward.pooling import Pooler, pooler
from midlayer_embed.layers import layer_numbers
from midlayer_embed.models.backbone import Backbone, Checkpoint, find_checkpoint, load_backbone


@dataclass(frozen=True)
class TokenMeasure:
    """Something to be measured on the tokens of each text, at every layer, while the forward pass has them.

    Attributes:
        function: States (b, t, d) and a mask (b, t), 1 for tokens and 0 for padding, to one value a text (b,).
        final_norm: Whether it is measured on normed states.
    """

    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    final_norm: bool


@dataclass(frozen=True)
class PooledBatch:
    """What one forward pass gave.

    Attributes:
        rows: (b,) which texts.
        n_tokens: (b,) their tokens, special ones included.
        vectors: (n_norms, n_layers, b, dim), float32.
        measured: (n_measures, n_layers, b), float64.
    """

    rows: np.ndarray
    n_tokens: np.ndarray
    vectors: np.ndarray
    measured: np.ndarray


class LayerwiseEncoder:
    """A language model whose every layer embeds texts, out of one forward pass.

    Vectors are pooled states as they are; what a sentence-transformers model does to them afterwards, such as scaling
    them to length 1, is MidLayerEncoder's and the sweep's to do.

    Args:
        model_name_or_path: A folder, a hub id, or "starter".
        final_norm: True: pool the states after the model's own final norm (what a truncated checkpoint gives);
            False: pool the residual stream as the block leaves it. The same for models without a final norm.
        pooling_mode: "mean" over attended tokens, "cls", "lasttoken", "weightedmean" or "max".
        max_seq_length: Tokens a text is cut at. None: the folder's own sentence-transformers limit if it has one,
            else the smaller of the model's limit and 512.
        device: None: CUDA, MPS or CPU, whichever is there.
        dtype: Of the weights. The vectors are float32 whatever it is.
        revision: Branch, tag or commit on the hub.
        gguf_file: Name of a GGUF file in the folder.
        trust_remote_code: Let the model's own code run. Off unless you trust its author.
        bidirectional: Let every token of a causal decoder attend to every other one, as LLM2Vec does. Refused where the
            architecture cannot, or does already.
        adapters: PEFT adapters (folders or hub ids) to merge into the weights, in this order.

    Raises:
        InputError: (a ValueError) an argument is not what it should be; the message names it.

    Example:
        >>> every = LayerwiseEncoder("starter")                     # doctest: +SKIP
        >>> every.encode(["one text", "another"]).shape             # doctest: +SKIP
        (2, 31, 576)
    """

    def __init__(
        self,
        model_name_or_path: str | Path,
        *,
        final_norm: bool = True,
        pooling_mode: str = "mean",
        max_seq_length: int | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "float32",
        revision: str | None = None,
        gguf_file: str | None = None,
        trust_remote_code: bool = False,
        bidirectional: bool = False,
        adapters: Sequence[str | Path] = (),
    ) -> None:
        checkpoint = find_checkpoint(
            model_name_or_path,
            revision=revision,
            gguf_file=gguf_file,
            trust_remote_code=trust_remote_code,
            bidirectional=bidirectional,
            adapters=adapters,
        )
        self._setup(checkpoint, final_norm, pooling_mode, max_seq_length, device, dtype)

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Checkpoint,
        *,
        final_norm: bool = True,
        pooling_mode: str = "mean",
        max_seq_length: int | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "float32",
    ) -> "LayerwiseEncoder":
        """As the constructor, for a checkpoint that has been found already."""
        encoder = cls.__new__(cls)
        encoder._setup(checkpoint, final_norm, pooling_mode, max_seq_length, device, dtype)
        return encoder

    def _setup(
        self,
        checkpoint: Checkpoint,
        final_norm: bool,
        pooling_mode: str,
        max_seq_length: int | None,
        device: str | torch.device | None,
        dtype: str | torch.dtype,
    ) -> None:
        self.checkpoint = checkpoint
        self.final_norm = final_norm
        self.pooling_mode = pooling_mode
        self.requested_max_seq_length = max_seq_length
        self.backbone: Backbone = load_backbone(checkpoint, max_seq_length=max_seq_length, dtype=dtype, device=device)
        self._pool: Pooler = pooler(pooling_mode, self.backbone.dim)

    @property
    def n_layers(self) -> int:
        """L + 1: the embeddings and every block."""
        return self.checkpoint.n_blocks + 1

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self.backbone.dim

    @property
    def max_seq_length(self) -> int:
        """Tokens a text is cut at."""
        return self.backbone.max_seq_length

    def encode(
        self,
        texts: str | Sequence[str],
        layers: str | Sequence[int | float] | None = None,
        *,
        batch_tokens: int | None = None,
        show_progress: bool = False,
    ) -> np.ndarray:
        """The vector of every text at every layer.

        A text that the tokenizer gives no token for (the empty one, without a BOS token) is a zero vector, as mean
        pooling in sentence-transformers has it.

        Args:
            texts: Any number of strings; each distinct one goes through the model once. A single string drops the
                first axis of the result.
            layers: None for all, or the layers wanted, in this order: ints (negative from the end) or depths.
            batch_tokens: Tokens a forward pass, padding included. None: what suits the device.
            show_progress: A bar with an ETA on stderr.

        Returns:
            float32 (n_texts, n_layers, dim), in the order of the texts.

        Raises:
            InputError: (a ValueError) a layer out of range.
            InputTypeError: (a ValueError and a TypeError) a text that is no string.
        """
        if isinstance(texts, str):
            return np.asarray(self.encode([texts], layers, batch_tokens=batch_tokens, show_progress=show_progress)[0])
        found = check_texts(texts)
        numbers = layer_numbers(layers, self.checkpoint.n_blocks)
        unique, where = distinct(found)
        vectors = np.zeros((len(unique), len(numbers), self.dim), dtype=np.float32)
        for pooled in self.pooled_batches(
            unique, numbers, norms=[self.final_norm], batch_tokens=batch_tokens, show_progress=show_progress
        ):
            vectors[pooled.rows] = pooled.vectors[0].swapaxes(0, 1)
        return vectors if len(unique) == len(found) else vectors[where]

    def pooled_batches(
        self,
        texts: Sequence[str],
        layers: Sequence[int],
        *,
        norms: Sequence[bool],
        measures: Sequence[TokenMeasure] = (),
        batch_tokens: int | None = None,
        show_progress: bool = False,
        description: str = "Encoding",
    ) -> Iterator[PooledBatch]:
        """The forward passes behind `encode`, one batch after the other, for callers that keep vectors elsewhere.

        Args:
            texts: Distinct strings.
            layers: Numbers 0..L.
            norms: For each True the normed states are pooled, for each False the raw ones, all in the same pass.
            measures: What is measured on tokens, in the same pass. Token states are never kept.
            batch_tokens: Tokens a forward pass, padding included. None: what suits the device.
            show_progress: A bar with an ETA on stderr.
            description: What the bar is labelled.

        Yields:
            The vectors of some of the texts; texts without tokens are left out (their vectors are zero).

        Raises:
            InputError: (a ValueError) a measure refuses the states of a layer, such as NaN; the message names it.
        """
        budget = token_budget(batch_tokens, self.backbone.device)
        token_ids = tokenize(self.backbone.tokenizer, texts, self.max_seq_length)
        total = int(token_ids.lengths.sum())
        with tqdm(
            total=total, desc=description, unit="tok", unit_scale=True, dynamic_ncols=True, disable=not show_progress
        ) as bar:
            for batch in batches(token_ids, self.backbone.pad_id, budget):
                yield PooledBatch(
                    batch.rows, batch.attention_mask.sum(dim=1).numpy(), *self._forward(batch, layers, norms, measures)
                )
                bar.update(batch.n_tokens)

    @torch.inference_mode()
    def _forward(
        self, batch: Batch, layers: Sequence[int], norms: Sequence[bool], measures: Sequence[TokenMeasure]
    ) -> tuple[np.ndarray, np.ndarray]:
        device = self.backbone.device
        mask = batch.attention_mask.to(device)
        vectors = torch.empty((len(norms), len(layers), len(batch.rows), self.dim), device=device)
        measured = torch.empty((len(measures), len(layers), len(batch.rows)), dtype=torch.float64)

        def take_layer(slot: int, raw: torch.Tensor) -> None:
            @cache
            def states(normed: bool) -> torch.Tensor:
                norm = self.backbone.final_norm if normed else None
                return raw if norm is None else norm(raw)

            for number, normed in enumerate(norms):
                vectors[number, slot] = self._pool(states(normed), mask)
            for number, measure in enumerate(measures):
                try:
                    measured[number, slot] = measure.function(states(measure.final_norm), mask)
                except InputError as error:
                    raise InputError(f"layer {layers[slot]}: {error}") from error

        with ExitStack() as hooks:
            _attach(hooks, self.backbone, layers, take_layer)
            with suppress(_LastLayerReached):
                self.backbone.model(input_ids=batch.input_ids.to(device), attention_mask=mask, use_cache=False)
        return vectors.cpu().numpy(), measured.numpy()


class _LastLayerReached(Exception):
    """Ends a forward pass above the highest layer that is wanted."""


def _attach(
    hooks: ExitStack, backbone: Backbone, layers: Sequence[int], take_layer: Callable[[int, torch.Tensor], None]
) -> None:
    """Hooks that hand each wanted layer's states to `take_layer(slot, states)` and stop after the highest one.

    Layer k is the k-th call of a block: models that share weights call one block many times.
    """
    slots = {layer: slot for slot, layer in enumerate(layers)}
    highest = max(layers)
    calls = 0

    def take(layer: int, states: torch.Tensor) -> None:
        if layer in slots:
            take_layer(slots[layer], states)
        if layer == highest:
            raise _LastLayerReached

    def before_block_1(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if calls == 0:
            take(0, args[0] if args else kwargs["hidden_states"])

    def after_block(_module: Any, _args: Any, out: Any) -> None:
        nonlocal calls
        calls += 1
        # Some blocks give a tensor, some a tuple that starts with it.
        take(calls, out if isinstance(out, torch.Tensor) else out[0])

    hooks.callback(backbone.blocks[0].register_forward_pre_hook(before_block_1, with_kwargs=True).remove)
    for block in dict.fromkeys(backbone.blocks[:highest]):
        hooks.callback(block.register_forward_hook(after_block).remove)
