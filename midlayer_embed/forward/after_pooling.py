"""What a sentence-transformers model does with pooled vectors: its own modules after pooling, and its truncation.

`models.sentence_transformers_config` says which of them a layer has. They are stock modules, which can be saved.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from midlayer_embed.errors import InputError
from midlayer_embed.layers import LAYER_SITE
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.models.sentence_transformers_config import OwnModule
from midlayer_embed.models.weights import loading_errors
from midlayer_embed.recipes.transform import Transform

_WEIGHTS = "model.safetensors"
# Modules with weights, and the attribute that holds the width of the vectors that they take.
_WIDTHS = {"Dense": "in_features", "LayerNorm": "dimension"}


@dataclass(frozen=True)
class AfterPooling:
    """From the pooled vectors of one layer to its embeddings.

    Attributes:
        modules: Stock modules, in eval mode.
        truncate_dim: Number of dimensions that are kept in the end; None for all.
        dim: Width of an embedding.
    """

    modules: tuple[nn.Module, ...]
    truncate_dim: int | None
    dim: int

    @classmethod
    def of(cls, checkpoint: Checkpoint, layer: int, pooled_dim: int, site: str = LAYER_SITE) -> "AfterPooling":
        """Loads the modules that a layer has.

        Args:
            checkpoint: The model.
            layer: The layer.
            pooled_dim: Width of a pooled vector.
            site: Its site.

        Raises:
            InputError: (a ValueError) modules that cannot be loaded, or that take vectors of another width.
        """
        own, is_last = checkpoint.own, checkpoint.is_last(layer, site)
        modules, dim = [], pooled_dim
        for entry in own.modules_at(is_last=is_last):
            module = _load(checkpoint, entry)
            expected = getattr(module, _WIDTHS.get(entry.kind, ""), dim)
            if expected != dim:
                raise InputError(
                    f"pooling_mode: pooling gives vectors of {dim} dimensions, and the {entry.kind} of "
                    f"{checkpoint.root} takes {expected}"
                )
            dim = getattr(module, "out_features", dim)
            modules.append(module.eval())
        truncate_dim = own.truncate_dim if is_last else None
        return cls(tuple(modules), truncate_dim, dim if truncate_dim is None else min(dim, truncate_dim))

    def check_takes_transform(self) -> None:
        """Reject modules that were trained on vectors as they are: all but Normalize.

        Raises:
            InputError: (a ValueError) the message names the module.
        """
        for module in self.modules:
            if (kind := type(module).__name__) != "Normalize":
                raise InputError(
                    f"transform: the last layer has a {kind} of its own after pooling, which takes untransformed "
                    "vectors; use a lower layer"
                )

    def transformed(self, transform: Transform, pooled_dim: int, dtype: torch.dtype) -> "AfterPooling":
        """The same after a transform of the pooled vectors, which is a Dense with the identity as its activation.

        Args:
            transform: Of one layer.
            pooled_dim: Width of a pooled vector.
            dtype: dtype of the weights.

        Raises:
            InputError: (a ValueError) a transform of vectors of another width, or with weights that are not finite in
                the dtype, or one that does not go here.
        """
        from sentence_transformers.sentence_transformer.modules import Dense  # slow to import, and rarely needed

        self.check_takes_transform()
        width, dim = transform.weight.shape[-1], transform.dim
        if width != pooled_dim:
            raise InputError(f"transform: pooling gives vectors of {pooled_dim} dimensions, and it takes {width}")
        weight, bias = (torch.from_numpy(part).to(dtype) for part in (transform.weight, transform.bias))
        if not (weight.isfinite().all() and bias.isfinite().all()):
            shown = str(dtype).removeprefix("torch.")
            raise InputError(f"transform: {transform.name} has weights that are not finite in {shown}")
        dense = Dense(width, dim, activation_function=nn.Identity(), init_weight=weight, init_bias=bias).eval()
        kept = dim if self.truncate_dim is None else min(dim, self.truncate_dim)
        return replace(self, modules=(dense, *self.modules), dim=kept)

    @torch.inference_mode()
    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        """The embeddings (n, dim) of pooled vectors (n, pooled_dim), float32."""
        features = {"sentence_embedding": vectors}
        for module in self.modules:
            features = module(features)
        return features["sentence_embedding"][:, : self.dim]


def _load(checkpoint: Checkpoint, entry: OwnModule) -> nn.Module:
    from sentence_transformers.sentence_transformer import modules  # slow to import, and most models have none
    from sentence_transformers.util import load_file_path

    root, revision = checkpoint.root, checkpoint.requested_revision
    if entry.kind in _WIDTHS:
        if Path(root).is_dir():
            is_safe = Path(root, entry.path, _WEIGHTS).is_file()
        else:
            is_safe = load_file_path(root, _WEIGHTS, subfolder=entry.path, revision=revision) is not None
        if not is_safe:
            raise InputError(
                f"model: {entry.path} of {root} has no {_WEIGHTS}; other formats can run code when they are read, so "
                "only safetensors are read"
            )
    with loading_errors(checkpoint):
        loaded: nn.Module = getattr(modules, entry.kind).load(
            root, subfolder=entry.path, revision=revision, trust_remote_code=checkpoint.trust_remote_code
        )
    return loaded
