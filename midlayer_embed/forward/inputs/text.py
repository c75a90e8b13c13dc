"""Texts as the items of a model: tokenised under its template, batched by length."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from midlayer_embed.forward.batching import batches
from midlayer_embed.forward.inputs.protocol import Stream
from midlayer_embed.forward.pooling import Pooler, pooler
from midlayer_embed.ground.checks import check_int
from midlayer_embed.models.backbone import Backbone, load_tokenizer
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.options import Recipe
from midlayer_embed.terms import ViewKind
from midlayer_embed.texts.corpora import sample_texts
from midlayer_embed.texts.tokens import (
    Text,
    TokenIds,
    check_texts,
    check_token_ids,
    prompt_lengths,
    prompted,
    spelt,
    token_counts,
    tokenize,
)
from midlayer_embed.texts.views import augmented_views
from midlayer_embed.texts.word_views import word_views


class TextInputs:
    """The items of a language model.

    Args:
        backbone: The loaded model, with its tokenizer.
        checkpoint: Its checkpoint.
        recipe: The template.
    """

    kind = "text"
    unit = "tok"
    view_kinds: tuple[ViewKind, ...] = ("augmented", "halves", "dropped")

    def __init__(self, backbone: Backbone, checkpoint: Checkpoint, recipe: Recipe) -> None:
        self._backbone = backbone
        self._checkpoint = checkpoint
        self._template = recipe.template

    @property
    def plain_tokenizer(self) -> Any:
        """The model's tokenizer without the template."""
        return self._backbone.tokenizer if self._template is None else load_tokenizer(self._checkpoint)

    def check(self, items: Any, name: str | None = None) -> list[str]:
        """See `Inputs.check`."""
        return check_texts(items, name or "texts")

    def is_one(self, items: Any) -> bool:
        """See `Inputs.is_one`."""
        return isinstance(items, str)

    def prompted(self, items: Sequence[str]) -> list[Text]:
        """See `Inputs.prompted`."""
        prompt = self._checkpoint.own.default_prompt
        return [prompted(prompt, text) for text in items]

    def sample(
        self, items: Sequence[str], n: int | None, *, seed: int = 0, min_tokens: int = 1, first_token: bool = True
    ) -> list[str]:
        """See `Inputs.sample`; tokens are counted without the template."""
        return sample_texts(
            items,
            n,
            seed=seed,
            tokenizer=self.plain_tokenizer,
            min_tokens=min_tokens if first_token else max(2, check_int("min_tokens", min_tokens, 1)),
            max_length=self._backbone.max_seq_length,
        )

    def token_counts(self, items: Sequence[Text]) -> np.ndarray:
        """See `Inputs.token_counts`."""
        return token_counts(self._backbone.tokenizer, items, self._backbone.truncate_to)

    def sort_key(self, item: Text) -> Any:
        """See `Inputs.sort_key`."""
        return spelt(item), item

    def shown(self, item: Text) -> str:
        """See `Inputs.shown`."""
        return f"{spelt(item)!r:.60}"

    def views(
        self,
        kind: ViewKind,
        items: Sequence[str],
        n_views: int,
        *,
        seed: int = 0,
        rates: str = "paper",
        workers: int | None = None,
        show_progress: bool = False,
    ) -> tuple[list[int], list[list[str]]]:
        """See `Inputs.views`."""
        if kind != "augmented":
            return word_views(items, kind, seed)
        made = augmented_views(items, n_views, seed=seed, rates=rates, workers=workers, show_progress=show_progress)
        return list(range(len(items))), made

    def tokenized(self, items: Sequence[Text]) -> TokenIds:
        """The token ids of texts as they go through the model: with special tokens and template, truncated."""
        return tokenize(self._backbone.tokenizer, items, self._backbone.truncate_to)

    def stream(self, items: Sequence[Text] | TokenIds, budget: int, *, first_token: bool = True) -> Stream:
        """See `Inputs.stream`; token ids go through the model as they are."""
        backbone = self._backbone
        token_ids = items if isinstance(items, TokenIds) else self.tokenized(items)
        check_token_ids(backbone.tokenizer, int(token_ids.flat.max(initial=0)), self._checkpoint.n_tokens)
        not_pooled = np.full_like(token_ids.lengths, 0 if first_token else 1)
        if not isinstance(items, TokenIds) and not self._checkpoint.own.include_prompt:
            prompts = prompt_lengths(backbone.tokenizer, items, backbone.truncate_to)
            not_pooled = np.maximum(not_pooled, prompts)
        return Stream(int(token_ids.lengths.sum()), batches(token_ids, backbone.pad_id, budget, not_pooled))

    def pooler(self, mode: str, dim: int) -> Pooler:
        """See `Inputs.pooler`."""
        return pooler(mode, dim)
