"""LayerView: one layer of a store as an mteb encoder. What is missing in the store is encoded once, for all layers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta

from leaderboard.columns import Columns
from leaderboard.store import VectorStore
from midlayer_embed.layerwise import LayerwiseEncoder

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.types import BatchedInput, EncodeKwargs, PromptType
    from torch.utils.data import DataLoader
    from typing_extensions import Unpack

# The kinds of vectors a sweep keeps: what mteb scores, and what the representation metrics are measured on.
SCORED, MEASURED = "scored", "measured"


class StoreFiller:
    """Encodes texts into a store, every layer of it in one forward pass.

    Args:
        encoder: The model.
        store: Where the vectors go.
        norms: For each kind of the store whether its states are normed.
        label: What the progress bar is labelled.
        show_progress: A bar with an ETA on stderr.
    """

    def __init__(
        self, encoder: LayerwiseEncoder, store: VectorStore, norms: dict[str, bool], label: str, show_progress: bool
    ) -> None:
        self._encoder = encoder
        self._store = store
        self._norms = norms
        self._label = label
        self._show_progress = show_progress

    def fill(self, texts: Sequence[str]) -> None:
        """Sees to it that the store holds all of `texts`."""
        missing = self._store.missing(texts)
        if not missing:
            return
        _, segment = self._store.grow(missing)
        # Kinds that pool the same states are pooled once; without a final norm, normed states are the raw ones.
        has_norm = self._encoder.backbone.final_norm is not None
        norms = {kind: normed and has_norm for kind, normed in self._norms.items()}
        distinct_norms = sorted(set(norms.values()))
        for pooled in self._encoder.pooled_batches(
            missing,
            self._store.layers,
            norms=distinct_norms,
            show_progress=self._show_progress,
            description=f"{self._label}: encoding",
        ):
            for kind, normed in norms.items():
                segment[kind][:, pooled.rows] = pooled.vectors[distinct_norms.index(normed)]


class LayerView(AbsEncoder):
    """One layer as mteb wants an encoder.

    Args:
        layer: The layer.
        store: Where the vectors are.
        filler: Encodes what is not there yet.
        meta: Name, revision and experiment of the results.
    """

    mteb_model_meta: ModelMeta

    def __init__(self, layer: int, store: VectorStore, filler: StoreFiller, meta: ModelMeta) -> None:
        self.layer = layer
        self.mteb_model_meta = meta
        self._store = store
        self._filler = filler

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
        """The layer's vectors of the texts in `inputs`: float32 (n_texts, dim)."""
        table: object = inputs.dataset
        # mteb's batches are the table's rows in turn.
        texts = table["text"] if isinstance(table, Columns) else [text for batch in inputs for text in batch["text"]]
        self._filler.fill(texts)
        return self._store.vectors(SCORED, self.layer, self._store.rows(texts))
