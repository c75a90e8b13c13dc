"""The model of a sweep, under any template. Its weights are read when a task needs them, not by a finished sweep."""

import gc
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from mteb.abstasks.abstask import AbsTask

from leaderboard.models.known import at_revision, resolve_known_model
from leaderboard.models.meta import scoring_settings
from leaderboard.sweep.arguments import metric_names
from leaderboard.tasks.fitting_texts import FitOn
from leaderboard.tasks.names import STARTER_BENCHMARK, STARTER_VISION_BENCHMARK, TASK, TRAIN
from midlayer_embed.errors import InputError
from midlayer_embed.forward.inputs.images import ImageInputs
from midlayer_embed.forward.one_pass import OnePassEncoder
from midlayer_embed.forward.opening import encoder_class
from midlayer_embed.models.backbone import limit_in_force, load_tokenizer
from midlayer_embed.models.checkpoint import Checkpoint, find_checkpoint
from midlayer_embed.models.weights import resolve_device, resolve_dtype
from midlayer_embed.options import Recipe, fold
from midlayer_embed.terms import views_of

logger = logging.getLogger(__name__)

# A benchmark for models that take texts, and for those that take images.
_STARTERS = {"text": STARTER_BENCHMARK, "image": STARTER_VISION_BENCHMARK}


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
    _encoders: dict[str | None, OnePassEncoder] = field(default_factory=dict)
    _is_given: bool = False

    @classmethod
    def of(cls, model: str | Path | OnePassEncoder, options: Mapping[str, Any]) -> "SweptModel":
        """The model of the arguments of `run_sweep`."""
        if isinstance(model, OnePassEncoder):
            recipe, backbone = model.recipe, model.backbone
            loaded = {recipe.template: model}
            return cls(model.checkpoint, recipe, backbone.model.dtype, backbone.device, loaded, _is_given=True)
        source, recipe = fold(options)
        name, source = resolve_known_model(*at_revision(model, source))
        checkpoint = find_checkpoint(name, source)
        return cls(checkpoint, recipe, resolve_dtype(source.dtype), resolve_device(source.device))

    def check_tasks(self, tasks: Iterable[AbsTask]) -> None:
        """Checks that the model takes what the tasks are on.

        Raises:
            InputError: (a ValueError) a task is on something else, or on more than that; the message names it.
        """
        takes = self.checkpoint.modality
        for task in tasks:
            if set(task.metadata.modalities) != {takes}:
                on = " and ".join(f"{modality}s" for modality in task.metadata.modalities)
                raise InputError(
                    f"tasks: {task.metadata.name} is on {on}, and {self.checkpoint.name} takes {takes}s; expected "
                    f"tasks on {takes}s alone, such as the benchmark {_STARTERS[takes]}"
                )

    def metrics(self, asked: str | Sequence[str]) -> list[str]:
        """The metrics that "all", "none" or a list of names asks for; of "all", those that the model's items can have.

        Raises:
            InputError: (a ValueError) an unknown name, an empty list, or metrics of words of a model that takes images.
        """
        names = metric_names(asked)
        if self.checkpoint.modality != "image":
            return names
        of_words = [name for name in names if not set(views_of([name])) <= set(ImageInputs.view_kinds)]
        if of_words and asked != "all":
            raise InputError(f"metrics: {of_words[0]} compares views made of words, and this model takes images")
        if of_words:
            logger.info("left out, since images have no words: %s", ", ".join(of_words))
        return [name for name in names if name not in of_words]

    def check_recipes(self, templates: Sequence[str | None], fit_on: FitOn) -> None:
        """Checks that the model's items can have these templates and texts to fit on.

        Raises:
            InputError: (a ValueError) the model takes images, and these are of texts.
        """
        if self.checkpoint.modality != "image":
            return
        if templates := [template for template in templates if template is not None]:
            raise InputError(f"templates: only texts have one, and this model takes images; got {templates[0]!r}")
        if fit_on.is_corpus:
            raise InputError(
                f"transform_texts: this model takes images; expected {TRAIN} or {TASK}, got {fit_on.name!r}"
            )

    def settings(self, template: str | None) -> dict[str, Any]:
        """The settings that change the scores under a template."""
        return scoring_settings(self.checkpoint.resolved(self._recipe(template)), self.dtype)

    def max_seq_length(self, template: str | None) -> int | None:
        """The limit in force under a template; None for images. Needs the tokenizer, no weights.

        Raises:
            InputError: (a ValueError) the model cannot take the tokenizer, the template or the limit.
        """
        if template in self._encoders:
            return self._encoders[template].max_seq_length
        if self.checkpoint.modality == "image":
            return None
        tokenizer = load_tokenizer(self.checkpoint, template)
        return limit_in_force(self.checkpoint, tokenizer, self.asked.max_seq_length, template)

    def encoder(self, template: str | None) -> OnePassEncoder:
        """The model under a template."""
        if template not in self._encoders:
            recipe = self._recipe(template)
            if self._encoders:
                self._encoders[template] = next(iter(self._encoders.values())).with_recipe(recipe)
            else:
                self._encoders[template] = encoder_class(self.checkpoint).from_checkpoint(
                    self.checkpoint, recipe, dtype=self.dtype, device=self.device
                )
        return self._encoders[template]

    def release(self) -> None:
        """Gives the memory of the weights back, unless the model was given with them."""
        if not self._is_given and self._encoders:
            self._encoders.clear()
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _recipe(self, template: str | None) -> Recipe:
        return replace(self.asked, template=template)
