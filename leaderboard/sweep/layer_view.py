"""LayerView, one layer of a store as an mteb encoder, and StoreFiller, which encodes texts once for all layers."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta
from torch.nn.functional import normalize

from leaderboard.scoring.columns import texts_in
from leaderboard.sweep.store import VectorStore
from midlayer_embed.errors import InputError
from midlayer_embed.forward.layerwise import LayerwiseEncoder
from midlayer_embed.selection.representations import TextPass

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.types import BatchedInput, EncodeKwargs, PromptType
    from torch.utils.data import DataLoader
    from typing_extensions import Unpack


class StoreFiller:
    """Encodes texts into a store, all its layers in one forward pass.

    Args:
        encoder: The model.
        store: Receives the vectors.
        final_norm: Whether to pool normed states instead of raw ones.
        label: Label of the progress bar.
        show_progress: Whether to show a progress bar with an ETA on stderr.

    Attributes:
        not_finite: Number of texts so far whose vector at a layer is not finite, by layer; their vectors in the store
            are zero. Such a layer has no score: evaluators may take NaN for a number, and zeros mean nothing.
    """

    def __init__(
        self, encoder: LayerwiseEncoder, store: VectorStore, *, final_norm: bool, label: str, show_progress: bool
    ) -> None:
        self._encoder = encoder
        self._store = store
        # In a model without a final norm, normed states are the raw states.
        self._norm = final_norm and encoder.backbone.final_norm is not None
        self._label = label
        self._show_progress = show_progress
        self.not_finite: Counter[int] = Counter()

    def fill(self, texts: Sequence[str], text_pass: TextPass | None = None) -> None:
        """Encodes the texts that are not in the store yet.

        Args:
            texts: Any number of texts.
            text_pass: Collects raw states for metrics in the same forward pass. Then none of the texts may be in the
                store.
        """
        missing = self._store.missing(texts)
        if not missing:
            return
        assert text_pass is None or missing == list(texts)
        _, segment = self._store.grow(missing)
        norms = sorted({self._norm, *([] if text_pass is None else [False])})
        for pooled in self._encoder.pooled_batches(
            missing,
            self._store.layers,
            norms=norms,
            measures=[] if text_pass is None else text_pass.measures,
            show_progress=self._show_progress,
            description=f"{self._label}: encoding",
        ):
            vectors = pooled.vectors[norms.index(self._norm)]
            if self._encoder.checkpoint.normalizes:  # like the model's own Normalize module
                vectors = normalize(torch.from_numpy(vectors), dim=-1).numpy()
            self._put(segment, pooled.rows, self._without_not_finite(vectors))
            if text_pass is not None:
                text_pass.add(pooled.rows, np.arange(len(pooled.rows)), pooled, pooled.vectors[norms.index(False)])

    def _without_not_finite(self, vectors: np.ndarray) -> np.ndarray:
        """The vectors (n_layers, n, dim), zero where one is not finite or too long for a float32 length."""
        with np.errstate(over="ignore", invalid="ignore"):
            wrong = ~np.isfinite(np.einsum("lnd,lnd->ln", vectors, vectors))
        if not wrong.any():
            return vectors
        self.not_finite.update(dict(zip(self._store.layers, wrong.sum(axis=1).tolist(), strict=True)))
        return np.where(wrong[..., None], np.float32(0), vectors)

    def _put(self, segment: np.ndarray, rows: np.ndarray, vectors: np.ndarray) -> None:
        highest = np.finfo(segment.dtype).max
        if segment.dtype != vectors.dtype and np.abs(vectors).max() > highest:
            raise InputError(
                f"store_dtype: {segment.dtype} holds values up to {highest}, these vectors have "
                f"{np.abs(vectors).max():.0f}; use float32"
            )
        segment[:, rows] = vectors


class LayerView(AbsEncoder):
    """One layer as an mteb encoder.

    Args:
        layer: The layer.
        store: Vectors of the texts.
        fill: Encodes texts that are not in the store yet.
        meta: ModelMeta of the layer, with the name, revision and experiment of its results.
    """

    mteb_model_meta: ModelMeta

    def __init__(self, layer: int, store: VectorStore, fill: Callable[[Sequence[str]], None], meta: ModelMeta) -> None:
        self.layer = layer
        self.mteb_model_meta = meta
        self._store = store
        self._fill = fill

    def encode(
        self,
        inputs: "DataLoader[BatchedInput]",
        *,
        task_metadata: "TaskMetadata",
        hf_split: str,
        hf_subset: str,
        prompt_type: "PromptType | None" = None,
        **kwargs: "Unpack[EncodeKwargs]",
    ) -> np.ndarray:
        """Vectors of the texts in `inputs` at this layer: float32 (n_texts, dim)."""
        texts = texts_in(inputs)
        self._fill(texts)
        return self._store.vectors(self.layer, self._store.rows(texts))
