"""Embeds images with every layer of an image encoder in one forward pass; `one_pass` runs it."""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from midlayer_embed.errors import InputError
from midlayer_embed.forward.fitting import fit_layers
from midlayer_embed.forward.inputs.images import ImageInputs
from midlayer_embed.forward.measured import StatesKept
from midlayer_embed.forward.one_pass import OnePassEncoder
from midlayer_embed.layers import layer_numbers
from midlayer_embed.models.backbone import BaseModel, load_base
from midlayer_embed.models.checkpoint import Checkpoint, find_checkpoint
from midlayer_embed.models.vision.families import VisionFamily
from midlayer_embed.options import OF_TEXTS, Recipe, fold, takes_options
from midlayer_embed.recipes.transform import Transform
from midlayer_embed.texts.tokens import Holders, distinct


def image_family(checkpoint: Checkpoint) -> VisionFamily:
    """The family of an image encoder.

    Raises:
        InputError: (a ValueError) a model of texts.
    """
    family = checkpoint.family
    if not isinstance(family, VisionFamily):
        raise InputError(
            f"images: {checkpoint.name} is a model of texts ({checkpoint.config.model_type}); expected an image encoder"
        )
    return family


class TokenBatch(NamedTuple):
    """The token states of some images, and what is pooled of them.

    Attributes:
        rows: (b,) indices of the images.
        states: (n_layers, b, n_tokens, dim) float32, on the encoder's device.
        vectors: (n_layers, b, dim) float32, as `ImageLayerwiseEncoder.encode` pools them.
    """

    rows: np.ndarray
    states: torch.Tensor
    vectors: np.ndarray


