"""Writes one ONNX graph of an encoder: token ids and their mask in, token states out, and, if asked for, the vectors."""

from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from midlayer_embed.encoder.onnx.names import ATTENTION_MASK, INPUT_IDS, INPUTS, STATES, VECTORS

_OPSET = 18
# Dimensions of 1 would be taken for constants.
_EXAMPLE = (2, 9)


class _Graph(nn.Module):
    """The modules of an encoder as a function of arrays."""

    def __init__(self, encoder: SentenceTransformer, embedding: bool) -> None:
        super().__init__()
        transformer, *after = encoder.children()
        self.model: Any = transformer.model
        self.after = nn.ModuleList(after if embedding else ())

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        states = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        if not len(self.after):
            return (states,)
        features = {"token_embeddings": states, ATTENTION_MASK: attention_mask, INPUT_IDS: input_ids}
        for module in self.after:
            features = module(features)
        return states, features["sentence_embedding"]


def write_graph(encoder: SentenceTransformer, path: Path, *, embedding: bool) -> None:
    """Write the graph of an encoder.

    Args:
        encoder: A Transformer and a Pooling, and what follows them; its weights in float32, on the CPU.
        path: The file to write.
        embedding: Whether the graph also returns the vectors: with pooling, transform and normalisation inside.
    """
    batch, tokens = torch.export.Dim("batch_size"), torch.export.Dim("sequence_length")
    ids = torch.ones(_EXAMPLE, dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    program = torch.onnx.export(
        _Graph(encoder, embedding).eval(),
        (ids, mask),
        dynamo=True,
        verbose=False,
        opset_version=_OPSET,
        input_names=list(INPUTS),
        output_names=[STATES, VECTORS][: 1 + embedding],
        dynamic_shapes=({0: batch, 1: tokens}, {0: batch, 1: tokens}),
    )
    assert program is not None  # with dynamo=True
    program.save(path)
