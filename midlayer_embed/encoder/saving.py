"""What a MidLayerEncoder is saved as: modules that plain sentence-transformers loads, with the same vectors.

Adapters that were added to the encoder are merged into a copy of the weights. What cannot be saved is rejected before
anything is written.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from torch import nn

from midlayer_embed.encoder.card import CardFacts, base_card_of, base_model_of, how_chosen
from midlayer_embed.errors import InputError, first_line
from midlayer_embed.ground.markdown import escaped
from midlayer_embed.ground.quiet import quiet_transformers
from midlayer_embed.models.adapters import CONFIG_FILE as ADAPTER_CONFIG_FILE
from midlayer_embed.models.backbone import load_tokenizer
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.models.starter import LOCAL, STARTER_HUB_ID, STARTER_LICENSE

# Packages whose classes a stranger can load.
_STOCK = ("sentence_transformers", "transformers", "tokenizers")
# The modules up to pooling.
_ENCODING = (Transformer, Pooling)
# Code that transformers took from a model's own files.
_OWN_CODE = "transformers_modules"
_WHY_NO_OWN_CODE = "which SentenceTransformer does not load without trust_remote_code, so it cannot be saved"


def check_can_be_saved(checkpoint: Checkpoint) -> None:
    """Reject a model with code of its own, before its weights are read.

    Raises:
        InputError: (a ValueError) the model or its tokenizer runs code of its own.
    """
    config = checkpoint.config
    remote = checkpoint.trust_remote_code and "AutoModel" in (getattr(config, "auto_map", None) or {})
    if remote or _package(config) == _OWN_CODE:
        raise InputError(f"model: {checkpoint.location} has code of its own, {_WHY_NO_OWN_CODE}")
    if checkpoint.trust_remote_code and _package(load_tokenizer(checkpoint)) == _OWN_CODE:
        raise InputError(f"model: the tokenizer of {checkpoint.location} has code of its own, {_WHY_NO_OWN_CODE}")


def facts_of(encoder: Any, *, name: str, merged: bool) -> CardFacts:
    """What the card of a saved encoder states.

    Args:
        encoder: A MidLayerEncoder.
        name: Name to load it by.
        merged: Whether adapters that were added to it were merged.
    """
    checkpoint, said = encoder.checkpoint, encoder.model_card_data
    base_card = base_card_of(checkpoint.root)
    return CardFacts(
        base_name=checkpoint.hub_id or checkpoint.name.removeprefix(LOCAL),
        base_model=said.base_model or checkpoint.hub_id or base_model_of(base_card),
        license=said.license or (STARTER_LICENSE if checkpoint.hub_id == STARTER_HUB_ID else None),
        base_card=base_card,
        layer=encoder.layer,
        n_blocks=checkpoint.n_blocks,
        has_final_norm=checkpoint.family.final_norm is not None,
        recipe=encoder.recipe,
        dim=int(encoder.get_embedding_dimension() or 0),
        how_chosen=escaped(said.how_chosen) if said.how_chosen else how_chosen(encoder.selection),
        name=name,
        trained_further=merged or "generated_from_trainer" in (said.tags or ()),
        modules=tuple(type(module).__name__ for module in encoder.children() if not isinstance(module, _ENCODING)),
        left_out=() if checkpoint.is_last(encoder.layer) else checkpoint.own.for_the_last_layer,
        bidirectional=checkpoint.bidirectional,
        adapters=tuple(adapter.label for adapter in checkpoint.adapters),
        quantization=checkpoint.quantization,
        n_transform_texts=None if encoder.transform is None else encoder.transform.n_texts,
    )


@contextmanager
def saved_form(encoder: SentenceTransformer, folder: Path) -> Iterator[bool]:
    """Within the block, the encoder consists of what is saved: no adapters, their weights merged into a copy.

    Args:
        encoder: The encoder. Afterwards it is as it was.
        folder: Where it is saved.

    Yields:
        Whether adapters were merged.

    Raises:
        InputError: (a ValueError) plain sentence-transformers could not load it, or would give other vectors.
    """
    if (folder / ADAPTER_CONFIG_FILE).exists():
        raise InputError(f"save: {folder} holds {ADAPTER_CONFIG_FILE}, which would be loaded instead; use another one")
    for module in encoder.children():
        _check_stock(module, "module")
    with ExitStack() as restore:
        merged = False
        for module in encoder.modules():
            if isinstance(module, Transformer):
                model = module.model
                plain = _merged(model)
                if plain is not model:
                    merged = True
                    restore.callback(setattr, module, "model", model)
                    module.model = plain
                # transformers would undo on saving what it did to the weights on loading: those of an adapter, too
                restore.callback(setattr, plain, "_weight_conversions", getattr(plain, "_weight_conversions", None))
                plain._weight_conversions = None
                _check_stock(plain, "model")
                _check_stock(module.processor, "tokenizer")
                _check_weights(plain)
                _check_structure(plain)
        yield merged


def _package(thing: object) -> str:
    return type(thing).__module__.partition(".")[0]


def _class_of(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _check_stock(thing: object, what: str) -> None:
    package, name = _package(thing), type(thing).__name__
    if package == _OWN_CODE:
        raise InputError(f"save: the {what} {name} has code of its own, {_WHY_NO_OWN_CODE}")
    if package not in _STOCK:
        raise InputError(
            f"save: the {what} {name} is of {package}, and a saved model has only classes of {', '.join(_STOCK[:2])}"
        )


def _check_weights(model: nn.Module) -> None:
    """Reject weights that are not plain numbers of one dtype: they would be loaded as other numbers."""
    if getattr(model.config, "quantization_config", None) is not None:
        raise InputError("save: the weights are quantised; expected those of a model that is not")
    dtypes: dict[torch.dtype, str] = {}
    kept = getattr(model, "_keep_in_fp32_modules", None) or ()
    for name, weight in model.named_parameters():
        if not weight.is_floating_point() or weight.dtype.itemsize < 2:
            raise InputError(f"save: the weights are quantised, such as {name} to {_dtype_name(weight.dtype)}")
        if weight.device.type == "meta":
            raise InputError(f"save: {name} has no values: it is offloaded; load the model onto one device")
        if not any(part in name for part in kept):
            dtypes.setdefault(weight.dtype, name)
    if len(dtypes) > 1:
        shown = ", ".join(f"{name} in {_dtype_name(dtype)}" for dtype, name in dtypes.items())
        raise InputError(f"save: expected all weights in one dtype, got {shown}")


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _check_structure(model: nn.Module) -> None:
    """Reject a model that is not what its config says: that is what a stranger builds before the weights are read."""
    try:
        with quiet_transformers(), torch.device("meta"):
            told = type(model)(deepcopy(model.config))
    except Exception:  # not every model can be built without values; nothing is known about it then
        return
    here, there = ({name: _class_of(part) for name, part in whole.named_modules()} for whole in (model, told))
    for name in sorted({*here, *there}, key=lambda name: (name.count("."), name)):
        if here.get(name) != there.get(name):
            raise InputError(
                f"save: {name or 'the model'} is {here.get(name, 'missing')}, and the config says "
                f"{there.get(name, 'nothing of it')}: SentenceTransformer would load another model"
            )
    shapes, expected = ({name: tuple(w.shape) for name, w in whole.named_parameters()} for whole in (model, told))
    for name in sorted({*shapes, *expected}):
        if shapes.get(name) != expected.get(name):
            raise InputError(
                f"save: {name} has the shape {shapes.get(name)}, and the config says {expected.get(name)}: "
                "SentenceTransformer would load another model"
            )


def _merged(model: Any) -> Any:
    """A copy of a model with the active adapters of peft merged into its weights; the model itself if it has none."""
    if "peft" not in sys.modules:  # nobody has added an adapter
        return model
    from peft import PeftMixedModel, PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    wrappers = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    is_wrapped = isinstance(model, (PeftModel, PeftMixedModel))
    if not is_wrapped and not any(isinstance(part, wrappers) for part in model.modules()):
        return model
    if is_wrapped and any(getattr(config, "is_prompt_learning", False) for config in model.peft_config.values()):
        raise InputError("save: an adapter learns prompts, which cannot be merged into the weights")
    plain = deepcopy(model)
    if is_wrapped:
        plain = plain.base_model.model
    while name := next((name for name, part in plain.named_modules() if isinstance(part, wrappers)), None):
        parent, _, attribute = name.rpartition(".")
        try:
            unwrapped = _unwrapped(plain.get_submodule(name))
        except (ValueError, RuntimeError, AttributeError, NotImplementedError) as error:
            raise InputError(f"save: the adapter at {name} cannot be merged: {first_line(error)}") from error
        setattr(plain.get_submodule(parent), attribute, unwrapped)
    plain._hf_peft_config_loaded = False
    vars(plain).pop("peft_config", None)
    return plain


def _unwrapped(part: Any) -> nn.Module:
    """The module that a module of peft stands for, as its forward pass has it: merged, or without what is disabled."""
    disabled = bool(part.disable_adapters)
    if hasattr(part, "unload_and_optionally_merge_module"):
        if disabled and hasattr(part, "original_module"):
            found: nn.Module = part.original_module
        else:
            found = part.unload_and_optionally_merge_module(merge=not disabled, safe_merge=False, adapter_names=None)
        return found
    if disabled and part.merged:
        part.unmerge()
    elif not disabled and not part.merged:
        part.merge()
    base: nn.Module = part.get_base_layer()
    return base
