"""The model of a sweep, under any template. Its weights are read when a task needs them, not by a finished sweep."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from leaderboard.models.known import resolve_known_model
from leaderboard.models.meta import scoring_settings
from midlayer_embed.forward.layerwise import LayerwiseEncoder
from midlayer_embed.models.backbone import limit_in_force, load_tokenizer
from midlayer_embed.models.checkpoint import Checkpoint, find_checkpoint
from midlayer_embed.models.weights import resolve_device, resolve_dtype
from midlayer_embed.options import Recipe, fold


@dataclass
class SweptModel:
    """A model that is loaded once, with an encoder for each template that shares its weights.

    Attributes:
        checkpoint: The model.
        asked: What the user asked for; what is None in it depends on the template.
        dtype: dtype of the weights.
        device: Device of the model.
    """

    checkpoint: Checkpoint
    asked: Recipe
    dtype: torch.dtype
    device: torch.device
    _encoders: dict[str | None, LayerwiseEncoder] = field(default_factory=dict)

    @classmethod
    def of(cls, model: str | Path | LayerwiseEncoder, options: Mapping[str, Any]) -> "SweptModel":
        """The model of the arguments of `run_sweep`."""
        if isinstance(model, LayerwiseEncoder):
            recipe, backbone = model.recipe, model.backbone
            loaded = {recipe.template: model}
            return cls(model.checkpoint, recipe, backbone.model.dtype, backbone.device, loaded)
        source, recipe = fold(options)
        name, source = resolve_known_model(model, source)
        checkpoint = find_checkpoint(name, source)
        return cls(checkpoint, recipe, resolve_dtype(source.dtype), resolve_device(source.device))

    def settings(self, template: str | None) -> dict[str, Any]:
        """The settings that change the scores under a template."""
        return scoring_settings(self.checkpoint.resolved(self._recipe(template)), self.dtype)

    def max_seq_length(self, template: str | None) -> int:
        """The limit in force under a template. Needs the tokenizer, no weights.

        Raises:
            InputError: (a ValueError) the model cannot take the tokenizer, the template or the limit.
        """
        if template in self._encoders:
            return self._encoders[template].max_seq_length
        tokenizer = load_tokenizer(self.checkpoint, template)
        return limit_in_force(self.checkpoint, tokenizer, self.asked.max_seq_length, template)

    def encoder(self, template: str | None) -> LayerwiseEncoder:
        """The model under a template."""
        if template not in self._encoders:
            recipe = self._recipe(template)
            if self._encoders:
                self._encoders[template] = next(iter(self._encoders.values())).with_recipe(recipe)
            else:
                self._encoders[template] = LayerwiseEncoder.from_checkpoint(
                    self.checkpoint, recipe, dtype=self.dtype, device=self.device
                )
        return self._encoders[template]

    def _recipe(self, template: str | None) -> Recipe:
        return replace(self.asked, template=template)
