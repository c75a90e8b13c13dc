"""The pooled vector of every layer from one forward pass.

A hook pools the states of each block as soon as the block returns, so no layer's token states outlive the next block:
memory does not grow with the number of layers.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from copy import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from midlayer_embed.errors import InputError
from midlayer_embed.forward.batching import Batch, batches, token_budget
from midlayer_embed.forward.fitting import fit_layers
from midlayer_embed.forward.measured import PooledBatch, TokenMeasure
from midlayer_embed.forward.pooling import Pooler, pooler
from midlayer_embed.forward.sites import AllRecorded, Place, attach_hooks
from midlayer_embed.ground.progress import in_parts, progress
from midlayer_embed.ground.threads import OneAtATime
from midlayer_embed.layers import RESIDUAL_SITES, first_layer, layer_number, layer_numbers
from midlayer_embed.models.backbone import Backbone, load_backbone, load_tokenizer, with_recipe
from midlayer_embed.models.checkpoint import Checkpoint, find_checkpoint
from midlayer_embed.options import AnyModelOptions, Recipe, check_every_layer, fold, pooling_modes, takes_options
from midlayer_embed.recipes.transform import Transform
from midlayer_embed.texts.tokens import (
    Text,
    TokenIds,
    check_texts,
    check_token_ids,
    distinct,
    prompt_lengths,
    prompted,
    tokenize,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack


class LayerwiseEncoder:
    """Embeds texts with every layer of a language model in one forward pass.

    The vectors are pooled states as they are: the limit, lower-casing, default prompt and pooling of a
    sentence-transformers model apply, the modules after its pooling, such as Normalize and Dense, do not (see
    `midlayer_embed.forward.after_pooling`), because layers would differ in width.

    Args:
        model_name_or_path: A folder, a Hub id, "starter", or a checkpoint that has been found already.
        **options: The fields of `Recipe` and `Source` (see `midlayer_embed.options`):

            - final_norm: True: pool the states after the model's own final norm, which is what a truncated checkpoint
              gives; False: pool the residual stream as the block leaves it. No difference for models without a final
              norm. None (default): what the model's own sentence-transformers config says, else True.
            - template: "eol", "echo", or a text with {text} in it once or twice, which is put around every text. None
              (default): none.
            - pooling_mode: "mean" over attended tokens, "cls", "lasttoken", "weightedmean", "max",
              "mean_sqrt_len_tokens", or several joined by "+", which are concatenated. None (default): "weightedmean"
              under the templates "eol" and "echo", else what the model's own sentence-transformers config says, else
              "mean".
            - max_seq_length: Number of tokens to which a text is truncated; its template and both copies count. None
              (default): the limit of the folder's own sentence-transformers config if it has one, else the smaller of
              the model's limit and 512.
            - site: The place in a block whose states are pooled: "resid_post" (default), its output, which is the
              layer; "resid_pre" or "resid_mid", the residual stream before attention and before the MLP; "attn_out",
              "mlp_out" or "mixer_out", what a part adds to it. Sites other than a block's output are in layers 1..L.
              final_norm: applies to the residual stream only, never to what a part adds.
            - device: None (default): CUDA, MPS or CPU, the fastest that is available.
            - dtype: dtype of the weights, "float32" by default. The vectors are float32 in any case.
            - revision: Branch, tag or commit on the Hub.
            - gguf_file: Name of a GGUF file in the folder.
            - trust_remote_code: Let the model's own code run. Leave it off unless you trust its author.
            - bidirectional: Let every token of a causal decoder attend to every other token, as LLM2Vec does. An error
              where the architecture cannot do this, or does it already.
            - adapters: PEFT adapters (folders or Hub ids) to merge into the weights, in this order.

    Attributes:
        checkpoint: The checkpoint: where the model's files are, its name and revision.
        recipe: How states become vectors; its final norm and pooling mode are never None.
        backbone: The loaded model.

    Raises:
        InputError: (a ValueError) an argument is invalid; the message names it.

    Example:
        >>> every = LayerwiseEncoder("starter")                     # doctest: +SKIP
        >>> every.encode(["one text", "another"]).shape             # doctest: +SKIP
        (2, 31, 576)
    """

    @takes_options()
    def __init__(self, model_name_or_path: str | Path | Checkpoint, **options: "Unpack[AnyModelOptions]") -> None:
        source, recipe = fold(options)
        self._load(find_checkpoint(model_name_or_path, source), recipe, source.dtype, source.device)

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Checkpoint,
        recipe: Recipe | None = None,
        *,
        dtype: str | torch.dtype = "float32",
        device: str | torch.device | None = None,
    ) -> "LayerwiseEncoder":
        """Like the constructor, for a checkpoint that has been found already."""
        encoder = cls.__new__(cls)
        encoder._load(checkpoint, recipe or Recipe(), dtype, device)
        return encoder

    def _load(
        self, checkpoint: Checkpoint, recipe: Recipe, dtype: str | torch.dtype, device: str | torch.device | None
    ) -> None:
        check_every_layer(recipe)
        self.checkpoint = checkpoint
        self.recipe = checkpoint.resolved(recipe)
        self.backbone: Backbone = load_backbone(checkpoint, recipe, dtype=dtype, device=device)
        self._hooked = OneAtATime()
        self._pool: Pooler = pooler(self.pooling_mode, self.backbone.dim)

    def with_recipe(self, recipe: Recipe) -> "LayerwiseEncoder":
        """An encoder of the same weights, which are shared, with another recipe.

        Args:
            recipe: Final norm, template, pooling and limit; None stands for what the constructor takes by default.

        Raises:
            InputError: (a ValueError) the model cannot take it, or it has a layer, a transform or a `dim`.

        Example:
            >>> every = LayerwiseEncoder("starter")                                       # doctest: +SKIP
            >>> every.with_recipe(Recipe(template="echo")).pooling_mode                   # doctest: +SKIP
            'weightedmean'
        """
        check_every_layer(recipe)
        encoder = copy(self)  # the weights, and the hooks on them, which only one pass may have at a time
        encoder.recipe = self.checkpoint.resolved(recipe)
        encoder.backbone = with_recipe(self.backbone, self.checkpoint, recipe)
        encoder._pool = pooler(encoder.pooling_mode, self.backbone.dim)
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
    def plain_tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer without the template."""
        return self.backbone.tokenizer if self.recipe.template is None else load_tokenizer(self.checkpoint)

    @property
    def max_seq_length(self) -> int:
        """Number of tokens to which a text is truncated, its template and both copies included."""
        return self.backbone.max_seq_length

    def tokenized(self, texts: Sequence[Text]) -> TokenIds:
        """The token ids of texts as they go through the model: with special tokens and template, truncated."""
        return tokenize(self.backbone.tokenizer, texts, self.backbone.truncate_to)

    def prompted(self, texts: Sequence[str]) -> list[Text]:
        """The texts under the model's own default prompt, if it has one."""
        prompt = self.checkpoint.own.default_prompt
        return [prompted(prompt, text) for text in texts]

    def encode(
        self,
        texts: str | Sequence[str],
        layers: str | Sequence[int | float] | None = None,
        *,
        site: str | None = None,
        batch_tokens: int | None = None,
        show_progress: bool = False,
    ) -> np.ndarray:
        """The vector of every text at every layer.

        A text without tokens (the empty text, if the tokenizer adds no BOS token) becomes a zero vector, as with
        mean pooling in sentence-transformers.

        Args:
            texts: Any number of strings; each distinct one goes through the model once. A single string drops the
                first axis of the result.
            layers: None for all, or layers in the order of the result: ints (negative from the end) or depths. A layer
                that is named twice is given twice.
            site: Another site than the encoder's own, see the constructor.
            batch_tokens: Number of tokens in a forward pass, padding included. None: a default for the device.
            show_progress: Show a bar with an ETA on stderr.

        Returns:
            float32 (n_texts, n_layers, dim), in the order of the texts. All layers are L + 1, or L at a site inside of
            blocks: then the first is that of block 1.

        Raises:
            InputError: (a ValueError) a layer out of range, or a site that the model does not have.
            InputTypeError: (a ValueError and a TypeError) a text is not a string.

        Example:
            >>> every = LayerwiseEncoder("starter")                                # doctest: +SKIP
            >>> every.encode(["one text", "another"], site="attn_out").shape       # doctest: +SKIP
            (2, 30, 576)
        """
        options: dict[str, Any] = {"batch_tokens": batch_tokens, "show_progress": show_progress}
        if site is not None and site != self.recipe.site:
            return self.with_recipe(replace(self.recipe, site=site)).encode(texts, layers, **options)
        if isinstance(texts, str):
            return np.asarray(self.encode([texts], layers, **options)[0])
        found = self.prompted(check_texts(texts))
        numbers = layer_numbers(layers, self.checkpoint.n_blocks, self.recipe.site)
        unique, where = distinct(found)
        once = list(dict.fromkeys(numbers))
        vectors = np.zeros((len(unique), len(once), self.dim), dtype=np.float32)
        for pooled in self.pooled_batches(unique, once, norms=[self.final_norm], **options):
            vectors[pooled.rows] = pooled.vectors[0].swapaxes(0, 1)
        if len(once) < len(numbers):
            vectors = vectors[:, [once.index(number) for number in numbers]]
        return vectors if len(unique) == len(found) else vectors[where]

    def fit_transform(
        self,
        texts: Sequence[str],
        transform: str = "whiten",
        layers: str | Sequence[int | float] | None = None,
        *,
        dim: int | None = None,
        batch_tokens: int | None = None,
        show_progress: bool = False,
    ) -> Transform:
        """The transform of each layer, fitted on unlabelled texts in one forward pass; see `fit_layers`.

        Returns:
            A transform of vectors (n_texts, n_layers, dim), as `encode` gives them for the same layers.

        Example:
            >>> every = LayerwiseEncoder("starter")                            # doctest: +SKIP
            >>> whiten = every.fit_transform(texts, "whiten", layers=[7, -1])  # doctest: +SKIP
            >>> whiten(every.encode(texts, layers=[7, -1])).shape              # doctest: +SKIP
            (1000, 2, 576)
        """
        return fit_layers(
            self, texts, transform, layers, dim=dim, batch_tokens=batch_tokens, show_progress=show_progress
        )

    def pooled_batches(
        self,
        texts: Sequence[Text] | TokenIds,
        layers: Sequence[int | Place],
        *,
        norms: Sequence[bool],
        measures: Sequence[TokenMeasure] = (),
        first_token: bool = True,
        batch_tokens: int | None = None,
        show_progress: bool = False,
        description: str = "Encoding",
        on_tokens: Callable[[int], object] = int,
    ) -> Iterator[PooledBatch]:
        """The forward passes behind `encode`, batch by batch, for callers that keep the vectors elsewhere.

        Args:
            texts: Distinct texts. A string is encoded without a prompt, not under the default one: see `prompted`. Or
                token ids, which go through the model as they are.
            layers: Layer numbers 0..L, at the site of the recipe; or sites of layers, each once.
            norms: True pools the normed states, False the raw ones; several are pooled in the same pass.
            measures: Measurements of token states, made in the same pass. Token states are never kept.
            first_token: Whether the first token of each text is pooled; without it a text of one token becomes zero.
            batch_tokens: Number of tokens in a forward pass, padding included. None: a default for the device.
            show_progress: Show a bar with an ETA on stderr.
            description: Label of the bar.
            on_tokens: Called after each layer, as the bar is, with a number of tokens: the layer's share of its batch.

        Yields:
            The vectors of some of the texts; texts without tokens are left out (their vectors are zero).

        Raises:
            InputError: (a ValueError) a measurement rejects the states of a layer, such as NaN; the message names the
                layer.
        """
        budget = token_budget(batch_tokens, self.backbone.device)
        places = [layer if isinstance(layer, Place) else Place(layer, self.recipe.site) for layer in layers]
        for place in places:
            self.checkpoint.check_site(place.site)
            layer_number(place.layer, self.checkpoint.n_blocks, place.site)
        if len(set(places)) < len(places):
            raise InputError(f"layers: expected each once, got {', '.join(map(str, places))}")
        token_ids = texts if isinstance(texts, TokenIds) else self.tokenized(texts)
        check_token_ids(self.backbone.tokenizer, int(token_ids.flat.max(initial=0)), self.checkpoint.n_tokens)
        not_pooled = np.full_like(token_ids.lengths, 0 if first_token else 1)
        if not isinstance(texts, TokenIds) and not self.checkpoint.own.include_prompt:
            prompts = prompt_lengths(self.backbone.tokenizer, texts, self.backbone.truncate_to)
            not_pooled = np.maximum(not_pooled, prompts)
        total = int(token_ids.lengths.sum())
        with progress(total, description, "tok", show_progress) as bar:
            for batch in batches(token_ids, self.backbone.pad_id, budget, not_pooled):
                vectors, measured = self._forward(batch, places, norms, measures, (bar.update, on_tokens))
                n_tokens = batch.attention_mask.sum(dim=1).numpy()
                vectors[:, :, (n_tokens <= batch.not_pooled) & (not first_token)] = 0
                yield PooledBatch(batch.rows, n_tokens, vectors, measured)

    @torch.inference_mode()
    def _forward(
        self,
        batch: Batch,
        places: Sequence[Place],
        norms: Sequence[bool],
        measures: Sequence[TokenMeasure],
        listeners: Sequence[Callable[[int], object]],
    ) -> tuple[np.ndarray, np.ndarray]:
        device = self.backbone.device
        parts = in_parts(batch.n_tokens, len(places))
        mask = batch.attention_mask.to(device)
        vectors = torch.empty((len(norms), len(places), len(batch.rows), self.dim), device=device)
        widths = [measure.n_values for measure in measures]
        measured = torch.empty((sum(widths), len(places), len(batch.rows)), dtype=torch.float64)
        of_length = {int(n): torch.from_numpy(batch.not_pooled == n).to(device) for n in np.unique(batch.not_pooled)}

        def pool(states: torch.Tensor) -> torch.Tensor:
            if len(of_length) == 1:
                return self._pool(states, mask, *of_length)
            pooled = torch.empty((len(states), self.dim), device=device)
            for length, rows in of_length.items():
                pooled[rows] = self._pool(states[rows], mask[rows], length).to(pooled.dtype)
            return pooled

        def record(slot: int, raw: torch.Tensor) -> None:
            in_stream = places[slot].site in RESIDUAL_SITES

            @cache
            def states(normed: bool) -> torch.Tensor:
                norm = self.backbone.final_norm if normed and in_stream else None
                return raw if norm is None else norm(raw)

            for number, normed in enumerate(norms):
                vectors[number, slot] = pool(states(normed))
            for measure, rows in zip(measures, torch.split(measured, widths), strict=True):
                try:
                    values = measure.function(states(measure.final_norm), mask)
                    rows[:, slot] = values.reshape(len(mask), measure.n_values).T
                except InputError as error:
                    raise InputError(f"{places[slot]}: {error}") from error
            n_tokens = next(parts)
            for listener in listeners:
                listener(n_tokens)

        # the hooks of one thread would record the states of another
        with self._hooked, ExitStack() as hooks:
            attach_hooks(hooks, self.backbone.blocks, self.backbone.sites, places, record)
            with suppress(AllRecorded):
                self.backbone.model(input_ids=batch.input_ids.to(device), attention_mask=mask, use_cache=False)
        return vectors.cpu().numpy(), measured.numpy()
