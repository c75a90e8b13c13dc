"""How to express a layer with stock modules: a truncated config, and a path into the output of transformers.

A layer that has such a form can be saved. Nothing is loaded here.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import transformers
from transformers import PretrainedConfig

from midlayer_embed.errors import InputError
from midlayer_embed.models.bidirectional import asks_for_bidirectional
from midlayer_embed.models.checkpoint import Checkpoint
from midlayer_embed.models.families import family_of, known_families

# Config entries with one item per block.
_PER_BLOCK = ("layer_types", "mlp_layer_types", "no_rope_layers")
# The first version of transformers that reads a config entry which older versions silently ignore:
# `tie_last_hidden_states`; and `is_causal` in all decoders of the table of families (most since 5.2, OPT since 5.4).
_RAW_LAST_STATE_SINCE = "5.18"
_BIDIRECTIONAL_SINCE = "5.4"


@dataclass(frozen=True)
class StockForm:
    """How stock transformers returns the states of a layer.

    Attributes:
        n_blocks: Number of blocks of the truncated model.
        output: Path into the model's output, as `method_output_name` of sentence-transformers.
        config_entries: More config entries, which the config class need not declare.
    """

    n_blocks: int
    output: str | list[str | int]
    config_entries: dict[str, Any]


def stock_form(checkpoint: Checkpoint, layer: int, final_norm: bool) -> StockForm:
    """How to express a layer with stock modules, using as few blocks as possible.

    Args:
        checkpoint: From `find_checkpoint`.
        layer: 0..L.
        final_norm: True for the normed states, False for the raw ones; no difference for models without a final norm.

    Raises:
        InputError: (a ValueError) there is no such form; the message suggests another layer or norm.
    """
    family, total = checkpoint.family, checkpoint.n_stored_blocks
    normed = final_norm and family.final_norm is not None
    is_last_hidden_state = family.ends_with_norm and (normed or family.final_norm is None)
    if is_last_hidden_state and layer >= family.fewest_blocks and _keeps_calls(checkpoint, layer):
        return StockForm(layer, "last_hidden_state", {})
    recorded = family.hidden_states
    if not normed and recorded is not None and layer >= recorded.first_layer:
        n_blocks = max(1, layer if recorded.has_last_layer else layer + 1)
        if not _keeps_calls(checkpoint, n_blocks):
            n_blocks = total
        if n_blocks <= total:
            path: list[str | int] = ["hidden_states", layer - recorded.first_layer]
            # without this entry the last of the hidden states is the normed one
            return StockForm(n_blocks, path, {"tie_last_hidden_states": False})
    kind, other = ("normed", "final_norm=False") if normed else ("raw", "final_norm=True")
    raise InputError(
        f"final_norm: no stock form gives the {kind} states of layer {layer} of this {checkpoint.config.model_type} "
        f"model of {checkpoint.n_blocks} blocks; use {other}, or another layer"
    )


def form_of_site(checkpoint: Checkpoint, layer: int) -> StockForm:
    """How many blocks a site of a layer needs; its states are taken out of the last of them by a hook."""
    return StockForm(layer if _keeps_calls(checkpoint, layer) else checkpoint.n_stored_blocks, "last_hidden_state", {})


def oldest_transformers(checkpoint: Checkpoint, form: StockForm) -> str | None:
    """The oldest version of transformers that returns these states, if older ones silently return other ones.

    None without such a bound. sentence-transformers needs none: versions without `method_output_name` cannot load the
    folder at all.

    Args:
        checkpoint: From `find_checkpoint`.
        form: From `stock_form`.
    """
    bidirectional = checkpoint.bidirectional or asks_for_bidirectional(checkpoint.config)
    attends = form.n_blocks > 0
    if bidirectional and attends and checkpoint.config.model_type not in known_families():
        return transformers.__version__  # no older version has been tried
    if isinstance(form.output, list) and form.config_entries and form.output[-1] == form.n_blocks:
        return _RAW_LAST_STATE_SINCE
    return _BIDIRECTIONAL_SINCE if bidirectional and attends else None


def truncating_entries(config: PretrainedConfig, n_blocks: int) -> dict[str, Any]:
    """The config entries that make a model of the first `n_blocks` blocks.

    Example:
        >>> from transformers import Qwen3Config
        >>> truncating_entries(Qwen3Config(num_hidden_layers=3), 1)
        {'num_hidden_layers': 1, 'layer_types': ['full_attention']}
    """
    entries: dict[str, Any] = {"num_hidden_layers": n_blocks}
    written = config.to_dict()  # entries that are left out follow from the number of blocks
    return entries | {entry: written[entry][:n_blocks] for entry in _PER_BLOCK if written.get(entry) is not None}


def _keeps_calls(checkpoint: Checkpoint, n_blocks: int) -> bool:
    """Whether the blocks of a truncated model are the first blocks of the whole one.

    ALBERT with several groups spreads the groups over all layers, so that truncating it changes them.
    """
    calls = checkpoint.family.calls
    if calls is None:
        return True
    truncated = deepcopy(checkpoint.config)
    for entry, value in truncating_entries(checkpoint.config, n_blocks).items():
        setattr(truncated, entry, value)
    family = family_of(truncated)
    return family is not None and family.calls == calls[:n_blocks]
