"""Embeds texts with every layer of a language model in one forward pass; `one_pass` runs it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from midlayer_embed.forward.fitting import fit_layers
from midlayer_embed.forward.inputs.text import TextInputs
from midlayer_embed.forward.one_pass import OnePassEncoder
from midlayer_embed.models.backbone import Backbone, load_backbone, with_recipe
from midlayer_embed.models.checkpoint import Checkpoint, find_checkpoint
from midlayer_embed.options import AnyModelOptions, Recipe, fold, takes_options
from midlayer_embed.recipes.transform import Transform
from midlayer_embed.texts.tokens import Text, TokenIds

if TYPE_CHECKING:
    from typing_extensions import Unpack


class LayerwiseEncoder(OnePassEncoder):
    """Embeds texts with every layer of a language model in one forward pass.

    The vectors are pooled states as they are: the limit, lower-casing, default prompt and pooling of a
    sentence-transformers model apply, the modules after its pooling, such as Normalize and Dense, do not (see
    `midlayer_embed.forward.after_pooling`), because layers would differ in width.

    Args:
        model_name_or_path: A folder, a GGUF file, a Hub id, "starter", or a checkpoint that has been found already.
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
        backbone: The loaded model, with its tokenizer.
        inputs: The texts that go through it.

    Raises:
        InputError: (a ValueError) an argument is invalid; the message names it.

    Example:
        >>> every = LayerwiseEncoder("starter")                     # doctest: +SKIP
        >>> every.encode(["one text", "another"]).shape             # doctest: +SKIP
        (2, 31, 576)
    """

    backbone: Backbone
    inputs: TextInputs

    @takes_options()
    def __init__(self, model_name_or_path: str | Path | Checkpoint, **options: "Unpack[AnyModelOptions]") -> None:
        source, recipe = fold(options)
        self._load(find_checkpoint(model_name_or_path, source), recipe, source.dtype, source.device)

    def _load_backbone(self, recipe: Recipe, dtype: str | torch.dtype, device: str | torch.device | None) -> Backbone:
        return load_backbone(self.checkpoint, recipe, dtype=dtype, device=device)

    def _backbone_with(self, recipe: Recipe) -> Backbone:
        return with_recipe(self.backbone, self.checkpoint, recipe)

    def _inputs(self) -> TextInputs:
        return TextInputs(self.backbone, self.checkpoint, self.recipe)

    @property
    def plain_tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer without the template."""
        tokenizer: PreTrainedTokenizerBase = self.inputs.plain_tokenizer
        return tokenizer

    @property
    def max_seq_length(self) -> int:
        """Number of tokens to which a text is truncated, its template and both copies included."""
        return self.backbone.max_seq_length

    def tokenized(self, texts: Sequence[Text]) -> TokenIds:
        """The token ids of texts as they go through the model: with special tokens and template, truncated."""
        return self.inputs.tokenized(texts)

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
            return self.with_recipe(replace(self.recipe, site=site))._encode(texts, layers, **options)
        return self._encode(texts, layers, **options)

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
