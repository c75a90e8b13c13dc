"""The family of an architecture that is not in the table, read off its structure and proven by a forward pass.

The model is built on the meta device: shapes without numbers, so that nothing is downloaded and no weight is read.
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
from midlayer_embed.models.families import Family, HiddenStates, family_of, known_families, registered_family


def find_family(config: PretrainedConfig, *, trust_remote_code: bool = False) -> Family:
    """The family of a model: from the table, as registered, or by structure.

    By structure: the list of L modules each of which is called once, with what the one before it gave, and beside the
    list the norm that turns what the last one gave into `last_hidden_state` (or none, if nothing follows the last one).

    Args:
        config: The model's config.
        trust_remote_code: Let the model's own code run.

    Raises:
        InputError: (a ValueError) not a text model, or an architecture that neither way tells anything of.

    Example:
        >>> from transformers import StableLmConfig
        >>> found = find_family(StableLmConfig(num_hidden_layers=2, hidden_size=64, intermediate_size=64))
        >>> found.blocks, found.final_norm
        ('layers', 'norm')
    """
    family = family_of(config)
    if family is not None:
        return family
    _check_plain_text_model(config)
    model = _model_without_weights(config, trust_remote_code)
    told = registered_family(config.model_type)
    if told is not None:
        return _checked(config, model, told)
    found, reason = _found(config, model)
    if found is None:
        raise InputError(
            f"model: architecture {config.model_type!r} is not known here (known are {', '.join(known_families())}), "
            f"and its structure does not tell: {reason}. If it is a text model, say where its blocks and its final "
            f"norm are: midlayer_embed.register_family({config.model_type!r}, blocks=..., final_norm=...)"
        )
    return found


def _check_plain_text_model(config: PretrainedConfig) -> None:
    def refuse(why: str) -> NoReturn:
        raise InputError(f"model: architecture {config.model_type!r} is no plain text model: {why}")

    try:
        text_config = config.get_text_config()
    except ValueError:
        text_config = None
    if text_config is not config:
        refuse("its config holds the configs of several models")
    if config.is_encoder_decoder:
        refuse("it is an encoder-decoder; of those, only T5's encoders are known")
    for entry in ("vocab_size", "num_hidden_layers"):
        if not isinstance(getattr(config, entry, None), int):
            refuse(f"its config has no {entry}")


def _model_without_weights(config: PretrainedConfig, trust_remote_code: bool) -> nn.Module:
    from transformers import AutoModel  # seconds to import, and the table needs no model

    config = deepcopy(config)  # building a model writes into its config
    config.tie_last_hidden_states = False  # the last hidden state raw, where the model can
    try:
        # eager attention and bfloat16: the only ones whose every kernel knows the meta device
        with quiet_transformers(), torch.device("meta"):
            model: nn.Module = AutoModel.from_config(  # type: ignore[no-untyped-call]
                config, attn_implementation="eager", dtype=torch.bfloat16, trust_remote_code=trust_remote_code
            )
    except Exception as error:  # a model's code may fail with anything; each means the same here
        raise InputError(f"model: architecture {config.model_type!r} cannot be built: {first_line(error)}") from error
    if getattr(model, "main_input_name", "input_ids") != "input_ids":
        raise InputError(
            f"model: architecture {config.model_type!r} is no plain text model: it takes {model.main_input_name}"
        )
    return model.eval()


@dataclass
class _Trace:
    """Who was called with what and gave what, in one forward pass."""

    calls: dict[str, list[tuple[torch.Tensor | None, torch.Tensor | None]]] = field(default_factory=dict)
    last_hidden_state: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] = ()


def _checked(config: PretrainedConfig, model: nn.Module, told: Family) -> Family:
    """What was registered, if the model is so."""
    for argument, path in (("blocks", told.blocks), ("final_norm", told.final_norm)):
        if path is not None and path not in dict(model.named_modules()):
            raise InputError(f"{argument}: {config.model_type!r} is registered with {path!r}, which the model has not")
    blocks = model.get_submodule(told.blocks)
    if not isinstance(blocks, nn.ModuleList) or len(blocks) != config.num_hidden_layers:
        raise InputError(
            f"blocks: {config.model_type!r} is registered with {told.blocks!r}, which is no list of its "
            f"{config.num_hidden_layers} blocks"
        )
    trace = _trace(model, [told.blocks], [told.final_norm] if told.final_norm else [])
    if isinstance(trace, str):
        return told  # not every model runs without numbers; then the word of who registered it stands
    found = _proven(trace, told.blocks, config.num_hidden_layers, told.final_norm)
    if found is None:
        raise InputError(
            f"model: {config.model_type!r} is registered with blocks={told.blocks!r}, final_norm={told.final_norm!r}, "
            "but its forward pass does not go through these blocks, one after the other, and then that norm"
        )
    return found


def _found(config: PretrainedConfig, model: nn.Module) -> tuple[Family | None, str]:
    """The family by structure, or None and why not."""
    n_blocks = config.num_hidden_layers
    lists = [
        path for path, module in model.named_modules() if isinstance(module, nn.ModuleList) and len(module) == n_blocks
    ]
    if not lists:
        return None, f"it has no list of {n_blocks} blocks (num_hidden_layers)"
    norms = {path: list(_norms_beside(model, path)) for path in lists}
    # lists that lie side by side have the same norms beside them
    trace = _trace(model, lists, list(dict.fromkeys(norm for beside in norms.values() for norm in beside)))
    if isinstance(trace, str):
        return None, f"a trial forward pass without weights fails ({trace})"
    for path in lists:
        for norm in [*norms[path], None]:
            family = _proven(trace, path, n_blocks, norm)
            if family is not None:
                return family, ""
    return None, (
        f"there is a list of {n_blocks} blocks ({', '.join(lists)}), but between its last block and last_hidden_state "
        "there is not just one norm beside the list, or blocks are not called one after the other"
    )


def _norms_beside(model: nn.Module, path: str) -> Iterator[str]:
    parent = path.rpartition(".")[0]
    for name, module in model.get_submodule(parent).named_children():
        if "norm" in type(module).__name__.lower() or name.startswith(("norm", "final", "ln_")):
            yield f"{parent}.{name}" if parent else name


def _trace(model: nn.Module, lists: list[str], norms: list[str]) -> _Trace | str:
    """A forward pass of one short text, watching these modules; or why there is none."""
    watched = [(path, block) for path in lists for block in model.get_submodule(path).children()]
    watched += [(path, model.get_submodule(path)) for path in norms]
    problem = ""
    for with_mask in (True, False):  # some models look into a mask, which has no numbers here; some need one
        trace = _Trace()
        with ExitStack() as hooks:
            for path, module in watched:
                hooks.callback(module.register_forward_hook(_watch(trace, path), with_kwargs=True).remove)
            try:
                output = _forward(model, with_mask)
            except Exception as error:  # a model's code may fail with anything; each means the same here
                problem = problem or first_line(error)
                continue
        trace.last_hidden_state = getattr(output, "last_hidden_state", None)
        trace.hidden_states = tuple(getattr(output, "hidden_states", None) or ())
        return trace
    return problem


def _forward(model: nn.Module, with_mask: bool) -> Any:
    input_ids = torch.zeros((1, 3), dtype=torch.int64, device="meta")
    mask = {"attention_mask": torch.ones_like(input_ids)} if with_mask else {}
    # no_grad and not inference_mode: only there does a view tell what it is a view of
    with quiet_transformers(), torch.no_grad(), torch.device("meta"):
        return model(input_ids=input_ids, use_cache=False, output_hidden_states=True, **mask)


def _watch(trace: _Trace, path: str) -> Any:
    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        entered = args[0] if args else kwargs.get("hidden_states")
        trace.calls.setdefault(path, []).append((entered, output[0] if isinstance(output, tuple) else output))

    return hook


def _proven(trace: _Trace, blocks: str, n_blocks: int, norm: str | None) -> Family | None:
    """The family with these paths, if the forward pass bears them out."""
    calls = trace.calls.get(blocks, [])
    if len(calls) != n_blocks or n_blocks == 0:
        return None
    states = [calls[0][0], *(left for _, left in calls)]
    if not all(_same(entered, before) for (entered, _), before in zip(calls, states, strict=False)):
        return None
    last = states[-1]
    if norm is not None:
        norm_calls = trace.calls.get(norm, [])
        if len(norm_calls) != 1 or not _same(norm_calls[0][0], last):
            return None
        last = norm_calls[0][1]
    if not _same(last, trace.last_hidden_state):
        return None
    return replace(Family(blocks, norm), hidden_states=_recorded(trace.hidden_states, states))


def _recorded(recorded: tuple[torch.Tensor, ...], states: list[torch.Tensor | None]) -> HiddenStates | None:
    """Which layers `hidden_states` holds, or None if it is none of the usual ways."""
    if len({id(state) for state in states}) < len(states):
        return None  # blocks that write into their input overwrite what was recorded of it
    for first_layer in (0, 1):
        for has_last_layer in (True, False):
            expected = states[first_layer:] if has_last_layer else states[first_layer:-1]
            if len(recorded) >= len(expected) and all(map(_same, recorded, expected)):
                return HiddenStates(first_layer, has_last_layer)
    return None


def _same(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    """Whether two tensors are one and the same, at most a view of all of it."""
    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor) or one.shape != other.shape:
        return False
    if one.stride() != other.stride() or one.storage_offset() != other.storage_offset():
        return False
    return (one if one._base is None else one._base) is (other if other._base is None else other._base)