class ImageLayerwiseEncoder(OnePassEncoder):
    """Embeds images with every layer of an image encoder in one forward pass.

    Layer 0 is what enters block 1: patches with their positions, and the norm before the first block, where a model has
    one. Layer k is the output of block k.

    Args:
        model_name_or_path: A folder, a Hub id, or a checkpoint that has been found already. Of CLIP, SigLIP and AIMv2
            with two towers, the image encoder is taken.
        **options: Fields of `Recipe` and `Source` (see `midlayer_embed.options`):

            - pooling_mode: "mean" (default) over the patches, without CLS, distillation and register tokens; "cls", the
              first token, of models that have it; or "cls+mean", which are concatenated.
            - final_norm: True (default): pool the states after the model's own final norm; False: as the block leaves
              them. CLIP norms CLS only, and only for its projection; here its norm is applied to every token. BEiT with
              mean pooling norms the mean of the patches; so does this.
            - device: None (default): CUDA, MPS or CPU, the fastest that is available.
            - dtype: dtype of the weights, "float32" by default. The vectors are float32 in any case.
            - revision: Branch, tag or commit on the Hub.
            - trust_remote_code: Let the model's own code run. Leave it off unless you trust its author.
            - model_name: What a model in a folder is called in results.

    Attributes:
        checkpoint: The checkpoint: where the model's files are, its name and revision.
        recipe: How states become vectors; its final norm and pooling mode are never None.
        backbone: The loaded model.
        inputs: The images that go through it, with the model's own image processor.

    Raises:
        InputError: (a ValueError) an argument is invalid; the message names it.

    Example:
        >>> every = ImageLayerwiseEncoder("google/vit-base-patch16-224")            # doctest: +SKIP
        >>> every.encode(["cat.jpg", "dog.png"]).shape                              # doctest: +SKIP
        (2, 13, 768)
    """

    inputs: ImageInputs
    # Not inference mode: BEiT and DINOv3 keep tensors of a pass for all models of their kind in the process, and these
    # could not be trained then. Nor could anything be trained on the states.
    _without_gradients = torch.no_grad

    @takes_options(without=OF_TEXTS)
    def __init__(self, model_name_or_path: str | Path | Checkpoint, **options: Any) -> None:
        source, recipe = fold(options)
        self._load(find_checkpoint(model_name_or_path, source), recipe, source.dtype, source.device)

    @property
    def family(self) -> VisionFamily:
        """Where the architecture keeps its blocks, its norm and its patches."""
        return image_family(self.checkpoint)

    def _resolved(self, recipe: Recipe) -> Recipe:
        _ = self.family
        for option in fields(Recipe):
            if option.name in OF_TEXTS and (value := getattr(recipe, option.name)) != option.default:
                raise InputError(
                    f"{option.name}: only models of texts have it, and this one takes images; got {value!r}"
                )
        return super()._resolved(recipe)

    def _load_backbone(self, recipe: Recipe, dtype: str | torch.dtype, device: str | torch.device | None) -> BaseModel:
        return load_base(self.checkpoint, dtype=dtype, device=device, norms_vectors=self.family.norm_after_pooling)

    def _inputs(self) -> ImageInputs:
        inputs = ImageInputs(self.checkpoint, self.family, self.backbone.model.dtype)
        _ = inputs.processor  # a model without one is reported now
        return inputs

    def encode(
        self,
        images: Any,
        layers: str | Sequence[int | float] | None = None,
        *,
        batch_tokens: int | None = None,
        show_progress: bool = False,
    ) -> np.ndarray:
        """The vector of every image at every layer.

        Args:
            images: Any number of images: PIL images, paths, encoded bytes, arrays (height, width, 3), or values of
                datasets' `Image`. Each distinct one goes through the model once. A single image drops the first axis of
                the result.
            layers: None for all, or layers in the order of the result: ints (negative from the end) or depths. A layer
                that is named twice is given twice.
            batch_tokens: Number of tokens in a forward pass. None: a default for the device.
            show_progress: Show a bar with an ETA on stderr.

        Returns:
            float32 (n_images, n_layers, dim), in the order of the images.

        Raises:
            InputError: (a ValueError) a layer out of range; an image that cannot be read, which the message names.
            InputTypeError: (a ValueError and a TypeError) something is no image.

        Example:
            >>> every = ImageLayerwiseEncoder("facebook/dinov2-small", pooling_mode="cls")    # doctest: +SKIP
            >>> every.encode(["cat.jpg", "dog.png"], layers=[6, -1]).shape                    # doctest: +SKIP
            (2, 2, 384)
        """
        return self._encode(images, layers, batch_tokens=batch_tokens, show_progress=show_progress)

    def fit_transform(
        self,
        images: Sequence[Any],
        transform: str = "whiten",
        layers: str | Sequence[int | float] | None = None,
        *,
        dim: int | None = None,
        batch_tokens: int | None = None,
        show_progress: bool = False,
    ) -> Transform:
        """The transform of each layer, fitted on unlabelled images in one forward pass; see `fit_layers`.

        Returns:
            A transform of vectors (n_images, n_layers, dim), as `encode` gives them for the same layers.

        Example:
            >>> every = ImageLayerwiseEncoder("facebook/dinov2-small")               # doctest: +SKIP
            >>> whiten = every.fit_transform(images, "whiten", layers=[6, -1])       # doctest: +SKIP
            >>> whiten(every.encode(images, layers=[6, -1])).shape                   # doctest: +SKIP
            (1000, 2, 384)
        """
        return fit_layers(
            self, images, transform, layers, dim=dim, batch_tokens=batch_tokens, show_progress=show_progress
        )

    def token_batches(
        self,
        images: Sequence[Any],
        layers: str | Sequence[int | float] | None = None,
        *,
        all_tokens: bool = False,
        batch_tokens: int | None = None,
        show_progress: bool = False,
        description: str = "Encoding",
    ) -> Iterator[TokenBatch]:
        """The states of the patches at every layer, batch by batch, for what is trained on them.

        Args:
            images: As for `encode`; each distinct one goes through the model once.
            layers: As for `encode`, each once.
            all_tokens: Whether CLS, distillation and register tokens are included, before the patches.
            batch_tokens: Number of tokens in a forward pass. None: a default for the device.
            show_progress: Show a bar with an ETA on stderr.
            description: Label of the bar.

        Yields:
            States of some images, normed or raw as the recipe says; an image that is there twice is in the same batch
            twice. A model that norms what it has pooled (BEiT with mean pooling) gives them with its norm on each.

        Example:
            >>> for rows, states, _ in every.token_batches(images, layers=[6, -1]):     # doctest: +SKIP
            ...     print(len(rows), states.shape)
            8 torch.Size([2, 8, 256, 384])
        """
        numbers = layer_numbers(layers, self.checkpoint.n_blocks)
        unique, where = distinct(self.inputs.check(images))
        holders = Holders(where)
        first = 0 if all_tokens else self.family.n_prefix
        for pooled in self.pooled_batches(
            unique,
            numbers,
            norms=[self.final_norm],
            kept=StatesKept(self.final_norm, first),
            batch_tokens=batch_tokens,
            show_progress=show_progress,
            description=description,
        ):
            states = torch.stack(pooled.states)
            rows, sources = holders.of(pooled.rows)
            if len(sources) > len(pooled.rows):
                states = states[:, torch.from_numpy(sources)]
            yield TokenBatch(rows, states, pooled.vectors[0][:, sources])
