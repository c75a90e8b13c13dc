"""The entries of a config.json for readers of older names. What these readers make of them: `make test-stacks`."""

from typing import Any

import pytest

from midlayer_embed.encoder.serve.older_config import older_entries

_FULL, _SLIDING = "full_attention", "sliding_attention"


def _two(full: dict[str, Any], sliding: dict[str, Any]) -> dict[str, Any]:
    return {"rope_parameters": {_FULL: full, _SLIDING: sliding}}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_type": "bert"}, {}),
        ({"model_type": "bert", "dtype": "float16"}, {"torch_dtype": "float16"}),
        ({"model_type": "llama", "rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}, {"rope_theta": 7.0}),
        (
            {"model_type": "llama", "rope_parameters": {"rope_type": "linear", "rope_theta": 7.0, "factor": 2.0}},
            {"rope_theta": 7.0, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        ),
        (
            {"model_type": "gpt_neox", "rope_parameters": {"rope_theta": 7.0, "partial_rotary_factor": 0.5}},
            {"rope_theta": 7.0, "rotary_emb_base": 7.0, "partial_rotary_factor": 0.5, "rotary_pct": 0.5},
        ),
        (
            {"model_type": "gemma3_text", **_two({"rope_theta": 7.0}, {"rope_theta": 3.0})},
            {"rope_theta": 7.0, "rope_local_base_freq": 3.0},
        ),
        (
            {"model_type": "modernbert", **_two({"rope_theta": 7.0}, {"rope_theta": 3.0})},
            {"global_rope_theta": 7.0, "local_rope_theta": 3.0},
        ),
        (
            {"model_type": "gemma3_text", "layer_types": [_SLIDING, _SLIDING, _FULL, _SLIDING]},
            {"sliding_window_pattern": 3, "_sliding_window_pattern": 3},
        ),
        (
            {"model_type": "gemma3_text", "layer_types": [_SLIDING] * 4},
            {"sliding_window_pattern": 6, "_sliding_window_pattern": 6},
        ),
        ({"model_type": "modernbert", "layer_types": [_FULL, _SLIDING, _FULL]}, {"global_attn_every_n_layers": 2}),
        ({"model_type": "modernbert", "layer_types": [_FULL]}, {"global_attn_every_n_layers": 3}),
        ({"model_type": "gemma2", "layer_types": [_SLIDING, _FULL, _SLIDING]}, {}),
        ({"model_type": "qwen3", "layer_types": [_FULL, _FULL]}, {}),
    ],
)
def test_what_older_names_can_say(config: dict[str, Any], expected: dict[str, Any]) -> None:
    before = repr(config)
    assert older_entries(config) == expected
    assert repr(config) == before


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llama", "is_causal": False},
        {"model_type": "gemma3_text", "use_bidirectional_attention": True},
        {"model_type": "other", **_two({"rope_theta": 7.0}, {"rope_theta": 3.0})},
        {
            "model_type": "gemma3_text",
            **_two({"rope_theta": 7.0}, {"rope_theta": 3.0, "rope_type": "linear", "factor": 2}),
        },
        {
            "model_type": "modernbert",
            **_two({"rope_theta": 7.0, "rope_type": "linear", "factor": 2}, {"rope_theta": 3.0}),
        },
        {"model_type": "gemma3_text", "rope_parameters": {"rope_theta": 7.0}},
        {"model_type": "llama", "rope_parameters": {"rope_type": "default"}},
        {"model_type": "gemma3_text", "layer_types": [_FULL, _SLIDING, _FULL, _FULL]},
        {"model_type": "modernbert", "layer_types": [_SLIDING, _FULL]},
        {"model_type": "gemma2", "layer_types": [_FULL, _SLIDING]},
        {"model_type": "qwen2", "layer_types": [_FULL, _SLIDING]},
        {"model_type": "other", "layer_types": [_SLIDING, _SLIDING]},
        {
            "model_type": "llama",
            "max_position_embeddings": 512,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 7.0,
                "factor": 4.0,
                "original_max_position_embeddings": 128,
            },
        },
    ],
)
def test_what_older_names_cannot_say(config: dict[str, Any]) -> None:
    assert older_entries(config) is None
