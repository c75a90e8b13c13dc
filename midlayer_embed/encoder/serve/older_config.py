"""The entries of a config.json under the names that transformers 4 reads, beside those of transformers 5.

transformers 4 ignores what it does not know, silently: without `rope_theta` it takes another rotary base. TEI and vLLM
read the file, too.
"""

from collections.abc import Mapping
from typing import Any

_ROPE = "rope_parameters"
_FULL, _SLIDING = "full_attention", "sliding_attention"
_NAMES_OF_THETA = {"gpt_neox": ("rope_theta", "rotary_emb_base")}
_NAMES_OF_PART = {"gpt_neox": ("partial_rotary_factor", "rotary_pct")}
# Architectures whose two kinds of blocks have rotary bases of their own: the names of the two.
_TWO_THETAS = {
    "gemma3_text": ("rope_theta", "rope_local_base_freq"),
    "modernbert": ("global_rope_theta", "local_rope_theta"),
}
# transformers 4.48 to 4.51 have no `layer_types`; how they tell which blocks slide, by a number or from the rest.
_MOST_BLOCKS = 1000


def older_entries(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """What to add to a config.json for readers of older names; None if those cannot say what it says.

    Args:
        config: What transformers 5 wrote.

    Example:
        >>> older_entries({"model_type": "llama", "dtype": "float32", "rope_parameters": {"rope_theta": 5e5}})
        {'torch_dtype': 'float32', 'rope_theta': 500000.0}
        >>> older_entries({"model_type": "llama", "is_causal": False}) is None
        True
    """
    if config.get("is_causal") is False or config.get("use_bidirectional_attention"):
        return None  # causal without a word
    entries: dict[str, Any] = {}
    if "dtype" in config:
        entries["torch_dtype"] = config["dtype"]
    for found in (_rope(config), _sliding(config)):
        if found is None:
            return None
        entries |= found
    return entries


def needs_eager_attention(config: Mapping[str, Any]) -> bool:
    """Whether transformers 4 computes this model's attention as its config says only without a fused kernel.

    Example:
        >>> needs_eager_attention({"model_type": "gemma2", "attn_logit_softcapping": 50.0})
        True
    """
    if config.get("model_type") == "gemma2":
        return config.get("attn_logit_softcapping") is not None
    scaled = config.get("scale_attn_by_inverse_layer_idx") or not config.get("scale_attn_weights", True)
    return config.get("model_type") == "gpt2" and bool(scaled)


def _rope(config: Mapping[str, Any]) -> dict[str, Any] | None:
    model_type, said = str(config.get("model_type")), config.get(_ROPE)
    if not said:
        return {}
    if model_type in _TWO_THETAS and said.keys() == {_FULL, _SLIDING}:
        return _two_ropes(model_type, said)
    if model_type in _TWO_THETAS or any(isinstance(value, dict) for value in said.values()) or "rope_theta" not in said:
        return None
    entries = dict.fromkeys(_NAMES_OF_THETA.get(model_type, ("rope_theta",)), said["rope_theta"])
    if (part := said.get("partial_rotary_factor")) is not None:
        entries |= dict.fromkeys(_NAMES_OF_PART.get(model_type, ("partial_rotary_factor",)), part)
    scaling = _scaling(said)
    trained_with = scaling.get("original_max_position_embeddings")
    if scaling.get("rope_type") == "yarn" and trained_with != config.get("max_position_embeddings"):
        return None  # transformers 4.48 scales from the latter
    if scaling and scaling["rope_type"] == "longrope" and (length := scaling.get("original_max_position_embeddings")):
        entries["original_max_position_embeddings"] = length
    if scaling and model_type == "phi3":  # takes these three and no more
        del scaling["original_max_position_embeddings"]
        scaling = {"type": scaling.pop("rope_type"), **scaling}
        if scaling.keys() != {"type", "short_factor", "long_factor"}:
            return None
    return entries | ({"rope_scaling": scaling} if scaling else {})


def _two_ropes(model_type: str, said: Mapping[str, Any]) -> dict[str, Any] | None:
    full, sliding = said[_FULL], said[_SLIDING]
    scaling = _scaling(full)
    if _scaling(sliding) or any("partial_rotary_factor" in rope for rope in (full, sliding)):
        return None
    entries = dict(zip(_TWO_THETAS[model_type], (full["rope_theta"], sliding["rope_theta"]), strict=True))
    if scaling and model_type == "modernbert":
        return None
    return entries | ({"rope_scaling": scaling} if scaling else {})


def _scaling(rope: Mapping[str, Any]) -> dict[str, Any]:
    """What `rope_scaling` said; nothing for plain rotary positions."""
    if rope.get("rope_type", "default") == "default":
        return {}
    return {key: value for key, value in rope.items() if key not in ("rope_theta", "partial_rotary_factor")}


def _sliding(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Which blocks have a sliding window, for versions without `layer_types`."""
    model_type, types = config.get("model_type"), config.get("layer_types")
    if types is None:
        return {}
    slides = [kind != _FULL for kind in types]
    numbers = range(1, _MOST_BLOCKS)
    if model_type == "gemma3_text":  # the last block of each group does not
        for period in (config.get("_sliding_window_pattern") or 6, *numbers):
            if slides == [(block + 1) % period > 0 for block in range(len(slides))]:
                return {"sliding_window_pattern": period, "_sliding_window_pattern": period}
    elif model_type == "modernbert":  # the first one of each group does not
        for period in (3, *numbers):
            if slides == [block % period > 0 for block in range(len(slides))]:
                return {"global_attn_every_n_layers": period}
    elif model_type == "gemma2":
        expected = [block % 2 == 0 for block in range(len(slides))]
        return {} if slides == expected else None
    elif not any(slides):
        return {}
    return None  # Qwen's older versions let other blocks slide than those that are meant to
