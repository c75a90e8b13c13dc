"""Plain forward passes of transformers over the batches of this package, as a reference, and texts to encode.

Timers and tables are in `bench`.
"""

from collections.abc import Sequence

import numpy as np
import torch

from midlayer_embed import LayerwiseEncoder
from midlayer_embed.forward.batching import Batch, batches, token_budget
from midlayer_embed.forward.pooling import masked_mean
from midlayer_embed.texts.starter_corpus import read_corpus
from midlayer_embed.texts.tokens import tokenize


def build_texts(sizes: Sequence[int]) -> list[str]:
    """Texts of `sizes` random sentences of the starter benchmark, the same in every run."""
    sentences = [item.text for item in read_corpus()]
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(sentences, size=size)) for size in sizes]


def build_batches(encoder: LayerwiseEncoder, texts: Sequence[str]) -> list[Batch]:
    """Tokenize distinct texts into the batches of the encoder."""
    token_ids = tokenize(encoder.backbone.tokenizer, texts, encoder.max_seq_length)
    return list(batches(token_ids, encoder.backbone.pad_id, token_budget(None, encoder.backbone.device)))


@torch.inference_mode()
def plain_vectors(encoder: LayerwiseEncoder, token_batches: Sequence[Batch]) -> np.ndarray:
    """Run the encoder's model with transformers alone, and pool the last hidden states.

    Returns:
        Vectors of all texts in the batches, float32 (n_texts, dim).
    """
    backbone = encoder.backbone
    vectors = np.zeros((sum(len(batch.rows) for batch in token_batches), encoder.dim), dtype=np.float32)
    for batch in token_batches:
        mask = batch.attention_mask.to(backbone.device)
        out = backbone.model(input_ids=batch.input_ids.to(backbone.device), attention_mask=mask, use_cache=False)
        vectors[batch.rows] = masked_mean(out.last_hidden_state, mask).cpu().numpy()
    return vectors
