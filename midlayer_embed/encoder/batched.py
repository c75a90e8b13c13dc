"""The batches of `MidLayerEncoder.encode`: those of LayerwiseEncoder, duplicates removed, similar lengths together."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from midlayer_embed.errors import InputTypeError
from midlayer_embed.forward.devices.transfers import transfers
from midlayer_embed.forward.row_batches import row_batches
from midlayer_embed.ground.progress import progress
from midlayer_embed.texts.tokens import check_text, distinct, token_counts

# Items besides strings that `SentenceTransformer.encode` takes: messages, conversations, pairs.
_PARENTS_ITEMS = (dict, list, tuple)


def batched_inference(encoder: Any, inherited: Callable[..., Any], inputs: list[Any], **kwargs: Any) -> Any:
    """Encode texts in our own batches.

    Texts are tokenised twice, here to count tokens and again by the parent, which does not accept token ids. A text
    without tokens (the empty text, if the tokenizer adds no special tokens) is pooled to a zero vector.

    Args:
        encoder: A MidLayerEncoder.
        inherited: The method `_inference` of its parent.
        inputs: The texts.
        **kwargs: Keywords of the method.
    """
    for index, item in enumerate(inputs):
        if len(inputs) == 1 and isinstance(item, Iterable) and not isinstance(item, (str, bytes, *_PARENTS_ITEMS)):
            # The parent takes what it does not know as a batch, such as a Series, for one item.
            raise InputTypeError(f"texts: expected a list of strings, got {type(item).__name__}; pass a list")
        if not isinstance(item, _PARENTS_ITEMS):
            check_text(f"texts[{index}]", item)
    strings = all(isinstance(item, str) for item in inputs)
    if not inputs or not strings or kwargs["output_value"] != "sentence_embedding":
        return inherited(inputs, **kwargs)
    one_pass = {**kwargs, "show_progress_bar": False}
    unique, where = distinct(inputs)
    transformer: Any = encoder[0]
    counts = token_counts(encoder.tokenizer, unique, transformer.max_seq_length, prompt=kwargs["prompt"] or "")
    device = torch.device(kwargs.get("device") or encoder.device)
    moves = transfers(device)

    def start(batch: _Rows) -> Callable[[], tuple[np.ndarray, torch.Tensor]]:
        # the parent would wait for each batch to be copied
        started = {**one_pass, "batch_size": batch.n_items, "save_to_cpu": False}
        found = inherited([unique[row] for row in batch.rows], **started)
        if not kwargs["save_to_cpu"]:
            return lambda: (batch.rows, found)
        copied = moves.to_host([found])
        return lambda: (batch.rows, copied()[0])

    dtype = next(transformer.parameters()).dtype
    budget = encoder._room.budget(encoder.batch_tokens, device, int(transformer.get_embedding_dimension()), dtype)
    batches = (_Rows(rows, counts[rows]) for rows in row_batches(counts, budget, kwargs["batch_size"]))
    vectors: torch.Tensor | None = None
    total, done = int(counts.sum()), 0
    bar = progress(total, "Encoding", "tok", kwargs["show_progress_bar"])
    with bar:
        for rows, found in encoder._room.fitted(batches, start, device=device, kind="text", n_behind=moves.n_behind):
            if vectors is None:
                vectors = _vectors_of_no_tokens(encoder, len(unique), found, kwargs["normalize_embeddings"])
            vectors[rows] = found
            n_tokens = int(counts[rows].sum())
            bar.update(n_tokens)
            done += n_tokens
            if encoder.on_progress is not None:
                encoder.on_progress(done / total)
    if vectors is None:  # no text has a token
        found = inherited(unique, **one_pass)
        vectors = _vectors_of_no_tokens(encoder, len(unique), found, kwargs["normalize_embeddings"])
    return vectors if len(unique) == len(inputs) else vectors[where]


@dataclass(frozen=True)
class _Rows:
    """Texts of a batch: their rows, and the number of tokens of each."""

    rows: np.ndarray
    counts: np.ndarray

    @property
    def n_items(self) -> int:
        return len(self.rows)

    @property
    def n_tokens(self) -> int:
        return len(self.rows) * int(self.counts.max())

    def halves(self) -> "tuple[_Rows, _Rows]":
        middle = (len(self.rows) + 1) // 2
        return _Rows(self.rows[:middle], self.counts[:middle]), _Rows(self.rows[middle:], self.counts[middle:])


def _vectors_of_no_tokens(encoder: Any, number: int, like: torch.Tensor, normalize: bool) -> torch.Tensor:
    """What the modules after pooling make of zero vectors, with the width, dtype and device of other vectors."""
    modules: list[Any] = list(encoder.children())
    parameter = next(modules[0].parameters())
    pooled = torch.zeros((number, modules[1].get_embedding_dimension()), dtype=parameter.dtype, device=parameter.device)
    features = {"sentence_embedding": pooled}
    for module in modules[2:]:
        features = module(features)
    vectors = features["sentence_embedding"][:, : like.shape[1]].to(like)
    return torch.nn.functional.normalize(vectors, dim=1) if normalize else vectors
