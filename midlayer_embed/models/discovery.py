"""Finds the family of a model: in the tables, as registered, or by its structure and a trial forward pass.

The model is built on the meta device (shapes without values), so nothing is downloaded and no weights are read.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import torch
from torch import nn
from transformers import PretrainedConfig

from midlayer_embed.errors import InputError, first_line
from midlayer_embed.ground.quiet import quiet_transformers
from midlayer_embed.models.families import Family, HiddenStates, family_of, known_families
from midlayer_embed.models.vision.families import known_vision_families, vision_family_of

_REGISTERED: dict[str, Family] = {}


def registered_family(model_type: str) -> Family | None:
    """The family that was registered for an architecture, or None."""
    return _REGISTERED.get(model_type)


def register(model_type: str, *, blocks: str, final_norm: str | None) -> None:
    """Register the blocks and the final norm of an architecture that is neither in a table nor found by structure.

    The paths are checked against a model when one is loaded, before its weights are read. Registering again replaces
    the earlier paths.

    Args:
        model_type: `config.model_type` of the architecture.
        blocks: Dotted path from the base model (the one that `AutoModel` loads) to the list of its blocks.
        final_norm: Dotted path to the norm after the last block; None for a model without one.

    Raises:
        InputError: (a ValueError) not a model type, not a path, or the architecture is in a table.

    Example:
        >>> register("my_model", blocks="decoder.layers", final_norm="decoder.norm")
        >>> registered_family("my_model").blocks
        'decoder.layers'
    """
    if not isinstance(model_type, str) or not model_type.strip():
        raise InputError(f"model_type: expected a config.model_type such as 'llama', got {model_type!r}")
    if model_type in (*known_families(), *known_vision_families()):
        raise InputError(f"model_type: {model_type!r} is known already and cannot be registered")
    _check_path("blocks", blocks)
    if final_norm is not None:
        _check_path("final_norm", final_norm)
        if final_norm == blocks:
            raise InputError(f"final_norm: expected a path other than that of the blocks, got {final_norm!r}")
    # hidden_states is not part of a registration; discovery finds it.
    _REGISTERED[model_type] = Family(blocks, final_norm, hidden_states=None)


def _check_path(argument: str, path: object) -> None:
    if not isinstance(path, str) or not all(part.isidentifier() or part.isdigit() for part in path.split(".")):
        raise InputError(f"{argument}: expected a dotted path of attributes such as 'decoder.layers', got {path!r}")


def find_family(config: PretrainedConfig, *, trust_remote_code: bool = False) -> Family:
    """Find the family of a model: from the tables of texts and images, as registered, or by structure.

    By structure: a list of L modules that are called once each, every one with the output of the previous one, and next
    to the list a norm that maps the last output to `last_hidden_state` (or no norm, if nothing follows the last block).

    Args:
        config: Config of the model.
        trust_remote_code: Whether the model's own code may run.

    Raises:
        InputError: (a ValueError) neither a text model nor a known image model, or an architecture that is found in
            none of these ways.

    Example:
        >>> from transformers import StableLmConfig
        >>> found = find_family(StableLmConfig(num_hidden_layers=2, hidden_size=64, intermediate_size=64))
        >>> found.blocks, found.final_norm
        ('layers', 'norm')
    """
    family = family_of(config) or vision_family_of(config)
    if family is not None:
        return family
    _check_modality(config)
    _check_plain_text_model(config)
    model = model_without_weights(config, trust_remote_code)
    registered = registered_family(config.model_type)
    if registered is not None:
        return _check_registered(config, model, registered)
    found, reason = _find_by_structure(config, model)
    if found is None:
        raise InputError(
            f"model: architecture {config.model_type!r} is not known (known are {', '.join(known_families())}), "
            f"and its structure is not recognised: {reason}. If it is a text model, register its blocks and its final "
            f"norm: midlayer_embed.register_family({config.model_type!r}, blocks=..., final_norm=...)"
        )
    return found


def _check_modality(config: PretrainedConfig) -> None:
    """Reject a stock model that takes no texts: image models are found in their table only."""
    import transformers  # seconds to import, and the tables need no model
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    name = MODEL_MAPPING_NAMES.get(config.model_type)
    stock = getattr(transformers, name, None) if isinstance(name, str) else None
    modalities = getattr(stock, "input_modalities", "text")
    takes = [modalities] if isinstance(modalities, str) else list(modalities)
    if "text" not in takes:
        raise InputError(
            f"model: architecture {config.model_type!r} takes {' and '.join(takes)}; expected a text model, or a known "
            f"image model ({', '.join(known_vision_families())})"
        )


def _check_plain_text_model(config: PretrainedConfig) -> None:
    def reject(why: str) -> NoReturn:
        raise InputError(f"model: architecture {config.model_type!r} is not a plain text model: {why}")

    try:
        text_config = config.get_text_config()
    except ValueError:
        text_config = None
    if text_config is not config:
        known = f" (of images, known are {', '.join(known_vision_families())})"
        with_images = getattr(config, "vision_config", None) is not None
        reject(f"its config holds the configs of several models{known if with_images else ''}")
    if config.is_encoder_decoder:
        reject("it is an encoder-decoder; only the encoders of T5 models are supported")
    for entry in ("vocab_size", "num_hidden_layers"):
        if not isinstance(getattr(config, entry, None), int):
            reject(f"its config has no {entry}")


def model_without_weights(config: PretrainedConfig, trust_remote_code: bool) -> nn.Module:
    """The base model of a config on the meta device: shapes without values.

    Raises:
        InputError: (a ValueError) it cannot be built, or is not a text model.
    """
    from transformers import AutoModel  # seconds to import, and the table needs no model

    config = deepcopy(config)  # building a model writes into its config
    config.tie_last_hidden_states = False  # record the last state raw, where the model supports it
    try:
        # eager attention and bfloat16: other settings use kernels that do not support the meta device
        with quiet_transformers(), torch.device("meta"):
            model: nn.Module = AutoModel.from_config(  # type: ignore[no-untyped-call]
                config, attn_implementation="eager", dtype=torch.bfloat16, trust_remote_code=trust_remote_code
            )
    except Exception as error:  # the code of a model may raise anything; the meaning here is always the same
        raise InputError(f"model: architecture {config.model_type!r} cannot be built: {first_line(error)}") from error
    if getattr(model, "main_input_name", "input_ids") != "input_ids":
        raise InputError(
            f"model: architecture {config.model_type!r} is not a plain text model: it takes {model.main_input_name}"
        )
    return model.eval()


def table_of_positions(model: nn.Module) -> int | None:
    """The largest number of tokens that a model has positions for; None without a table of positions.

    Learned or sinusoidal tables end somewhere; rotary positions, relative ones and ALiBi do not.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> with torch.device("meta"):
        ...     table_of_positions(BertModel(BertConfig(max_position_embeddings=64)))
        64
    """
    sizes = []
    for path, module in model.named_modules():
        name = path.rpartition(".")[2]
        if isinstance(module, nn.Embedding) and ("pos" in name or name == "wpe"):
            # The first rows of some tables are never used: those up to the padding token's, or a fixed number.
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
            sizes.append(module.num_embeddings - int(getattr(module, "offset", unused)))
        for name in ("embed_positions", "pos_encoding"):  # of GPT-J and CodeGen, and of CTRL
            table = getattr(module, name, None)
            if isinstance(table, torch.Tensor) and table.dim() == 2:
                sizes.append(len(table))
    return min(sizes, default=None)


@dataclass
class _Trace:
    """Inputs and outputs of the watched modules in one forward pass, by module path."""

    calls: dict[str, list[tuple[torch.Tensor | None, torch.Tensor | None]]] = field(default_factory=dict)
    last_hidden_state: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] = ()


def _check_registered(config: PretrainedConfig, model: nn.Module, registered: Family) -> Family:
    """Check a registered family against the model."""
    for argument, path in (("blocks", registered.blocks), ("final_norm", registered.final_norm)):
        if path is not None and path not in dict(model.named_modules()):
            raise InputError(
                f"{argument}: {config.model_type!r} is registered with {path!r}, which the model does not have"
            )
    blocks = model.get_submodule(registered.blocks)
    if not isinstance(blocks, nn.ModuleList) or len(blocks) != config.num_hidden_layers:
        raise InputError(
            f"blocks: {config.model_type!r} is registered with {registered.blocks!r}, which is not a list of its "
            f"{config.num_hidden_layers} blocks"
        )
    trace = _run_trial(model, [registered.blocks], [registered.final_norm] if registered.final_norm else [])
    if isinstance(trace, str):
        return registered  # not every model runs on the meta device; trust the registration then
    found = _match_trace(trace, registered.blocks, config.num_hidden_layers, registered.final_norm)
    if found is None:
        raise InputError(
            f"model: {config.model_type!r} is registered with blocks={registered.blocks!r}, "
            f"final_norm={registered.final_norm!r}, but its forward pass does not go through these blocks, one after "
            "the other, and then that norm"
        )
    return found


def _find_by_structure(config: PretrainedConfig, model: nn.Module) -> tuple[Family | None, str]:
    """The family of a model by its structure, or None and the reason."""
    n_blocks = config.num_hidden_layers
    lists = [
        path for path, module in model.named_modules() if isinstance(module, nn.ModuleList) and len(module) == n_blocks
    ]
    if not lists:
        return None, f"it has no list of {n_blocks} blocks (num_hidden_layers)"
    norms = {path: list(_find_sibling_norms(model, path)) for path in lists}
    # sibling lists have the same sibling norms: watch each norm once
    trace = _run_trial(model, lists, list(dict.fromkeys(norm for siblings in norms.values() for norm in siblings)))
    if isinstance(trace, str):
        return None, f"a trial forward pass without weights fails ({trace})"
    for path in lists:
        for norm in [*norms[path], None]:
            family = _match_trace(trace, path, n_blocks, norm)
            if family is not None:
                return family, ""
    return None, (
        f"it has a list of {n_blocks} blocks ({', '.join(lists)}), but something other than one norm next to the list "
        "is between its last block and last_hidden_state, or blocks are not called one after the other"
    )


def _find_sibling_norms(model: nn.Module, path: str) -> Iterator[str]:
    parent = path.rpartition(".")[0]
    for name, module in model.get_submodule(parent).named_children():
        if "norm" in type(module).__name__.lower() or name.startswith(("norm", "final", "ln_")):
            yield f"{parent}.{name}" if parent else name


def _run_trial(model: nn.Module, lists: list[str], norms: list[str]) -> _Trace | str:
    """Run one short text and record the calls of these modules. Returns the problem if the model cannot run."""
    watched = [(path, block) for path in lists for block in model.get_submodule(path).children()]
    watched += [(path, model.get_submodule(path)) for path in norms]
    problem = ""
    # Some models read the values of a mask, which the meta device lacks; others require one.
    for with_mask in (True, False):
        trace = _Trace()
        with ExitStack() as hooks:
            for path, module in watched:
                hooks.callback(module.register_forward_hook(_record_calls(trace, path), with_kwargs=True).remove)
            try:
                output = _forward(model, with_mask)
            except Exception as error:  # the code of a model may raise anything; the meaning here is always the same
                problem = problem or first_line(error)
                continue
        trace.last_hidden_state = getattr(output, "last_hidden_state", None)
        trace.hidden_states = tuple(getattr(output, "hidden_states", None) or ())
        return trace
    return problem


def _forward(model: nn.Module, with_mask: bool) -> Any:
    input_ids = torch.zeros((1, 3), dtype=torch.int64, device="meta")
    mask = {"attention_mask": torch.ones_like(input_ids)} if with_mask else {}
    # no_grad instead of inference_mode, in which views do not know their base
    with quiet_transformers(), torch.no_grad(), torch.device("meta"):
        return model(input_ids=input_ids, use_cache=False, output_hidden_states=True, **mask)


def _record_calls(trace: _Trace, path: str) -> Any:
    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        state = args[0] if args else kwargs.get("hidden_states")
        trace.calls.setdefault(path, []).append((state, output[0] if isinstance(output, tuple) else output))

    return hook


def _match_trace(trace: _Trace, blocks: str, n_blocks: int, norm: str | None) -> Family | None:
    """The family with these paths, if the forward pass confirms them."""
    calls = trace.calls.get(blocks, [])
    if len(calls) != n_blocks or n_blocks == 0:
        return None
    states = [calls[0][0], *(output for _, output in calls)]
    if not all(_is_same(state, previous) for (state, _), previous in zip(calls, states, strict=False)):
        return None
    last = states[-1]
    if norm is not None:
        norm_calls = trace.calls.get(norm, [])
        if len(norm_calls) != 1 or not _is_same(norm_calls[0][0], last):
            return None
        last = norm_calls[0][1]
    if not _is_same(last, trace.last_hidden_state):
        return None
    return replace(Family(blocks, norm), hidden_states=_match_hidden_states(trace.hidden_states, states))


def _match_hidden_states(recorded: tuple[torch.Tensor, ...], states: list[torch.Tensor | None]) -> HiddenStates | None:
    """Which layers `hidden_states` holds, or None if the pattern is unknown."""
    if len({id(state) for state in states}) < len(states):
        return None  # blocks that modify their input in place overwrite the recorded state
    for first_layer in (0, 1):
        for has_last_layer in (True, False):
            expected = states[first_layer:] if has_last_layer else states[first_layer:-1]
            if len(recorded) >= len(expected) and all(map(_is_same, recorded, expected)):
                return HiddenStates(first_layer, has_last_layer)
    return None


def _is_same(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    """Whether two tensors are the same one, or full views of it."""
    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor) or one.shape != other.shape:
        return False
    if one.stride() != other.stride() or one.storage_offset() != other.storage_offset():
        return False
    return (one if one._base is None else one._base) is (other if other._base is None else other._base)
