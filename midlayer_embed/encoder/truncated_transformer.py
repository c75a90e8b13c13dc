"""The transformer of an encoder: the Transformer module of sentence-transformers with the blocks up to one layer."""

from contextlib import ExitStack, suppress
from typing import Any

import torch
from sentence_transformers.sentence_transformer.modules import Transformer
from transformers import PretrainedConfig, PreTrainedModel

from midlayer_embed.encoder.stock_form import form_of_site, stock_form, truncating_entries
from midlayer_embed.errors import InputError
from midlayer_embed.forward.sites import AllRecorded, Place, attach_hooks
from midlayer_embed.ground.quiet import quiet_transformers
from midlayer_embed.ground.threads import OneAtATime
from midlayer_embed.layers import LAYER_SITE, RESIDUAL_SITES
from midlayer_embed.models.backbone import limit_in_force, load_tokenizer
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.models.families import Family, blocks_of, final_norm_of
from midlayer_embed.models.weights import load_base_model, loading_errors, own_code
from midlayer_embed.options import Recipe
from midlayer_embed.recipes.template import length_of_one_copy, put_template


class _CheckpointTransformer(Transformer):
    """The Transformer module of sentence-transformers, with weights from `load_base_model`, as in LayerwiseEncoder."""

    def _load_model(
        self,
        model_name_or_path: str,
        transformer_task: Any,
        config: PretrainedConfig,
        backend: str,
        is_peft_model: bool,
        **model_kwargs: Any,
    ) -> PreTrainedModel:
        for key, value in model_kwargs["form"].config_entries.items():
            setattr(config, key, value)  # from_pretrained takes only entries that the config class declares
        with own_code():
            return load_base_model(model_kwargs["checkpoint"], config, model_kwargs["dtype"], model_kwargs["device"])


class SiteTransformer(Transformer):
    """A Transformer module that returns the states at a site within its last block. It is never saved.

    Attributes:
        place: The site.
        family: Where the model keeps its blocks.
        final_norm: Whether the states go through the model's final norm.
    """

    place: Place
    family: Family
    final_norm: bool
    _hooked: OneAtATime

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Like the parent's method; the pass ends at the site."""
        found: list[torch.Tensor] = []
        blocks = blocks_of(self.model, self.family)
        # the hooks of one thread would record the states of another
        with self._hooked, ExitStack() as hooks:
            attach_hooks(hooks, blocks, self.family.sites, [self.place], lambda _slot, states: found.append(states))
            with suppress(AllRecorded):
                super().forward(features, **kwargs)
        (states,) = found
        norm = final_norm_of(self.model, self.family) if self.final_norm else None
        return {**features, self.module_output_name: states if norm is None else norm(states)}


def truncated_transformer(
    checkpoint: Checkpoint, layer: int, recipe: Recipe, dtype: torch.dtype, device: torch.device
) -> Transformer:
    """A Transformer module of sentence-transformers with the blocks up to `layer`; it returns that layer's states.

    At a site within block `layer` it is a `SiteTransformer`.
    """
    is_layer = recipe.site == LAYER_SITE
    form = stock_form(checkpoint, layer, bool(recipe.final_norm)) if is_layer else form_of_site(checkpoint, layer)
    # What is wrong with the tokenizer or the limit is reported before the weights are read.
    checked = load_tokenizer(checkpoint, recipe.template)
    limit = limit_in_force(checkpoint, checked, recipe.max_seq_length, recipe.template)
    if checkpoint.bidirectional and form.n_blocks == 0:
        # Without a block there is no attention to check, so check a model of one block.
        truncated_transformer(checkpoint, 1, recipe, dtype, device)
    kwargs = checkpoint.loading_kwargs()
    with quiet_transformers(), loading_errors(checkpoint):
        transformer: Transformer = _CheckpointTransformer(
            checkpoint.location,
            config_kwargs={**kwargs, **truncating_entries(checkpoint.config, form.n_blocks)},
            model_kwargs={"checkpoint": checkpoint, "form": form, "dtype": dtype, "device": device},
            # BERT breaks under left padding even with the mask.
            processor_kwargs={**kwargs, "padding_side": "right"},
            do_lower_case=checkpoint.own.do_lower_case,
            # Text only: a chat template in the folder would otherwise wrap every text.
            modality_config={"text": {"method": "forward", "method_output_name": form.output}},
            module_output_name="token_embeddings",
        )
    if is_layer:
        transformer.__class__ = Transformer  # a saved folder names its classes, which have to be stock ones
    else:
        of_site: Any = transformer
        of_site.__class__ = SiteTransformer
        of_site.place, of_site.family = Place(layer, recipe.site), checkpoint.family
        of_site.final_norm = bool(recipe.final_norm) and recipe.site in RESIDUAL_SITES
        of_site._hooked = OneAtATime()
    tokenizer = transformer.tokenizer
    if tokenizer is None:
        raise InputError(f"model: {checkpoint.location} has no tokenizer, so it is not a text model")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if recipe.template is not None:
        put_template(tokenizer, recipe.template)
    transformer.max_seq_length = length_of_one_copy(tokenizer, recipe.template, limit)
    return transformer
