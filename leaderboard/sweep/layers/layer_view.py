"""LayerView, one layer of a store as an mteb encoder, and StoreFiller, which encodes items once for all layers."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta
from sentence_transformers import SimilarityFunction

from leaderboard.scoring.columns import items_in
from leaderboard.scoring.prompts import TaskPrompts
from leaderboard.sweep.layers.vector_map import VectorMap
from leaderboard.sweep.store import VectorStore
from leaderboard.tasks.items import Item
from midlayer_embed.errors import InputError
from midlayer_embed.forward.one_pass import OnePassEncoder
from midlayer_embed.models.sentence_transformers_config import OwnConfig
from midlayer_embed.selection.representations import TextPass

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.types import BatchedInput, EncodeKwargs, PromptType
    from torch.utils.data import DataLoader
    from typing_extensions import Unpack


class StoreFiller:
    """Encodes texts or pictures into a store, all its layers in one forward pass.

    Args:
        encoder: The model.
        store: Receives the pooled vectors.
        final_norm: Whether to pool normed states instead of raw ones.
        label: Label of the progress bar.
        show_progress: Whether to show a progress bar with an ETA on stderr.

    Attributes:
        not_finite: Rows so far whose vector at a layer is not finite, by layer; their vectors in the store are zero.
            Such a layer has no score: evaluators may take NaN for a number, and zeros mean nothing.
    """

    def __init__(
        self, encoder: OnePassEncoder, store: VectorStore, *, final_norm: bool, label: str, show_progress: bool
    ) -> None:
        self._encoder = encoder
        self._store = store
        # In a model without a final norm, normed states are the raw states.
        self._norm = final_norm and encoder.backbone.final_norm is not None
        self._label = label
        self._show_progress = show_progress
        self.not_finite: defaultdict[int, set[int]] = defaultdict(set)

    def fill(self, texts: Sequence[Item], text_pass: TextPass | None = None) -> None:
        """Encodes the texts that are not in the store yet.

        Args:
            texts: Any number of texts, under their prompts.
            text_pass: Collects raw states for metrics in the same forward pass. Then none of the texts may be in the
                store.
        """
        missing = self._store.missing(texts)
        if not missing:
            return
        assert text_pass is None or missing == list(texts)
        rows, segment = self._store.grow(missing)
        norms = sorted({self._norm, *([] if text_pass is None else [False])})
        for pooled in self._encoder.pooled_batches(
            missing,
            self._store.layers,
            norms=norms,
            measures=[] if text_pass is None else text_pass.measures,
            show_progress=self._show_progress,
            description=f"{self._label}: encoding",
        ):
            self._put(segment, pooled.rows, pooled.vectors[norms.index(self._norm)], rows.start)
            if text_pass is not None:
                text_pass.add(pooled.rows, np.arange(len(pooled.rows)), pooled, pooled.vectors[norms.index(False)])

    def n_not_finite(self, layer: int, rows: Iterable[int]) -> int:
        """Number of these rows whose vector at a layer is not finite."""
        return len(self.not_finite[layer].intersection(rows))

    def _without_not_finite(self, layer: int, vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The vectors (n, dim) of a layer, zero where one is not finite or too long for a float32 length."""
        with np.errstate(over="ignore", invalid="ignore"):
            wrong = ~np.isfinite(np.einsum("nd,nd->n", vectors, vectors))
        if not wrong.any():
            return vectors
        self.not_finite[layer].update(rows[wrong].tolist())
        return np.where(wrong[:, None], np.float32(0), vectors)

    def _put(self, segment: np.ndarray, rows: np.ndarray, pooled: np.ndarray, start: int) -> None:
        """Puts the pooled vectors (n_layers, n_texts, dim) of some texts into a segment that begins at row `start`."""
        highest = np.finfo(segment.dtype).max
        for slot, layer in enumerate(self._store.layers):
            vectors = self._without_not_finite(layer, pooled[slot], start + rows)
            if segment.dtype != vectors.dtype and np.abs(vectors).max() > highest:
                raise InputError(
                    f"store_dtype: {segment.dtype} holds values up to {highest}, these vectors have "
                    f"{np.abs(vectors).max():.0f}; use float32"
                )
            segment[slot, rows] = vectors


# Similarities of sentence-transformers that mteb's encoders do not have.
_NOT_IN_MTEB = ("euclidean", "manhattan")


class LayerView(AbsEncoder):
    """One layer as an mteb encoder.

    Args:
        layer: The layer.
        store: Pooled vectors of the texts.
        fill: Encodes texts that are not in the store yet.
        meta: ModelMeta of the layer, with the name, revision and experiment of its results.
        prompts: The prompts of the model, and its similarity; None: no prompts, cosine.
        vector_map: Makes embeddings of pooled vectors; None: they are the embeddings.
    """

    mteb_model_meta: ModelMeta

    def __init__(
        self,
        layer: int,
        store: VectorStore,
        fill: Callable[[Sequence[Item]], None],
        meta: ModelMeta,
        prompts: TaskPrompts | None = None,
        vector_map: VectorMap | None = None,
    ) -> None:
        self.layer = layer
        self.mteb_model_meta = meta
        self._store = store
        self._fill = fill
        self._map = vector_map or VectorMap()
        self._prompts = prompts or TaskPrompts(OwnConfig())
        name = self._prompts.own.similarity_fn_name
        if name in _NOT_IN_MTEB:
            self.similarity = SimilarityFunction.to_similarity_fn(name)  # type: ignore[assignment,method-assign]
            self.similarity_pairwise = SimilarityFunction.to_similarity_pairwise_fn(name)  # type: ignore[assignment,method-assign]

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
        """Embeddings of the texts or pictures in `inputs` at this layer: float32 (n, dim)."""
        texts = self._prompts.prompted(items_in(inputs, task_metadata), task_metadata, prompt_type)
        self._fill(texts)
        return self._map(self._store.vectors(self.layer, self._store.rows(texts)))
