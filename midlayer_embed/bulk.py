"""Many texts through a MidLayerEncoder: each distinct one once, batches filled by tokens instead of by texts.

Gives what `MidLayerEncoder.encode` gives, sooner. Prompts are left to that.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from midlayer_embed.batching import Batch, batches, check_texts, distinct, token_budget, tokenize
from midlayer_embed.encoder import MidLayerEncoder
from midlayer_embed.errors import InputError


def encode_texts(
    encoder: MidLayerEncoder,
    texts: Sequence[str],
    *,
    batch_tokens: int | None = None,
    normalize: bool = False,
    on_progress: Callable[[float], None] | None = None,
) -> np.ndarray:
    """The vector of each text, equal to `encoder.encode(texts)` up to float32 rounding.

    A text that the tokenizer gives no token for (the empty one, without a BOS token) is a zero vector.

    Args:
        encoder: Whose modules compute the vectors; its `truncate_dim` holds.
        texts: Any number of strings.
        batch_tokens: Tokens a forward pass, padding included. None: what suits the device.
        normalize: Scale the vectors to length 1; zero vectors stay zero.
        on_progress: Called after each forward pass with the share that is done, up to 1.

    Returns:
        float32 (n_texts, dim), in the order of the texts.

    Raises:
        InputError: (a ValueError) batch_tokens is no positive int, or a batch does not fit into the device's memory.
        InputTypeError: (a ValueError and a TypeError) a text that is no string.

    Example:
        >>> encode_texts(MidLayerEncoder("starter", layer=12), ["a text", "a text"]).shape     # doctest: +SKIP
        (2, 576)
    """
    budget = token_budget(batch_tokens, encoder.device)
    unique, where = distinct(check_texts(texts))
    tokenizer = encoder.tokenizer
    token_ids = tokenize(tokenizer, unique, int(encoder.max_seq_length or tokenizer.model_max_length))
    total = sum(map(len, token_ids))
    done = 0
    vectors = np.zeros((len(unique), vector_width(encoder)), dtype=np.float32)
    encoder.eval()
    for batch in batches(token_ids, tokenizer.pad_token_id or 0, budget):
        vectors[batch.rows] = _forward(encoder, batch, normalize)
        done += batch.n_tokens
        if on_progress is not None:
            on_progress(done / total)
    return vectors if len(unique) == len(where) else vectors[where]


def vector_width(encoder: MidLayerEncoder) -> int:
    """Dimensions of the encoder's vectors, after `truncate_dim`."""
    dim = encoder.get_embedding_dimension()
    assert dim is not None  # its Pooling module knows
    return dim


@torch.inference_mode()
def _forward(encoder: MidLayerEncoder, batch: Batch, normalize: bool) -> np.ndarray:
    features = {
        "input_ids": batch.input_ids.to(encoder.device),
        "attention_mask": batch.attention_mask.to(encoder.device),
        "modality": "text",
        "use_cache": False,  # nothing is generated, and the keys and values of a batch are not small
    }
    try:
        vectors = encoder(features)["sentence_embedding"]
    except torch.OutOfMemoryError:
        rows, width = batch.input_ids.shape
        raise InputError(
            f"batch_tokens: a batch of {rows} x {width} tokens does not fit into the memory of {encoder.device}; "
            "try a smaller --batch-tokens, or --max-seq-length"
        ) from None
    vectors = vectors[:, : vector_width(encoder)].float()
    if normalize:
        vectors = torch.nn.functional.normalize(vectors, dim=1)
    return np.asarray(vectors.cpu().numpy())
