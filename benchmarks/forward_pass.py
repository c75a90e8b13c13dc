"""Forward passes without this package around them, over its very batches; and texts to go into them.

Clocks and tables are `bench`'s.
"""

from collections.abc import Sequence

import numpy as np
import torch

from midlayer_embed import LayerwiseEncoder
from midlayer_embed.forward.batching import Batch, batches, token_budget, tokenize
from midlayer_embed.forward.pooling import masked_mean
from midlayer_embed.texts.starter_corpus import read_corpus


def joined_sentences(sizes: Sequence[int]) -> list[str]:
    """A text of so many sentences of the starter benchmark for each size, the same in every run."""
    found = [item.text for item in read_corpus()]
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(found, size=size)) for size in sizes]


def batches_of(encoder: LayerwiseEncoder, texts: Sequence[str]) -> list[Batch]:
    """What the encoder makes of distinct texts before the model sees them."""
    token_ids = tokenize(encoder.backbone.tokenizer, texts, encoder.max_seq_length)
    return list(batches(token_ids, encoder.backbone.pad_id, token_budget(None, encoder.backbone.device)))


@torch.inference_mode()
def plain_vectors(encoder: LayerwiseEncoder, some: Sequence[Batch]) -> np.ndarray:
    """The encoder's model as transformers runs it: its last states, pooled.

    Returns:
        float32 (n_texts, dim), a row for each text of the batches.
    """
    backbone = encoder.backbone
    vectors = np.zeros((sum(len(batch.rows) for batch in some), encoder.dim), dtype=np.float32)
    for batch in some:
        mask = batch.attention_mask.to(backbone.device)
        out = backbone.model(input_ids=batch.input_ids.to(backbone.device), attention_mask=mask, use_cache=False)
        vectors[batch.rows] = masked_mean(out.last_hidden_state, mask).cpu().numpy()
    return vectors
